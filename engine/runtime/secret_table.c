/* secret_table.c: the secrets of the table, opened, in this process's memory. */
#include "runtime/secret_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "base/words.h"
#include "runtime/files.h"

#define KEY_FILE_MAX 4096
#define SEALED_MAX (HP_SECRET_MAX + HP_SEAL_OVERHEAD)
#define LOOK_AGAIN 0.5 /* seconds, until there was a first answer */
#define MAKE_AGAIN 0.5 /* seconds between questions for a number */
#define MAKE_TRIES 60

struct version {
	char name[HP_SECRET_NAME_MAX];
	int64_t number;
	char state[12];
	char *value; /* NULL: none of our keys opens it */
};

/* Somebody who waits for a look that begins after now. */
struct waiter {
	struct hp_list node;
	bool next;            /* the look on its way is too old: the one after it */
	void (*cb)(void *arg);
	void *arg;
};

struct hp_secret_table {
	struct hp_list waiters;
	struct hp_list makings;   /* that wait before they ask again */
	uint64_t *unreadable_now; /* gauge; NULL: none */
	struct hp_secret_table_options o;
	char key_file[PATH_MAX];
	struct stat key_stat;
	struct hp_seal_keys keys;
	char installation[40];
	int64_t serial;            /* 0: never read, or to be read anew */
	struct version *versions;  /* by name, then number */
	int n, unreadable;
	struct ev_timer timer;
	bool asking, again, ready, closed;
};

/* ---- keys ---- */

int hp_seal_keys_read(const char *path, struct hp_seal_keys *k, struct stat *what, struct hp_error *err)
{
	struct hp_buf text;
	struct stat st;
	int rc = -1;

	hp_buf_init(&text, KEY_FILE_MAX);
	if (hp_file_read(AT_FDCWD, path, &text, &st, err) != 0)
		goto out;
	if (st.st_mode & 077) {
		hp_fail(err, HP_E_FORBIDDEN, "others may read the file of keys %s (mode %03o)", path, st.st_mode & 0777);
		hp_error_hint(err, "chmod 600 %s", path);
		goto out;
	}
	rc = hp_seal_keys_parse(k, hp_buf_str(&text), err);
	if (rc != 0)
		hp_error_prefix(err, "%s", path);
	else if (what)
		*what = st;
out:
	hp_buf_wipe(&text);
	return rc;
}

static int read_keys(struct hp_secret_table *t, struct hp_error *err)
{
	struct hp_seal_keys k;

	if (hp_seal_keys_read(t->key_file, &k, &t->key_stat, err) != 0)
		return -1;
	hp_seal_keys_forget(&t->keys);
	t->keys = k;
	hp_seal_keys_forget(&k);
	return 0;
}

/* A changed file: what could not be opened may be now. */
static void look_at_keys(struct hp_secret_table *t)
{
	struct hp_error err;
	struct stat st;

	if (stat(t->key_file, &st) == 0 && hp_file_same(&st, &t->key_stat))
		return;
	if (read_keys(t, &err) != 0) {
		if (t->key_stat.st_ino != 0)
			hp_log_error(HP_WARN, "the changed file of keys cannot be used; the keys stay as they were", &err);
		memset(&t->key_stat, 0, sizeof t->key_stat);
		return;
	}
	t->serial = 0;
	hp_log(HP_INFO, "the file of keys was read", "key_id", HP_STR(t->keys.keys[0].id), "keys", HP_I64(t->keys.n), NULL);
}

/* ---- what was read ---- */

static void forget_text(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	hp_free(s);
}

static void forget(struct version *v, int n)
{
	for (int i = 0; i < n; i++)
		forget_text(v[i].value);
	hp_free(v);
}

static int open_sealed(const struct hp_secret_table *t, const struct hp_seal_for *f, const char *sealed,
		       struct hp_buf *value, struct hp_error *err)
{
	uint8_t bytes[SEALED_MAX];
	size_t n;

	if (!sealed || hp_unbase64(sealed, strlen(sealed), bytes, sizeof bytes, &n) < 0)
		return hp_fail(err, HP_E_INVALID, "%s version %lld: the sealed value is no base64", f->name,
			       (long long)f->version);
	return hp_seal_open(&t->keys, f, (struct hp_bytes){(const char *)bytes, n}, value, err);
}

