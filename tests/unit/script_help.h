/* script_help.h: what the script room's tests share: workflows from text or file,
 * with the connectors of tests/fixtures/plugins. Tests run at the repository's root. */
#ifndef HP_TESTS_SCRIPT_HELP_H
#define HP_TESTS_SCRIPT_HELP_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/limits.h"
#include "script/script.h"

#define FIXTURES "tests/fixtures"

/* Loads source as "t.lua" with connector bank, or gives the error. */
static inline struct hp_workflow *load_text(const char *source, struct hp_error *err)
{
	struct hp_workflow *w;
	struct hp_buf connector, bundle;
	char block[8192];
	json_t *v;
	size_t n;
	FILE *f = fopen(FIXTURES "/plugins/bank/connector.lua", "rb");

	ck_assert_ptr_nonnull(f);
	hp_buf_init(&connector, 65536);
	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	while ((n = fread(block, 1, sizeof block, f)) > 0)
		hp_buf_add(&connector, block, n);
	fclose(f);
	v = json_pack("{s:{s:{s:s, s:s}}, s:{s:s, s:s}}", "connectors", "bank", "file", "plugins/bank/connector.lua",
		      "source", hp_buf_str(&connector), "workflow", "file", "t.lua", "source", source);
	ck_assert_ptr_nonnull(v);
	ck_assert_int_eq(hp_json_write(&bundle, v, err), 0);
	w = hp_workflow_load(hp_buf_bytes(&bundle), err);
	json_decref(v);
	hp_buf_free(&connector);
	hp_buf_free(&bundle);
	return w;
}

static inline struct hp_workflow *must_load(const char *source)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_text(source, &err);

	ck_assert_msg(w != NULL, "%s", err.message);
	return w;
}

static inline struct hp_workflow *load_file(const char *path, const char *plugins, struct hp_error *err)
{
	struct hp_workflow *w = NULL;
	struct hp_buf bundle;

	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	if (hp_bundle_build(path, plugins, &bundle, err) == 0)
		w = hp_workflow_load(hp_buf_bytes(&bundle), err);
	hp_buf_free(&bundle);
	return w;
}

#endif
