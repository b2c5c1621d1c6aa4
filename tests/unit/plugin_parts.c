/* Frames from a side that may be broken; tokens; tables of plugins. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/limits.h"
#include "plugin/host_private.h"
#include "plugin/load.h"
#include "../lib/suite.h"

/* ---- frames ---- */

static void add(struct hp_buf *out, const char *json)
{
	struct hp_error err;

	ck_assert_msg(hp_frame_add(out, json_loads(json, 0, NULL), &err) == 0, "%s", err.message);
}

START_TEST(frames_survive_any_cut)
{
	static const char *const texts[] = {"{}", "{\"a\":1}", "{\"long\":\"\xc3\xa4\xe2\x82\xac\",\"n\":[1,2,{\"x\":null}]}"};
	struct hp_buf out;

	hp_buf_init(&out, 1 << 20);
	for (int i = 0; i < 3; i++)
		add(&out, texts[i]);
	for (size_t cut = 1; cut < out.n; cut++) { /* pieces of every size */
		struct hp_frames f;
		struct hp_error err;
		int seen = 0;

		hp_frames_init(&f);
		for (size_t at = 0; at < out.n; at += cut) {
			size_t n = out.n - at < cut ? out.n - at : cut;
			json_t *v;

			ck_assert_int_eq(hp_frames_feed(&f, out.p + at, n, &err), 0);
			while (hp_frames_next(&f, &v, &err) == 1) {
				char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);

				ck_assert_str_eq(text, texts[seen]);
				seen++;
				free(text);
				json_decref(v);
			}
		}
		ck_assert_int_eq(seen, 3);
		hp_frames_free(&f);
	}
	hp_buf_free(&out);
}
END_TEST

static void refused(const void *p, size_t n, const char *sentence)
{
	struct hp_frames f;
	struct hp_error err;
	json_t *v;

	hp_frames_init(&f);
	ck_assert_int_eq(hp_frames_feed(&f, p, n, &err), 0);
	ck_assert_int_eq(hp_frames_next(&f, &v, &err), -1);
	ck_assert_ptr_null(v);
	ck_assert_msg(strstr(err.message, sentence) != NULL, "%s", err.message);
	hp_frames_free(&f);
}

START_TEST(what_is_no_frame)
{
	refused("\0\0\0\0{}", 6, "a frame of 0 bytes was announced");
	refused("\xff\xff\xff\xff", 4, "a frame of 4294967295 bytes was announced");
	refused("\0\x40\0\x01", 4, "a frame of 4194305 bytes was announced; frames have 1 to 4194304");
	refused("\0\0\0\2[]", 6, "a frame holds no JSON object");
	refused("\0\0\0\2{x", 6, "a frame: is not valid JSON");
	refused("\0\0\0\3\"\xff\"", 7, "a frame");
	refused("\0\0\0\x0d{\"a\":1,\"a\":2}", 17, "a frame");
}
END_TEST

