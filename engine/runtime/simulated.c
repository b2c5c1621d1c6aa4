/* simulated.c: ports and secrets of simulated providers. */
#include "runtime/simulated.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "base/buf.h"
#include "base/digest.h"
#include "base/words.h"
#include "net/http_server.h"
#include "runtime/files.h"
#include "script/script.h"

/* The keys of webhook signatures of Standard Webhooks are base64. */
static const struct {
	const char *provider;
	const char *secret;
	bool base64;
} shapes[] = {
	{"stripe", "STRIPE_SECRET_KEY", false},
	{"stripe", "STRIPE_WEBHOOK_SECRET", false},
	{"duffel", "DUFFEL_ACCESS_TOKEN", false},
	{"duffel", "DUFFEL_WEBHOOK_SECRET", false},
	{"resend", "RESEND_API_KEY", false},
	{"resend", "RESEND_WEBHOOK_SECRET", true},
	{"dns", NULL, false}, /* asks for none */
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

static int known(const char *name, struct hp_error *err)
{
	for (size_t i = 0; i < N_SHAPES; i++)
		if (strcmp(shapes[i].provider, name) == 0)
			return 0;
	hp_fail(err, HP_E_INVALID, "there is no simulated provider \"%s\"", name);
	return hp_error_hint(err, "there are: stripe, duffel, resend, dns");
}

static bool has_line(const struct hp_buf *text, const char *name)
{
	const char *p = hp_buf_str(text);
	size_t n = strlen(name);

	while (*p) {
		if (strncmp(p, name, n) == 0 && p[n] == '=')
			return true;
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	return false;
}

static void add_secret(struct hp_buf *text, size_t i)
{
	uint8_t bytes[24];
	char hex[2 * sizeof bytes + 1];

	hp_random(bytes, sizeof bytes);
	hp_buf_printf(text, "%s=%s", shapes[i].secret, hp_fake_secret_prefix(shapes[i].secret));
	if (shapes[i].base64) {
		hp_base64(text, bytes, sizeof bytes);
	} else {
		hp_hex(bytes, sizeof bytes, hex);
		hp_buf_adds(text, hex);
	}
	hp_buf_addc(text, '\n');
}

static int make_secrets(const struct hp_place *p, const char *path, struct hp_error *err)
{
	struct hp_buf text;
	size_t before;
	int rc = -1;

	hp_buf_init(&text, 16384);
	if (hp_file_exists(path) && hp_file_read(AT_FDCWD, path, &text, NULL, err) != 0)
		goto out;
	before = text.n;
	for (size_t i = 0; i < N_SHAPES; i++)
		if (shapes[i].secret && !has_line(&text, shapes[i].secret))
			add_secret(&text, i);
	if (hp_buf_check(&text, path, err) != 0)
		goto out;
	rc = text.n == before ? 0 : hp_place_write(p, "simulated/secrets.env", text.p, 0600, err);
out:
	hp_buf_wipe(&text);
	return rc;
}

/* 0: none is remembered. */
static int last_port(const char *path)
{
	struct hp_buf text;
	int64_t port = 0;

	hp_buf_init(&text, 64);
	if (hp_file_read(AT_FDCWD, path, &text, NULL, NULL) == 0 && text.p) {
		text.p[strcspn(text.p, "\n")] = 0;
		if (hp_int_parse(text.p, &port) != 0 || port < 1 || port > 65535)
			port = 0;
	}
	hp_buf_free(&text);
	return (int)port;
}

/* A run that was parked under the old port finds the same provider again. */
static int listen_again(const struct hp_place *p, struct hp_simulated *x, struct hp_error *err)
{
	char file[64], path[PATH_MAX], address[32], line[16];
	int port;

	snprintf(file, sizeof file, "simulated/%s.port", x->name);
	if (hp_place_path(p, file, path, err) != 0)
		return -1;
	port = last_port(path);
	snprintf(address, sizeof address, "127.0.0.1:%d", port);
	x->listen_fd = hp_http_listen(address, &x->port, err);
	if (x->listen_fd < 0 && port != 0)
		x->listen_fd = hp_http_listen("127.0.0.1:0", &x->port, err);
	if (x->listen_fd < 0)
		return -1;
	snprintf(line, sizeof line, "%d\n", x->port);
	return x->port == port ? 0 : hp_place_write(p, file, line, 0644, err);
}

static int prepare_one(const struct hp_place *p, const char *dir, struct hp_simulated *x,
		       struct hp_error *err)
{
	int n = snprintf(x->state, sizeof x->state, "%s/%s.json", dir, x->name);

	if (n < 0 || n >= (int)sizeof x->state)
		return hp_fail(err, HP_E_INVALID, "the path %s is too long", dir);
	return known(x->name, err) != 0 ? -1 : listen_again(p, x, err);
}

int hp_simulated_prepare(const struct hp_place *p, const char *names, struct hp_simulated out[HP_SIMULATED_MAX],
			 char secrets_env[PATH_MAX], struct hp_error *err)
{
	char dir[PATH_MAX];
	int n = 0;

	if (hp_place_directory(p, "simulated", 0700, dir, err) != 0 ||
	    hp_place_path(p, "simulated/secrets.env", secrets_env, err) != 0 ||
	    make_secrets(p, secrets_env, err) != 0)
		return -1;
	while (*names) {
		size_t len = strcspn(names, ",");

		if (len == 0 || len >= sizeof out[n].name || n == HP_SIMULATED_MAX)
			return hp_fail(err, HP_E_INVALID, "--simulated: \"%s\" is not a list of at most %d names", names,
				       HP_SIMULATED_MAX);
		memset(&out[n], 0, sizeof out[n]);
		memcpy(out[n].name, names, len);
		if (prepare_one(p, dir, &out[n], err) != 0)
			return -1;
		n++;
		names += len + (names[len] == ',');
	}
	return n;
}
