/* list.c: lists that come in pages. With --all every page is fetched before
 * anything is printed, so the columns fit and the JSON is one document. */
#include "cli/list.h"

#include <string.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/direct.h"

/* Where the pages come from: the API, or with --database the store. */
struct source {
	struct cli_client *client;
	struct cli_direct *direct;
};

static int source_open(struct source *s, const struct cli_args *a, struct hp_error *err)
{
	if (cli_has(a, "database"))
		s->direct = cli_direct_open(cli_value(a, "database"), err);
	else
		s->client = cli_client_open(a, err);
	return s->direct || s->client ? 0 : -1;
}

static int ask_api(struct cli_client *c, const char *path, const char *limit, const char *after, json_t **reply,
		   struct hp_error *err)
{
	struct hp_buf full;
	int rc;

	hp_buf_init(&full, 16 * 1024);
	hp_buf_adds(&full, path);
	cli_query(&full, "limit", limit);
	cli_query(&full, "after", after);
	rc = cli_request(c, hp_buf_str(&full), NULL, reply, err);
	hp_buf_free(&full);
	return rc;
}

static int ask_store(struct cli_direct *d, const char *door, const char *limit, const char *after,
		     json_t **reply, struct hp_error *err)
{
	json_t *args = json_pack("{s:s*, s:s*}", "limit", limit, "after", after);
	int rc = args ? cli_direct_door(d, door, args, reply, err)
		      : hp_fail(err, HP_E_INVALID, "--limit and --after are whole numbers");

	json_decref(args);
	return rc;
}

/* One page, its rows appended to `rows`. *next: NULL text when it was the last. */
static int page(const struct source *s, const struct cli_args *a, const struct cli_list *l, const char *path,
		const char *after, json_t *rows, json_t **next, struct hp_error *err)
{
	const char *limit = cli_value(a, "limit") ? cli_value(a, "limit") : cli_has(a, "all") ? "500" : NULL;
	json_t *reply = NULL;
	int rc = s->direct ? ask_store(s->direct, l->member, limit, after, &reply, err)
			   : ask_api(s->client, path, limit, after, &reply, err);

	if (rc == 0) {
		json_array_extend(rows, json_object_get(reply, l->member));
		*next = json_incref(json_object_get(reply, "next"));
	}
	json_decref(reply);
	return rc;
}

static int fetch(const struct cli_args *a, const struct cli_list *l, const char *path, json_t *rows,
		 int64_t *next, struct hp_error *err)
{
	struct source s = { NULL, NULL };
	const char *after = cli_value(a, "after");
	char number[32];
	int rc = source_open(&s, a, err);

	*next = 0;
	while (rc == 0) {
		json_t *n = NULL;

		rc = page(&s, a, l, path, after, rows, &n, err);
		*next = json_integer_value(n);
		json_decref(n);
		if (rc < 0 || *next == 0 || !cli_has(a, "all"))
			break;
		(void)snprintf(number, sizeof number, "%lld", (long long)*next);
		after = number;
	}
	cli_client_free(s.client);
	cli_direct_free(s.direct);
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
