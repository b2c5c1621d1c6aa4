/* mem_secret.c: secrets: names, versions, their doors and the annex of runs; the twin
 * of 0017_secrets.sql. Values are sealed by the engines and opaque here.
 */
#include <stdio.h>
#include <string.h>

#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define SEALED_MAX 20000
static const char *const states[] = { "pending", "current", "previous", "retired" };

static struct mem_secret *find_name(struct mem_store *m, const char *name)
{
	MEM_EACH(&m->w, T_SECRET, struct mem_secret, s)
		if (mem_same(s->name, hp_bytes_of(name)))
			return s;
	return NULL;
}

static struct mem_secret_version *find_version(struct mem_store *m, const char *name, int64_t version)
{
	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, v)
		if (v->version == version && mem_same(v->name, hp_bytes_of(name)))
			return v;
	return NULL;
}

static struct mem_secret_version *newest(struct mem_store *m, const char *name, enum mem_secret_state state)
{
	struct mem_secret_version *found = NULL;

	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, v)
		if (v->state == state && mem_same(v->name, hp_bytes_of(name)) && (!found || v->version > found->version))
			found = v;
	return found;
}

static int arg_name(const json_t *args, const char **name, struct hp_error *err)
{
	if (mem_arg_text(args, "name", true, HP_SECRET_NAME_MAX, name, err) < 0)
		return -1;
	if (strlen(*name) < HP_SECRET_NAME_MAX &&
	    (*name)[strspn(*name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == 0)
		return 0;
	hp_fail(err, HP_E_INVALID, "\"%s\" cannot be the name of a secret", *name);
	return hp_error_hint(err, "A name has 1 to 63 capital letters, digits and \"_\".");
}

/* The version that is meant: args' number, or the newest in that state. */
static struct mem_secret_version *meant(struct mem_store *m, const json_t *args, const char *name,
					enum mem_secret_state state, struct hp_error *err)
{
	struct mem_secret_version *v;
	const int64_t none = 0;
	int64_t number;

	if (mem_arg_int(args, "version", &none, &number, err) < 0)
		return NULL;
	if (!find_name(m, name)) {
		hp_fail(err, HP_E_NOT_FOUND, "there is no secret %s in the table", name);
		return NULL;
	}
	v = number ? find_version(m, name, number) : newest(m, name, state);
	if (!v && number)
		hp_fail(err, HP_E_NOT_FOUND, "%s has no version %lld", name, (long long)number);
	else if (!v)
		hp_fail(err, HP_E_CONFLICT, "%s has no %s version", name, states[state]);
	return v;
}

/* ---- the three changes ---- */

static void end_version(struct mem_store *m, struct mem_secret_version *v, const char *by)
{
	v->state = MEM_RETIRED;
	v->sealed = v->key_id = (struct hp_bytes){ NULL, 0 };
	v->retired_at = *m->now;
	v->retired_by = mem_intern_s(m, by);
}

static struct mem_secret_version *promote(struct mem_store *m, const json_t *args, const char *name, const char *by,
					  struct hp_error *err)
{
	struct mem_secret_version *v = meant(m, args, name, MEM_PENDING, err);

	if (!v || v->state == MEM_CURRENT)
		return v;
	if (v->state != MEM_PENDING) {
		hp_fail(err, HP_E_CONFLICT, "%s version %lld is %s, not pending: it cannot be promoted", name,
			(long long)v->version, states[v->state]);
		return NULL;
	}
	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, o) {
		if (o == v || !mem_same(o->name, v->name))
			continue;
		if (o->state == MEM_PREVIOUS || (o->state == MEM_PENDING && o->version < v->version))
			end_version(m, o, by);
	}
	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, o)
		if (o->state == MEM_CURRENT && mem_same(o->name, v->name))
			o->state = MEM_PREVIOUS;
	v->state = MEM_CURRENT;
	v->promoted_at = *m->now;
	v->promoted_by = mem_intern_s(m, by);
	find_name(m, name)->changes++;
	return v;
}

static struct mem_secret_version *retire(struct mem_store *m, const json_t *args, const char *name, const char *by,
					 enum mem_secret_state which, struct hp_error *err)
{
	struct mem_secret_version *v = meant(m, args, name, which, err);

	if (!v || v->state == MEM_RETIRED)
		return v;
	end_version(m, v, by);
	find_name(m, name)->changes++;
	return v;
}

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", blanks[] = " \t\r\n";

