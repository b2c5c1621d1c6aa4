/* reply.h: what the engine makes of an answer is an outcome that the machine and the
 * database can take. */
#ifndef HP_TESTS_FUZZ_REPLY_H
#define HP_TESTS_FUZZ_REPLY_H

#include "base/json.h"
#include "base/limits.h"
#include "fuzz/lib/fuzz.h"
#include "script/script.h"

static inline void must_be_reply(const struct hp_event *ev)
{
	struct hp_error err = {0};
	json_t *v;

	MUST(ev->type == HP_EV_REPLY && ev->outcome <= HP_NEEDS_PERSON);
	MUST(ev->retry_after_us == -1 || (ev->retry_after_us >= 0 && ev->retry_after_us <= INT64_C(2592000) * 1000000));
	if (!ev->ok) {
		MUST(ev->outcome != HP_CLASS_OK && ev->code && ev->code[0] && strlen(ev->code) < HP_CODE_MAX);
		must_be_text(ev->code);
		if (ev->message)
			must_be_text(ev->message);
		return;
	}
	MUST(ev->value.n <= HP_VALUE_MAX);
	v = hp_json_parse(ev->value.p, ev->value.n, "the value", &err);
	MUST(v != NULL, "%s", err.message);
	json_decref(v);
}

#endif
