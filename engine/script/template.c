/* template.c: cutting "Refund {payment.amount} to {{{payment.customer}}}" into parts. */
#include <string.h>
#include "script/internal.h"

/* A path is names joined by dots; later names may be any JSON member without
 * braces, dots or blanks. */
static bool path_ok(const char *p, size_t n)
{
	size_t i, part = 0;

	for (i = 0; i < n; i++) {
		if (p[i] == '.') {
			if (part == 0)
				return false;
			part = 0;
		} else if (strchr(" \t\n\r\"'", p[i])) {
			return false;
		} else {
			part++;
		}
	}
	return part > 0;
}

int hp_template_next(const char **s, struct hp_part *part, const char **why)
{
	const char *p = *s, *end;
	size_t n;

	if (*p == '\0')
		return 0;
	part->path = false;
	part->p = p;
	if (p[0] == p[1] && (*p == '{' || *p == '}')) {
		part->n = 1;
		*s = p + 2;
		return 1;
	}
	if (*p == '}') {
		*why = "a } without its {; write }} for a brace";
		return -1;
	}
	if (*p != '{') {
		part->n = strcspn(p, "{}");
		*s = p + part->n;
		return 1;
	}
	end = p + 1 + strcspn(p + 1, "{}");
	if (*end != '}') {
		*why = "a { without its }; write {{ for a brace";
		return -1;
	}
	n = (size_t)(end - p - 1);
	if (!path_ok(p + 1, n)) {
		*why = "a path in braces is names joined by dots, like {input.id}; write {{ for a brace";
		return -1;
	}
	part->path = true;
	part->p = p + 1;
	part->n = n;
	*s = end + 1;
	return 1;
}

bool hp_template_single(const char *s, struct hp_part *part)
{
	const char *why;

	return hp_template_next(&s, part, &why) == 1 && part->path && *s == '\0';
}
