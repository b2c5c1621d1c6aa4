/* net_pg_values.c: parameters and results of engine/net/pg.c against a real PostgreSQL:
 * every type, nulls, arrays, and as many bytes as a batch may have.
 */
#include "net_pg_world.h"

static void on_types(void *arg, const struct hp_pg_reply *r)
{
	int *calls = arg;
	++*calls;
	if (r->outcome != HP_PG_OK)
		ck_abort_msg("%s", r->error.message);
	const PGresult *q = r->results[0];
	bool binary = PQfformat(q, 0) == 1;
	ck_assert(hp_pg_int(q, 0, 0) == INT64_MIN);
	ck_assert(hp_pg_int(q, 0, 1) == INT64_MAX);
	ck_assert(hp_pg_bool(q, 0, 2));
	ck_assert(!hp_pg_bool(q, 0, 3));
	ck_assert_str_eq(hp_pg_text(q, 0, 4), "Zürich ☃");
	ck_assert_str_eq(hp_pg_text(q, 0, 5), "");
	ck_assert(!PQgetisnull(q, 0, 5));
	struct hp_bytes raw = hp_pg_bytes(q, 0, 6);
	if (binary) {
		ck_assert_uint_eq(raw.n, 4);
		ck_assert_int_eq(memcmp(raw.p, "\0\xff\n'", 4), 0);
	} else {
		ck_assert_str_eq(raw.p, "\\x00ff0a27");
	}
	struct hp_bytes json = hp_pg_bytes(q, 0, 7);
	ck_assert_uint_eq(json.n, strlen("{\"a\": [1, null]}"));
	ck_assert_int_eq(memcmp(json.p, "{\"a\": [1, null]}", json.n), 0);
	for (int c = 8; c < 11; c++)
		ck_assert(PQgetisnull(q, 0, c));
	ck_assert_str_eq(hp_pg_text(q, 0, 8), "");
	ck_assert_ptr_null(hp_pg_bytes(q, 0, 9).p);
	ck_assert_int_eq(hp_pg_int(q, 0, 10), 0);
	ck_assert_int_eq(hp_pg_int(q, 0, 11), -7);
	ck_assert_int_eq(hp_pg_int(q, 0, 12), -300);
	ck_assert_uint_eq(hp_pg_bytes(q, 0, 13).n, binary ? 0 : 2);
	ck_assert_int_eq(hp_pg_int(q, 0, 14), 42);
}

START_TEST(every_type_round_trips)
{
	int calls = 0;
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_binary_results(u, _i == 1);
	hp_pg_statement(u, "select $1, $2, $3, $4, $5::text, $6::text, $7, $8, $9::text, $10::jsonb, $11::int8,"
			   " -7::int4, (-300)::int2, $12, $13::int8");
	hp_pg_bind_int(u, INT64_MIN);
	hp_pg_bind_int(u, INT64_MAX);
	hp_pg_bind_bool(u, true);
	hp_pg_bind_bool(u, false);
	hp_pg_bind_text(u, "Zürich ☃");
	hp_pg_bind_text(u, "");
	hp_pg_bind_bytea(u, "\0\xff\n'", 4);
	hp_pg_bind_jsonb(u, "{\"a\":[1,null]}", strlen("{\"a\":[1,null]}"));
	hp_pg_bind_text(u, NULL);
	hp_pg_bind_jsonb(u, NULL, 0);
	hp_pg_bind_null(u);
	hp_pg_bind_bytea(u, "", 0);
	hp_pg_bind_textn(u, "42 and more", 2);
	struct hp_error err;
	ck_assert_int_eq(hp_pg_submit(u, on_types, &calls, &err), 0);
	run_until(&calls, 1);
}
END_TEST