static int take_version(struct hp_secret_table *t, const json_t *row, struct version *v)
{
	const char *name = hp_json_str(row, "name"), *state = hp_json_str(row, "state");
	struct hp_seal_for f = {t->installation, name, hp_json_int(row, "version", 0)};
	struct hp_buf value;
	struct hp_error err;

	if (!name || !state)
		return -1;
	(void)snprintf(v->name, sizeof v->name, "%s", name);
	(void)snprintf(v->state, sizeof v->state, "%s", state);
	v->number = f.version;
	hp_buf_init(&value, HP_SECRET_MAX + 1);
	if (open_sealed(t, &f, hp_json_str(row, "sealed"), &value, &err) != 0) {
		t->unreadable++;
		hp_log_error(HP_ERROR, "a secret cannot be opened: requests that need it will not be sent", &err);
	} else {
		v->value = hp_strdup(hp_buf_str(&value));
	}
	hp_buf_wipe(&value);
	return 0;
}

static void take(struct hp_secret_table *t, const json_t *doc)
{
	const json_t *rows = json_object_get(doc, "versions"), *row;
	size_t n = json_array_size(rows), i;
	struct version *v;
	int k = 0;

	(void)snprintf(t->installation, sizeof t->installation, "%s",
		       hp_json_str(doc, "installation") ? hp_json_str(doc, "installation") : "");
	if (!json_is_array(rows)) /* nothing has changed */
		return;
	v = hp_calloc(n + 1, sizeof *v);
	if (!v)
		return; /* the next look asks again: the serial is the old one */
	t->unreadable = 0;
	json_array_foreach(rows, i, row)
		if (take_version(t, row, &v[k]) == 0)
			k++;
	forget(t->versions, t->n);
	t->versions = v;
	t->n = k;
	t->serial = hp_json_int(doc, "serial", 0);
	if (t->unreadable_now)
		*t->unreadable_now = (uint64_t)t->unreadable;
}

/* ---- looks ---- */

static void look_in(struct hp_secret_table *t, double seconds)
{
	ev_timer_stop(t->o.loop, &t->timer);
	ev_timer_set(&t->timer, seconds, 0.);
	ev_timer_start(t->o.loop, &t->timer);
}

static void tell_waiters(struct hp_secret_table *t)
{
	struct hp_list *it, *tmp, due;

	hp_list_init(&due);
	hp_list_each(it, tmp, &t->waiters) {
		struct waiter *w = hp_list_entry(it, struct waiter, node);

		if (w->next) {
			w->next = false;
			continue;
		}
		hp_list_del(it);
		hp_list_add_tail(&due, it);
	}
	while (!hp_list_empty(&due)) {
		struct waiter *w = hp_list_entry(due.next, struct waiter, node);

		hp_list_del(&w->node);
		w->cb(w->arg);
		hp_free(w);
	}
}

/* A look of a table that is closed is over at once. */
void hp_secret_table_look_then(struct hp_secret_table *t, void (*cb)(void *arg), void *arg)
{
	struct waiter *w = hp_needed(1, sizeof *w);

	*w = (struct waiter){.next = t->asking, .cb = cb, .arg = arg};
	hp_list_init(&w->node);
	hp_list_add_tail(&t->waiters, &w->node);
	hp_secret_table_look(t);
	while (t->closed && !t->asking && !hp_list_empty(&t->waiters))
		tell_waiters(t);
}

static void on_live(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_secret_table *t = arg;
	json_t *doc;

	t->asking = false;
	if (t->closed) {
		while (!hp_list_empty(&t->waiters))
			tell_waiters(t);
		return;
	}
	doc = err ? NULL : hp_json_parse(json.p, json.n, "secrets", NULL);
	if (!doc) {
		if (err && t->ready)
			hp_log_error(HP_WARN, "secrets could not be read: known values stay", err);
		look_in(t, t->ready && hp_list_empty(&t->waiters) ? (double)HP_SECRETS_LOOK / 1e6 : LOOK_AGAIN);
		tell_waiters(t);
		return;
	}
	take(t, doc);
	json_decref(doc);
	if (!t->ready && t->serial > 0) {
		t->ready = true;
		if (t->o.on_ready)
			t->o.on_ready(t->o.arg);
	}
	look_in(t, (double)HP_SECRETS_LOOK / 1e6);
	if (t->again)
		hp_secret_table_look(t);
	tell_waiters(t);
}