/* As PostgreSQL's decode() has it: blanks are skipped, the last group is filled with =. */
static bool is_base64(const char *s)
{
	size_t n = 0, filled = 0;

	for (; *s; s++) {
		if (strchr(blanks, *s))
			continue;
		if (*s == '=' ? n % 4 + filled < 2 : filled > 0 || !strchr(letters, *s))
			return false;
		n += *s != '=';
		filled += *s == '=';
	}
	return (n + filled) % 4 == 0 && filled <= 2;
}

/* The bytes are kept, not how they were written: no blanks, and no bits that belong to none. */
static struct hp_bytes sealed_of(struct mem_store *m, const char *text)
{
	struct hp_bytes kept;
	struct hp_buf b;
	size_t digits;

	hp_buf_init(&b, SEALED_MAX);
	for (; *text; text++)
		if (!strchr(blanks, *text))
			hp_buf_addc(&b, *text);
	digits = strcspn(hp_buf_str(&b), "=");
	if (digits < b.n)
		b.p[digits - 1] = letters[(strchr(letters, b.p[digits - 1]) - letters) & (b.n - digits == 2 ? 0x30 : 0x3C)];
	kept = mem_intern(m, hp_buf_bytes(&b));
	hp_buf_free(&b);
	return kept;
}

static struct mem_secret_version *put(struct mem_store *m, const json_t *args, const char *name, const char *by,
				      struct hp_error *err)
{
	const char *state, *sealed, *key_id, *fingerprint;
	struct mem_secret *s = find_name(m, name);
	struct mem_secret_version *v;
	const int64_t none = 0;
	int64_t version, expires;

	if (mem_arg_text(args, "state", false, 64, &state, err) < 0 ||
	    mem_arg_int(args, "expires_in", &none, &expires, err) < 0 ||
	    mem_arg_int(args, "version", NULL, &version, err) < 0 ||
	    mem_arg_text(args, "sealed", true, SEALED_MAX, &sealed, err) < 0 ||
	    mem_arg_text(args, "key_id", true, 64, &key_id, err) < 0 ||
	    mem_arg_text(args, "fingerprint", true, 64, &fingerprint, err) < 0)
		return NULL;
	if ((state && strcmp(state, "pending") != 0 && strcmp(state, "current") != 0) || expires < 0) {
		hp_fail(err, HP_E_INVALID, "a new version is pending or current, and expires in the future");
		return NULL;
	}
	if (!s || find_version(m, name, version) || !is_base64(sealed)) {
		if (s)
			hp_fail(err, HP_E_CONFLICT, "%s version %lld is there already, or its value is malformed", name,
				(long long)version);
		else
			hp_fail(err, HP_E_NOT_FOUND, "there is no secret %s in the table", name);
		return NULL;
	}
	v = mem_add(&m->w, T_SECRET_VERSION);
	*v = (struct mem_secret_version){ .name = s->name,
					  .version = version,
					  .state = MEM_PENDING,
					  .sealed = sealed_of(m, sealed),
					  .key_id = mem_intern_s(m, key_id),
					  .fingerprint = mem_intern_s(m, fingerprint),
					  .created_at = *m->now,
					  .created_by = mem_intern_s(m, by),
					  .expires_at = expires ? *m->now + expires * 1000000 : 0 };
	if (state && strcmp(state, "current") == 0)
		return promote(m, args, name, by, err); /* and that is one change */
	s->changes++;
	return v;
}

/* ---- of runs ---- */

/* Who is current is promoted already, and ends only by its number. */
static int check_which(const json_t *op, const char *word, const char *name, struct hp_error *err)
{
	const char *which = hp_json_str(op, "which");
	bool known = !which || strcmp(which, "pending") == 0 ||
		     (strcmp(which, "previous") == 0 && word && strcmp(word, "retire") == 0);

	if (!HP_GUARD(secret_which, known))
		return hp_fail(err, HP_E_INVALID, "a run cannot %s the %s version of %s", word ? word : "", which, name);
	return 0;
}

