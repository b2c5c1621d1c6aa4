/* bad.c: plugins that must not be loaded. Compiled once per way to be wrong, with
 * -DBAD_way and NAME "bad_way" (see the Makefile). */
#include <hp_plugin.h>

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

static void call(void *state, const struct hp_call *c)
{
	(void)state;
	(void)c;
}

static const struct hp_activity one = {sizeof one, "one", call, NULL}, two = {sizeof two, "one", call, NULL},
				shouts = {sizeof shouts, "LOUD", call, NULL}, short_one = {8, "one", call, NULL},
				empty = {sizeof empty, "one", NULL, NULL};
static const struct hp_activity *const good[] = {&one, NULL}, *const none[] = {NULL}, *const twins[] = {&one, &two, NULL},
			       *const loud[] = {&shouts, NULL}, *const small[] = {&short_one, NULL},
			       *const hollow[] = {&empty, NULL};

static int init(const struct hp_host *h, void **state, char *error, size_t error_len)
{
#if defined(BAD_latin_init)
	static const char why[] = "kein Schl\xfcssel"; /* not UTF-8 */
#else
	static const char why[] = "no licence was found";
#endif
	volatile int go = 1;

	(void)h;
	(void)state;
#if defined(BAD_init) || defined(BAD_latin_init)
	for (size_t i = 0; i < sizeof why && i < error_len; i++)
		error[i] = why[i];
	return -1;
#elif defined(BAD_init_crash)
	raise(SIGSEGV); /* as a bad address does, whatever is mapped */
#elif defined(BAD_init_hang)
	while (go)
		;
#endif
	(void)why;
	(void)go;
	(void)error;
	(void)error_len;
	return 0;
}

#if defined(BAD_load_crash)
__attribute__((constructor)) static void at_load(void)
{
	raise(SIGSEGV);
}
#elif defined(BAD_load_hang)
__attribute__((constructor)) static void at_load(void)
{
	volatile int go = 1;

	while (go)
		;
}
#elif defined(BAD_load_exit)
__attribute__((constructor)) static void at_load(void)
{
	_exit(0);
}
#endif

#if defined(BAD_unresolved)
int hp_no_such_function(void);
#endif

static struct hp_plugin plugin = {HP_PLUGIN_ABI, sizeof plugin, TEXT(NAME), "1", good, init, NULL};

#ifndef BAD_symbol
HP_PLUGIN_EXPORT const struct hp_plugin *hp_plugin_v1(void)
{
	(void)none;
	(void)twins;
	(void)loud;
	(void)small;
	(void)hollow;
#if defined(BAD_abi)
	plugin.abi = 7;
#elif defined(BAD_size)
	plugin.size = 12;
#elif defined(BAD_name)
	plugin.name = "somebody_else";
#elif defined(BAD_version)
	plugin.version = NULL;
#elif defined(BAD_latin_version)
	plugin.version = "1\xe9";
#elif defined(BAD_no_activity)
	plugin.activities = none;
#elif defined(BAD_twins)
	plugin.activities = twins;
#elif defined(BAD_loud)
	plugin.activities = loud;
#elif defined(BAD_small)
	plugin.activities = small;
#elif defined(BAD_hollow)
	plugin.activities = hollow;
#elif defined(BAD_null)
	return NULL;
#elif defined(BAD_unresolved)
	return hp_no_such_function() ? &plugin : NULL;
#endif
	return &plugin;
}
#else
const void *hp_unused[] = {&plugin, none, twins, loud, small, hollow};
#endif
