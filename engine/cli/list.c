/* list.c: lists that come in pages. With --all every page is fetched before
 * anything is printed, so the columns fit and the JSON is one document. */
#include "cli/list.h"

#include <string.h>

#include "base/json.h"
#include "cli/client.h"

/* One page, its rows appended to `rows`. *next: NULL text when it was the last. */
static int page(struct cli_client *c, const struct cli_args *a, const struct cli_list *l, const char *path,
		const char *after, json_t *rows, json_t **next, struct hp_error *err)
{
	struct hp_buf full;
	json_t *reply = NULL;
	int rc;

	hp_buf_init(&full, 16 * 1024);
	hp_buf_adds(&full, path);
	cli_query(&full, "limit", cli_value(a, "limit") ? cli_value(a, "limit") : cli_has(a, "all") ? "500" : NULL);
	cli_query(&full, "after", after);
	rc = cli_request(c, hp_buf_str(&full), NULL, &reply, err);
	if (rc == 0) {
		json_array_extend(rows, json_object_get(reply, l->member));
		*next = json_incref(json_object_get(reply, "next"));
	}
	json_decref(reply);
	hp_buf_free(&full);
	return rc;
}

static int fetch(const struct cli_args *a, const struct cli_list *l, const char *path, json_t *rows,
		 int64_t *next, struct hp_error *err)
{
	struct cli_client *c = cli_client_open(a, err);
	const char *after = cli_value(a, "after");
	char number[32];
	int rc = c ? 0 : -1;

	*next = 0;
	while (rc == 0) {
		json_t *n = NULL;

		rc = page(c, a, l, path, after, rows, &n, err);
		*next = json_integer_value(n);
		json_decref(n);
		if (rc < 0 || *next == 0 || !cli_has(a, "all"))
			break;
		(void)snprintf(number, sizeof number, "%lld", (long long)*next);
		after = number;
	}
	cli_client_free(c);
	return rc;
}

static int print_json(const struct cli_list *l, json_t *rows, int64_t next, struct hp_error *err)
{
	json_t *root = json_pack("{s:O}", l->member, rows);
	int rc;

	if (next)
		json_object_set_new(root, "next", json_integer(next));
	rc = cli_print_json(root, err);
	json_decref(root);
	return rc;
}

int cli_print_list(const struct cli_args *a, const struct cli_list *l, const char *path)
{
	json_t *rows = json_array(), *row;
	struct hp_error err = { 0 };
	struct cli_table t;
	int64_t next;
	size_t i;
	int rc = fetch(a, l, path, rows, &next, &err);

	if (rc == 0 && a->json) {
		rc = print_json(l, rows, next, &err);
	} else if (rc == 0) {
		cli_table_begin(&t, l->titles, l->columns);
		json_array_foreach(rows, i, row)
			l->row(&t, row);
		cli_table_end(&t, l->empty);
		if (next)
			printf("There are more: --after %lld, or --all.\n", (long long)next);
	}
	json_decref(rows);
	return rc < 0 ? cli_error(a, &err) : 0;
}