/* To retire a state that no version is in is done already. */
static int retire_of_run(struct mem_store *m, const json_t *op, const char *name, const char *by, struct hp_error *err)
{
	const char *word = hp_json_str(op, "which");
	enum mem_secret_state which = word && strcmp(word, "pending") == 0 ? MEM_PENDING : MEM_PREVIOUS;

	if (find_name(m, name) && !json_object_get(op, "version") && !newest(m, name, which))
		return 0;
	return retire(m, op, name, by, which, err) ? 0 : -1;
}

static int apply(struct mem_store *m, int64_t run, const json_t *doc, struct hp_error *err)
{
	const json_t *op;
	const char *name;
	char by[32];
	size_t i;

	snprintf(by, sizeof by, "run:%lld", (long long)run);
	json_array_foreach(json_object_get(doc, "ops"), i, op) {
		const char *word = hp_json_str(op, "op");
		int rc;

		if (arg_name(op, &name, err) < 0 || check_which(op, word, name, err) < 0)
			return -1;
		if (word && strcmp(word, "put") == 0)
			rc = put(m, op, name, by, err) ? 0 : -1;
		else if (word && strcmp(word, "promote") == 0)
			rc = promote(m, op, name, by, err) ? 0 : -1;
		else if (word && strcmp(word, "retire") == 0)
			rc = retire_of_run(m, op, name, by, err);
		else
			return hp_fail(err, HP_E_INVALID, "there is no \"%s\" of secrets", word ? word : "");
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* Tried on a copy: a transition is written whole or refused. */
int mem_secret_check(struct mem_store *m, const struct hp_transition *t, struct hp_error *err)
{
	struct mem_world real = m->w;
	bool any = false;
	int rc = 0;

	for (int i = 0; i < t->n_annexes; i++)
		any = any || strcmp(t->annexes[i].kind, "secrets") == 0;
	if (!any)
		return 0;
	mem_world_init(&m->w);
	mem_world_copy(&m->w, &real);
	for (int i = 0; i < t->n_annexes && rc == 0; i++) {
		json_t *doc;

		if (strcmp(t->annexes[i].kind, "secrets") != 0)
			continue;
		doc = hp_json_parse(t->annexes[i].doc.p, t->annexes[i].doc.n, "secrets", err);
		rc = doc ? apply(m, t->run_id, doc, err) : -1;
		json_decref(doc);
	}
	mem_world_free(&m->w);
	m->w = real;
	return rc;
}

void mem_secret_annex(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	struct hp_error err;
	int rc = apply(m, r->row.id, doc, &err);

	(void)t;
	HP_ASSERT(rc == 0); /* mem_secret_check() has tried it */
}

/* ---- doors ---- */

static void put_text(json_t *row, const char *name, struct hp_bytes b)
{
	if (b.n)
		json_object_set_new(row, name, json_stringn(b.p, b.n));
}

static json_t *version_json(const struct mem_secret_version *v)
{
	json_t *row = json_object();

	put_text(row, "name", v->name);
	json_object_set_new(row, "version", json_integer(v->version));
	json_object_set_new(row, "state", json_string(states[v->state]));
	put_text(row, "fingerprint", v->fingerprint);
	put_text(row, "key_id", v->key_id);
	mem_put_time(row, "created_at", v->created_at);
	put_text(row, "created_by", v->created_by);
	mem_put_time(row, "expires_at", v->expires_at);
	mem_put_time(row, "promoted_at", v->promoted_at);
	put_text(row, "promoted_by", v->promoted_by);
	mem_put_time(row, "retired_at", v->retired_at);
	put_text(row, "retired_by", v->retired_by);
	return row;
}

static int reserve(struct mem_store *m, const char *name, struct hp_buf *out, struct hp_error *err)
{
	struct mem_secret *s = find_name(m, name);

	if (!s && mem_count(&m->w, T_SECRET) >= HP_SECRETS_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "there are %d secrets already", HP_SECRETS_MAX);
	if (!s) {
		s = mem_add(&m->w, T_SECRET);
		s->name = mem_intern_s(m, name);
	}
	return hp_buf_printf(out, "{\"installation\":\"%s\",\"name\":\"%s\",\"version\":%d}", HP_MEM_INSTALLATION, name,
			     (int)++s->last_version);
}

static int reseal(struct mem_store *m, const json_t *args, const char *name, struct hp_buf *out, struct hp_error *err)
{
	const char *sealed, *key_id, *was;
	struct mem_secret_version *v;
	int64_t version;
	bool done;

	if (mem_arg_text(args, "sealed", true, SEALED_MAX, &sealed, err) < 0 ||
	    mem_arg_text(args, "key_id", true, 64, &key_id, err) < 0 ||
	    mem_arg_text(args, "was", true, 64, &was, err) < 0 || mem_arg_int(args, "version", NULL, &version, err) < 0)
		return -1;
	if (!find_name(m, name)) {
		hp_fail(err, HP_E_NOT_FOUND, "there is no secret %s in the table", name);
		return -1;
	}
	v = find_version(m, name, version);
	done = v && mem_same(v->key_id, hp_bytes_of(was));
	if (done && !is_base64(sealed))
		return hp_fail(err, HP_E_INVALID, "the value of %s version %lld is malformed", name, (long long)version);
	if (done) {
		v->sealed = sealed_of(m, sealed);
		v->key_id = mem_intern_s(m, key_id);
		find_name(m, name)->changes++;
	}
	return hp_buf_printf(out, "{\"resealed\":%s}", done ? "true" : "false");
}

/* Where v stands by name, then version; `down`: the newest first. Steals row. */
static void insert_sorted(json_t *rows, const struct mem_secret_version *v, json_t *row, bool down)
{
	const json_t *other;
	size_t at;

	json_array_foreach(rows, at, other) {
		int c = mem_compare(v->name, hp_bytes_of(hp_json_str(other, "name")));
		int64_t version = hp_json_int(other, "version", 0);

		if (c < 0 || (c == 0 && (down ? v->version > version : v->version < version)))
			break;
	}
	json_array_insert_new(rows, at, row);
}

/* How many of the same name are newer. */
static int newer(const struct mem_store *m, const struct mem_secret_version *v)
{
	int n = 0;

	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, o)
		n += o->version > v->version && mem_same(o->name, v->name);
	return n;
}

static int list(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	const char *name = hp_json_str(args, "name");
	json_t *rows = json_array();

	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, v)
		if ((!name || mem_same(v->name, hp_bytes_of(name))) &&
		    (v->state != MEM_RETIRED || newer(m, v) < HP_SECRETS_LISTED))
			insert_sorted(rows, v, version_json(v), true);
	return mem_write_and_drop(json_pack("{s:o}", "secrets", rows), out, err);
}

