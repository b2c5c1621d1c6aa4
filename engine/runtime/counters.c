/* counters.c: one shared mapping, one slot per worker, one writer per slot.
 *
 * A series' name is written before `used` is raised, and never changes after
 * that, so a reader in another process sees whole names. Values are aligned
 * 64-bit words that only their owner writes. */
#include "runtime/counters.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"

struct series {
	char name[HP_SERIES_NAME_MAX];
	uint64_t value;
};

struct slot {
	_Atomic uint32_t used;
	struct series series[HP_SERIES_MAX];
};

struct hp_counters {
	struct slot *slots;
	int n_slots;
	struct slot *mine;
	size_t size;
};

static const char lost_series[] = "holdpoint_series_lost_total";

int hp_counters_file(int slots, struct hp_error *err)
{
	int fd;

	if (slots < 1 || slots > HP_COUNTER_SLOTS_MAX)
		return hp_fail(err, HP_E_INVALID, "counters: %d workers, but 1 to %d are possible", slots,
			       HP_COUNTER_SLOTS_MAX);
	fd = memfd_create("holdpoint-counters", MFD_CLOEXEC);
	if (fd < 0)
		return hp_fail(err, HP_E_IO, "counters: memfd_create: %s", strerror(errno));
	if (ftruncate(fd, (off_t)((size_t)slots * sizeof(struct slot))) != 0) {
		close(fd);
		return hp_fail(err, HP_E_IO, "counters: ftruncate: %s", strerror(errno));
	}
	return fd;
}

static bool is_counter(const char *series)
{
	static const char suffix[] = "_total";
	size_t n = strcspn(series, "{");

	return n >= sizeof suffix - 1 &&
	       memcmp(series + n - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0;
}

static int map_slots(struct hp_counters *c, int fd, int slot, struct hp_error *err)
{
	struct stat st;

	c->size = sizeof(struct slot);
	if (fd >= 0) {
		if (fstat(fd, &st) != 0 || st.st_size < (off_t)sizeof(struct slot))
			return hp_fail(err, HP_E_INVALID, "counters: descriptor %d is not a counter file", fd);
		c->size = (size_t)st.st_size;
	}
	c->n_slots = (int)(c->size / sizeof(struct slot));
	if (slot < 0 || slot >= c->n_slots)
		return hp_fail(err, HP_E_INVALID, "counters: slot %d of %d", slot, c->n_slots);
	c->slots = mmap(NULL, c->size, PROT_READ | PROT_WRITE,
			fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	if (c->slots == MAP_FAILED) {
		c->slots = NULL;
		return hp_fail(err, HP_E_NOMEM, "counters: mmap: %s", strerror(errno));
	}
	c->mine = &c->slots[slot];
	return 0;
}

struct hp_counters *hp_counters_open(int fd, int slot, struct hp_error *err)
{
	struct hp_counters *c = hp_calloc(1, sizeof *c);

	if (!c) {
		hp_fail(err, HP_E_NOMEM, "counters: no memory");
		return NULL;
	}
	if (map_slots(c, fd, fd >= 0 ? slot : 0, err) != 0) {
		hp_free(c);
		return NULL;
	}
	/* What a dead predecessor had in hand is in nobody's hand now. */
	for (uint32_t i = 0; i < atomic_load(&c->mine->used); i++)
		if (!is_counter(c->mine->series[i].name))
			c->mine->series[i].value = 0;
	return c;
}

void hp_counters_close(struct hp_counters *c)
{
	if (!c)
		return;
	munmap(c->slots, c->size);
	hp_free(c);
}

static uint64_t *find(struct slot *s, const char *series)
{
	uint32_t used = atomic_load(&s->used);

	for (uint32_t i = 0; i < used; i++)
		if (strcmp(s->series[i].name, series) == 0)
			return &s->series[i].value;
	return NULL;
}

static uint64_t *add(struct slot *s, const char *series)
{
	uint32_t used = atomic_load(&s->used);
	struct series *x;

	if (used >= HP_SERIES_MAX)
		return NULL;
	x = &s->series[used];
	x->value = 0;
	snprintf(x->name, sizeof x->name, "%s", series);
	atomic_store(&s->used, used + 1);
	return &x->value;
}

uint64_t *hp_counter(struct hp_counters *c, const char *series)
{
	uint64_t *v = find(c->mine, series);

	if (v)
		return v;
	/* The last place is for the series that says that names are lost. */
	if (strlen(series) < HP_SERIES_NAME_MAX &&
	    (atomic_load(&c->mine->used) < HP_SERIES_MAX - 1 || series == lost_series))
		v = add(c->mine, series);
	if (!v)
		v = hp_counter(c, lost_series);
	return v;
}

uint64_t *hp_counterf(struct hp_counters *c, const char *fmt, ...)
{
	char name[HP_SERIES_NAME_MAX + 1]; /* one more, so that a cut name is seen as too long */
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof name, fmt, ap);
	va_end(ap);
	return hp_counter(c, name);
}

uint64_t hp_counters_sum(const struct hp_counters *c, const char *series)
{
	uint64_t sum = 0;

	for (int i = 0; i < c->n_slots; i++) {
		const uint64_t *v = find(&c->slots[i], series);

		if (v)
			sum += *v;
	}
	return sum;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct series *const *)a)->name, (*(const struct series *const *)b)->name);
}

/* "# TYPE" once for all series of one name. */
static void render_type(struct hp_buf *out, const char *series, const char *before)
{
	size_t n = strcspn(series, "{");

	if (before && strcspn(before, "{") == n && memcmp(before, series, n) == 0)
		return;
	hp_buf_printf(out, "# TYPE %.*s %s\n", (int)n, series, is_counter(series) ? "counter" : "gauge");
}

void hp_counters_render(const struct hp_counters *c, struct hp_buf *out)
{
	size_t max = (size_t)c->n_slots * HP_SERIES_MAX, n = 0;
	const struct series **all = hp_alloc(max * sizeof *all);
	const char *before = NULL;

	if (!all) {
		out->failed = true;
		return;
	}
	for (int i = 0; i < c->n_slots; i++)
		for (uint32_t k = 0; k < atomic_load(&c->slots[i].used); k++)
			all[n++] = &c->slots[i].series[k];
	qsort(all, n, sizeof *all, by_name);
	for (size_t i = 0; i < n;) {
		uint64_t sum = 0;
		size_t k = i;

		for (; k < n && strcmp(all[k]->name, all[i]->name) == 0; k++)
			sum += all[k]->value;
		render_type(out, all[i]->name, before);
		hp_buf_printf(out, "%s %" PRIu64 "\n", all[i]->name, sum);
		before = all[i]->name;
		i = k;
	}
	hp_free(all);
}