void hp_secret_table_look(struct hp_secret_table *t)
{
	char args[48];

	if (!t || t->closed)
		return;
	t->again = t->asking; /* the answer on its way may be from before the change */
	if (t->asking)
		return;
	t->asking = true;
	look_at_keys(t);
	(void)snprintf(args, sizeof args, "{\"serial\":%lld}", (long long)t->serial);
	t->o.store->ops->door(t->o.store, "secrets_live", "", hp_bytes_of(args), on_live, t);
}

static void on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	hp_secret_table_look(w->data);
}

static void on_serial(void *arg, int64_t serial)
{
	struct hp_secret_table *t = arg;

	if (t->closed || !t->ready || t->asking)
		return;
	look_at_keys(t);
	if (serial != t->serial)
		hp_secret_table_look(t);
	else
		look_in(t, (double)HP_SECRETS_LOOK / 1e6);
}

struct hp_secret_table *hp_secret_table_new(const struct hp_secret_table_options *o, struct hp_error *err)
{
	struct hp_secret_table *t = hp_calloc(1, sizeof *t);

	if (!t) {
		hp_fail(err, HP_E_NOMEM, "secrets: no memory");
		return NULL;
	}
	t->o = *o;
	hp_list_init(&t->waiters);
	hp_list_init(&t->makings);
	if (o->counters)
		t->unreadable_now = hp_counter(o->counters, "holdpoint_secrets_unreadable");
	(void)snprintf(t->key_file, sizeof t->key_file, "%s", o->key_file);
	ev_timer_init(&t->timer, on_timer, 0., 0.);
	t->timer.data = t;
	if (read_keys(t, err) == 0)
		return t;
	hp_free(t);
	return NULL;
}

void hp_secret_table_start(struct hp_secret_table *t)
{
	if (t->o.store->ops->on_secrets)
		t->o.store->ops->on_secrets(t->o.store, on_serial, t);
	hp_secret_table_look(t);
}

static void end_makings(struct hp_secret_table *t);

void hp_secret_table_close(struct hp_secret_table *t)
{
	if (!t)
		return;
	t->closed = true;
	ev_timer_stop(t->o.loop, &t->timer);
	end_makings(t);
	while (!t->asking && !hp_list_empty(&t->waiters)) /* else the answer does it */
		tell_waiters(t);
}

void hp_secret_table_free(struct hp_secret_table *t)
{
	if (!t)
		return;
	forget(t->versions, t->n);
	hp_seal_keys_forget(&t->keys);
	hp_free(t);
}

/* ---- readers ---- */

static bool is_meant(const struct version *v, const char *version)
{
	int64_t number;

	if (hp_int_parse(version, &number) == 0)
		return v->number == number;
	return strcmp(v->state, version) == 0;
}

/* The last one that fits: of several pending ones the newest. */
static const struct version *find(const struct hp_secret_table *t, const char *name, const char *version)
{
	const struct version *found = NULL;

	for (int i = 0; i < t->n; i++)
		if (strcmp(t->versions[i].name, name) == 0 && is_meant(&t->versions[i], version))
			found = &t->versions[i];
	return found;
}

const char *hp_secret_table_get(const struct hp_secret_table *t, const char *name, const char *version, bool *known)
{
	const struct version *v = find(t, name, version ? version : "current");

	if (known)
		*known = v != NULL;
	return v ? v->value : NULL;
}

int hp_secret_table_all(const struct hp_secret_table *t, const char *name, const char **out, int max)
{
	static const char *const states[] = {"current", "previous", "pending"};
	int n = 0;

	for (int s = 0; s < 3; s++)
		for (int i = t->n - 1; i >= 0 && n < max; i--)
			if (strcmp(t->versions[i].name, name) == 0 && strcmp(t->versions[i].state, states[s]) == 0 &&
			    t->versions[i].value)
				out[n++] = t->versions[i].value;
	return n;
}

int64_t hp_secret_table_which(const struct hp_secret_table *t, const char *name, struct hp_bytes value)
{
	int64_t number = 0;

	for (int i = 0; i < t->n; i++) {
		const struct version *v = &t->versions[i];

		if (strcmp(v->name, name) == 0 && v->value &&
		    hp_equal_ct(v->value, strlen(v->value), value.p, value.n))
			number = v->number;
	}
	return number;
}

/* ---- sealing ---- */

