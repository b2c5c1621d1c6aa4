/* client.c: one request at a time over net/'s client, on a loop of its own. */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"
#include "net/http_client.h"
#include "runtime/cluster.h"
#include "runtime/files.h"
#include "runtime/postgres.h"

#define TOKEN_MAX 512
#define URL_MAX 2048
#define REPLY_MAX ((size_t)32 * 1024 * 1024)
#define REQUEST_TIME (30 * HP_SECOND)

struct cli_client {
	struct ev_loop *loop;
	struct hp_http_client *http;
	char base[512];      /* "http://127.0.0.1:8080" */
	char host[256];      /* "127.0.0.1:8080" */
	char authorization[TOKEN_MAX + 16];
	/* of the request under way */
	json_t **reply;
	struct hp_error *err;
	int rc;
};

/* ---- where ---- */

const char *cli_data_dir(const struct cli_args *a, char out[PATH_MAX])
{
	const char *const places[] = { cli_value(a, "data"), getenv("HOLDPOINT_DATA"), ".holdpoint",
				       "/var/lib/holdpoint/data" };

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		struct stat st;

		if (!places[i] || !*places[i])
			continue;
		/* What was named is meant, even when it is not there. */
		if (i >= 2 && (stat(places[i], &st) != 0 || !S_ISDIR(st.st_mode)))
			continue;
		if (snprintf(out, PATH_MAX, "%s", places[i]) < PATH_MAX)
			return out;
	}
	return NULL;
}

/* First line of DATA/name. */
static int first_line(const char *path, char *out, size_t max, struct hp_error *err)
{
	struct hp_buf b;
	int rc = -1;

	hp_buf_init(&b, 4096);
	if (hp_file_read(AT_FDCWD, path, &b, NULL, err) < 0)
		goto out;
	if (strcspn(hp_buf_str(&b), "\r\n") >= max) {
		hp_fail(err, HP_E_INVALID, "%s: its first line is too long", path);
		goto out;
	}
	(void)snprintf(out, max, "%.*s", (int)strcspn(hp_buf_str(&b), "\r\n"), hp_buf_str(&b));
	rc = 0;
out:
	hp_buf_free(&b);
	return rc;
}

static int data_file(const struct cli_args *a, const char *name, char out[PATH_MAX])
{
	char dir[PATH_MAX];
	const char *data = cli_data_dir(a, dir);

	return data && snprintf(out, PATH_MAX, "%s/%s", data, name) < PATH_MAX ? 0 : -1;
}

/* postmaster.pid says where the socket is (its fifth line; PostgreSQL's manual,
 * "Database File Layout", lists the lines). */
int cli_private_database(const struct cli_args *a, char *out, size_t n, struct hp_error *err)
{
	char path[PATH_MAX];
	struct hp_buf b;
	const char *line = NULL;
	int rc = -1;

	hp_buf_init(&b, 4096);
	if (data_file(a, "postgres/postmaster.pid", path) < 0 || hp_file_read(AT_FDCWD, path, &b, NULL, NULL) < 0) {
		(void)hp_fail(err, HP_E_UNAVAILABLE, "no private database runs here");
		(void)hp_error_hint(err, "Start the engine with holdpoint serve, or name a database: --database CONNINFO.");
		goto out;
	}
	line = hp_buf_str(&b);
	for (int i = 0; i < 4 && line; i++) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!line || *line != '/' || strcspn(line, "'\\\n") != strcspn(line, "\n")) {
		hp_fail(err, HP_E_INVALID, "%s names no socket directory", path);
		goto out;
	}
	rc = snprintf(out, n, "host='%.*s' port=%d dbname=%s user=%s connect_timeout=10", (int)strcspn(line, "\n"),
		      line, HP_CLUSTER_PORT, HP_DATABASE_NAME, HP_CLUSTER_SUPERUSER) < (int)n
		     ? 0
		     : hp_fail(err, HP_E_INVALID, "the path of the database's socket is too long");
