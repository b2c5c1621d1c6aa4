/* secrets.c: where secrets come from. */
#include "runtime/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/digest.h"
#include "base/list.h"
#include "runtime/files.h"
#include "runtime/secret_table.h"
#include "script/script.h"

struct secret {
	struct hp_list node;
	char name[HP_SECRET_NAME_MAX];
	char *value;            /* NULL: the file could not be read */
	bool from_dir;
	struct stat file;       /* it was read from */
};

struct hp_secrets {
	int dir_fd; /* -1: none */
	struct hp_list list;
	struct hp_secret_table *table; /* NULL: none */
};

/* The memory is handed back empty: freed secrets must not show up in a dump. */
static void forget_value(struct secret *x)
{
	if (x->value)
		explicit_bzero(x->value, strlen(x->value));
	hp_free(x->value);
	x->value = NULL;
}

static struct secret *find(struct hp_secrets *s, const char *name, bool from_dir)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &s->list) {
		struct secret *x = hp_list_entry(it, struct secret, node);

		if (x->from_dir == from_dir && strcmp(x->name, name) == 0)
			return x;
	}
	return NULL;
}

static struct secret *add(struct hp_secrets *s, const char *name, bool from_dir)
{
	struct secret *x = hp_calloc(1, sizeof *x);

	if (!x)
		return NULL;
	memcpy(x->name, name, strlen(name));
	x->from_dir = from_dir;
	hp_list_add_tail(&s->list, &x->node);
	return x;
}

static int load_line(struct hp_secrets *s, char *line)
{
	char *value = strchr(line, '=');
	struct secret *x;

	if (!value)
		return 0;
	*value++ = 0;
	if (!hp_secret_name_ok(line))
		return 0;
	x = add(s, line, false);
	if (!x)
		return -1;
	x->value = hp_strdup(value);
	return x->value ? 0 : -1;
}

static int load_env_file(struct hp_secrets *s, const char *path, struct hp_error *err)
{
	struct hp_buf text;
	char *line, *end;
	int rc = -1;

	hp_buf_init(&text, HP_SECRET_FILE_MAX);
	if (hp_file_read(AT_FDCWD, path, &text, NULL, err) != 0)
		goto out;
	for (line = text.p; line && *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		if (load_line(s, line) != 0) {
			hp_fail(err, HP_E_NOMEM, "secrets: no memory");
			goto out;
		}
	}
	rc = 0;
out:
	hp_buf_wipe(&text);
	return rc;
}

struct hp_secrets *hp_secrets_new(const char *dir, const char *env_file, struct hp_error *err)
{
	struct hp_secrets *s = hp_calloc(1, sizeof *s);

	if (!s) {
		hp_fail(err, HP_E_NOMEM, "secrets: no memory");
		return NULL;
	}
	s->dir_fd = -1;
	hp_list_init(&s->list);
	if (dir) {
		s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (s->dir_fd < 0) {
			hp_fail(err, HP_E_IO, "secrets: cannot open the directory %s: %s", dir, strerror(errno));
			goto fail;
		}
	}
	if (env_file && load_env_file(s, env_file, err) != 0)
		goto fail;
	return s;
fail:
	hp_secrets_free(s);
	return NULL;
}

void hp_secrets_free(struct hp_secrets *s)
{
	if (!s)
		return;
	while (!hp_list_empty(&s->list)) {
		struct secret *x = hp_list_entry(s->list.next, struct secret, node);

		hp_list_del(&x->node);
		forget_value(x);
		hp_free(x);
	}
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	hp_free(s);
}

/* A changed file is a rotated secret: the next request uses it. */
static const char *from_dir(struct hp_secrets *s, const char *name)
{
	struct secret *x = find(s, name, true);
	struct hp_buf text;
	struct stat st;

	if (fstatat(s->dir_fd, name, &st, 0) != 0 || !S_ISREG(st.st_mode))
		return NULL;
	if (x && x->value && hp_file_same(&x->file, &st))
		return x->value;
	x = x ? x : add(s, name, true);
	if (!x)
		return NULL;
	forget_value(x);
	hp_buf_init(&text, HP_SECRET_MAX);
	if (hp_file_read(s->dir_fd, name, &text, &x->file, NULL) == 0) {
		if (text.n > 0 && text.p[text.n - 1] == '\n')
			text.p[--text.n] = 0;
		x->value = hp_strdup(hp_buf_str(&text));
	}
	hp_buf_wipe(&text);
	return x->value;
}

void hp_secrets_use_table(struct hp_secrets *s, struct hp_secret_table *table)
{
	s->table = table;
}

const char *hp_secrets_version(struct hp_secrets *s, const char *name, const char *version)
{
	if (!version || strcmp(version, "current") == 0)
		return hp_secrets_get(s, name);
	return s->table && hp_secret_name_ok(name) ? hp_secret_table_get(s->table, name, version, NULL) : NULL;
}

int hp_secrets_all(struct hp_secrets *s, const char *name, const char **out, int max)
{
	const char *current = hp_secrets_get(s, name);
	bool known = false;
	int n = 0;

	if (s->table)
		(void)hp_secret_table_get(s->table, name, NULL, &known);
	if (current && !known && n < max)
		out[n++] = current;
	return s->table ? n + hp_secret_table_all(s->table, name, out + n, max - n) : n;
}

const char *hp_secrets_get(struct hp_secrets *s, const char *name)
{
	const char *v = NULL;
	struct secret *x;
	bool known;

	if (!hp_secret_name_ok(name))
		return NULL;
	if (s->table) {
		v = hp_secret_table_get(s->table, name, NULL, &known);
		if (known)
			return v;
	}
	if (s->dir_fd >= 0)
		v = from_dir(s, name);
	if (!v) {
		x = find(s, name, false);
		v = x ? x->value : NULL;
	}
	if (!v)
		v = getenv(name);
	return v && *v ? v : NULL; /* an empty secret is a missing one */
}