static int seal_to(const struct hp_secret_table *t, const struct hp_seal_for *f, struct hp_bytes value, json_t *doc,
		   struct hp_error *err)
{
	struct hp_buf sealed, text;
	int rc = -1;

	hp_buf_init(&sealed, SEALED_MAX);
	hp_buf_init(&text, 2 * (size_t)SEALED_MAX);
	if (hp_seal(&t->keys, f, value, &sealed, err) < 0)
		goto out;
	hp_base64(&text, sealed.p, sealed.n);
	if (hp_buf_check(&text, "a sealed value", err) < 0)
		goto out;
	rc = json_object_set_new(doc, "sealed", json_string(hp_buf_str(&text))) |
	     json_object_set_new(doc, "key_id", json_string(t->keys.keys[0].id));
	if (rc != 0)
		hp_fail(err, HP_E_NOMEM, "no memory to seal a secret");
out:
	hp_buf_free(&sealed);
	hp_buf_free(&text);
	return rc;
}

struct making {
	struct hp_list node;
	struct hp_secret_table *t;
	char name[HP_SECRET_NAME_MAX];
	char *value;
	hp_secret_made_cb cb;
	void *arg;
	struct ev_timer again;
	int tries;
};

static void reserve(struct making *m);

static void made(struct making *m, json_t *doc, const struct hp_error *err)
{
	m->cb(m->arg, doc, err);
	json_decref(doc);
	forget_text(m->value);
	hp_free(m);
}

static void on_again(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct making *m = w->data;

	(void)events;
	ev_timer_stop(loop, w);
	hp_list_del(&m->node);
	reserve(m);
}

/* true: it will be asked again. */
static bool asks_again(struct making *m, const struct hp_error *err)
{
	bool may_pass = err->code == HP_E_UNAVAILABLE || err->code == HP_E_TIMEOUT || err->code == HP_E_LIMIT;

	if (m->t->closed || !may_pass || ++m->tries >= MAKE_TRIES)
		return false;
	ev_timer_init(&m->again, on_again, MAKE_AGAIN, 0.);
	m->again.data = m;
	ev_timer_start(m->t->o.loop, &m->again);
	hp_list_add_tail(&m->t->makings, &m->node);
	return true;
}

static void end_makings(struct hp_secret_table *t)
{
	struct hp_error err;

	hp_fail(&err, HP_E_UNAVAILABLE, "this engine ends");
	while (!hp_list_empty(&t->makings)) {
		struct making *m = hp_list_entry(t->makings.next, struct making, node);

		ev_timer_stop(t->o.loop, &m->again);
		hp_list_del(&m->node);
		made(m, NULL, &err);
	}
}

static void on_reserved(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct making *m = arg;
	char fingerprint[HP_FINGERPRINT_LEN];
	struct hp_error mine;
	json_t *reply = err ? NULL : hp_json_parse(json.p, json.n, "secret_reserve", &mine), *doc = NULL;
	struct hp_seal_for f = {hp_json_str(reply, "installation"), m->name, hp_json_int(reply, "version", 0)};

	if (err && asks_again(m, err))
		return;
	if (!err && !reply)
		err = &mine;
	if (reply) {
		hp_fingerprint(&m->t->keys, &f, hp_bytes_of(m->value), fingerprint);
		doc = json_pack("{s:s,s:s,s:I,s:s}", "op", "put", "name", m->name, "version", (json_int_t)f.version,
				"fingerprint", fingerprint);
		if (!doc)
			hp_fail(&mine, HP_E_NOMEM, "no memory to seal a secret");
		if (!doc || seal_to(m->t, &f, hp_bytes_of(m->value), doc, &mine) < 0)
			err = &mine;
	}
	made(m, err ? (json_decref(doc), NULL) : doc, err);
	json_decref(reply);
}

static char *copy_value(struct hp_bytes value)
{
	char *s = value.n <= HP_SECRET_MAX ? hp_calloc(value.n + 1, 1) : NULL;

	if (s)
		memcpy(s, value.p, value.n);
	return s;
}

static void reserve(struct making *m)
{
	char args[HP_SECRET_NAME_MAX + 32];

	(void)snprintf(args, sizeof args, "{\"name\":\"%s\"}", m->name);
	m->t->o.store->ops->door(m->t->o.store, "secret_reserve", "", hp_bytes_of(args), on_reserved, m);
}

