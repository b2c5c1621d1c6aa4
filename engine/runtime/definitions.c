/* definitions.c: the cache of loaded definitions. */
#include "runtime/definitions.h"

#include <string.h>
#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"

enum entry_state {
	ENTRY_LOADING, /* the store is asked; callers wait on it */
	ENTRY_LOADED,
	ENTRY_FAILED,  /* with its error, until retry_at */
};

struct hp_loaded {
	struct hp_list node; /* in use order: the longest unused first */
	struct hp_definitions *owner;
	enum entry_state state;
	uint8_t digest[HP_SHA256_LEN];
	struct hp_workflow *workflow; /* ENTRY_LOADED */
	int users;
	int64_t retry_at;             /* ENTRY_FAILED, on the boot clock */
	struct hp_error error;        /* ENTRY_FAILED */
	int failures;
	struct hp_list waiters;       /* ENTRY_LOADING */
};

struct waiter {
	struct hp_list node;
	hp_loaded_cb cb;
	void *arg;
};

struct hp_definitions {
	struct hp_store *store;
	struct hp_list entries;
	int n;
};

struct hp_definitions *hp_definitions_new(struct hp_store *store, struct hp_error *err)
{
	struct hp_definitions *d = hp_calloc(1, sizeof *d);

	if (!d) {
		hp_fail(err, HP_E_NOMEM, "definitions: no memory");
		return NULL;
	}
	d->store = store;
	hp_list_init(&d->entries);
	return d;
}

static void entry_free(struct hp_loaded *e)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &e->waiters) {
		hp_list_del(it);
		hp_free(hp_list_entry(it, struct waiter, node));
	}
	hp_list_del(&e->node);
	e->owner->n--;
	hp_workflow_free(e->workflow);
	hp_free(e);
}

void hp_definitions_free(struct hp_definitions *d)
{
	struct hp_list *it, *tmp;

	if (!d)
		return;
	hp_list_each(it, tmp, &d->entries)
		entry_free(hp_list_entry(it, struct hp_loaded, node));
	hp_free(d);
}

static struct hp_loaded *find(struct hp_definitions *d, const uint8_t *digest)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &d->entries) {
		struct hp_loaded *e = hp_list_entry(it, struct hp_loaded, node);

		if (memcmp(e->digest, digest, HP_SHA256_LEN) == 0)
			return e;
	}
	return NULL;
}

static void touch(struct hp_loaded *e)
{
	hp_list_del(&e->node);
	hp_list_add_tail(&e->owner->entries, &e->node);
}

static void make_room(struct hp_definitions *d)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &d->entries) {
		struct hp_loaded *e = hp_list_entry(it, struct hp_loaded, node);

		if (d->n < HP_DEFINITIONS_MAX)
			return;
		if (e->users == 0 && e->state != ENTRY_LOADING)
			entry_free(e);
	}
}

static struct hp_loaded *entry_new(struct hp_definitions *d, const uint8_t *digest)
{
	struct hp_loaded *e;

	make_room(d);
	e = hp_calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->owner = d;
	memcpy(e->digest, digest, HP_SHA256_LEN);
	hp_list_init(&e->waiters);
	hp_list_add_tail(&d->entries, &e->node);
	d->n++;
	return e;
}

/* Waiters may drop what they get and ask again, so each is unlinked first, and
 * the entry is kept by a use of our own until the last one was called. */
static void tell_waiters(struct hp_loaded *e)
{
	e->users++;
	while (!hp_list_empty(&e->waiters)) {
		struct waiter *x = hp_list_entry(e->waiters.next, struct waiter, node);

		hp_list_del(&x->node);
		if (e->state == ENTRY_LOADED) {
			e->users++;
			x->cb(x->arg, e, NULL);
		} else {
			x->cb(x->arg, NULL, &e->error);
		}
		hp_free(x);
	}
	e->users--;
}

static void on_bundle(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	struct hp_loaded *e = arg;
	char hex[HP_SHA256_HEX];

	HP_ASSERT(e->state == ENTRY_LOADING);
	hp_hex(e->digest, HP_SHA256_LEN, hex);
	HP_ASSERT(err || n == 1);
	if (!err || err->code == HP_E_NOT_FOUND)
		e->failures++; /* until it is loaded */
	if (err)
		e->error = *err;
	else
		e->workflow = hp_workflow_load(b->bundle, &e->error);
	if (e->workflow) {
		e->failures = 0;
		e->state = ENTRY_LOADED;
	} else {
		e->state = ENTRY_FAILED;
		e->retry_at = hp_boottime_us() + HP_DEFINITION_RETRY;
		hp_log(HP_ERROR, "definition cannot be loaded", "digest", HP_STR(hex), "error",
		       HP_STR(e->error.message), NULL);
	}
	tell_waiters(e);
}

void hp_definitions_get(struct hp_definitions *d, const uint8_t digest[HP_SHA256_LEN],
			hp_loaded_cb cb, void *arg)
{
	struct hp_loaded *e = find(d, digest);
	struct waiter *x = NULL;
	struct hp_error err;
	bool ask = false;

	if (e && e->state == ENTRY_LOADED) {
		touch(e);
		e->users++;
		cb(arg, e, NULL);
		return;
	}
	if (e && e->state == ENTRY_FAILED && hp_boottime_us() < e->retry_at) {
		err = e->error; /* the caller may make us forget the entry */
		cb(arg, NULL, &err);
		return;
	}
	if (!e || e->state == ENTRY_FAILED) {
		ask = true;
		e = e ? e : entry_new(d, digest);
	}
	x = e ? hp_calloc(1, sizeof *x) : NULL;
	if (!x) {
		hp_fail(&err, HP_E_NOMEM, "definitions: no memory");
		if (e && ask && !e->workflow)
			entry_free(e);
		cb(arg, NULL, &err);
		return;
	}
	x->cb = cb;
	x->arg = arg;
	hp_list_add_tail(&e->waiters, &x->node);
	if (ask) {
		e->state = ENTRY_LOADING;
		d->store->ops->bundle(d->store, e->digest, on_bundle, e);
	}
}

struct hp_loaded *hp_definitions_find(struct hp_definitions *d, const uint8_t digest[HP_SHA256_LEN])
{
	struct hp_loaded *e = find(d, digest);

	if (!e || e->state != ENTRY_LOADED)
		return NULL;
	touch(e);
	e->users++;
	return e;
}

void hp_loaded_drop(struct hp_loaded *l)
{
	if (!l)
		return;
	HP_ASSERT(l->users > 0);
	l->users--;
}

int hp_definitions_failures(struct hp_definitions *d, const uint8_t digest[HP_SHA256_LEN])
{
	const struct hp_loaded *e = find(d, digest);

	return e ? e->failures : 0;
}

struct hp_workflow *hp_loaded_workflow(const struct hp_loaded *l)
{
	return l->workflow;
}
