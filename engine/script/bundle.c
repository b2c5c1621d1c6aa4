/* bundle.c: files into the text a run is pinned to, and its digest.
 *
 * The workflow is run once with a `connector` that only notes names; those
 * connectors, and no others, become part of the bundle, so that a change of a
 * connector nobody uses changes no digest. Paths are kept relative, because the
 * same files must give the same digest wherever they lie.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/file.h"
#include "base/words.h"
#include "script/internal.h"

/* "/a/b/workflows/x.lua" → "workflows/x.lua": stays the same on every machine. */
static const char *short_name(const char *path)
{
	const char *p = path + strlen(path);
	int slashes = 0;

	while (p > path && slashes < 2)
		if (*--p == '/')
			slashes++;
	return slashes == 2 ? p + 1 : p;
}

/* The folder nearest to the name, for the hint; "" when there is none. */
static void nearest_plugin(const char *plugins_dir, const char *name, char *out, size_t n)
{
	char *names[256];
	size_t count = 0;
	const char *near;
	struct dirent *e;
	DIR *d = opendir(plugins_dir);

	out[0] = '\0';
	if (!d)
		return;
	while (count < sizeof names / sizeof *names && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && (names[count] = hp_strdup(e->d_name)) != NULL)
			count++;
	closedir(d);
	near = hp_nearest(name, (const char *const *)names, count);
	if (near)
		snprintf(out, n, "did you mean \"%s\"?", near);
	while (count > 0)
		hp_free(names[--count]);
}

static int add_connector(json_t *connectors, const char *plugins_dir, const char *name, struct hp_error *err)
{
	char path[4096], file[HP_NAME_MAX + 32], hint[HP_NAME_MAX + 32];
	struct hp_buf text;
	json_t *c;
	int rc = -1;

	hp_buf_init(&text, HP_SOURCE_MAX + 1);
	snprintf(path, sizeof path, "%s/%s/connector.lua", plugins_dir, name);
	snprintf(file, sizeof file, "plugins/%s/connector.lua", name);
	if (hp_read_file(path, HP_SOURCE_MAX, &text, err) < 0) {
		hp_error_prefix(err, "connector \"%s\"", name);
		nearest_plugin(plugins_dir, name, hint, sizeof hint);
		if (hint[0])
			hp_error_hint(err, "%s", hint);
		goto out;
	}
	c = json_pack("{s:s, s:s%}", "file", file, "source", hp_buf_str(&text), text.n);
	if (!c || json_object_set_new(connectors, name, c) < 0) {
		hp_fail(err, HP_E_INVALID, "%s: the source is not valid UTF-8, or no memory is left", file);
		goto out;
	}
	rc = 0;
out:
	hp_buf_free(&text);
	return rc;
}

static int add_connectors(json_t *connectors, const char *plugins_dir, const struct hp_source *src,
			  struct hp_error *err)
{
	struct hp_vm vm = {0};
	struct hp_buf names;
	char *p, *end;
	int rc = -1;

	hp_buf_init(&names, HP_WORDS_MAX * (HP_NAME_MAX + 1));
	if (hp_vm_open(&vm, NULL, 0, src, true, err) < 0)
		return -1;
	if (hp_vm_discovered(&vm, &names, err) < 0)
		goto out;
	for (p = names.p; p && *p; p = end + 1) {
		end = strchr(p, '\n');
		*end = '\0';
		if (add_connector(connectors, plugins_dir, p, err) < 0)
			goto out;
	}
	rc = 0;
out:
	hp_vm_close(&vm);
	hp_buf_free(&names);
	return rc;
}

int hp_bundle_build(const char *workflow_file, const char *plugins_dir, struct hp_buf *out, struct hp_error *err)
{
	struct hp_source src = {.file = short_name(workflow_file)};
	json_t *bundle = NULL, *connectors = NULL;
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, HP_SOURCE_MAX + 1);
	connectors = json_object();
	if (!connectors) {
		hp_fail(err, HP_E_NOMEM, "no memory left to read %s", workflow_file);
		goto out;
	}
	if (hp_read_file(workflow_file, HP_SOURCE_MAX, &text, err) < 0)
		goto out;
	src.text = hp_buf_str(&text);
	src.n = text.n;
	if (add_connectors(connectors, plugins_dir, &src, err) < 0)
		goto out;
	bundle = json_pack("{s:O, s:{s:s, s:s%}}", "connectors", connectors, "workflow", "file", src.file, "source",
			   src.text, src.n);
	if (!bundle) {
		hp_fail(err, HP_E_INVALID, "%s: the source is not valid UTF-8, or no memory is left", src.file);
		goto out;
	}
	rc = hp_json_write(out, bundle, err);
out:
	hp_buf_free(&text);
	json_decref(connectors);
	json_decref(bundle);
	return rc;
}

/* Over the canonical text, so that a store may keep the bundle as it likes; what is
 * no JSON cannot be loaded and is hashed as it is. */
void hp_bundle_digest(struct hp_bytes bundle, uint8_t out[HP_SHA256_LEN])
{
	json_t *v = hp_json_parse(bundle.p, bundle.n, "the bundle", NULL);
	struct hp_buf text;

	hp_buf_init(&text, HP_BUNDLE_MAX);
	if (v && hp_json_write(&text, v, NULL) == 0)
		hp_sha256(text.p, text.n, out);
	else
		hp_sha256(bundle.p, bundle.n, out);
	hp_buf_free(&text);
	json_decref(v);
}