/* xorshift: the same bytes on every machine, from a seed that is printed */
static uint64_t draw(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

START_TEST(frames_of_noise)
{
	const char *given = getenv("HP_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 10) : UINT64_C(88172645463325252), s = seed;

	printf("frames_of_noise: HP_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 3000; round++) {
		struct hp_frames f;
		struct hp_error err;
		struct hp_buf bytes;
		size_t at = 0, flips = draw(&s) % 4;
		int rc = 0;

		hp_buf_init(&bytes, 1 << 16);
		for (uint64_t k = draw(&s) % 6 + 1; k > 0; k--)
			add(&bytes, draw(&s) % 2 ? "{\"reply\":1,\"class\":0,\"value\":{\"a\":[1,2,3]}}" : "{\"pong\":1}");
		while (flips-- > 0)
			bytes.p[draw(&s) % bytes.n] = (char)draw(&s);
		hp_frames_init(&f);
		while (at < bytes.n && rc >= 0) {
			size_t n = draw(&s) % 40 + 1;
			json_t *v;

			n = n < bytes.n - at ? n : bytes.n - at;
			ck_assert_int_eq(hp_frames_feed(&f, bytes.p + at, n, &err), 0);
			at += n;
			while ((rc = hp_frames_next(&f, &v, &err)) == 1) {
				ck_assert(json_is_object(v));
				json_decref(v);
			}
		}
		hp_frames_free(&f);
		hp_buf_free(&bytes);
	}
}
END_TEST

START_TEST(what_cannot_be_sent)
{
	struct hp_error err;
	struct hp_buf out;

	hp_buf_init(&out, 64);
	ck_assert_int_eq(hp_frame_add(&out, NULL, &err), -1);
	ck_assert_int_eq(hp_frame_add(&out, json_pack("{s:s}", "a", "0123456789012345678901234567890123456789012345678901234567890"),
				      &err), -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	hp_buf_free(&out);
}
END_TEST

/* ---- tokens ---- */

static struct hp_calls calls;
static const struct hp_plugin_result yes = {sizeof yes, HP_PLUGIN_OK, "1", 1, NULL, NULL, -1};

START_TEST(a_token_answers_its_own_call_once)
{
	const struct hp_activity *a = NULL;
	uint64_t first, second;
	json_t *v;

	hp_calls_init(&calls);
	first = hp_calls_open(&calls, 41, NULL);
	ck_assert(first != 0 && hp_calls_live(&calls, first));
	ck_assert_int_eq(hp_calls_complete(&calls, first, &yes), 1);
	ck_assert_int_eq(hp_calls_complete(&calls, first, &yes), 0);
	ck_assert_int_eq(hp_calls_live(&calls, first), 0);
	/* until its answer is taken, nobody gets its place */
	second = hp_calls_open(&calls, 42, NULL);
	ck_assert_uint_ne(first & UINT32_MAX, second & UINT32_MAX);
	v = hp_calls_take(&calls);
	ck_assert_int_eq((int)json_integer_value(json_object_get(v, "reply")), 41);
	json_decref(v);
	ck_assert_ptr_null(hp_calls_take(&calls));
	/* the same place, another call: the old token is stale */
	second = hp_calls_open(&calls, 43, NULL);
	ck_assert_uint_eq(first & UINT32_MAX, second & UINT32_MAX);
	ck_assert_uint_ne(first, second);
	ck_assert_int_eq(hp_calls_complete(&calls, first, &yes), 0);
	ck_assert_int_eq(hp_calls_live(&calls, second), 1);
	/* given up: deaf as well */
	ck_assert_uint_eq(hp_calls_give_up(&calls, 43, &a), second);
	ck_assert_uint_eq(hp_calls_give_up(&calls, 43, &a), 0);
	ck_assert_int_eq(hp_calls_complete(&calls, second, &yes), 0);
	ck_assert_ptr_null(hp_calls_take(&calls));
}
END_TEST

START_TEST(tokens_that_never_were)
{
	hp_calls_init(&calls);
	ck_assert_int_eq(hp_calls_complete(&calls, 0, &yes), 0);
	ck_assert_int_eq(hp_calls_complete(&calls, 1, &yes), 0);
	ck_assert_int_eq(hp_calls_complete(&calls, UINT64_MAX, &yes), 0);
	ck_assert_int_eq(hp_calls_complete(&calls, (UINT64_C(1) << 32) | (HP_PLUGIN_CALLS_MAX + 1), &yes), 0);
	for (int i = 0; i < HP_PLUGIN_CALLS_MAX; i++)
		ck_assert_uint_ne(hp_calls_open(&calls, i + 1, NULL), 0);
	ck_assert_uint_eq(hp_calls_open(&calls, 999, NULL), 0);
}
END_TEST

static void result_is(const struct hp_plugin_result *r, const char *json)
{
	uint64_t token;
	char *text;
	json_t *v;

	hp_calls_init(&calls);
	token = hp_calls_open(&calls, 5, NULL);
	ck_assert_int_eq(hp_calls_complete(&calls, token, r), 1);
	v = hp_calls_take(&calls);
	text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);
	ck_assert_str_eq(text, json);
	free(text);
	json_decref(v);
}

START_TEST(results_that_cannot_be_used)
{
	struct hp_plugin_result r = yes;
	char message[1200];

	r.size = 4;
	result_is(&r, "{\"class\":3,\"code\":\"reply_error\",\"message\":\"the plugin's result is no hp_plugin_result of this "
		      "ABI\",\"reply\":5}");
	result_is(NULL, "{\"class\":3,\"code\":\"reply_error\",\"message\":\"the plugin's result is no hp_plugin_result of this "
			"ABI\",\"reply\":5}");
	r = yes;
	r.value = NULL;
	result_is(&r, "{\"class\":0,\"reply\":5,\"value\":null}");
	r = (struct hp_plugin_result){sizeof r, HP_PLUGIN_TERMINAL, NULL, 0, "no", NULL, -1};
	result_is(&r, "{\"class\":2,\"code\":\"no\",\"message\":\"no\",\"reply\":5}");
	r.message = "\xff\xfe"; /* no text: the code stands for it */
	result_is(&r, "{\"class\":2,\"code\":\"no\",\"message\":\"no\",\"reply\":5}");
	memset(message, 'x', sizeof message); /* cut before a character that would not fit */
	memcpy(message + 999, "\xc3\xa4", 3);
	r.message = message;
	{
		uint64_t token;
		json_t *v;

		hp_calls_init(&calls);
		token = hp_calls_open(&calls, 5, NULL);
		ck_assert_int_eq(hp_calls_complete(&calls, token, &r), 1);
		v = hp_calls_take(&calls);
		ck_assert_uint_eq(json_string_length(json_object_get(v, "message")), 999);
		json_decref(v);
	}
}
END_TEST

START_TEST(an_answer_as_deep_as_a_frame_can_carry)
{
	for (int n = HP_JSON_DEPTH_MAX - 3; n <= HP_JSON_DEPTH_MAX + 1; n++) {
		char text[2 * HP_JSON_DEPTH_MAX + 8];
		struct hp_plugin_result r = {sizeof r, HP_PLUGIN_OK, text, 2 * (size_t)n, NULL, NULL, -1};
		struct hp_frames f;
		struct hp_error err;
		struct hp_buf out;
		json_t *v;

		memset(text, '[', (size_t)n);
		memset(text + n, ']', (size_t)n);
		hp_calls_init(&calls);
		ck_assert_int_eq(hp_calls_complete(&calls, hp_calls_open(&calls, 5, NULL), &r), 1);
		hp_buf_init(&out, 1 << 16);
		ck_assert_int_eq(hp_frame_add(&out, hp_calls_take(&calls), &err), 0);
		hp_frames_init(&f);
		ck_assert_int_eq(hp_frames_feed(&f, out.p, out.n, &err), 0);
		ck_assert_msg(hp_frames_next(&f, &v, &err) == 1, "%d: %s", n, err.message);
		ck_assert_int_eq(hp_json_int(v, "class", -1), n <= HP_JSON_DEPTH_MAX - 2 ? HP_PLUGIN_OK : HP_PLUGIN_AMBIGUOUS);
		json_decref(v);
		hp_frames_free(&f);
		hp_buf_free(&out);
	}
}
END_TEST

/* ---- tables ---- */

static void call(void *state, const struct hp_call *c)
{
	(void)state;
	(void)c;
}

START_TEST(newer_tables_are_larger)
{
	/* a plugin built against a later header of the same ABI */
	static const struct {
		struct hp_activity a;
		void *more;
	} activity = {{sizeof activity, "one", call, NULL}, NULL};
	static const struct hp_activity *const list[] = {&activity.a, NULL};
	struct {
		struct hp_plugin p;
		void *more[3];
	} big = {{HP_PLUGIN_ABI, sizeof big, "p", "2", list, NULL, NULL}, {NULL, NULL, NULL}};
	struct hp_error err;

	ck_assert_msg(hp_plugin_look(&big.p, "p", &err) == 0, "%s", err.message);
	ck_assert_ptr_eq(hp_plugin_activity(&big.p, "one"), &activity.a);
	ck_assert_ptr_null(hp_plugin_activity(&big.p, "two"));
	big.p.size = 5000;
	ck_assert_int_eq(hp_plugin_look(&big.p, "p", &err), -1);
	ck_assert_int_eq(hp_plugin_look(NULL, "p", &err), -1);
}
END_TEST

HP_SUITE("plugin parts", frames_survive_any_cut, what_is_no_frame, frames_of_noise, what_cannot_be_sent,
	 a_token_answers_its_own_call_once, tokens_that_never_were, results_that_cannot_be_used,
	 an_answer_as_deep_as_a_frame_can_carry, newer_tables_are_larger)
