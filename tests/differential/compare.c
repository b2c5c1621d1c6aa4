/* compare.c: are both worlds, and both answers, the same? If not: what differs. */
#include "diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const json_t *d_world;
static json_t *worlds[2];
static char text[16384];

size_t d_rows(const char *table)
{
	return json_array_size(json_object_get(d_world, table));
}

const json_t *d_row(const char *table, size_t i)
{
	return json_array_get(json_object_get(d_world, table), i);
}

const json_t *d_any(const char *table)
{
	size_t n = d_rows(table);

	return n ? d_row(table, d_rnd((uint32_t)n)) : NULL;
}

const char *d_outcome(void)
{
	const char *word = hp_json_str(d_answers[D_PG].v, "outcome");

	return word ? word : "";
}

/* ---- what is not compared ---- */

/* As null: what a column holds when there is nothing. (Documents are in lists of one.) */
static bool nothing(const json_t *v)
{
	return json_is_null(v) || json_is_false(v) || (json_is_integer(v) && json_integer_value(v) == 0) ||
	       (json_is_string(v) && json_string_length(v) == 0);
}

static bool has_permit(const json_t *world, const json_t *limiter)
{
	json_t *p;
	size_t i;

	json_array_foreach(json_object_get(world, "permit"), i, p)
		if (json_equal(json_object_get(p, "kind"), json_object_get(limiter, "kind")) &&
		    json_equal(json_object_get(p, "name"), json_object_get(limiter, "name")) &&
		    json_equal(json_object_get(p, "key"), json_object_get(limiter, "key")))
			return true;
	return false;
}

/* What PostgreSQL's upkeep removes, at a moment of its own, because it means nothing any
 * more: engines that are dead, figures of windows that are over. */
static bool over(const json_t *world, const char *table, const json_t *row)
{
	if (strcmp(table, "engine") == 0)
		return json_object_get(row, "dead") != NULL;
	if (strcmp(table, "limiter") == 0) {
		int64_t per = hp_json_int(row, "per_us", 0);

		/* nobody has anything of it, nobody wants it; also when something touched it again later */
		if (!json_object_get(row, "used") && !json_object_get(row, "waiting") && !json_object_get(row, "bucket") &&
		    !json_object_get(row, "now_used") && (per == 0 || !has_permit(world, row)))
			return true;
		return per != 0 && hp_json_int(row, "at", 0) < d_now - 2 * per && !has_permit(world, row);
	}
	if (strcmp(table, "breaker") == 0) /* never changed: the same as none */
		return json_object_get(row, "version") == NULL;
	if (strcmp(table, "breaker_streak") == 0)
		return json_object_get(row, "in_row") == NULL;
	if (strcmp(table, "breaker_count") == 0)
		return !json_object_get(row, "calls") || hp_json_int(row, "number", 0) < d_now / hp_json_int(row, "width", 1) - 6;
	return false;
}

static void tidy(json_t *world)
{
	const char *table, *column;
	json_t *rows, *row, *v;
	size_t i;
	void *next;

	json_object_foreach(world, table, rows)
		json_array_foreach(rows, i, row)
			json_object_foreach_safe(row, next, column, v)
				if (nothing(v))
					json_object_del(row, column);
	json_object_foreach(world, table, rows)
		for (i = json_array_size(rows); i-- > 0;)
			if (over(world, table, json_array_get(rows, i)))
				json_array_remove(rows, i);
}

