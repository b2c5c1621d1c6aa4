/* counters.h: numbers for /metrics, summed over all workers of a supervisor.
 *
 * Each worker owns one slot in a shared mapping and is its only writer, so
 * there are no locks; a reader sums the slots. A worker that replaces a dead one
 * takes its slot over: counters go on, gauges start at zero.
 *
 * A series is a whole Prometheus name with its labels:
 *   holdpoint_runs_finished_total{status="succeeded"}
 * Names that end in _total are counters, all others gauges (set by their owner).
 */
#ifndef HP_RUNTIME_COUNTERS_H
#define HP_RUNTIME_COUNTERS_H

#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

#define HP_SERIES_MAX 256       /* per worker; further ones go to holdpoint_series_lost_total */
#define HP_SERIES_NAME_MAX 120
#define HP_COUNTER_SLOTS_MAX 64

struct hp_counters;

/* The supervisor makes the file (memfd, inherited by workers). -1 on failure. */
int hp_counters_file(int slots, struct hp_error *err) HP_MUST_CHECK;
/* fd < 0: private memory with one slot (tests, a worker alone). */
struct hp_counters *hp_counters_open(int fd, int slot, struct hp_error *err);
void hp_counters_close(struct hp_counters *c);

/* This worker's number of a series: found or made; never NULL, keep the pointer
 * in hot places. */
uint64_t *hp_counter(struct hp_counters *c, const char *series);
/* The same with a printed name. */
uint64_t *hp_counterf(struct hp_counters *c, const char *fmt, ...) HP_PRINTF(2, 3);
/* The sum over all workers; 0 when unknown. */
uint64_t hp_counters_sum(const struct hp_counters *c, const char *series);
/* All series in Prometheus text format, sorted, appended. */
void hp_counters_render(const struct hp_counters *c, struct hp_buf *out);

#endif
