/* options.c: reading a command's words. */
#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/words.h"
#include "cli/print.h"

#define CLI_SUBS_MAX 8 /* words a command may have as its second */

static const struct cli_option client_options[] = {
	{ "server", "URL", "the engine's address (else $HOLDPOINT_SERVER, else the data directory knows)" },
	{ "token-file", "FILE", "file with the token (else $HOLDPOINT_TOKEN, $HOLDPOINT_TOKEN_FILE, DATA/token)" },
	{ "data", "DIR", "the engine's data directory (else $HOLDPOINT_DATA)" },
	{ 0 },
};
static const struct cli_option json_option = { "json", NULL, "print JSON" };
static const struct cli_option help_option = { "help", NULL, "print this" };

/* All options of a command, in the order of the help. */
static size_t all_options(const struct cli_spec *s, const struct cli_option *out[CLI_OPTIONS_MAX])
{
	size_t n = 0;

	for (const struct cli_option *o = s->options; o && o->name; o++)
		out[n++] = o;
	for (const struct cli_option *o = client_options; s->client && o->name; o++)
		out[n++] = o;
	if (!s->no_json)
		out[n++] = &json_option;
	out[n++] = &help_option;
	HP_ASSERT(n <= CLI_OPTIONS_MAX);
	return n;
}

static const char *args_of(const struct cli_spec *s)
{
	return s->args ? s->args : "";
}

static int print_help(const struct cli_spec *s)
{
	const struct cli_option *options[CLI_OPTIONS_MAX];
	size_t n = all_options(s, options);

	printf("usage: holdpoint %s%s%s [options]\n\n%s\n\noptions:\n", s->name, *args_of(s) ? " " : "", args_of(s),
	       s->text);
	for (size_t i = 0; i < n; i++) {
		char left[40];

		(void)snprintf(left, sizeof left, "--%s%s%s", options[i]->name, options[i]->value ? " " : "",
			       options[i]->value ? options[i]->value : "");
		printf("  %-23s %s\n", left, options[i]->help);
	}
	if (s->letter)
		printf("  -%-22s the same as --%s\n", s->letter, s->letter_of);
	if (s->examples)
		printf("\nexamples:\n%s\n", s->examples);
	return 0;
}

int cli_error(const struct cli_args *a, const struct hp_error *err)
{
	struct hp_buf message, hint, b;

	/* What was typed or what a run holds may be in it: no control characters for
	 * the terminal, only UTF-8 for who reads JSON. */
	hp_buf_init(&message, 8 * 1024);
	hp_buf_init(&hint, 8 * 1024);
	cli_clean(&message, err->message, 0);
	if (err->hint[0])
		cli_clean(&hint, err->hint, 0);
	(void)fflush(stdout);
	(void)fprintf(stderr, "holdpoint: %s\n", hp_buf_str(&message));
	if (hint.n)
		(void)fprintf(stderr, "  %s\n", hp_buf_str(&hint));
	if (a && a->json) {
		hp_buf_init(&b, 16 * 1024);
		hp_buf_printf(&b, "{\"error\":{\"code\":\"%s\",\"hint\":", hp_code_name(err->code));
		hp_buf_json(&b, hp_buf_str(&hint), hint.n);
		hp_buf_adds(&b, ",\"message\":");
		hp_buf_json(&b, hp_buf_str(&message), message.n);
		hp_buf_adds(&b, "}}");
		puts(hp_buf_str(&b));
		hp_buf_free(&b);
	}
	hp_buf_free(&message);
	hp_buf_free(&hint);
	/* whatever went wrong without a word is a bug of ours, but never a success */
	return hp_code_exit(err->code == HP_OK ? HP_E_INTERNAL : err->code);
}

bool cli_wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

static int usage_error(const struct cli_args *a, struct hp_error *err)
{
	if (!err->hint[0])
		(void)hp_error_hint(err, "holdpoint %s --help shows what it takes.", a->spec->name);
	return cli_error(a, err);
}

static const struct cli_option *find_option(const struct cli_spec *s, const char *name, size_t n,
					    struct hp_error *err)
{
	const struct cli_option *options[CLI_OPTIONS_MAX];
	const char *names[CLI_OPTIONS_MAX], *near;
	size_t count = all_options(s, options);
	char word[64];

	for (size_t i = 0; i < count; i++) {
		names[i] = options[i]->name;
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
			return options[i];
	}
	(void)snprintf(word, sizeof word, "%.*s", (int)(n < 60 ? n : 60), name);
	near = hp_nearest(word, names, count);
	(void)hp_fail(err, HP_E_INVALID, "%s: unknown option --%s", s->name, word);
	if (near)
		(void)hp_error_hint(err, "Did you mean --%s?", near);
	return NULL;
}

/* One option at argv[*i]; moves *i on when its value is the next word. */
static int read_option(struct cli_args *a, int argc, char **argv, int *i, struct hp_error *err)
{
	const char *word = argv[*i] + 2, *equals = strchr(word, '=');
	size_t n = equals ? (size_t)(equals - word) : strlen(word);
	const struct cli_option *o;

	if (argv[*i][1] != '-') { /* the short form: read_words() has seen that it is one */
		word = a->spec->letter_of;
		equals = NULL;
		n = strlen(word);
	}
	o = find_option(a->spec, word, n, err);
	if (!o)
		return -1;
	if (!o->value && equals)
		return hp_fail(err, HP_E_INVALID, "%s: --%s takes no value", a->spec->name, o->name);
	if (o->value && !equals && *i + 1 >= argc)
		return hp_fail(err, HP_E_INVALID, "%s: --%s needs a value: %s", a->spec->name, o->name, o->value);
	if (a->n_given == CLI_ARGS_MAX)
		return hp_fail(err, HP_E_INVALID, "%s: too many options", a->spec->name);
	a->given[a->n_given].name = o->name;
	a->given[a->n_given++].value = equals ? equals + 1 : o->value ? argv[++*i] : "";
	return 0;
}