out:
	hp_buf_free(&b);
	return rc;
}

/* The engine of the data directory says in a file where it answers. */
static int known_address(const struct cli_args *a, char *line, size_t max, struct hp_error *err)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct stat st;

	if (!cli_data_dir(a, dir) || data_file(a, "address", path) < 0) {
		(void)hp_fail(err, HP_E_UNAVAILABLE, "no engine is known here");
	} else if (stat(path, &st) != 0 && errno == EACCES) {
		(void)hp_fail(err, HP_E_FORBIDDEN, "the data directory %s is not yours to read", dir);
		return hp_error_hint(err, "Set $HOLDPOINT_SERVER and $HOLDPOINT_TOKEN; who runs the engine makes "
					  "tokens: holdpoint token create NAME.");
	} else if (first_line(path, line, max, NULL) == 0 && line[0]) {
		return 0;
	} else {
		(void)hp_fail(err, HP_E_UNAVAILABLE, "no engine is known in the data directory %s", dir);
	}
	return hp_error_hint(err, "Start one with holdpoint serve, or name it: --server http://HOST:PORT, "
				  "or --data DIR.");
}

static int find_address(struct cli_client *c, const struct cli_args *a, struct hp_error *err)
{
	const char *given = cli_value(a, "server"), *host;
	char line[400] = "";
	size_t n;

	if (!given)
		given = getenv("HOLDPOINT_SERVER");
	if (given && *given) {
		if (snprintf(line, sizeof line, "%s", given) >= (int)sizeof line)
			return hp_fail(err, HP_E_INVALID, "the server's address is too long");
	} else if (known_address(a, line, sizeof line, err) < 0) {
		return -1;
	}
	n = strlen(line);
	while (n && line[n - 1] == '/')
		line[--n] = '\0';
	(void)snprintf(c->base, sizeof c->base, "%s%s", strstr(line, "://") ? "" : "http://", line);
	host = strstr(c->base, "://") + 3;
	if ((strncmp(c->base, "http://", 7) != 0 && strncmp(c->base, "https://", 8) != 0) ||
	    strcspn(host, ":/") == 0 || strpbrk(host, "?#@") || host[strlen(host) - 1] == ':') {
		(void)hp_fail(err, HP_E_INVALID, "\"%.200s\" is not the address of an engine", line);
		return hp_error_hint(err, "Write http://HOST:PORT.");
	}
	(void)snprintf(c->host, sizeof c->host, "%.*s", (int)strcspn(host, "/"), host);
	return 0;
}

/* ---- as whom ---- */

static int token_file(const char *path, char *token, size_t max, struct hp_error *err)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		(void)hp_fail(err, errno == EACCES ? HP_E_FORBIDDEN : HP_E_UNAUTHORIZED,
			      "cannot read the token in %s: %s", path, strerror(errno));
		return hp_error_hint(err, "Name another with --token-file, or set $HOLDPOINT_TOKEN.");
	}
	if (st.st_mode & 077) {
		(void)hp_fail(err, HP_E_FORBIDDEN, "others may read the token in %s (mode %03o)", path,
			      (unsigned)(st.st_mode & 0777));
		return hp_error_hint(err, "chmod 600 %.200s", path);
	}
	return first_line(path, token, max, err);
}

