/* Secrets: versions and what becomes of them, by doors and in a run's own commit. */
#include "contract.h"

#include <stdio.h>

static int64_t reserve(const char *name)
{
	json_t *r = c_door_ok("secret_reserve", "engine", "{'name':'%s'}", name);
	int64_t version = hp_json_int(r, "version", 0);

	ck_assert_str_eq(hp_json_str(r, "name"), name);
	ck_assert_uint_eq(strlen(hp_json_str(r, "installation")), 36);
	json_decref(r);
	return version;
}

/* A new version with a value that says which one it is. */
static int64_t put(const char *name, const char *state)
{
	int64_t version = reserve(name);
	json_t *r = c_door_ok("secret_put", "alice",
			      "{'name':'%s','version':%lld,'sealed':'AA%02lld','key_id':'k1','fingerprint':'f%lld','state':'%s'}",
			      name, (long long)version, (long long)version, (long long)version, state);

	ck_assert_str_eq(hp_json_str(r, "state"), state);
	ck_assert_str_eq(hp_json_str(r, "created_by"), "alice");
	json_decref(r);
	return version;
}

/* "1 current, 2 pending" of one name, the oldest first. */
static const char *versions(const char *name)
{
	static char text[512];
	json_t *r = c_door_ok("secrets", "alice", "{'name':'%s'}", name), *rows = json_object_get(r, "secrets");
	size_t n = 0;

	text[0] = 0;
	for (size_t i = json_array_size(rows); i-- > 0;) {
		const json_t *row = json_array_get(rows, i);

		n += (size_t)snprintf(text + n, sizeof text - n, "%s%lld %s", n ? ", " : "",
				      (long long)hp_json_int(row, "version", 0), hp_json_str(row, "state"));
		ck_assert_ptr_null(json_object_get(row, "sealed"));
	}
	json_decref(r);
	return text;
}

static json_t *live(int64_t serial)
{
	return c_door_ok("secrets_live", "engine", "{'serial':%lld}", (long long)serial);
}

static int64_t serial(void)
{
	json_t *r = live(0);
	int64_t n = hp_json_int(r, "serial", 0);

	json_decref(r);
	return n;
}

START_TEST(versions_go_from_pending_to_retired)
{
	ck_assert_int_eq(put("API_KEY", "current"), 1);
	ck_assert_int_eq(put("API_KEY", "pending"), 2);
	ck_assert_str_eq(versions("API_KEY"), "1 current, 2 pending");
	json_decref(c_door_ok("secret_promote", "bob", "{'name':'API_KEY'}"));
	ck_assert_str_eq(versions("API_KEY"), "1 previous, 2 current");
	/* again: it is so already */
	json_decref(c_door_ok("secret_promote", "bob", "{'name':'API_KEY','version':2}"));
	json_decref(c_door_ok("secret_retire", "bob", "{'name':'API_KEY'}"));
	ck_assert_str_eq(versions("API_KEY"), "1 retired, 2 current");
	json_decref(c_door_ok("secret_retire", "bob", "{'name':'API_KEY','version':1}"));
	/* straight to current: who was current is previous, and so on */
	put("API_KEY", "current");
	put("API_KEY", "current");
	ck_assert_str_eq(versions("API_KEY"), "1 retired, 2 retired, 3 previous, 4 current");
	/* an older pending version ends when a newer one is promoted */
	put("API_KEY", "pending");
	put("API_KEY", "pending");
	put("API_KEY", "pending");
	json_decref(c_door_ok("secret_promote", "bob", "{'name':'API_KEY','version':6}"));
	ck_assert_str_eq(versions("API_KEY"),
			 "1 retired, 2 retired, 3 retired, 4 previous, 5 retired, 6 current, 7 pending");
	json_decref(c_door_ok("secret_retire", "bob", "{'name':'API_KEY','version':6}"));
	ck_assert_str_eq(versions("API_KEY"),
			 "1 retired, 2 retired, 3 retired, 4 previous, 5 retired, 6 retired, 7 pending");
}
END_TEST

