/* Secrets of the table in a process's memory, over the in-memory store: what is
 * found where, what a change, a lost key and another key do. */
#include "runtime/secret_table.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "lib/suite.h"
#include "runtime/files.h"
#include "runtime/secrets.h"
#include "store/mem/mem.h"

static struct ev_loop *loop;
static struct hp_store *store;
static struct hp_secret_table *table;
static struct hp_counters *counters;
static int64_t now;
static char dir[64], key_path[96];
static bool ready, done;
static char answer[2000];
static struct ev_timer tick;

static void on_tick(struct ev_loop *l, struct ev_timer *t, int events)
{
	(void)l;
	(void)t;
	(void)events;
	while (store->ops->pump(store) > 0)
		;
}

static void on_ready(void *arg)
{
	(void)arg;
	ready = true;
}

static void write_key(const char *text, mode_t mode)
{
	struct hp_error err;

	ck_assert_int_eq(hp_file_replace(key_path, hp_bytes_of(text), mode, &err), 0);
}

static void open_world(void)
{
	char line[2 * HP_SEAL_KEY_LEN + 2];
	struct hp_error err;
	struct hp_secret_table_options o = {.key_file = key_path, .on_ready = on_ready};

	hp_log_init("test", HP_ERROR + 1);
	snprintf(dir, sizeof dir, "/tmp/holdpoint-secrets.XXXXXX");
	ck_assert(mkdtemp(dir) != NULL);
	snprintf(key_path, sizeof key_path, "%s/secrets.key", dir);
	hp_seal_key_line(line);
	write_key(line, 0600);
	loop = ev_loop_new(EVFLAG_AUTO);
	now = hp_now_us();
	store = hp_store_mem_new(&now, &err);
	ck_assert_msg(store != NULL, "%s", err.message);
	ev_timer_init(&tick, on_tick, 0., 0.002);
	ev_timer_start(loop, &tick);
	counters = hp_counters_open(-1, 0, &err);
	ck_assert_ptr_nonnull(counters);
	o.counters = counters;
	o.loop = loop;
	o.store = store;
	table = hp_secret_table_new(&o, &err);
	ck_assert_msg(table != NULL, "%s", err.message);
	hp_secret_table_start(table);
	while (!ready)
		ev_run(loop, EVRUN_ONCE);
}

static void close_world(void)
{
	hp_secret_table_close(table);
	ev_timer_stop(loop, &tick);
	store->ops->free(store);
	hp_secret_table_free(table);
	hp_counters_close(counters);
	ev_loop_destroy(loop);
	ck_assert_int_eq(hp_directory_remove(dir, NULL), 0);
}

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	(void)arg;
	ck_assert_msg(!err, "%s", err ? err->message : "");
	ck_assert_uint_lt(json.n, sizeof answer);
	memcpy(answer, json.p, json.n);
	answer[json.n] = 0;
	done = true;
}

static void wait_done(void)
{
	while (!done)
		ev_run(loop, EVRUN_ONCE);
}

static void door(const char *name, const char *args)
{
	done = false;
	store->ops->door(store, name, "alice", hp_bytes_of(args), on_door, NULL);
	wait_done();
}

static void on_made(void *arg, json_t *doc, const struct hp_error *err)
{
	struct hp_buf text;

	ck_assert_msg(!err, "%s", err ? err->message : "");
	json_object_set_new(doc, "state", json_string(arg));
	hp_buf_init(&text, 20000);
	ck_assert_int_eq(hp_json_write(&text, doc, NULL), 0);
	ck_assert_ptr_null(strstr(hp_buf_str(&text), "canary"));
	store->ops->door(store, "secret_put", "alice", hp_buf_bytes(&text), on_door, NULL);
	hp_buf_free(&text);
}

static void look(void)
{
	bool seen = false;

	hp_secret_table_look(table);
	for (int i = 0; i < 20 && !seen; i++)
		ev_run(loop, EVRUN_ONCE);
}

static void put(const char *name, const char *value, char *state)
{
	done = false;
	hp_secret_table_make(table, name, hp_bytes_of(value), on_made, state);
	wait_done();
	look();
}

static char current[] = "current", pending[] = "pending";

START_TEST(each_version_is_found_by_its_state_and_number)
{
	const char *all[8];
	bool known;

	open_world();
	put("A_KEY", "canary-1", current);
	put("A_KEY", "canary-2", current);
	put("A_KEY", "canary-3", pending);
	put("A_KEY", "canary-4", pending);
	ck_assert_str_eq(hp_secret_table_get(table, "A_KEY", NULL, &known), "canary-2");
	ck_assert(known);
	ck_assert_str_eq(hp_secret_table_get(table, "A_KEY", "previous", NULL), "canary-1");
	ck_assert_str_eq(hp_secret_table_get(table, "A_KEY", "pending", NULL), "canary-4");
	ck_assert_str_eq(hp_secret_table_get(table, "A_KEY", "3", NULL), "canary-3");
	ck_assert_ptr_null(hp_secret_table_get(table, "A_KEY", "9", &known));
	ck_assert(!known);
	ck_assert_ptr_null(hp_secret_table_get(table, "B_KEY", NULL, &known));
	ck_assert_int_eq(hp_secret_table_all(table, "A_KEY", all, 8), 4);
	ck_assert_str_eq(all[0], "canary-2");
	ck_assert_str_eq(all[1], "canary-1");
	ck_assert_str_eq(all[2], "canary-4");
	ck_assert_int_eq(hp_secret_table_all(table, "A_KEY", all, 2), 2);
	ck_assert_int_eq(hp_secret_table_which(table, "A_KEY", hp_bytes_of("canary-3")), 3);
	ck_assert_int_eq(hp_secret_table_which(table, "A_KEY", hp_bytes_of("canary-5")), 0);
	close_world();
}
END_TEST

