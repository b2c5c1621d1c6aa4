/* zone.c: TZif (RFC 9636), versions 2 and later, read strictly.
 *
 *   header: "TZif" version 15 zero bytes, then six counts of 32 bits
 *   a block with 32-bit times, which is skipped; the header again; a block with
 *   64-bit times; then the POSIX rule between two newlines.
 */
#include "script/zone.h"

#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/words.h"
#include "script/internal.h"

#define ZONE_DIR "/usr/share/zoneinfo"
#define ZONE_FILE_MAX (64u * 1024)
#define ZONE_NAME_MAX 64
#define ZONE_NAMES_MAX 700
#define ZONE_CHANGES_MAX 3000
#define ZONE_TIME_MAX (INT64_C(1) << 59) /* seconds either side of 1970: RFC 9636, 3.2, has it for the past */

struct header {
	uint32_t isut, isstd, leap, times, types, chars;
};

static uint32_t be32(const char *p)
{
	const unsigned char *u = (const unsigned char *)p;

	return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static int64_t be64(const char *p)
{
	return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

static bool header(struct hp_bytes b, size_t at, struct header *h)
{
	const char *p = b.p + at;

	if (b.n < at + 44 || memcmp(p, "TZif", 4) != 0 || p[4] < '2')
		return false;
	*h = (struct header){be32(p + 20), be32(p + 24), be32(p + 28), be32(p + 32), be32(p + 36), be32(p + 40)};
	return h->times <= ZONE_CHANGES_MAX && h->types > 0 && h->types <= 256 && h->chars <= 4096 && h->leap <= 1000 &&
	       h->isut <= 256 && h->isstd <= 256;
}

static size_t block_size(const struct header *h, size_t time_size)
{
	return h->times * (time_size + 1) + (size_t)h->types * 6 + h->chars + h->leap * (time_size + 4) + h->isstd +
	       h->isut;
}

static bool offset_of(const char *types, uint32_t n, unsigned char which, int32_t *out)
{
	if (which >= n)
		return false;
	*out = (int32_t)be32(types + which * 6);
	return *out > -HP_ZONE_SPREAD && *out < HP_ZONE_SPREAD;
}

static bool changes(const char *p, const struct header *h, struct hp_arena *a, struct hp_zone *z)
{
	const char *which = p + h->times * 8, *types = which + h->times;
	int64_t *at = hp_arena_alloc(a, sizeof *at * (h->times + 1));
	int32_t *offset = hp_arena_alloc(a, sizeof *offset * (h->times + 1));

	if (!at || !offset || !offset_of(types, h->types, 0, &offset[0]))
		return false;
	for (uint32_t i = 0; i < h->times; i++) {
		at[i] = be64(p + i * 8);
		if (at[i] < -ZONE_TIME_MAX || at[i] > ZONE_TIME_MAX || (i > 0 && at[i] <= at[i - 1]) ||
		    !offset_of(types, h->types, (unsigned char)which[i], &offset[i + 1]))
			return false;
	}
	*z = (struct hp_zone){.at = at, .offset = offset, .n = (int)h->times};
	return true;
}

int hp_zone_parse(struct hp_bytes b, const char *name, struct hp_arena *a, struct hp_zone *z, struct hp_error *err)
{
	struct header h;
	size_t at;
	const char *rule, *end;

	if (!header(b, 0, &h))
		goto damaged;
	at = 44 + block_size(&h, 4);
	if (!header(b, at, &h) || b.n < at + 44 + block_size(&h, 8) + 2 || !changes(b.p + at + 44, &h, a, z))
		goto damaged;
	rule = b.p + at + 44 + block_size(&h, 8);
	end = memchr(rule + 1, '\n', (size_t)(b.p + b.n - rule - 1));
	if (*rule != '\n' || !end)
		goto damaged;
	rule = hp_arena_strndup(a, rule + 1, (size_t)(end - rule - 1));
	if (!rule)
		return hp_fail(err, HP_E_NOMEM, "no memory for time zone \"%s\"", name);
	return hp_zone_rule_parse(rule, &z->rule, err);
damaged:
	return hp_fail(err, HP_E_IO, "%s/%s is not a time zone file of version 2 or later", ZONE_DIR, name);
}

/* ---- names ---- */

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= ZONE_NAME_MAX && name[0] != '/' && name[0] != '-' && !strstr(name, "//") &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") == n;
}

/* The third column of the table of zones, which the package brings. */
static const char *nearest_name(const char *name, struct hp_arena *a)
{
	const char **names = hp_arena_alloc(a, sizeof *names * ZONE_NAMES_MAX);
	struct hp_buf text;
	size_t n = 0;
	const char *near = NULL, *line;

	hp_buf_init(&text, 256 * 1024);
	if (!names || hp_read_file(ZONE_DIR "/tzdata.zi", 256 * 1024, &text, NULL) < 0)
		goto out;
	names[n++] = "UTC";
	for (line = hp_buf_str(&text); line && n < ZONE_NAMES_MAX; line = strchr(line, '\n')) {
		const char *word = NULL;

		line += *line == '\n';
		if (line[0] == 'Z' && line[1] == ' ') /* Z NAME … */
			word = line + 2;
		else if (line[0] == 'L' && line[1] == ' ' && strchr(line + 2, ' ')) /* L TARGET NAME */
			word = strchr(line + 2, ' ') + 1;
		if (word)
			names[n] = hp_arena_strndup(a, word, strcspn(word, " \n"));
		n += word && names[n];
	}
	near = hp_nearest(name, names, n);
out:
	hp_buf_free(&text);
	return near;
}

static int unknown(const char *name, struct hp_arena *a, struct hp_error *err)
{
	const char *near = nearest_name(name, a);

	if (near)
		return hp_fail(err, HP_E_NOT_FOUND, "unknown time zone \"%.64s\", did you mean \"%s\"?", name, near);
	hp_fail(err, HP_E_NOT_FOUND, "unknown time zone \"%.64s\"", name);
	return hp_error_hint(err, "Names are like \"Europe/Berlin\"; the files are in " ZONE_DIR " (package tzdata).");
}

int hp_zone_load(const char *name, struct hp_arena *a, struct hp_zone *z, struct hp_error *err)
{
	struct hp_buf text;
	char path[sizeof ZONE_DIR + ZONE_NAME_MAX + 2];
	int rc;

	*z = hp_zone_utc;
	if (strcmp(name, "UTC") == 0)
		return 0;
	if (!name_ok(name))
		return unknown(name, a, err);
	snprintf(path, sizeof path, "%s/%s", ZONE_DIR, name);
	hp_buf_init(&text, ZONE_FILE_MAX);
	if (hp_read_file(path, ZONE_FILE_MAX, &text, NULL) < 0)
		rc = unknown(name, a, err);
	else
		rc = hp_zone_parse(hp_buf_bytes(&text), name, a, z, err);
	hp_buf_free(&text);
	return rc;
}
