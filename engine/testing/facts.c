/* facts.c: what can be known of a run, as one JSON object, and requests made
 * readable: their stored form is canonical bytes, not what an author thinks in. */
#include "testing/drive_private.h"

#include <stdio.h>
#include <string.h>

/* ---- requests ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

json_t *hp_drive_unescaped(const char *p, size_t n)
{
	struct hp_buf b;
	json_t *v;

	hp_buf_init(&b, n + 1);
	for (size_t i = 0; i < n; i++) {
		int hi = p[i] == '%' && i + 2 < n ? hex_digit(p[i + 1]) : -1;
		int lo = hi >= 0 ? hex_digit(p[i + 2]) : -1;

		if (lo >= 0) {
			hp_buf_addc(&b, (char)(hi * 16 + lo));
			i += 2;
		} else {
			hp_buf_addc(&b, p[i] == '+' ? ' ' : p[i]);
		}
	}
	v = json_stringn(hp_buf_str(&b), b.n);
	hp_buf_free(&b);
	return v ? v : json_stringn(p, n);
}

/* a=b&c=d → an object of texts. */
json_t *hp_drive_form(const char *p, size_t n)
{
	json_t *o = json_object();
	const char *end = p + n;

	while (p < end) {
		const char *amp = memchr(p, '&', (size_t)(end - p)), *stop = amp ? amp : end;
		const char *eq = memchr(p, '=', (size_t)(stop - p)), *name_end = eq ? eq : stop;
		json_t *name = hp_drive_unescaped(p, (size_t)(name_end - p));

		json_object_set_new(o, json_string_value(name),
				    eq ? hp_drive_unescaped(eq + 1, (size_t)(stop - eq - 1)) : json_string(""));
		json_decref(name);
		p = stop + 1;
	}
	return o;
}

static json_t *body_of(const json_t *request)
{
	const char *body = hp_json_str(request, "body");
	const char *type = hp_json_str(json_object_get(request, "headers"), "content-type");
	json_t *v = NULL;

	if (!body || !*body)
		return NULL;
	if (type && strncmp(type, "application/x-www-form-urlencoded", 33) == 0)
		return hp_drive_form(body, strlen(body));
	if (type && strstr(type, "json"))
		v = hp_json_parse(body, strlen(body), "body", NULL);
	return v ? v : json_string(body);
}

json_t *hp_drive_seen(struct hp_bytes request)
{
	json_t *r = hp_json_parse(request.p, request.n, "the stored request", NULL), *seen = json_object(), *body;
	const char *query = hp_json_str(r, "query");

	if (!r)
		return seen;
	json_object_set(seen, "method", json_object_get(r, "method"));
	json_object_set(seen, "headers", json_object_get(r, "headers"));
	json_object_set(seen, "path", json_object_get(r, "path"));
	json_object_set_new(seen, "query", query ? hp_drive_form(query, strlen(query)) : json_object());
	body = body_of(r);
	if (body)
		json_object_set_new(seen, "body", body);
	json_decref(r);
	return seen;
}

/* ---- the run ---- */

static json_t *ask(struct hp_drive *d, const char *door)
{
	char args[64];

	(void)snprintf(args, sizeof args, "{\"run\":%lld}", (long long)d->run);
	return hp_d_ask(d, door, args);
}

static void copy(json_t *to, const char *as, const json_t *from, const char *name)
{
	json_t *v = json_object_get(from, name);

	if (v)
		json_object_set(to, as, v);
}

/* The latest one, its stored request readable. PostgreSQL's list leaves requests and
 * evidence to the door of one approval. */
static json_t *approval_of(struct hp_drive *d, const json_t *doc)
{
	const json_t *all = json_object_get(doc, "approvals");
	size_t n = json_array_size(all);
	json_t *a = n ? json_deep_copy(json_array_get(all, n - 1)) : NULL, *whole;
	const char *request;
	char args[64];

	if (a && d->hooks.real) {
		(void)snprintf(args, sizeof args, "{\"approval\":%lld}", (long long)hp_json_int(a, "approval", 0));
		whole = hp_d_ask(d, "approval", args);
		json_object_update(a, whole);
		json_decref(whole);
	}
	request = hp_json_str(a, "request");
	if (request)
		json_object_set_new(a, "request", hp_drive_seen(hp_bytes_of(request)));
	return a;
}