/* The table wins as soon as it has a current version, and not before. */
START_TEST(the_table_comes_before_files_and_the_environment)
{
	struct hp_secrets *s;
	struct hp_error err;
	const char *all[8];

	open_world();
	s = hp_secrets_new(NULL, NULL, &err);
	setenv("A_KEY", "from-env", 1);
	hp_secrets_use_table(s, table);
	ck_assert_str_eq(hp_secrets_get(s, "A_KEY"), "from-env");
	put("A_KEY", "canary-1", pending);
	ck_assert_str_eq(hp_secrets_get(s, "A_KEY"), "from-env");
	ck_assert_str_eq(hp_secrets_version(s, "A_KEY", "current"), "from-env");
	ck_assert_str_eq(hp_secrets_version(s, "A_KEY", "pending"), "canary-1");
	ck_assert_ptr_null(hp_secrets_version(s, "A_KEY", "previous"));
	ck_assert_int_eq(hp_secrets_all(s, "A_KEY", all, 8), 2);
	door("secret_promote", "{\"name\":\"A_KEY\"}");
	look();
	ck_assert_str_eq(hp_secrets_get(s, "A_KEY"), "canary-1");
	ck_assert_int_eq(hp_secrets_all(s, "A_KEY", all, 8), 1);
	/* the key is gone: the old variable must not come back */
	write_key("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", 0600);
	look();
	ck_assert_ptr_null(hp_secrets_get(s, "A_KEY"));
	ck_assert_int_eq((int)hp_counters_sum(counters, "holdpoint_secrets_unreadable"), 1);
	unsetenv("A_KEY");
	hp_secrets_free(s);
	close_world();
}
END_TEST

START_TEST(another_key_takes_over_while_everything_runs)
{
	char old[200] = "", both[400], new[2 * HP_SEAL_KEY_LEN + 2];
	FILE *f;

	open_world();
	put("A_KEY", "canary-1", current);
	put("B_KEY", "canary-2", pending);
	f = fopen(key_path, "r");
	ck_assert_ptr_nonnull(fgets(old, sizeof old, f));
	fclose(f);
	hp_seal_key_line(new);
	snprintf(both, sizeof both, "%s%s", new, old);
	write_key(both, 0600);
	done = false;
	hp_secret_table_rekey(table, "alice", on_door, NULL);
	wait_done();
	ck_assert_ptr_nonnull(strstr(answer, "\"resealed\":2,\"unreadable\":0"));
	write_key(new, 0600);
	look();
	ck_assert_str_eq(hp_secret_table_get(table, "A_KEY", NULL, NULL), "canary-1");
	ck_assert_str_eq(hp_secret_table_get(table, "B_KEY", "pending", NULL), "canary-2");
	ck_assert_int_eq((int)hp_counters_sum(counters, "holdpoint_secrets_unreadable"), 0);
	/* a second time there is nothing to do */
	done = false;
	hp_secret_table_rekey(table, "alice", on_door, NULL);
	wait_done();
	ck_assert_ptr_nonnull(strstr(answer, "\"resealed\":0,\"unreadable\":0"));
	close_world();
}
END_TEST

START_TEST(a_file_of_keys_that_others_may_read_is_refused)
{
	struct hp_seal_keys k;
	struct stat is, read;
	struct hp_error err;
	char line[2 * HP_SEAL_KEY_LEN + 2];

	open_world();
	hp_seal_key_line(line);
	write_key(line, 0640);
	ck_assert_int_eq(hp_seal_keys_read(key_path, &k, NULL, &err), -1);
	ck_assert_int_eq(err.code, HP_E_FORBIDDEN);
	ck_assert_ptr_nonnull(strstr(err.hint, "chmod 600"));
	write_key(line, 0400);
	/* which file it was that was read, whatever is in its place by now */
	ck_assert_int_eq(stat(key_path, &is), 0);
	ck_assert_int_eq(hp_seal_keys_read(key_path, &k, &read, &err), 0);
	ck_assert(hp_file_same(&is, &read));
	write_key(line, 0400);
	ck_assert_int_eq(stat(key_path, &is), 0);
	ck_assert(!hp_file_same(&is, &read));
	close_world();
}
END_TEST

HP_SUITE("runtime secrets", each_version_is_found_by_its_state_and_number,
	 the_table_comes_before_files_and_the_environment, another_key_takes_over_while_everything_runs,
	 a_file_of_keys_that_others_may_read_is_refused)
