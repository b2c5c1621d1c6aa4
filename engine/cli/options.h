/* options.h: a command's words: options, arguments, help, errors.
 *
 * Every command describes itself by a struct cli_spec and begins with
 *
 *	struct cli_args a;
 *	int code = cli_parse(&spec, argc, argv, &a);
 *	if (code >= 0)
 *		return code;      (--help was asked for, or the words are wrong)
 */
#ifndef HP_CLI_OPTIONS_H
#define HP_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

#define CLI_OPTIONS_MAX 40
#define CLI_ARGS_MAX 64

struct cli_option {
	const char *name;  /* without the dashes */
	const char *value; /* name of its value in the help; NULL: a flag */
	const char *help;
};

struct cli_spec {
	const char *name;     /* as typed: "token create" */
	const char *args;     /* "WORKFLOW", "PATH...", NULL or "": none */
	const char *text;     /* what it does: one or more sentences */
	const char *examples; /* lines, each "holdpoint …" */
	const struct cli_option *options; /* ends with a NULL name; NULL: none */
	const char *letter, *letter_of; /* "k" and "filter": -k is --filter; NULL: no short form */
	int min_args, max_args;
	bool client;          /* adds --server, --data, --token-file */
	bool no_json;         /* its only form is text, or another program's format */
};

struct cli_args {
	const struct cli_spec *spec;
	const char *arg[CLI_ARGS_MAX];
	int n;
	struct {
		const char *name, *value;
	} given[CLI_ARGS_MAX];
	int n_given;
	bool json;
};

/* < 0: go on; else the exit code. */
int cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli_args *a) HP_MUST_CHECK;
/* The same for commands of two words ("token create"): argv[1] says which of the
 * specs, of which the last is NULL; a->spec is the one. */
int cli_parse_sub(const struct cli_spec *const *specs, int argc, char **argv, struct cli_args *a) HP_MUST_CHECK;
bool cli_has(const struct cli_args *a, const char *name);
const char *cli_value(const struct cli_args *a, const char *name); /* NULL: not given; the last one wins */
/* The i-th value of an option that may be repeated; NULL: no more. */
const char *cli_value_at(const struct cli_args *a, const char *name, int i);

/* A run's or approval's number. */
int cli_number(const char *text, const char *what, int64_t *out, struct hp_error *err) HP_MUST_CHECK;

/* "holdpoint: message" and the hint to standard error; with --json also the error
 * object to standard output. Returns the exit code. */
int cli_error(const struct cli_args *a, const struct hp_error *err);
/* For words that could not be read: was --json among them? */
bool cli_wants_json(int argc, char **argv);

#endif