/* ---- comparing ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **sorted(const json_t *rows, size_t *n)
{
	char **all = calloc(json_array_size(rows) + 1, sizeof *all);

	*n = json_array_size(rows);
	d_need(all != NULL, "memory", "none");
	for (size_t i = 0; i < *n; i++)
		all[i] = json_dumps(json_array_get(rows, i), JSON_SORT_KEYS | JSON_COMPACT);
	qsort(all, *n, sizeof *all, by_text);
	return all;
}

static void drop(char **all, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(all[i]);
	free(all);
}

static void add(const char *what, const char *line)
{
	size_t n = strlen(text);

	snprintf(text + n, sizeof text - n, "    %s %.1500s\n", what, line);
}

static void compare_table(const char *table)
{
	const json_t *rows[2] = { json_object_get(worlds[0], table), json_object_get(worlds[1], table) };
	char **of[2];
	size_t n[2], i = 0, k = 0;
	bool said = false;

	for (int s = 0; s < 2; s++)
		of[s] = sorted(rows[s], &n[s]);
	while (i < n[0] || k < n[1]) {
		int c = i == n[0] ? 1 : k == n[1] ? -1 : strcmp(of[0][i], of[1][k]);

		if (c == 0) {
			i++;
			k++;
			continue;
		}
		if (!said)
			snprintf(text + strlen(text), sizeof text - strlen(text), "  table %s\n", table);
		said = true;
		if (c < 0)
			add("PostgreSQL:", of[0][i++]);
		else
			add("in memory: ", of[1][k++]);
	}
	for (int s = 0; s < 2; s++)
		drop(of[s], n[s]);
}

/* Documents for readers have more members in one store than in the other (store.h names
 * what must be there): those that both have are compared. */
static void keep_common(json_t *a, json_t *b)
{
	const char *name;
	json_t *x;
	void *next;
	size_t i;

	json_object_foreach_safe(a, next, name, x)
		if (!json_object_get(b, name))
			json_object_del(a, name);
	json_object_foreach_safe(b, next, name, x)
		if (!json_object_get(a, name))
			json_object_del(b, name);
	json_object_foreach(a, name, x)
		keep_common(x, json_object_get(b, name));
	json_array_foreach(a, i, x)
		keep_common(x, json_array_get(b, i));
}

/* How fast a sweep is of late is told by one store only. */
static void without_rate(json_t *answer)
{
	static const char *const ends[] = { " per second", " s left" };
	const char *sentence = hp_json_str(answer, "sentence");
	char buf[4096], *end, *from;

	if (!sentence)
		return;
	snprintf(buf, sizeof buf, "%s", sentence);
	for (size_t i = 0; i < 2; i++) {
		end = strstr(buf, ends[i]);
		if (!end)
			continue;
		for (from = end; from > buf && strncmp(from, ", ", 2) != 0;)
			from--;
		end += strlen(ends[i]);
		memmove(from, end, strlen(end) + 1);
	}
	json_object_set_new(answer, "sentence", json_string(buf));
}

void d_common_answers(void)
{
	without_rate(json_object_get(d_answers[D_PG].v, "answer"));
	keep_common(json_object_get(d_answers[D_PG].v, "answer"), json_object_get(d_answers[D_MEM].v, "answer"));
}

static void compare_answers(void)
{
	const json_t *a = d_answers[D_PG].v, *b = d_answers[D_MEM].v;
	char *as, *bs;

	if (json_equal(a, b))
		return;
	as = json_dumps(a, JSON_SORT_KEYS | JSON_COMPACT);
	bs = json_dumps(b, JSON_SORT_KEYS | JSON_COMPACT);
	snprintf(text + strlen(text), sizeof text - strlen(text), "  the answer\n");
	add("PostgreSQL:", as);
	if (d_answers[D_PG].error[0])
		add("           ", d_answers[D_PG].error);
	add("in memory: ", bs);
	if (d_answers[D_MEM].error[0])
		add("           ", d_answers[D_MEM].error);
	free(as);
	free(bs);
}

const char *d_difference(void)
{
	const char *table;
	json_t *rows;

	text[0] = 0;
	for (int i = 0; i < 2; i++) {
		json_decref(worlds[i]);
		worlds[i] = d_dump_of(i);
		tidy(worlds[i]);
	}
	d_world = worlds[D_MEM];
	compare_answers();
	json_object_foreach(worlds[D_PG], table, rows)
		compare_table(table);
	json_object_foreach(worlds[D_MEM], table, rows)
		if (!json_object_get(worlds[D_PG], table))
			compare_table(table);
	return text[0] ? text : NULL;
}