void hp_secret_table_make(struct hp_secret_table *t, const char *name, struct hp_bytes value, hp_secret_made_cb cb,
			  void *arg)
{
	struct making *m = hp_calloc(1, sizeof *m);

	HP_ASSERT(m != NULL && strlen(name) < sizeof m->name);
	*m = (struct making){.t = t, .cb = cb, .arg = arg, .value = copy_value(value)};
	hp_list_init(&m->node);
	memcpy(m->name, name, strlen(name));
	HP_ASSERT(m->value != NULL); /* the callers have looked at its length */
	reserve(m);
}

/* ---- another key ---- */

struct rekeying {
	struct hp_secret_table *t;
	char principal[201];
	hp_door_cb cb;
	void *arg;
	json_t *rows;
	char installation[40];
	size_t next;
	int resealed, unreadable;
};

static void rekey_end(struct rekeying *r, const struct hp_error *err)
{
	char text[120];

	(void)snprintf(text, sizeof text, "{\"key_id\":\"%s\",\"resealed\":%d,\"unreadable\":%d}", r->t->keys.keys[0].id,
		       r->resealed, r->unreadable);
	r->cb(r->arg, err ? (struct hp_bytes){NULL, 0} : hp_bytes_of(text), err);
	hp_secret_table_look(r->t);
	json_decref(r->rows);
	hp_free(r);
}

static void rekey_next(struct rekeying *r);

static void on_resealed(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct rekeying *r = arg;
	json_t *reply = err ? NULL : hp_json_parse(json.p, json.n, "secret_reseal", NULL);

	r->resealed += hp_json_bool(reply, "resealed", 0);
	json_decref(reply);
	if (err)
		rekey_end(r, err);
	else
		rekey_next(r);
}

/* false: it needs none, or cannot be opened. */
static bool reseal(struct rekeying *r, const json_t *row)
{
	const char *was = hp_json_str(row, "key_id"), *name = hp_json_str(row, "name");
	struct hp_seal_for f = {r->installation, name, hp_json_int(row, "version", 0)};
	struct hp_buf value, text;
	struct hp_error err;
	json_t *doc = NULL;
	bool sent = false;

	if (!was || !name || strcmp(was, r->t->keys.keys[0].id) == 0)
		return false;
	hp_buf_init(&value, HP_SECRET_MAX + 1);
	hp_buf_init(&text, 4 * (size_t)SEALED_MAX);
	doc = json_pack("{s:s,s:I,s:s}", "name", name, "version", (json_int_t)f.version, "was", was);
	if (doc && open_sealed(r->t, &f, hp_json_str(row, "sealed"), &value, &err) == 0 &&
	    seal_to(r->t, &f, hp_buf_bytes(&value), doc, &err) == 0 && hp_json_write(&text, doc, &err) == 0) {
		r->t->o.store->ops->door(r->t->o.store, "secret_reseal", r->principal, hp_buf_bytes(&text), on_resealed, r);
		sent = true;
	} else {
		r->unreadable++;
	}
	hp_buf_wipe(&value);
	hp_buf_free(&text);
	json_decref(doc);
	return sent;
}

static void rekey_next(struct rekeying *r)
{
	while (r->next < json_array_size(r->rows))
		if (reseal(r, json_array_get(r->rows, r->next++)))
			return;
	rekey_end(r, NULL);
}

static void on_all(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct rekeying *r = arg;
	struct hp_error mine;
	json_t *doc = err ? NULL : hp_json_parse(json.p, json.n, "secrets", &mine);

	if (!doc) {
		rekey_end(r, err ? err : &mine);
		return;
	}
	r->rows = json_incref(json_object_get(doc, "versions"));
	(void)snprintf(r->installation, sizeof r->installation, "%s",
		       hp_json_str(doc, "installation") ? hp_json_str(doc, "installation") : "");
	json_decref(doc);
	rekey_next(r);
}

void hp_secret_table_rekey(struct hp_secret_table *t, const char *principal, hp_door_cb cb, void *arg)
{
	struct rekeying *r = hp_needed(1, sizeof *r);

	*r = (struct rekeying){.t = t, .cb = cb, .arg = arg};
	(void)snprintf(r->principal, sizeof r->principal, "%s", principal);
	look_at_keys(t);
	t->o.store->ops->door(t->o.store, "secrets_live", principal, hp_bytes_of("{}"), on_all, r);
}
