/* fake_state.c: what a simulated provider remembers across a kill.
 *
 * Journal of requests (bounded; the total goes on counting), faults still to happen,
 * and the outbox of webhooks. A webhook's body is text from the moment it is queued:
 * every delivery carries the same bytes. It is delivered until the receiver answers
 * 2xx (1 s, 2 s, 4 s … at most 30 s between tries, HP_FAKE_TRIES_MAX tries), and once
 * more for each copy. While a delivery is on its way the entry is out of reach for
 * IN_FLIGHT: should the process die then, it is delivered again.
 */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/words.h"
#include "script/fake_internal.h"

#define IN_FLIGHT (30 * HP_SECOND)
#define PAUSE_MAX (30 * HP_SECOND)
#define SECONDS_MAX 86400.0
#define COPIES_MAX 100
#define REORDER_SECONDS 5.0 /* when the fault names none */

static const char *const kinds[] = {"status",     "reset_before",      "reset_after",     "slow",
				    "lost_reply", "duplicate_webhook", "reorder_webhooks"};
#define N_KINDS (sizeof kinds / sizeof kinds[0])

json_t *hp_fake_state_new(void)
{
	return json_pack("{s:{}, s:i, s:[], s:i, s:[], s:[], s:[]}", "db", "seq", 0, "requests",
			 "requests_total", 0, "faults", "outbox", "given_up");
}

/* ---- journal ---- */

static const char *header(const struct hp_fake_request *rq, const char *name)
{
	int i;

	for (i = 0; i < rq->n_headers; i++)
		if (strcmp(rq->headers[i][0], name) == 0)
			return rq->headers[i][1];
	return NULL;
}

int hp_fake_journal(struct hp_fake *f, const struct hp_fake_request *rq, int status, const char *fault,
		    struct hp_error *err)
{
	json_t *list = json_object_get(f->state, "requests"), *entry;
	int64_t total = hp_json_int(f->state, "requests_total", 0) + 1;
	const char *key = header(rq, "idempotency-key");
	uint8_t hash[HP_SHA256_LEN];
	char hex[HP_SHA256_HEX];

	hp_sha256(rq->body.p, rq->body.n, hash);
	hp_hex(hash, sizeof hash, hex);
	entry = json_pack("{s:I, s:I, s:s, s:s, s:s?, s:s, s:i, s:s?}", "n", (json_int_t)total, "at",
			  (json_int_t)rq->now, "method", rq->method, "path", rq->path, "key", key,
			  "body_sha256", hex, "status", status, "fault", fault);
	if (!entry) /* a path or a key that is no UTF-8 */
		entry = json_pack("{s:I, s:I, s:s, s:s, s:n, s:s, s:i}", "n", (json_int_t)total, "at",
				  (json_int_t)rq->now, "method", "?", "path", "(not UTF-8)", "key",
				  "body_sha256", hex, "status", status);
	if (!entry || json_array_append_new(list, entry) ||
	    json_object_set_new(f->state, "requests_total", json_integer(total)))
		return hp_fail(err, HP_E_NOMEM, "no memory for the journal of requests");
	while (json_array_size(list) > HP_FAKE_REQUESTS_MAX)
		json_array_remove(list, 0);
	return 0;
}

/* ---- faults ---- */

static bool is_webhook_kind(const char *kind)
{
	return strcmp(kind, "duplicate_webhook") == 0 || strcmp(kind, "reorder_webhooks") == 0;
}

static int check_fault(const json_t *fault, struct hp_error *err)
{
	const char *match = hp_json_str(fault, "match"), *kind = hp_json_str(fault, "kind"), *near;
	const json_t *seconds = json_object_get(fault, "seconds");
	int64_t status = hp_json_int(fault, "status", 500);
	size_t i;

	if (!match || (strcmp(match, "*") != 0 && !strstr(match, " /")))
		return hp_fail(err, HP_E_INVALID, "a fault needs \"match\": \"METHOD /path\" (with :params) or \"*\"");
	for (i = 0; kind && i < N_KINDS && strcmp(kind, kinds[i]) != 0; i++)
		;
	if (!kind || i == N_KINDS) {
		near = kind ? hp_nearest(kind, kinds, N_KINDS) : NULL;
		hp_fail(err, HP_E_INVALID, "a fault has no kind \"%s\"", kind ? kind : "");
		return hp_error_hint(err, "did you mean \"%s\"?", near ? near : "status");
	}
	if (status < 200 || status > 599)
		return hp_fail(err, HP_E_INVALID, "\"status\" is no final HTTP status (200 to 599)");
	if (seconds && !(json_number_value(seconds) >= 0 && json_number_value(seconds) <= SECONDS_MAX))
		return hp_fail(err, HP_E_INVALID, "\"seconds\" is not between 0 and 86400");
	if (hp_json_int(fault, "times", 1) < 1)
		return hp_fail(err, HP_E_INVALID, "\"times\" is less than 1");
	return 0;
}