START_TEST(arrays_with_nulls)
{
	struct seen s;
	struct hp_bytes v[] = {{"one", 3}, {NULL, 0}, {"", 0}, {"a,\"b\\", 5}};
	struct hp_bytes j[] = {{"{\"k\":1}", 7}, {NULL, 0}, {"null", 4}};
	int64_t n[] = {INT64_MIN, 0, INT64_MAX};
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "select concat_ws('|', $1::int8[]::text, $2::text[]::text, $3::jsonb[]::text,"
			   " $4::bytea[]::text, cardinality($5::int8[]), cardinality($6::text[]))");
	hp_pg_bind_int_array(u, n, 3);
	hp_pg_bind_text_array(u, v, 4);
	hp_pg_bind_jsonb_array(u, j, 3);
	hp_pg_bind_bytea_array(u, (struct hp_bytes[]){{"\0\1", 2}, {NULL, 0}}, 2);
	hp_pg_bind_int_array(u, NULL, 0);
	hp_pg_bind_text_array(u, NULL, 0);
	submit(u, &s);
	run_until(&s.calls, 1);
	ck_assert_int_eq(s.outcome, HP_PG_OK);
	ck_assert_str_eq(s.text, "{-9223372036854775808,0,9223372036854775807}"
				 "|{one,NULL,\"\",\"a,\\\"b\\\\\"}"
				 "|{\"{\\\"k\\\": 1}\",NULL,\"null\"}"
				 "|{\"\\\\x0001\",NULL}|0|0");
}
END_TEST

START_TEST(batch_of_256_rows_of_15_columns)
{
	enum { ROWS = 256 };
	static char text[ROWS][4096];
	struct hp_bytes v[ROWS];
	int64_t n[ROWS];
	struct seen s[8], sum;
	must("create temp table wide (a int8, b int8, c int8, d int8, e int8, f text, g text, h text, i text,"
	     " j text, k jsonb, l jsonb, m jsonb, n bytea, o bytea)");
	for (int r = 0; r < ROWS; r++) {
		memset(text[r], 'a' + r % 26, sizeof text[r]);
		text[r][0] = '"';
		text[r][sizeof text[r] - 1] = '"';
		v[r] = (struct hp_bytes){text[r], sizeof text[r]};
		n[r] = r;
	}
	for (int i = 0; i < 8; i++) { /* 80 MB through the socket, beyond any kernel buffer */
		struct hp_pg_unit *u = hp_pg_unit_new(pg);
		hp_pg_unit_deadline(u, 100000000); /* valgrind is slow */
		hp_pg_statement(u, "insert into wide select * from unnest($1::int8[],$2::int8[],$3::int8[],$4::int8[],"
				   "$5::int8[],$6::text[],$7::text[],$8::text[],$9::text[],$10::text[],$11::jsonb[],"
				   "$12::jsonb[],$13::jsonb[],$14::bytea[],$15::bytea[])");
		for (int c = 0; c < 5; c++)
			hp_pg_bind_int_array(u, n, ROWS);
		for (int c = 0; c < 5; c++)
			hp_pg_bind_text_array(u, v, ROWS);
		for (int c = 0; c < 3; c++)
			hp_pg_bind_jsonb_array(u, v, ROWS);
		for (int c = 0; c < 2; c++)
			hp_pg_bind_bytea_array(u, v, ROWS);
		submit(u, &s[i]);
	}
	run_until(&s[7].calls, 1);
	for (int i = 0; i < 8; i++)
		ck_assert_msg(s[i].outcome == HP_PG_OK, "%s", s[i].error.message);
	run_sql("select sum(a + e + length(f) + length(j) + length(m::text) + length(o)) from wide", &sum);
	ck_assert_int_eq(sum.value, 8 * (256 * 255 + 256 * 4 * 4096));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("pg");

	tcase_add_loop_test(t, every_type_round_trips, 0, 2);
	tcase_add_test(t, arrays_with_nulls);
	tcase_add_test(t, batch_of_256_rows_of_15_columns);
	return run_tests("net_pg_values", t);
}
