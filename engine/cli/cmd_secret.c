/* cmd_secret.c: holdpoint secret set, list, promote, retire, which, rekey, key */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/seal.h"
#include "base/words.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/value.h"

#define VALUE "file", "FILE", "a file with mode 600 that has the value (else standard input)"

static const struct cli_option set_options[] = {
	{ "pending", NULL, "not used yet: runs may try it, promote makes it current" },
	{ "expires-in", "DURATION", "90d, 12h: shown in the list; nothing stops by itself" },
	{ VALUE },
	{ 0 },
};
static const struct cli_spec set_spec = {
	.name = "secret set", .args = "NAME",
	.text = "Stores a new version of a secret in the encrypted table. One newline at the end of\n"
		"the value is removed. Within five seconds every engine uses it. Needs the scope admin.",
	.examples = "  holdpoint secret set STRIPE_SECRET_KEY < key\n"
		    "  holdpoint secret set STRIPE_SECRET_KEY --pending --file key",
	.options = set_options, .min_args = 1, .max_args = 1, .client = true,
};

static const struct cli_option list_options[] = {
	{ "name", "NAME", "only this one" },
	{ 0 },
};
static const struct cli_spec list_spec = {
	.name = "secret list", .args = "",
	.text = "Lists the secrets of the table: versions, states, fingerprints. What is in files and\n"
		"in the environment is not in it. Needs the scope admin.",
	.examples = "  holdpoint secret list\n  holdpoint secret list --name STRIPE_SECRET_KEY --json",
	.options = list_options, .client = true,
};