static bool is_letter(const struct cli_spec *s, const char *word)
{
	return s->letter && word[0] == '-' && strcmp(word + 1, s->letter) == 0;
}

static int read_words(struct cli_args *a, int argc, char **argv, struct hp_error *err)
{
	bool options = true;

	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && (strncmp(argv[i], "--", 2) == 0 || is_letter(a->spec, argv[i]))) {
			if (read_option(a, argc, argv, &i, err) < 0)
				return -1;
		} else if (options && argv[i][0] == '-' && argv[i][1] && strcmp(argv[i], "-h") != 0) {
			return hp_fail(err, HP_E_INVALID, "%s: unknown option %.40s", a->spec->name, argv[i]);
		} else if (options && strcmp(argv[i], "-h") == 0) {
			a->given[0].name = "help";
			a->given[0].value = "";
			a->n_given = 1;
			return 0;
		} else if (a->n == a->spec->max_args) {
			return hp_fail(err, HP_E_INVALID, "%s: \"%.100s\" is one argument too many", a->spec->name,
				       argv[i]);
		} else {
			a->arg[a->n++] = argv[i];
		}
	}
	return 0;
}

int cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli_args *a)
{
	struct hp_error err = { 0 };
	int rc;

	HP_ASSERT(spec->max_args <= CLI_ARGS_MAX);
	*a = (struct cli_args){ .spec = spec };
	rc = read_words(a, argc, argv, &err);
	a->json = cli_has(a, "json") || (rc < 0 && cli_wants_json(argc, argv));
	if (cli_has(a, "help"))
		return print_help(spec);
	if (rc == 0 && a->n < spec->min_args)
		rc = hp_fail(&err, HP_E_INVALID, "%s: %s: an argument is missing", spec->name, args_of(spec));
	return rc < 0 ? usage_error(a, &err) : -1;
}

static const char *second_word(const struct cli_spec *s)
{
	return strchr(s->name, ' ') + 1;
}

/* argv[1] is none of them: says which there are, or the nearest. */
static int wrong_sub(const struct cli_spec *const *specs, int argc, char **argv, const struct cli_args *a)
{
	const char *words[CLI_SUBS_MAX], *near = NULL;
	struct hp_error err = { 0 };
	struct hp_buf all;
	size_t n = 0;

	for (; specs[n]; n++) {
		HP_ASSERT(n < CLI_SUBS_MAX);
		words[n] = second_word(specs[n]);
	}
	if (argc > 1 && strcmp(argv[1], "--json") != 0) {
		(void)hp_fail(&err, HP_E_INVALID, "%s: unknown word \"%.60s\"", argv[0], argv[1]);
		near = hp_nearest(argv[1], words, n);
	} else {
		(void)hp_fail(&err, HP_E_INVALID, "%s: a word is missing", argv[0]);
	}
	hp_buf_init(&all, 1024);
	for (size_t i = 0; i < n; i++)
		if (!near || near == words[i])
			hp_buf_printf(&all, "%sholdpoint %s%s%s", all.n ? " or " : "", specs[i]->name,
				      *args_of(specs[i]) ? " " : "", args_of(specs[i]));
	(void)hp_error_hint(&err, "Write %s.", hp_buf_str(&all));
	hp_buf_free(&all);
	return cli_error(a, &err);
}

int cli_parse_sub(const struct cli_spec *const *specs, int argc, char **argv, struct cli_args *a)
{
	for (const struct cli_spec *const *s = specs; argc > 1 && *s; s++)
		if (strcmp(argv[1], second_word(*s)) == 0)
			return cli_parse(*s, argc - 1, argv + 1, a);
	*a = (struct cli_args){ .spec = specs[0], .json = cli_wants_json(argc, argv) };
	if (argc < 2 || (strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0))
		return wrong_sub(specs, argc, argv, a);
	for (const struct cli_spec *const *s = specs; *s; s++) {
		if (s != specs)
			puts("");
		(void)print_help(*s);
	}
	return 0;
}

const char *cli_value_at(const struct cli_args *a, const char *name, int i)
{
	for (int k = 0; k < a->n_given; k++)
		if (strcmp(a->given[k].name, name) == 0 && i-- == 0)
			return a->given[k].value;
	return NULL;
}

const char *cli_value(const struct cli_args *a, const char *name)
{
	const char *value = NULL;

	for (int k = 0; k < a->n_given; k++)
		if (strcmp(a->given[k].name, name) == 0)
			value = a->given[k].value;
	return value;
}

bool cli_has(const struct cli_args *a, const char *name)
{
	return cli_value(a, name) != NULL;
}

int cli_number(const char *text, const char *what, int64_t *out, struct hp_error *err)
{
	if (hp_int_parse(text, out) == 0 && *out > 0)
		return 0;
	(void)hp_fail(err, HP_E_INVALID, "\"%.60s\" is not the number of %s", text, what);
	if (strcmp(what, "a run") == 0 || strcmp(what, "an approval") == 0)
		return hp_error_hint(err, "holdpoint %s lists them.", what[1] == 'n' ? "approvals" : "runs");
	if (strcmp(what, "a token") == 0)
		return hp_error_hint(err, "holdpoint token list lists them.");
	return -1;
}