static int find_token(struct cli_client *c, const struct cli_args *a, struct hp_error *err)
{
	const char *token = getenv("HOLDPOINT_TOKEN"), *file = cli_value(a, "token-file");
	char path[PATH_MAX], line[TOKEN_MAX] = "";

	if (file || !token || !*token) {
		if (!file)
			file = getenv("HOLDPOINT_TOKEN_FILE");
		if (!file || !*file) {
			if (data_file(a, "token", path) < 0) {
				(void)hp_fail(err, HP_E_UNAUTHORIZED, "there is no token");
				return hp_error_hint(err, "Set $HOLDPOINT_TOKEN, or name a file with --token-file.");
			}
			file = path;
		}
		if (token_file(file, line, sizeof line, err) < 0)
			return -1;
		token = line;
	} else {
		file = "$HOLDPOINT_TOKEN";
	}
	for (const char *p = token; *p; p++)
		if (*p <= ' ' || *p > '~') {
			(void)hp_fail(err, HP_E_INVALID, "the token in %s has characters that no token has", file);
			return hp_error_hint(err, "A token is one word, as holdpoint token create prints it.");
		}
	if (!*token) {
		(void)hp_fail(err, HP_E_UNAUTHORIZED, "there is no token in %s: its first line is empty", file);
		return hp_error_hint(err, "A token is one word, as holdpoint token create prints it.");
	}
	if (strlen(token) >= TOKEN_MAX)
		return hp_fail(err, HP_E_INVALID, "the token is too long");
	(void)snprintf(c->authorization, sizeof c->authorization, "Bearer %s", token);
	return 0;
}

struct cli_client *cli_client_open(const struct cli_args *a, struct hp_error *err)
{
	struct cli_client *c = hp_calloc(1, sizeof *c);

	if (!c) {
		(void)hp_fail(err, HP_E_NOMEM, "no memory");
		return NULL;
	}
	if (find_address(c, a, err) < 0 || find_token(c, a, err) < 0)
		goto fail;
	c->loop = ev_loop_new(EVFLAG_AUTO);
	if (!c->loop) {
		(void)hp_fail(err, HP_E_IO, "no event loop");
		goto fail;
	}
	c->http = hp_http_client_new(c->loop, true, err);
	if (c->http)
		return c;
fail:
	cli_client_free(c);
	return NULL;
}

void cli_client_free(struct cli_client *c)
{
	if (!c)
		return;
	if (c->http)
		hp_http_client_free(c->http);
	if (c->loop)
		ev_loop_destroy(c->loop);
	hp_free(c);
}

/* ---- a request ---- */

static enum hp_code code_of(const char *name, int status)
{
	for (int i = 1; name && i < HP_E__COUNT; i++)
		if (strcmp(hp_code_name((enum hp_code)i), name) == 0)
			return (enum hp_code)i;
	return status >= 500 ? HP_E_UNAVAILABLE : HP_E_INVALID;
}

static int error_answer(const struct cli_client *c, int status, const json_t *root, struct hp_error *err)
{
	const json_t *e = json_object_get(root, "error");
	const char *message = hp_json_str(e, "message"), *hint = hp_json_str(e, "hint");

	if (!message) {
		(void)hp_fail(err, code_of(NULL, status), "%s answered %d and said nothing more", c->base, status);
		return hp_error_hint(err, "Is that the address of an engine?");
	}
	(void)hp_fail(err, code_of(hp_json_str(e, "code"), status), "%s", message);
	return hint ? hp_error_hint(err, "%s", hint) : -1;
}

static void on_done(void *arg, const struct hp_http_response *r)
{
	struct cli_client *c = arg;
	json_t *root;

	ev_break(c->loop, EVBREAK_ONE);
	if (r->progress != HP_HTTP_ANSWERED) {
		*c->err = r->error;
		if (r->progress == HP_HTTP_NOT_SENT) {
			(void)hp_fail(c->err, HP_E_UNAVAILABLE, "cannot reach the engine at %s: %s", c->base,
				      r->error.message);
			(void)hp_error_hint(c->err, "Is it running? holdpoint serve starts one.");
		} else {
			(void)hp_error_prefix(c->err, "the engine at %s", c->base);
			(void)hp_error_hint(c->err, "It may have done what was asked: look before you repeat it.");
		}
		c->rc = -1;
		return;
	}
	root = hp_json_parse(r->body.p, r->body.n, "answer", c->err);
	if (r->status / 100 != 2) {
		c->rc = error_answer(c, r->status, root, c->err);
		json_decref(root);
		return;
	}
	if (!root) {
		(void)hp_error_prefix(c->err, "%s", c->base);
		(void)hp_error_hint(c->err, "Is that the address of an engine?");
	}
	*c->reply = root;
	c->rc = root ? 0 : -1;
}