/* What is still open: empty when the run has ended and nothing hangs on it. */
static json_t *waiting_of(struct hp_drive *d, const json_t *doc)
{
	json_t *list = json_array(), *a;
	const json_t *approvals = json_object_get(doc, "approvals");
	const struct hp_state *st = &d->def->states[d->last.state];
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)approvals, i, a) {
		const char *status = hp_json_str(a, "status");

		if (status && strcmp(status, "open") == 0)
			json_array_append_new(list, json_sprintf("approval %s", hp_json_str(a, "state")));
	}
	if (d->last.pause && !hp_status_final(d->last.status))
		json_array_append_new(list, json_sprintf("resume %s", st->name));
	else if (d->last.status == HP_HELD)
		json_array_append_new(list, json_sprintf("operator %s", st->name));
	else if (d->last.status == HP_WAITING && d->last.phase == HP_PH_BACKOFF)
		json_array_append_new(list, json_sprintf("attempt %s", st->name));
	else if (d->last.status == HP_WAITING && d->last.phase == HP_PH_GATED)
		json_array_append_new(list, json_sprintf("limit %s", st->name));
	else if (d->last.status == HP_WAITING && d->last.phase == HP_PH_DOUBT)
		json_array_append_new(list, json_sprintf("probe %s", st->name));
	else if (d->last.status == HP_WAITING && d->last.phase == HP_PH_JOINING)
		json_array_append_new(list, json_sprintf("children %s", st->name));
	else if (d->last.status == HP_WAITING && st->kind == HP_AWAIT)
		json_array_append_new(list, json_sprintf("event %s", st->name));
	else if (d->last.status == HP_WAITING && st->kind == HP_WAIT)
		json_array_append_new(list, json_sprintf("timer %s", st->name));
	if (d->last.status == HP_WAITING && (d->last.phase == HP_PH_OPEN || d->last.phase == HP_PH_JOINING))
		for (int k = 0; k < st->n_arms; k++)
			json_array_append_new(list, json_sprintf("arm %s", st->arms[k].name));
	return list;
}

static json_t *seconds(int64_t us)
{
	return us % HP_SECOND == 0 ? json_integer(us / HP_SECOND) : json_real((double)us / 1e6);
}

static void put_run(struct hp_drive *d, json_t *f, const json_t *doc)
{
	static const char *const names[] = {"status", "state", "phase", "key", "code", "message", "result", "attempt"};
	const json_t *run = json_object_get(doc, "run");
	json_t *a = approval_of(d, doc);

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		copy(f, names[i], run, names[i]);
	/* what `fail` says is the run's result; what history says is of the way there */
	if (json_is_object(json_object_get(f, "result")) && d->last.status == HP_FAILED)
		copy(f, "message", json_object_get(f, "result"), "message");
	copy(f, "saved", doc, "saved");
	if (a)
		json_object_set_new(f, "approval", a);
	json_object_set_new(f, "waiting", waiting_of(d, doc));
	json_object_set_new(f, "elapsed", seconds(d->now - d->started_at));
	if (d->last.status == HP_WAITING && d->last.due_at > 0 && !d->last.pause)
		json_object_set_new(f, "due_in", seconds(d->last.due_at - d->now));
}

json_t *hp_drive_facts(struct hp_drive *d, struct hp_error *err)
{
	json_t *f, *doc;

	if (!d->run) {
		hp_fail(err, HP_E_CONFLICT, "there is no run yet: start {…} begins it");
		return NULL;
	}
	if (d->in_sql) { /* the store is in the middle of it */
		hp_fail(err, HP_E_CONFLICT, "the run cannot be looked at while a statement runs");
		return NULL;
	}
	doc = ask(d, "run");
	if (!doc) {
		hp_fail(err, HP_E_INTERNAL, "the store does not know the run");
		return NULL;
	}
	f = json_object();
	put_run(d, f, doc);
	json_object_set_new(f, "path", json_deep_copy(d->path));
	json_object_set_new(f, "effects", json_deep_copy(d->effects));
	json_object_set_new(f, "statements", json_deep_copy(d->statements));
	json_object_set_new(f, "undone", json_deep_copy(d->undone));
	json_object_set_new(f, "children", json_deep_copy(d->children));
	json_decref(doc);
	return f;
}

void hp_drive_why(struct hp_drive *d, json_t *facts)
{
	json_t *why = ask(d, "why");

	copy(facts, "why", why, "sentence");
	json_decref(why);
}
