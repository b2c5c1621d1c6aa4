/* torture.h: between the calls that can fail (calls.c) and who says which one does (torture.c). */
#ifndef HP_TESTS_TORTURE_H
#define HP_TESTS_TORTURE_H

#include <stdbool.h>

/* "lua" and "json": memory that they ask us for. "child": what a child of the test calls
 * before it becomes another program, whatever it is. */
enum torture_class {
	TORTURE_MEMORY,
	TORTURE_ARENA,
	TORTURE_LUA,
	TORTURE_JSON,
	TORTURE_SYSTEM,
	TORTURE_LIBPQ,
	TORTURE_CURL,
	TORTURE_HTTPD,
	TORTURE_CRYPTO,
	TORTURE_CHILD,
	TORTURE_CLASSES
};

/* One more call of that class: must it fail? */
bool torture_fails(enum torture_class c);
/* One of the ways in which a call can fail, another one each time. */
int torture_one_of(const int *codes, int n);

#endif