int cli_request(struct cli_client *c, const char *path, const json_t *body, json_t **reply, struct hp_error *err)
{
	char url[URL_MAX];
	const char *hosts[] = { c->host };
	const struct hp_header headers[] = { { "Authorization", c->authorization },
					     { "Accept", "application/json" },
					     { "Content-Type", "application/json" } };
	struct hp_http_request rq = { .method = body ? "POST" : "GET", .url = url, .headers = headers,
				      .n_headers = body ? 3 : 2, .allow_hosts = hosts, .n_allow_hosts = 1,
				      .timeout_us = REQUEST_TIME, .max_body = REPLY_MAX };
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, 8 * 1024 * 1024);
	*reply = NULL;
	if (snprintf(url, sizeof url, "%s%s", c->base, path) >= (int)sizeof url) {
		hp_fail(err, HP_E_INVALID, "what is asked for is too long");
		goto out;
	}
	if (body && hp_json_write(&text, body, err) < 0)
		goto out;
	rq.body = hp_buf_bytes(&text);
	c->reply = reply;
	c->err = err;
	if (hp_http_send(c->http, &rq, on_done, c, err) < 0) {
		(void)hp_error_prefix(err, "the engine's address %s", c->base);
		(void)hp_error_hint(err, "Write http://HOST:PORT.");
		goto out;
	}
	ev_run(c->loop, 0);
	rc = c->rc;
out:
	hp_buf_free(&text);
	return rc;
}

void cli_pause(int64_t us)
{
	(void)poll(NULL, 0, (int)(us / HP_MSEC));
}

const char *cli_time_word(const char *value, char *buf, size_t n)
{
	int64_t ago;

	if (!value || hp_duration_parse(value, &ago, NULL) < 0)
		return value;
	(void)snprintf(buf, n, "%lld", (long long)(hp_now_us() - ago));
	return buf;
}

void cli_query(struct hp_buf *path, const char *name, const char *value)
{
	if (!value)
		return;
	hp_buf_printf(path, "%c%s=", strchr(hp_buf_str(path), '?') ? '&' : '?', name);
	hp_buf_urlencode(path, value, strlen(value));
}

int cli_request_one(const struct cli_args *a, const char *base, const char *tail, const char *query, json_t *body,
		    json_t **reply, struct hp_error *err)
{
	struct cli_client *c = cli_client_open(a, err);
	struct hp_buf path;
	int rc = -1;

	hp_buf_init(&path, 2048);
	hp_buf_adds(&path, base);
	hp_buf_urlencode(&path, a->arg[0], strlen(a->arg[0]));
	hp_buf_adds(&path, tail);
	if (query)
		cli_query(&path, query, cli_value(a, query));
	if (c && hp_buf_check(&path, "the name", err) == 0)
		rc = cli_request(c, hp_buf_str(&path), body, reply, err);
	hp_buf_free(&path);
	json_decref(body);
	cli_client_free(c);
	return rc;
}

int cli_put_option(const struct cli_args *a, const char *name, json_t *body, struct hp_error *err)
{
	const char *text = cli_value(a, name);

	if (text && json_object_set_new(body, name, json_string(text)) < 0)
		return hp_fail(err, HP_E_INVALID, "--%s is not UTF-8", name);
	return 0;
}

json_t *cli_reason_body(const struct cli_args *a, const char *kept, struct hp_error *err)
{
	const char *reason = cli_value(a, "reason");
	json_t *body;

	if (kept && (!reason || !*reason)) {
		hp_fail(err, HP_E_INVALID, "%s: --reason is missing", a->spec->name);
		hp_error_hint(err, "Say in a sentence why; %s.", kept);
		return NULL;
	}
	body = json_object();
	if (cli_put_option(a, "reason", body, err) < 0) {
		json_decref(body);
		return NULL;
	}
	return body;
}