static bool has_ints(const json_t *entry)
{
	return json_is_integer(json_object_get(entry, "due")) &&
	       json_is_integer(json_object_get(entry, "attempt")) &&
	       json_is_integer(json_object_get(entry, "copies"));
}

int hp_fake_state_check(const json_t *state, struct hp_error *err)
{
	static const char *const arrays[] = {"requests", "faults", "outbox", "given_up"};
	json_t *entry;
	size_t i;

	if (!json_is_object(json_object_get(state, "db")))
		return hp_fail(err, HP_E_INVALID, "the fake's state has no object \"db\"");
	if (!json_is_integer(json_object_get(state, "seq")) ||
	    !json_is_integer(json_object_get(state, "requests_total")))
		return hp_fail(err, HP_E_INVALID, "the fake's state has no whole numbers \"seq\" and "
			       "\"requests_total\"");
	for (i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
		if (!json_is_array(json_object_get(state, arrays[i])))
			return hp_fail(err, HP_E_INVALID, "the fake's state has no array \"%s\"", arrays[i]);
	json_array_foreach(json_object_get(state, "faults"), i, entry)
		if (check_fault(entry, err) < 0 || !json_is_integer(json_object_get(entry, "times")))
			return hp_error_prefix(err, "the fake's state, fault %zu", i + 1);
	json_array_foreach(json_object_get(state, "outbox"), i, entry)
		if (!hp_json_str(entry, "id") || !hp_json_str(entry, "body") || !has_ints(entry))
			return hp_fail(err, HP_E_INVALID, "the fake's state, webhook %zu: it needs id, body, "
				       "due, attempt and copies", i + 1);
	return 0;
}

int hp_fake_fault_add(struct hp_fake *f, const json_t *fault, struct hp_error *err)
{
	json_t *list = json_object_get(f->state, "faults"), *copy;

	if (check_fault(fault, err) < 0)
		return -1;
	if (json_array_size(list) >= HP_FAKE_FAULTS_MAX)
		return hp_fail(err, HP_E_LIMIT, "more than %d faults", HP_FAKE_FAULTS_MAX);
	copy = json_deep_copy(fault);
	if (!copy || (!json_object_get(copy, "times") &&
		      json_object_set_new(copy, "times", json_integer(1)))) {
		json_decref(copy);
		return hp_fail(err, HP_E_NOMEM, "no memory for a fault");
	}
	if (json_array_append_new(list, copy))
		return hp_fail(err, HP_E_NOMEM, "no memory for a fault");
	return 0;
}

static bool fault_matches(const json_t *fault, const char *method, const char *path)
{
	const char *match = hp_json_str(fault, "match");
	size_t n = strcspn(match, " ");

	if (strcmp(match, "*") == 0)
		return true;
	return strlen(method) == n && memcmp(match, method, n) == 0 &&
	       hp_fake_path_match(match + n + 1, path, NULL);
}

json_t *hp_fake_fault_find(struct hp_fake *f, const char *method, const char *path, bool webhooks)
{
	json_t *list = json_object_get(f->state, "faults"), *fault;
	size_t i;

	json_array_foreach(list, i, fault)
		if (is_webhook_kind(hp_json_str(fault, "kind")) == webhooks &&
		    fault_matches(fault, method, path))
			return fault;
	return NULL;
}

void hp_fake_fault_used(struct hp_fake *f, json_t *fault)
{
	json_t *list = json_object_get(f->state, "faults"), *it;
	int64_t times = hp_json_int(fault, "times", 1);
	size_t i;

	if (times > 1) {
		json_integer_set(json_object_get(fault, "times"), times - 1);
		return;
	}
	json_array_foreach(list, i, it)
		if (it == fault) {
			json_array_remove(list, i);
			return;
		}
}

/* ---- outbox ---- */

static int64_t seconds_of(const json_t *v, const char *key, double fallback)
{
	const json_t *s = json_object_get(v, key);

	return (int64_t)((s ? json_number_value(s) : fallback) * (double)HP_SECOND);
}

static void set_int(json_t *entry, const char *key, int64_t v)
{
	json_integer_set(json_object_get(entry, key), v); /* the member was made with the entry */
}

void hp_fake_next_id(const struct hp_fake *f, struct hp_fake_call *c, char out[HP_FAKE_ID_MAX])
{
	uint8_t hash[HP_SHA256_LEN];
	char text[128], hex[HP_SHA256_HEX];
	int n = snprintf(text, sizeof text, "%s:%lld", f->name, (long long)++c->seq);

	hp_sha256(text, (size_t)n, hash);
	hp_hex(hash, sizeof hash, hex);
	memcpy(out, hex, HP_FAKE_ID_MAX - 1);
	out[HP_FAKE_ID_MAX - 1] = '\0';
}

static bool id_is_taken(const json_t *list, const char *id)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(list, i, entry)
		if (strcmp(hp_json_str(entry, "id"), id) == 0)
			return true;
	return false;
}