static const struct cli_option version_options[] = {
	{ "version", "N", "which version" },
	{ 0 },
};
static const struct cli_spec promote_spec = {
	.name = "secret promote", .args = "NAME",
	.text = "Makes the newest pending version (or --version) the current one. The current one\n"
		"becomes the previous one: signatures made with it are still accepted.",
	.examples = "  holdpoint secret promote STRIPE_SECRET_KEY",
	.options = version_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec retire_spec = {
	.name = "secret retire", .args = "NAME",
	.text = "Erases the value of the previous version (or of --version, which may be the current\n"
		"one). Its fingerprint stays in the list.",
	.examples = "  holdpoint secret retire STRIPE_SECRET_KEY",
	.options = version_options, .min_args = 1, .max_args = 1, .client = true,
};

static const struct cli_option which_options[] = {
	{ VALUE },
	{ 0 },
};
static const struct cli_spec which_spec = {
	.name = "secret which", .args = "NAME",
	.text = "Says which version of the secret has the given value.",
	.examples = "  holdpoint secret which STRIPE_SECRET_KEY < key",
	.options = which_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec rekey_spec = {
	.name = "secret rekey", .args = "",
	.text = "Seals every secret again with the first key of the engine's file of keys. Afterwards\n"
		"the other keys may be taken out of the file.",
	.examples = "  holdpoint secret rekey",
	.client = true,
};
static const struct cli_spec key_spec = {
	.name = "secret key", .args = "",
	.text = "Prints a new key for the file of keys (serve --secrets-key).",
	.examples = "  umask 077; holdpoint secret key > secrets.key", .no_json = true,
};

/* ---- values ---- */

static int read_file(const char *path, struct hp_buf *out, struct hp_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "cannot open %s: %s", path, strerror(errno));
	} else if (st.st_mode & 077) {
		hp_fail(err, HP_E_FORBIDDEN, "others may read %s (mode %03o)", path, st.st_mode & 0777);
		hp_error_hint(err, "chmod 600 %s", path);
	} else {
		rc = cli_read_all(fd, path, out, err);
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Never from the command line: others see it there, and the shell keeps it. */
static json_t *body_with_value(const struct cli_args *a, struct hp_error *err)
{
	const char *path = cli_value(a, "file");
	json_t *body = NULL;
	struct hp_buf b;

	hp_buf_init(&b, HP_SECRET_MAX + 2);
	if (!path && isatty(STDIN_FILENO))
		(void)fprintf(stderr, "Value, then Ctrl-D:\n");
	if ((path ? read_file(path, &b, err) : cli_read_all(STDIN_FILENO, "standard input", &b, err)) < 0)
		goto out;
	if (b.n > 0 && b.p[b.n - 1] == '\n')
		b.p[--b.n] = '\0';
	if (b.n == 0) {
		hp_fail(err, HP_E_INVALID, "the value is empty");
		goto out;
	}
	body = json_pack("{s:s%}", "value", b.p, b.n);
	if (!body)
		hp_fail(err, HP_E_INVALID, "the value is not UTF-8");
out:
	hp_buf_wipe(&b);
	return body;
}

/* ---- requests ---- */

static int path_of(const struct cli_args *a, const char *word, struct hp_buf *path, struct hp_error *err)
{
	hp_buf_adds(path, "/api/v1/secrets/");
	hp_buf_urlencode(path, a->arg[0], strlen(a->arg[0]));
	hp_buf_adds(path, word);
	return hp_buf_check(path, "the name", err);
}

static int post(const struct cli_args *a, const char *path, const json_t *body, json_t **reply, struct hp_error *err)
{
	struct cli_client *c = cli_client_open(a, err);
	int rc = c ? cli_request(c, path, body, reply, err) : -1;

	cli_client_free(c);
	return rc;
}

static int add_expiry(const struct cli_args *a, json_t *body, struct hp_error *err)
{
	const char *expires = cli_value(a, "expires-in");
	int64_t us;

	if (!expires)
		return 0;
	if (hp_duration_parse(expires, &us, err) < 0)
		return -1;
	if (us < HP_SECOND)
		return hp_fail(err, HP_E_INVALID, "--expires-in must be at least 1s");
	json_object_set_new(body, "expires_in", json_integer(us / HP_SECOND));
	return 0;
}

static json_t *body_of(const struct cli_args *a, struct hp_error *err)
{
	const char *version = cli_value(a, "version");
	json_t *body = NULL;
	int64_t n;

	if (a->spec == &set_spec || a->spec == &which_spec) {
		body = body_with_value(a, err);
		if (body && a->spec == &set_spec)
			json_object_set_new(body, "state", json_string(cli_has(a, "pending") ? "pending" : "current"));
		if (body && add_expiry(a, body, err) < 0) {
			json_decref(body);
			return NULL;
		}
		return body;
	}
	if (version && cli_number(version, "a version", &n, err) < 0)
		return NULL;
	return version ? json_pack("{s:I}", "version", (json_int_t)n) : json_object();
}

static void print_reply(const struct cli_args *a, const json_t *reply)
{
	if (a->spec == &rekey_spec) {
		printf("sealed again: %lld, not readable: %lld\n", (long long)hp_json_int(reply, "resealed", 0),
		       (long long)hp_json_int(reply, "unreadable", 0));
	} else if (a->spec == &which_spec && !hp_json_bool(reply, "known", 0)) {
		printf("no version of %s has this value\n", a->arg[0]);
	} else if (a->spec == &which_spec) {
		printf("%s version %lld\n", a->arg[0], (long long)hp_json_int(reply, "version", 0));
	} else {
		printf("%s version %lld: ", a->arg[0], (long long)hp_json_int(reply, "version", 0));
		cli_put(hp_json_str(reply, "state"));
		printf(", fingerprint ");
		cli_put(hp_json_str(reply, "fingerprint"));
		printf("\n");
	}
}

static int act(const struct cli_args *a, struct hp_error *err)
{
	const char *word = a->spec == &promote_spec  ? "/promote"
			   : a->spec == &retire_spec ? "/retire"
			   : a->spec == &which_spec  ? "/which"
						     : "";
	json_t *body = body_of(a, err), *reply = NULL;
	struct hp_buf path;
	int rc = -1;

	hp_buf_init(&path, 1024);
	if (!body)
		goto out;
	rc = a->spec == &rekey_spec ? hp_buf_adds(&path, "/api/v1/secrets/rekey") : path_of(a, word, &path, err);
	if (rc == 0)
		rc = post(a, hp_buf_str(&path), body, &reply, err);
	if (rc == 0 && a->json)
		rc = cli_print_json(reply, err);
	else if (rc == 0)
		print_reply(a, reply);
out:
	hp_buf_free(&path);
	json_decref(body);
	json_decref(reply);
	return rc;
}

static void secret_row(struct cli_table *t, const json_t *row)
{
	char buf[32];

	cli_table_cell(t, hp_json_str(row, "name"), 0);
	cli_table_number(t, hp_json_int(row, "version", 0));
	cli_table_cell(t, hp_json_str(row, "state"), 0);
	cli_table_cell(t, hp_json_str(row, "fingerprint"), 0);
	cli_table_cell(t, cli_time(hp_json_str(row, "created_at"), buf, sizeof buf), 0);
	cli_table_cell(t, hp_json_str(row, "created_by"), 40);
	cli_table_cell(t, cli_time(hp_json_str(row, "expires_at"), buf, sizeof buf), 0);
	cli_table_cell(t, hp_json_str(row, "key_id"), 0);
}

static int list(const struct cli_args *a)
{
	static const char *const titles[] = { "NAME", "VERSION", "STATE", "FINGERPRINT", "SET", "BY", "EXPIRES", "KEY" };
	static const struct cli_list l = { "secrets", titles, 8, secret_row, "There is no secret in the table." };
	struct hp_buf path;
	int code;

	hp_buf_init(&path, 1024);
	hp_buf_adds(&path, "/api/v1/secrets");
	cli_query(&path, "name", cli_value(a, "name"));
	code = cli_print_list(a, &l, hp_buf_str(&path));
	hp_buf_free(&path);
	return code;
}

static int print_key(void)
{
	char line[2 * HP_SEAL_KEY_LEN + 2];

	hp_seal_key_line(line);
	(void)fputs(line, stdout);
	explicit_bzero(line, sizeof line);
	return 0;
}

int hp_cmd_secret(int argc, char **argv)
{
	static const struct cli_spec *const specs[] = { &set_spec, &list_spec, &promote_spec, &retire_spec, &which_spec,
							&rekey_spec, &key_spec, NULL };
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse_sub(specs, argc, argv, &a);

	if (code >= 0)
		return code;
	if (a.spec == &list_spec)
		return list(&a);
	if (a.spec == &key_spec)
		return print_key();
	return act(&a, &err) < 0 ? cli_error(&a, &err) : 0;
}
