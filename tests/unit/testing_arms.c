/* testing_arms.c: random sequences of votes, events, time and checks on the real
 * machine, the in-memory store and Lua, against a model of a page: exactly one way
 * out, and it is that of whatever was committed first. The seed is printed and can be
 * given again in HP_SEED. */
#include <time.h>

#include "base/clock.h"
#include "lib/suite.h"
#include "script_help.h"
#include "testing/drive.h"

#define EVERY (30 * HP_SECOND)
#define FAILURES 3
#define STEPS 40

static const char source[] =
	"local bank = connector 'bank'\n"
	"return workflow 'canary' {\n"
	"  approval 'promote' {\n"
	"    ask = 'Promote?', approvers = '2 of sre', deadline = '1h', reminders = { '7m', '20m' },\n"
	"    rejected = 'rejected', expired = 'expired',\n"
	"    on = {\n"
	"      abort = { event = 'canary.abort', key = 'r1', next = 'aborted' },\n"
	"      late  = { after = '%s', next = 'late' },\n"
	"      ill   = { every = '30s', call = bank.ping, when = function(r) return r.ill end, next = 'ill',\n"
	"                failures = 3, failed = 'blind' },\n"
	"    },\n"
	"  },\n"
	"  succeed 'promoted' {}, succeed 'rejected' {}, succeed 'expired' {}, succeed 'aborted' {},\n"
	"  succeed 'late' {}, succeed 'ill' {}, succeed 'blind' {},\n"
	"}\n";

static uint64_t seed;
static uint32_t rnd(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % n;
}

/* ---- what should happen ---- */

struct model {
	const char *state;  /* "promote": still open */
	int64_t now, check, late, deadline;
	int failures, yes, checks;
	bool voted[4];
	bool mail;          /* an event that nobody has looked at */
};
static struct model M;

static void model_vote(int who, bool yes)
{
	if (strcmp(M.state, "promote") != 0 || M.voted[who])
		return;
	M.voted[who] = true;
	M.yes += yes;
	if (!yes)
		M.state = "rejected";
	else if (M.yes == 2)
		M.state = "promoted";
}

static void model_reply(int said)
{
	M.checks++;
	M.check = M.now + EVERY;
	if (strcmp(M.state, "promote") != 0) /* decided while it was in the air */
		return;
	M.failures = said == 2 ? M.failures + 1 : 0;
	if (said == 1)
		M.state = "ill";
	else if (M.failures == FAILURES)
		M.state = "blind";
	else if (M.mail) /* it came while the check was in the air */
		M.state = "aborted";
}

/* ---- the world ---- */

static struct hp_drive *D;

static bool door(const char *name, const char *by, const char *args)
{
	struct hp_error err = {0};
	json_t *v = hp_json_parse(args, strlen(args), "args", &err);
	int rc;

	ck_assert_msg(v != NULL, "%s: %s", err.message, args);
	rc = hp_drive_door(D, name, by, v, &err);
	json_decref(v);
	ck_assert_msg(rc == 0 || err.code == HP_E_CONFLICT, "%s: %s", name, err.message);
	return rc == 0;
}

static bool vote(void)
{
	static const char *const names[] = {"ann", "bob", "cid", "dee"};
	int who = (int)rnd(4);
	bool yes = rnd(12) != 0, counts = strcmp(M.state, "promote") == 0 && !M.voted[who];

	model_vote(who, yes);
	ck_assert_int_eq(counts, door("decide", names[who], yes
		? "{\"approval\":1,\"decision\":\"approve\",\"reason\":\"r\"}"
		: "{\"approval\":1,\"decision\":\"reject\",\"reason\":\"r\"}"));
	return counts;
}

/* → whether the run hears of it */
static bool event(void)
{
	bool ours = rnd(8) == 0;

	door("send_event", "ann", ours ? "{\"name\":\"canary.abort\",\"key\":\"r1\",\"payload\":{}}"
				       : "{\"name\":\"canary.abort\",\"key\":\"r2\",\"payload\":{}}");
	return ours && strcmp(M.state, "promote") == 0;
}

static int on_reply(void *arg, const struct hp_drive_send *s, struct hp_buf *out, struct hp_event *ev, struct hp_error *err)
{
	int said = rnd(40) == 0 ? 1 : rnd(4) == 0 ? 2 : 0;
	bool voted = false;

	(void)arg;
	(void)err;
	ck_assert_str_eq(s->check, "ill");
	ck_assert_str_eq(M.state, "promote"); /* nobody looks after a run that has gone on */
	ck_assert_int_eq(s->now, M.check);    /* neither early nor late */
	ck_assert_int_lt(s->now, M.late < M.deadline ? M.late : M.deadline); /* clocks go first */
	M.now = s->now;
	if (rnd(10) == 0)
		voted = vote();
	if (rnd(10) == 0)
		M.mail = event() || M.mail;
	if (!voted)
		model_reply(said);
	else if (strcmp(M.state, "promote") == 0 && M.mail)
		M.state = "aborted"; /* the vote made the run be looked at again, and there it is; else it is checked again */
	if (said == 2) {
		ev->outcome = HP_RETRYABLE;
		ev->code = "busy";
	} else {
		hp_buf_adds(out, said ? "{\"ill\":true}" : "{}");
		ev->value = hp_buf_bytes(out);
	}
	return 0;
}