static int check_webhook(const json_t *spec, struct hp_error *err)
{
	static const char *const known[] = {"source", "scheme", "secret", "id",
					    "body",   "headers", "delay", "copies"};
	const char *key;
	const json_t *v;
	size_t i;

	json_object_foreach((json_t *)(uintptr_t)spec, key, v) {
		for (i = 0; i < sizeof known / sizeof known[0] && strcmp(key, known[i]) != 0; i++)
			;
		if (i == sizeof known / sizeof known[0])
			return hp_fail(err, HP_E_SCRIPT, "ctx.webhook has no field \"%s\"", key);
		if (i < 4 && !json_is_string(v))
			return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: %s is not a text", key);
	}
	v = json_object_get(spec, "body");
	if (!json_is_string(v) && !json_is_object(v) && !json_is_array(v))
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: body is neither a table nor a text");
	v = json_object_get(spec, "headers");
	if (v && !json_is_object(v))
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: headers is not a table of texts");
	json_object_foreach((json_t *)(uintptr_t)v, key, v)
		if (!json_is_string(v))
			return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: header %s is not a text", key);
	v = json_object_get(spec, "delay");
	if (v && !(json_number_value(v) >= 0 && json_number_value(v) <= SECONDS_MAX))
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: delay is not from 0 to 86400 seconds");
	v = json_object_get(spec, "copies");
	if (v && !(json_integer_value(v) >= 1 && json_integer_value(v) <= COPIES_MAX))
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: copies is not from 1 to %d", COPIES_MAX);
	return 0;
}

/* STRIPE_WEBHOOK_SECRET for stripe. */
static void default_secret(const char *source, char *out, size_t n)
{
	size_t i;

	snprintf(out, n, "%s_WEBHOOK_SECRET", source);
	for (i = 0; i < strlen(source) && i < n - 1; i++)
		if (out[i] >= 'a' && out[i] <= 'z')
			out[i] = (char)(out[i] - 'a' + 'A');
}

int hp_fake_queue_webhook(struct hp_fake *f, struct hp_fake_call *c, const json_t *spec,
			  struct hp_error *err)
{
	const char *source = hp_json_str(spec, "source"), *scheme = hp_json_str(spec, "scheme");
	const char *secret = hp_json_str(spec, "secret"), *id = hp_json_str(spec, "id");
	const json_t *body = json_object_get(spec, "body");
	char own_id[HP_FAKE_ID_MAX + 4] = "msg_", own_secret[HP_NAME_MAX + 20];
	struct hp_buf text;
	json_t *entry = NULL;
	int rc = -1;

	if (check_webhook(spec, err) < 0)
		return -1;
	if (json_array_size(c->webhooks) >= HP_FAKE_WEBHOOKS_MAX)
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: more than %d from one request",
			       HP_FAKE_WEBHOOKS_MAX);
	source = source ? source : f->name;
	if (strlen(source) > HP_NAME_MAX)
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: source is longer than %d", HP_NAME_MAX);
	default_secret(source, own_secret, sizeof own_secret);
	hp_fake_next_id(f, c, own_id + 4);
	id = id ? id : own_id;
	if (id_is_taken(c->webhooks, id) || id_is_taken(json_object_get(f->state, "outbox"), id))
		return hp_fail(err, HP_E_SCRIPT, "ctx.webhook: \"%s\" waits for delivery already", id);
	hp_buf_init(&text, HP_VALUE_MAX);
	if (!json_is_string(body) && hp_json_write(&text, body, err) < 0)
		goto out;
	entry = json_pack("{s:s, s:s, s:s, s:s, s:s, s:O*, s:I, s:I, s:i}", "id", id, "source", source,
			  "scheme", scheme ? scheme : source, "secret", secret ? secret : own_secret, "body",
			  json_is_string(body) ? json_string_value(body) : hp_buf_str(&text), "headers",
			  json_object_get(spec, "headers"), "due",
			  (json_int_t)(c->now + seconds_of(spec, "delay", 0)), "copies",
			  (json_int_t)hp_json_int(spec, "copies", 1), "attempt", 0);
	if (!entry || json_array_append_new(c->webhooks, entry)) {
		hp_fail(err, HP_E_NOMEM, "no memory for a webhook");
		goto out;
	}
	rc = 0;
out:
	hp_buf_free(&text);
	return rc;
}

/* Faults of the webhooks that one request queued. */
static int bend_webhooks(struct hp_fake *f, struct hp_fake_call *c, const char *method, const char *path,
			 struct hp_error *err)
{
	json_t *fault = hp_fake_fault_find(f, method, path, true), *entry, *turned;
	bool duplicate;
	size_t i;

