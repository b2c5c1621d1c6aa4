/* process.c: memory that stays where it is. */
#include "base/process.h"

#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

void hp_process_close_memory(void)
{
	static const struct rlimit none = {0, 0};

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0); /* a limit is nothing to a core_pattern with a pipe */
}