START_TEST(what_cannot_be_is_refused_with_a_sentence)
{
	put("API_KEY", "current");
	c_door_fails(HP_E_NOT_FOUND, "there is no secret NONE", "secret_promote", "bob", "{'name':'NONE'}");
	c_door_fails(HP_E_CONFLICT, "API_KEY has no pending version", "secret_promote", "bob", "{'name':'API_KEY'}");
	c_door_fails(HP_E_CONFLICT, "API_KEY has no previous version", "secret_retire", "bob", "{'name':'API_KEY'}");
	c_door_fails(HP_E_NOT_FOUND, "API_KEY has no version 9", "secret_retire", "bob", "{'name':'API_KEY','version':9}");
	c_door_fails(HP_E_INVALID, "cannot be the name of a secret", "secret_reserve", "bob", "{'name':'lower'}");
	c_door_fails(HP_E_INVALID, "cannot be the name of a secret", "secret_reserve", "bob",
		     "{'name':'A2345678901234567890123456789012345678901234567890123456789012_4'}");
	c_door_fails(HP_E_CONFLICT, "version 1 is there already", "secret_put", "bob",
		     "{'name':'API_KEY','version':1,'sealed':'AAAA','key_id':'k','fingerprint':'f'}");
	c_door_fails(HP_E_CONFLICT, "version 2 is there already, or its value is malformed", "secret_put", "bob",
		     "{'name':'API_KEY','version':2,'sealed':'A!AA','key_id':'k','fingerprint':'f'}");
	c_door_fails(HP_E_CONFLICT, "version 2 is there already, or its value is malformed", "secret_put", "bob",
		     "{'name':'API_KEY','version':2,'sealed':'AAAAA','key_id':'k','fingerprint':'f'}");
	c_door_fails(HP_E_NOT_FOUND, "there is no secret NONE", "secret_reseal", "bob",
		     "{'name':'NONE','version':1,'sealed':'BBBB','key_id':'k2','was':'k1'}");
	c_door_fails(HP_E_NOT_FOUND, "there is no secret NONE", "secret_put", "bob",
		     "{'name':'NONE','version':1,'sealed':'AAAA','key_id':'k','fingerprint':'f'}");
	c_door_fails(HP_E_INVALID, "pending or current", "secret_put", "bob",
		     "{'name':'API_KEY','version':2,'sealed':'AAAA','key_id':'k','fingerprint':'f','state':'previous'}");
	json_decref(c_door_ok("secret_retire", "bob", "{'name':'API_KEY','version':1}"));
	c_door_fails(HP_E_CONFLICT, "version 1 is retired, not pending", "secret_promote", "bob",
		     "{'name':'API_KEY','version':1}");
	ck_assert_str_eq(versions("API_KEY"), "1 retired");
}
END_TEST

START_TEST(engines_read_values_only_when_something_changed)
{
	json_t *r;
	int64_t now = serial(), before = now;

	put("API_KEY", "current");
	put("OTHER", "pending");
	now = serial();
	ck_assert_int_gt(now, before);
	r = live(now);
	ck_assert_ptr_null(json_object_get(r, "versions"));
	json_decref(r);
	r = live(before);
	ck_assert_uint_eq(json_array_size(json_object_get(r, "versions")), 2);
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(r, "versions"), 0), "name"), "API_KEY");
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(r, "versions"), 0), "sealed"), "AA01");
	json_decref(r);
	before = now;
	json_decref(c_door_ok("secret_promote", "bob", "{'name':'OTHER'}"));
	now = serial();
	ck_assert_int_gt(now, before);
	/* a retired value is gone */
	json_decref(c_door_ok("secret_retire", "bob", "{'name':'OTHER','version':1}"));
	r = live(0);
	ck_assert_uint_eq(json_array_size(json_object_get(r, "versions")), 1);
	json_decref(r);
	ck_assert_int_gt(serial(), now);
}
END_TEST

START_TEST(another_key_seals_what_is_there_still)
{
	json_t *r;

	put("API_KEY", "current");
	c_door_fails(HP_E_INVALID, "", "secret_reseal", "bob", "{'name':'API_KEY','version':1,'sealed':'A!AA','key_id':'k2','was':'k1'}");
	r = c_door_ok("secret_reseal", "bob", "{'name':'API_KEY','version':1,'sealed':'BBBB','key_id':'k2','was':'k1'}");
	ck_assert_int_eq(hp_json_bool(r, "resealed", -1), 1);
	json_decref(r);
	/* somebody was faster */
	r = c_door_ok("secret_reseal", "bob", "{'name':'API_KEY','version':1,'sealed':'CCCC','key_id':'k2','was':'k1'}");
	ck_assert_int_eq(hp_json_bool(r, "resealed", -1), 0);
	json_decref(r);
	r = live(0);
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(r, "versions"), 0), "sealed"), "BBBB");
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(r, "versions"), 0), "key_id"), "k2");
	json_decref(r);
}
END_TEST