static int live(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	json_t *rows = json_array(), *row, *doc;
	int64_t serial = 1;

	MEM_EACH(&m->w, T_SECRET, struct mem_secret, s)
		serial += s->changes;
	doc = json_pack("{s:I,s:s}", "serial", (json_int_t)serial, "installation", HP_MEM_INSTALLATION);
	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, v) {
		if (v->state == MEM_RETIRED)
			continue;
		row = json_pack("{s:I,s:s}", "version", (json_int_t)v->version, "state", states[v->state]);
		put_text(row, "name", v->name);
		put_text(row, "sealed", v->sealed);
		put_text(row, "key_id", v->key_id);
		put_text(row, "fingerprint", v->fingerprint);
		insert_sorted(rows, v, row, false);
	}
	if (serial != hp_json_int(args, "serial", 0))
		json_object_set(doc, "versions", rows);
	json_decref(rows);
	return mem_write_and_drop(doc, out, err);
}

int mem_secret_door(struct mem_store *m, const char *door, const char *principal, const json_t *args,
		    struct hp_buf *out, struct hp_error *err)
{
	struct mem_secret_version *v = NULL;
	const char *name;

	if (strcmp(door, "secrets") == 0)
		return list(m, args, out, err);
	if (strcmp(door, "secrets_live") == 0)
		return live(m, args, out, err);
	if (arg_name(args, &name, err) < 0)
		return -1;
	if (strcmp(door, "secret_reserve") == 0)
		return reserve(m, name, out, err);
	if (strcmp(door, "secret_reseal") == 0)
		return reseal(m, args, name, out, err);
	if (strcmp(door, "secret_put") == 0)
		v = put(m, args, name, principal, err);
	else if (strcmp(door, "secret_promote") == 0)
		v = promote(m, args, name, principal, err);
	else if (strcmp(door, "secret_retire") == 0)
		v = retire(m, args, name, principal, MEM_PREVIOUS, err);
	else
		return hp_fail(err, HP_E_NOT_FOUND, "the in-memory store has no door \"%s\"", door);
	return v ? mem_write_and_drop(version_json(v), out, err) : -1;
}
