/* sources.c: which files are meant. */
#include "cli/sources.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && strcmp(s + n - k, end) == 0;
}

static int add(struct cli_sources *s, const char *dir, const char *name, struct hp_error *err)
{
	char path[4096];

	if (s->n == CLI_SOURCES_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "more than %d files", CLI_SOURCES_MAX);
	if (snprintf(path, sizeof path, "%s%s%s", dir, *dir && !ends_with(dir, "/") ? "/" : "", name) >=
	    (int)sizeof path)
		return hp_fail(err, HP_E_INVALID, "the path %.100s… is too long", dir);
	s->path[s->n] = hp_strdup(path);
	if (!s->path[s->n])
		return hp_fail(err, HP_E_NOMEM, "no memory");
	s->n++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool wanted(const char *name, bool tests)
{
	if (name[0] == '.' || !ends_with(name, ".lua") || ends_with(name, "_test.lua") != tests)
		return false;
	return strcmp(name, "policy.lua") != 0;
}

static int add_directory(struct cli_sources *s, const char *dir, bool tests, struct hp_error *err)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	int first = s->n, rc = 0;

	if (!d)
		return hp_fail(err, HP_E_IO, "cannot read %s: %s", dir, strerror(errno));
	while (rc == 0 && (e = readdir(d)))
		if (wanted(e->d_name, tests))
			rc = add(s, dir, e->d_name, err);
	closedir(d);
	qsort(s->path + first, (size_t)(s->n - first), sizeof s->path[0], by_name);
	if (rc == 0 && s->n == first)
		return hp_fail(err, HP_E_NOT_FOUND, "there is no %s in %s", tests ? "test file (*_test.lua)" : "workflow file", dir);
	return rc;
}

static int find(struct cli_sources *s, const char *const *paths, int n, bool tests, struct hp_error *err)
{
	int rc = 0;

	s->n = 0;
	for (int i = 0; rc == 0 && i < n; i++) {
		struct stat st;

		if (stat(paths[i], &st) != 0)
			rc = hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "%s: %s", paths[i],
				     strerror(errno));
		else if (S_ISDIR(st.st_mode))
			rc = add_directory(s, paths[i], tests, err);
		else
			rc = add(s, "", paths[i], err);
	}
	return rc;
}

int cli_sources_find(struct cli_sources *s, const char *const *paths, int n, struct hp_error *err)
{
	return find(s, paths, n, false, err);
}

int cli_sources_find_tests(struct cli_sources *s, const char *const *paths, int n, struct hp_error *err)
{
	return find(s, paths, n, true, err);
}

void cli_sources_free(struct cli_sources *s)
{
	for (int i = 0; i < s->n; i++)
		hp_free(s->path[i]);
	s->n = 0;
}

struct hp_workflow *cli_source_load(const char *path, const char *plugins, struct hp_buf *bundle,
				    struct hp_error *err)
{
	if (hp_bundle_build(path, plugins, bundle, err) < 0)
		return NULL;
	return hp_workflow_load(hp_buf_bytes(bundle), err);
}