#define PUT(version) \
	"{\"op\":\"put\",\"name\":\"API_KEY\",\"version\":" #version \
	",\"sealed\":\"AAAA\",\"key_id\":\"k1\",\"fingerprint\":\"f\"}"

START_TEST(a_run_saves_promotes_and_retires_in_its_commit)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *list;
	char by[32];

	put("API_KEY", "current");
	ck_assert_int_eq(reserve("API_KEY"), 2);
	c_begin(&t, &r);
	c_save(&t, "key", "{\"secret\":\"API_KEY\",\"version\":2}");
	c_annex(&t, "secrets", "{\"ops\":[" PUT(2) "]}");
	c_commit_ok(&r, &t);
	ck_assert_str_eq(versions("API_KEY"), "1 current, 2 pending");
	list = c_door_ok("secrets", "alice", "{'name':'API_KEY'}");
	snprintf(by, sizeof by, "run:%lld", (long long)r.row.id);
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(list, "secrets"), 0), "created_by"), by);
	json_decref(list);
	c_begin(&t, &r);
	c_annex(&t, "secrets", "{\"ops\":[{\"op\":\"promote\",\"name\":\"API_KEY\",\"version\":2}]}");
	c_commit_ok(&r, &t);
	ck_assert_str_eq(versions("API_KEY"), "1 previous, 2 current");
	c_begin(&t, &r);
	c_annex(&t, "secrets", "{\"ops\":[{\"op\":\"retire\",\"name\":\"API_KEY\"}]}");
	c_commit_ok(&r, &t);
	ck_assert_str_eq(versions("API_KEY"), "1 retired, 2 current");
}
END_TEST

/* A run says what is to be gone; what is gone already is no error. */
START_TEST(a_run_retires_what_is_there)
{
	struct c_run r = c_own();
	struct hp_transition t;

	put("API_KEY", "current");
	put("API_KEY", "pending");
	c_begin(&t, &r);
	c_annex(&t, "secrets", "{\"ops\":[{\"op\":\"retire\",\"name\":\"API_KEY\"},"
		  "{\"op\":\"retire\",\"name\":\"API_KEY\",\"which\":\"pending\"}]}");
	c_commit_ok(&r, &t);
	ck_assert_str_eq(versions("API_KEY"), "1 current, 2 retired");
	c_begin(&t, &r);
	c_annex(&t, "secrets", "{\"ops\":[{\"op\":\"retire\",\"name\":\"API_KEY\",\"which\":\"pending\"},"
		  "{\"op\":\"retire\",\"name\":\"API_KEY\",\"version\":2},"
		  "{\"op\":\"retire\",\"name\":\"API_KEY\",\"version\":1}]}");
	c_commit_ok(&r, &t);
	ck_assert_str_eq(versions("API_KEY"), "1 retired, 2 retired");
}
END_TEST

/* What cannot be done stops the run, not the batch, and nothing of it is written. */
START_TEST(a_transition_is_written_with_its_secrets_or_not_at_all)
{
	struct c_run r = c_own(), other = c_own();
	struct hp_transition t, good;
	const struct hp_transition *both[2] = { &t, &good };
	struct c_result res[2];

	put("API_KEY", "current");
	ck_assert_int_eq(reserve("API_KEY"), 2);
	c_begin(&t, &r);
	c_save(&t, "key", "1");
	c_annex(&t, "secrets", "{\"ops\":[" PUT(2) ",{\"op\":\"promote\",\"name\":\"API_KEY\",\"version\":9}]}");
	c_begin(&good, &other);
	c_save(&good, "key", "1");
	c_commit_many(both, 2, res);
	ck_assert_int_eq(res[0].outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res[0].message, "API_KEY has no version 9"));
	ck_assert_int_eq(res[1].outcome, HP_COMMIT_OK);
	ck_assert_str_eq(versions("API_KEY"), "1 current");
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &r));
	ck_assert_str_eq(r.saved, "{}");
	/* nor has a worker that lost the run any say */
	c_begin(&t, &r);
	t.rev--;
	c_annex(&t, "secrets", "{\"ops\":[" PUT(2) "]}");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert_str_eq(versions("API_KEY"), "1 current");
}
END_TEST

