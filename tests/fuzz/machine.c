/* The machine: bytes choose a definition and then every answer, as in core_walk.c, and
 * some answers have values that nobody would expect but that are allowed: times at the
 * ends of int64, texts and keys that are long or empty, figures of a sweep that lie.
 * Invariants are those of machine_walk.h, and here: no text of a transition is cut within
 * a character, its annexes are objects, times are not negative.
 *
 * Input: bytes, one for each number that is drawn. */
#include "lib/fuzz.h"
#define ck_assert(cond) MUST(cond)
#define ck_assert_int_eq(a, b) MUST((int64_t)(a) == (int64_t)(b), "%lld, %lld", (long long)(a), (long long)(b))
#define ck_assert_int_ne(a, b) MUST((int64_t)(a) != (int64_t)(b), "%lld", (long long)(a))
#define ck_assert_int_le(a, b) MUST((int64_t)(a) <= (int64_t)(b), "%lld, %lld", (long long)(a), (long long)(b))
#define ck_assert_int_lt(a, b) MUST((int64_t)(a) < (int64_t)(b), "%lld, %lld", (long long)(a), (long long)(b))
#define ck_assert_int_ge(a, b) MUST((int64_t)(a) >= (int64_t)(b), "%lld, %lld", (long long)(a), (long long)(b))
#define ck_assert_mem_eq(a, b, n) MUST(memcmp(a, b, n) == 0)
#define ck_assert_ptr_nonnull(p) MUST((p) != NULL)
#include "unit/machine_walk.h"

#define STEPS_MAX 400
#define YEAR (INT64_C(366) * HP_DAY)

static struct hp_input input;

static uint32_t rnd(uint32_t n)
{
	return n <= 256 ? in_byte(&input) % n : (uint32_t)in_bits(&input, 2) % n;
}

/* What a connector, a database or an author's expression may really say. */
static const char *hostile_text(size_t max)
{
	static const char *const parts[] = {"\xf0\x9f\x98\x80", "\"", "\\", "\n", "\x01", "\xc3\xa4", "x", "%s%n"};
	static char text[2048];
	size_t n = 0, len;
	const char *part = parts[rnd(8)];

	len = strlen(part);
	while (n + len < max && n + len < sizeof text) {
		memcpy(text + n, part, len);
		n += len;
		if (rnd(4) == 0)
			part = parts[rnd(8)];
		len = strlen(part);
	}
	text[n] = '\0';
	return text;
}

static int64_t hostile_number(void)
{
	static const int64_t numbers[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT32_MAX, INT64_MAX - 1, INT64_MAX};

	return numbers[rnd(8)];
}

static void twist(struct hp_event *ev)
{
	static char code[HP_CODE_MAX], message[1001];

	switch (rnd(12)) {
	case 0:
		snprintf(code, sizeof code, "%s", hostile_text(HP_CODE_MAX - 4));
		ev->code = code;
		break;
	case 1:
		snprintf(message, sizeof message, "%s", hostile_text(1000));
		ev->message = message;
		break;
	case 2: /* EVAL_UNTIL and EVAL_AT: eval.c lets through what lies up to ten years ahead */
		ev->number = rnd(2) ? 1 : W.now + 10 * YEAR;
		break;
	case 3:
		ev->retry_after_us = rnd(2) ? 0 : 30 * HP_DAY;
		break;
	case 4:
		ev->swept.total = hostile_number();
		break;
	case 5:
		ev->swept.lag = hostile_number();
		break;
	case 6:
		ev->swept.changed = hostile_number() & INT32_MAX;
		break;
	case 7:
		ev->sent_at = W.now - (int64_t)rnd(1000) * HP_SECOND;
		break;
	case 8:
		if (ev->type == HP_EV_REPLY)
			ev->value = hp_bytes_of("null");
		break;
	default:
		break;
	}
}

/* What only hostile values could break. */
static void check_transition(const struct hp_transition *t)
{
	struct hp_error err = {0};

	if (t->code)
		must_be_text(t->code);
	if (t->message)
		must_be_text(t->message);
	must_be_text(t->after.code);
	MUST(t->after.due_at >= 0 && t->after.attempt >= 0 && t->after.failures >= 0 && t->after.entered_at > 0);
	MUST(t->after.attempt <= HP_ATTEMPTS_MAX + 1 && t->after.visit <= HP_VISITS_MAX + 1);
	MUST(t->n_saves <= 3 && t->n_annexes <= HP_ANNEXES_MAX);
	for (int i = 0; i < t->n_annexes; i++) {
		json_t *v = hp_json_parse(t->annexes[i].doc.p, t->annexes[i].doc.n, "an annex", &err);

		MUST(json_is_object(v), "%s: %.*s: %s", t->annexes[i].kind, (int)t->annexes[i].doc.n, t->annexes[i].doc.p,
		     err.message);
		json_decref(v);
	}
	for (int i = 0; i < t->n_saves; i++)
		if (t->saves[i].value.n > 0) {
			json_t *v = hp_json_parse(t->saves[i].value.p, t->saves[i].value.n, "a value to save", &err);

			MUST(v != NULL, "%s: %.*s", err.message, (int)t->saves[i].value.n, t->saves[i].value.p);
			json_decref(v);
		}
}

HP_FUZZ(machine)
{
	input = (struct hp_input){p, n};
	walk_begin();
	for (int i = 0; i < STEPS_MAX && input.n > 0 && !hp_status_final(W.run.status); i++) {
		if (W.act.type == HP_ACT_COMMIT)
			check_transition(W.act.transition);
		walk_step();
	}
}
