/* host_calls.c: tokens and answers.
 *
 * A token is slot + 1 in its low half and the slot's generation in its high half.
 * A slot's generation rises whenever a call takes it, so a token of an earlier call
 * can never answer a later one. complete() may come from any thread.
 */
#include "plugin/host_private.h"

#include <string.h>
#include "base/json.h"
#include "base/mutant.h"

void hp_calls_init(struct hp_calls *c)
{
	memset(c, 0, sizeof *c);
	pthread_mutex_init(&c->lock, NULL);
}

static uint64_t token_of(const struct hp_calls *c, const struct hp_slot *s)
{
	return (uint64_t)s->generation << 32 | (uint64_t)(s - c->slots + 1);
}

/* NULL: the token's call does not wait for an answer (any more). */
static struct hp_slot *slot_of(struct hp_calls *c, uint64_t token)
{
	uint64_t at = token & UINT32_MAX;
	struct hp_slot *s;

	if (at == 0 || at > HP_PLUGIN_CALLS_MAX)
		return NULL;
	s = &c->slots[at - 1];
	if (HP_GUARD(plugin_stale, s->generation == (uint32_t)(token >> 32)) == 0)
		return NULL;
	return HP_GUARD(plugin_once, s->open) ? s : NULL;
}

uint64_t hp_calls_open(struct hp_calls *c, int64_t id, const struct hp_activity *a)
{
	uint64_t token = 0;

	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < HP_PLUGIN_CALLS_MAX && token == 0; i++) {
		struct hp_slot *s = &c->slots[i];

		if (s->open || s->answer)
			continue;
		s->generation++;
		s->open = true;
		s->id = id;
		s->activity = a;
		token = token_of(c, s);
	}
	pthread_mutex_unlock(&c->lock);
	return token;
}

json_t *hp_plugin_text(const char *s, size_t max, const char *otherwise)
{
	size_t n = s ? strnlen(s, max) : 0;
	json_t *v;

	while (n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80)
		n--;
	v = n ? json_stringn(s, n) : NULL;
	return v ? v : json_string(otherwise);
}

static json_t *failure(int64_t id, int cls, const char *code, const char *message)
{
	return json_pack("{s:I, s:i, s:s, s:s}", "reply", (json_int_t)id, "class", cls, "code", code, "message", message);
}

/* A result that cannot be used: the peer may have acted, and nobody knows how. */
static json_t *unusable(int64_t id, const char *message)
{
	return failure(id, HP_PLUGIN_AMBIGUOUS, "reply_error", message);
}

static bool code_ok(const char *code)
{
	size_t n = code ? strnlen(code, HP_PLUGIN_CODE_MAX + 1) : 0;

	return n > 0 && n <= HP_PLUGIN_CODE_MAX && strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

#define DEPTH_MAX (HP_JSON_DEPTH_MAX - 2) /* a frame goes around it */

static int depth(const json_t *v)
{
	json_t *any = (json_t *)(uintptr_t)v, *inner;
	const char *name;
	int deepest = 0, d;
	size_t i;

	json_array_foreach(any, i, inner)
	{
		d = depth(inner);
		deepest = d > deepest ? d : deepest;
	}
	json_object_foreach(any, name, inner)
	{
		d = depth(inner);
		deepest = d > deepest ? d : deepest;
	}
	return deepest + (json_is_array(v) || json_is_object(v));
}

static json_t *good(int64_t id, const struct hp_plugin_result *r)
{
	struct hp_error err;
	json_t *v;

	if (r->value && r->value_len > HP_PLUGIN_VALUE_MAX)
		return failure(id, HP_PLUGIN_AMBIGUOUS, "response_too_large", "the plugin's answer is larger than 1 MiB");
	v = r->value ? hp_json_parse(r->value, r->value_len, "the plugin's answer", &err) : json_null();
	if (!v)
		return unusable(id, err.message);
	if (depth(v) > DEPTH_MAX) {
		json_decref(v);
		return unusable(id, "the plugin's answer is nested too deeply");
	}
	return json_pack("{s:I, s:i, s:o}", "reply", (json_int_t)id, "class", HP_PLUGIN_OK, "value", v);
}

/* Everything of r is copied here, on the thread of whoever completes. */
static json_t *frame_of(int64_t id, const struct hp_plugin_result *r)
{
	json_t *v;

	if (!r || r->size < sizeof *r)
		return unusable(id, "the plugin's result is no hp_plugin_result of this ABI");
	if (r->cls == HP_PLUGIN_OK)
		return good(id, r);
	if (r->cls < HP_PLUGIN_RETRYABLE || r->cls > HP_PLUGIN_NEEDS_PERSON)
		return unusable(id, "the plugin's result has a class that does not exist");
	if (!code_ok(r->code))
		return unusable(id, "the plugin's failure has no code of lower-case letters, digits and underscores");
	v = json_pack("{s:I, s:i, s:s, s:o}", "reply", (json_int_t)id, "class", r->cls, "code", r->code, "message",
		      hp_plugin_text(r->message, HP_PLUGIN_MESSAGE_MAX, r->code));
	if (v && r->retry_after_us >= 0)
		json_object_set_new(v, "retry_after_us", json_integer(r->retry_after_us));
	return v;
}

int hp_calls_complete(struct hp_calls *c, uint64_t token, const struct hp_plugin_result *r)
{
	struct hp_slot *s;
	int first = 0;

	pthread_mutex_lock(&c->lock);
	s = slot_of(c, token);
	if (s) {
		s->answer = frame_of(s->id, r);
		s->open = false;
		c->answers += s->answer != NULL; /* no memory: the call ends by its timeout */
		first = 1;
	}
	pthread_mutex_unlock(&c->lock);
	return first;
}

int hp_calls_live(struct hp_calls *c, uint64_t token)
{
	int live;

	pthread_mutex_lock(&c->lock);
	live = slot_of(c, token) != NULL;
	pthread_mutex_unlock(&c->lock);
	return live;
}

uint64_t hp_calls_give_up(struct hp_calls *c, int64_t id, const struct hp_activity **a)
{
	uint64_t token = 0;

	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < HP_PLUGIN_CALLS_MAX; i++) {
		struct hp_slot *s = &c->slots[i];

		if (!s->open || s->id != id)
			continue;
		token = token_of(c, s);
		*a = s->activity;
		s->open = false;
	}
	pthread_mutex_unlock(&c->lock);
	return token;
}

json_t *hp_calls_take(struct hp_calls *c)
{
	json_t *v = NULL;

	pthread_mutex_lock(&c->lock);
	for (int i = 0; i < HP_PLUGIN_CALLS_MAX && c->answers > 0 && !v; i++) {
		v = c->slots[i].answer;
		c->slots[i].answer = NULL;
		c->answers -= v != NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return v;
}
