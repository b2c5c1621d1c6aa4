/* Every file of tests/fuzz/corpus/NAME through the harness tests/fuzz/NAME.c: what the
 * fuzzers have learnt, replayed with any compiler. Among them is the input of each bug
 * that was found (finding-*).
 *
 * With arguments, files: cli_corpora NAME FILE... runs these alone. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "fuzz/lib/fuzz.h"
#include "lib/suite.h"

#define CORPUS "tests/fuzz/corpus"
#define FILE_MAX (1u << 20)

struct hp_fuzz_target *hp_fuzz_targets;

static void replay(const struct hp_fuzz_target *t, const char *path)
{
	struct hp_error err = {0};
	struct hp_buf b;
	uint8_t *exact;

	hp_buf_init(&b, FILE_MAX);
	MUST(hp_read_file(path, FILE_MAX, &b, &err) == 0, "%s", err.message);
	/* no byte more than it has, so that a sanitizer sees who reads past its end */
	exact = malloc(b.n ? b.n : 1);
	MUST(exact != NULL);
	if (b.n)
		memcpy(exact, b.p, b.n);
	t->run(exact, b.n);
	free(exact);
	hp_buf_free(&b);
}

static const struct hp_fuzz_target *target(int i)
{
	const struct hp_fuzz_target *t = hp_fuzz_targets;

	while (t && i-- > 0)
		t = t->next;
	return t;
}

START_TEST(corpus)
{
	const struct hp_fuzz_target *t = target(_i);
	char dir[256], path[640];
	struct dirent *e;
	int files = 0;
	DIR *d;

	snprintf(dir, sizeof dir, "%s/%s", CORPUS, t->name);
	d = opendir(dir);
	ck_assert_msg(d != NULL, "%s: there is no corpus", dir);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (freopen("/dev/null", "w", stdout) == NULL)
			ck_abort_msg("no /dev/null");
		replay(t, path);
		files++;
	}
	closedir(d);
	ck_assert_msg(files >= 5, "%s: %d files", dir, files);
}
END_TEST

int main(int argc, char **argv)
{
	TCase *t = tcase_create("corpora");
	int n = 0;

	while (target(n))
		n++;
	for (int i = 0; argc > 2 && i < n; i++)
		if (strcmp(target(i)->name, argv[1]) == 0)
			for (int k = 2; k < argc; k++)
				replay(target(i), argv[k]);
	if (argc > 2)
		return 0;
	tcase_add_loop_test(t, corpus, 0, n);
	tcase_set_timeout(t, 60);
	return hp_run_case("fuzz corpora", t);
}