	if (!fault || !json_array_size(c->webhooks))
		return 0;
	duplicate = strcmp(hp_json_str(fault, "kind"), "duplicate_webhook") == 0;
	turned = json_array();
	json_array_foreach(c->webhooks, i, entry) {
		if (duplicate)
			set_int(entry, "copies", hp_json_int(entry, "copies", 1) + 1);
		else /* later webhooks overtake these, and of these the last goes first */
			set_int(entry, "due", hp_json_int(entry, "due", 0) +
						      seconds_of(fault, "seconds", REORDER_SECONDS));
		if (json_array_insert(turned, duplicate ? i : 0, entry)) {
			json_decref(turned);
			return hp_fail(err, HP_E_NOMEM, "no memory for a fault");
		}
	}
	json_decref(c->webhooks);
	c->webhooks = turned;
	hp_fake_fault_used(f, fault);
	return 0;
}

int hp_fake_commit(struct hp_fake *f, struct hp_fake_call *c, const char *method, const char *path,
		   struct hp_error *err)
{
	json_t *outbox = json_object_get(f->state, "outbox");

	if (bend_webhooks(f, c, method, path, err) < 0)
		return -1;
	if (json_array_size(outbox) + json_array_size(c->webhooks) > HP_FAKE_OUTBOX_MAX)
		return hp_fail(err, HP_E_LIMIT, "more than %d webhooks wait for delivery", HP_FAKE_OUTBOX_MAX);
	if (json_object_set(f->state, "db", c->db) ||
	    json_object_set_new(f->state, "seq", json_integer(c->seq)) ||
	    json_array_extend(outbox, c->webhooks))
		return hp_fail(err, HP_E_NOMEM, "no memory for the fake's state");
	return 0;
}

int hp_fake_outbox(struct hp_fake *f, int64_t now, struct hp_buf *out, int64_t *next_due,
		   struct hp_error *err)
{
	json_t *outbox = json_object_get(f->state, "outbox"), *entry, *due = json_array();
	size_t i;
	int rc = -1;

	*next_due = INT64_MAX;
	if (!due)
		return hp_fail(err, HP_E_NOMEM, "no memory for due webhooks");
	json_array_foreach(outbox, i, entry) {
		if (hp_json_int(entry, "due", 0) <= now) {
			set_int(entry, "attempt", hp_json_int(entry, "attempt", 0) + 1);
			set_int(entry, "due", now + IN_FLIGHT);
			if (json_array_append(due, entry)) {
				hp_fail(err, HP_E_NOMEM, "no memory for due webhooks");
				goto out;
			}
		}
		if (hp_json_int(entry, "due", 0) < *next_due)
			*next_due = hp_json_int(entry, "due", 0);
	}
	rc = hp_json_write(out, due, err);
out:
	json_decref(due);
	return rc;
}

static int64_t pause_after(int64_t attempt)
{
	int64_t pause = HP_SECOND;

	while (--attempt > 0 && pause < PAUSE_MAX)
		pause *= 2;
	return pause < PAUSE_MAX ? pause : PAUSE_MAX;
}

/* The entry has done its work, or was given up after too many tries. */
static int retire(struct hp_fake *f, size_t i, json_t *entry, bool given_up, struct hp_error *err)
{
	if (given_up && json_array_append(json_object_get(f->state, "given_up"), entry))
		return hp_fail(err, HP_E_NOMEM, "no memory for the fake's state");
	json_array_remove(json_object_get(f->state, "outbox"), i);
	return 0;
}

int hp_fake_delivered(struct hp_fake *f, const char *id, int status, int64_t now, struct hp_error *err)
{
	json_t *outbox = json_object_get(f->state, "outbox"), *entry;
	size_t i;

	json_array_foreach(outbox, i, entry) {
		int64_t attempt = hp_json_int(entry, "attempt", 0), copies = hp_json_int(entry, "copies", 1);

		if (strcmp(hp_json_str(entry, "id"), id) != 0)
			continue;
		if (status < 200 || status > 299) {
			if (attempt >= HP_FAKE_TRIES_MAX)
				return retire(f, i, entry, true, err);
			set_int(entry, "due", now + pause_after(attempt));
			return 0;
		}
		if (copies <= 1)
			return retire(f, i, entry, false, err);
		set_int(entry, "copies", copies - 1);
		set_int(entry, "due", now);
		return 0;
	}
	return hp_fail(err, HP_E_NOT_FOUND, "no webhook \"%s\" waits for delivery", id);
}

int hp_fake_state(struct hp_fake *f, struct hp_buf *out, struct hp_error *err)
{
	return hp_json_write(out, f->state, err);
}