static void refused(struct c_run *r, const char *doc, const char *words)
{
	struct hp_transition t;
	struct c_result res;

	c_begin(&t, r);
	c_annex(&t, "secrets", doc);
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_msg(strstr(res.message, words) != NULL, "%s", res.message);
}

/* A word that says nothing here promotes and erases nothing. */
START_TEST(a_run_names_no_other_version)
{
	struct c_run r = c_own();

	put("API_KEY", "current");
	put("API_KEY", "pending");
	refused(&r, "{\"ops\":[{\"op\":\"promote\",\"name\":\"API_KEY\",\"which\":\"previous\"}]}",
		"a run cannot promote the previous version of API_KEY");
	refused(&r, "{\"ops\":[{\"op\":\"promote\",\"name\":\"API_KEY\",\"which\":\"current\"}]}",
		"a run cannot promote the current version of API_KEY");
	refused(&r, "{\"ops\":[{\"op\":\"retire\",\"name\":\"API_KEY\",\"which\":\"current\"}]}",
		"a run cannot retire the current version of API_KEY");
	refused(&r, "{\"ops\":[{\"op\":\"retire\",\"name\":\"API_KEY\",\"which\":\"old\"}]}",
		"a run cannot retire the old version of API_KEY");
	ck_assert_str_eq(versions("API_KEY"), "1 current, 2 pending");
}
END_TEST

/* What one annex of a transition does, the next one finds. */
START_TEST(two_annexes_of_one_transition)
{
	struct c_run r = c_own();
	struct hp_transition t;

	put("API_KEY", "current");
	ck_assert_int_eq(reserve("API_KEY"), 2);
	c_begin(&t, &r);
	c_annex(&t, "secrets", "{\"ops\":[" PUT(2) "]}");
	c_annex(&t, "secrets", "{\"ops\":[{\"op\":\"promote\",\"name\":\"API_KEY\",\"version\":2}]}");
	c_commit_ok(&r, &t);
	ck_assert_str_eq(versions("API_KEY"), "1 previous, 2 current");
	ck_assert_int_eq(reserve("API_KEY"), 3);
	c_begin(&t, &r);
	c_annex(&t, "secrets", "{\"ops\":[" PUT(3) "]}");
	c_annex(&t, "secrets", "{\"ops\":[" PUT(3) "]}");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_REFUSED);
	ck_assert_str_eq(versions("API_KEY"), "1 previous, 2 current");
}
END_TEST

START_TEST(old_versions_leave_the_list)
{
	put("API_KEY", "current");
	for (int i = 0; i < 11; i++)
		put("API_KEY", i == 0 ? "pending" : "current");
	/* the ten newest of twelve, and any that lives */
	ck_assert_str_eq(versions("API_KEY"),
			 "3 retired, 4 retired, 5 retired, 6 retired, 7 retired, 8 retired, 9 retired, 10 retired, "
			 "11 previous, 12 current");
}
END_TEST

START_TEST(no_more_names_than_there_may_be)
{
	char name[32];

	for (int i = 0; i < HP_SECRETS_MAX; i++) {
		snprintf(name, sizeof name, "KEY_%d", i);
		reserve(name);
	}
	c_door_fails(HP_E_TOO_LARGE, "there are 1000 secrets already", "secret_reserve", "engine", "{'name':'ONE_MORE'}");
	ck_assert_int_eq(reserve("KEY_7"), 2);
}
END_TEST

TCase *contract_secrets(void)
{
	TCase *t = tcase_create("secrets");

	tcase_add_test(t, versions_go_from_pending_to_retired);
	tcase_add_test(t, what_cannot_be_is_refused_with_a_sentence);
	tcase_add_test(t, engines_read_values_only_when_something_changed);
	tcase_add_test(t, another_key_seals_what_is_there_still);
	tcase_add_test(t, a_run_saves_promotes_and_retires_in_its_commit);
	tcase_add_test(t, a_run_retires_what_is_there);
	tcase_add_test(t, a_transition_is_written_with_its_secrets_or_not_at_all);
	tcase_add_test(t, a_run_names_no_other_version);
	tcase_add_test(t, two_annexes_of_one_transition);
	tcase_add_test(t, old_versions_leave_the_list);
	tcase_add_test(t, no_more_names_than_there_may_be);
	return t;
}