static void pass(int64_t us)
{
	struct hp_error err = {0};
	int64_t until = hp_drive_now(D) + us;

	ck_assert_msg(hp_drive_pass(D, us, &err) == 0, "%s", err.message);
	M.now = until;
	if (strcmp(M.state, "promote") != 0)
		return;
	if (until >= M.late && M.late < M.deadline)
		M.state = "late";
	else if (until >= M.deadline)
		M.state = "expired";
	else
		ck_assert_int_gt(M.check, until); /* none was left out */
}

static const char *approval_word(void)
{
	static const char *const words[][2] = {{"promote", "open"}, {"promoted", "approved"}, {"rejected", "rejected"},
					       {"expired", "expired"}};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(M.state, words[i][0]) == 0)
			return words[i][1];
	return "cancelled";
}

static void compare(void)
{
	struct hp_error err = {0};
	json_t *f = hp_drive_facts(D, &err);
	bool open = strcmp(M.state, "promote") == 0;
	const json_t *approval = json_object_get(f, "approval");

	ck_assert_msg(f != NULL, "%s", err.message);
	ck_assert_str_eq(hp_json_str(f, "state"), M.state);
	ck_assert_str_eq(hp_json_str(f, "status"), open ? "waiting" : "succeeded");
	ck_assert_uint_eq(json_array_size(json_object_get(f, "path")), open ? 1 : 2);
	ck_assert_str_eq(hp_json_str(approval, "status"), approval_word());
	ck_assert_uint_eq(json_array_size(json_object_get(f, "waiting")), open ? 4 : 0);
	for (int i = 0, votes = 0; i < 4; i++) {
		votes += M.voted[i];
		if (i == 3) /* not one is lost */
			ck_assert_uint_eq(json_array_size(json_object_get(approval, "votes")), (size_t)votes);
	}
	json_decref(f);
}

static void begin(struct hp_workflow *w, struct hp_bytes summary, bool late_first)
{
	const struct hp_drive_hooks hooks = {.reply = on_reply};
	struct hp_error err = {0};
	json_t *input = json_object();

	memset(&M, 0, sizeof M);
	D = hp_drive_new(w, summary, &hooks, 20000 * HP_DAY, &err);
	ck_assert_msg(D != NULL, "%s", err.message);
	for (int i = 0; i < 4; i++)
		hp_drive_principal(D, ((const char *const[]){"ann", "bob", "cid", "dee"})[i], "person", "sre");
	M.state = "promote";
	M.now = hp_drive_now(D);
	M.check = M.now + EVERY;
	M.late = M.now + (late_first ? 50 : 70) * HP_MINUTE;
	M.deadline = M.now + HP_HOUR;
	if (rnd(12) == 0 && event()) /* before the run is there */
		M.state = "aborted";
	ck_assert_int_eq(hp_drive_start(D, input, NULL, "tester", &err), 0);
	json_decref(input);
}

static void one(struct hp_workflow *w, struct hp_bytes summary, bool late_first)
{
	begin(w, summary, late_first);
	compare();
	for (int i = 0; i < STEPS; i++) {
		switch (rnd(10)) {
		case 0:
			vote();
			break;
		case 1:
			if (event())
				M.state = "aborted";
			break;
		default:
			pass((int64_t)rnd(240) * HP_SECOND);
		}
		compare();
	}
	hp_drive_free(D);
}

START_TEST(what_is_committed_first_is_the_only_way_out)
{
	const char *given = getenv("HP_SEED");
	uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;

	printf("testing_arms: HP_SEED=%llu\n", (unsigned long long)first);
	for (int kind = 0; kind < 2; kind++) {
		struct hp_error err = {0};
		struct hp_workflow *w;
		struct hp_buf summary;
		char text[sizeof source + 8];

		snprintf(text, sizeof text, source, kind ? "50m" : "70m");
		w = must_load(text);
		hp_buf_init(&summary, HP_BUNDLE_MAX);
		ck_assert_int_eq(hp_drive_summary(w, &summary, &err), 0);
		for (int i = 0; i < 50; i++) {
			seed = first + (uint64_t)(i * 2 + kind) * 7919 + 1;
			one(w, hp_buf_bytes(&summary), kind);
		}
		hp_buf_free(&summary);
		hp_workflow_free(w);
	}
}
END_TEST

HP_SUITE("testing arms", what_is_committed_first_is_the_only_way_out)
