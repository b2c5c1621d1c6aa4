#!/bin/sh
# bench.sh: what `make bench` prints: durable steps per second beside the
# one-row-per-commit baseline of the same run, on the same PostgreSQL (fsync on),
# and how long an idle engine takes from holdpoint.start() to a first admission.
#
#   BENCH_RUNS (10000)  ten-step runs        BENCH_WORKERS (one per core)
#
# Exits 0 also when the ratio is missed: a figure is reported, not enforced.
# finish() and others are called through trap:
# shellcheck disable=SC2317
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=scripts/lib/engine.sh
. scripts/lib/engine.sh

BENCH=${HP_BUILD:-build}/tests/bench/bench
RUNS=${BENCH_RUNS:-10000}
WORKERS=${BENCH_WORKERS:-$(nproc)}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-bench.XXXXXX") || exit 1
chmod 755 "$WORK"
cp "$BENCH" "$WORK/bench" || exit 1
cp -R tests/bench/plugins tests/bench/workflows "$WORK/" || exit 1
finish() {
	trap '' INT TERM
	engine_stop
	rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

value() { sed -n "s/^$1 //p" "$WORK/$2"; }

engine_start "$WORK/data" --listen 127.0.0.1:0 --workers "$WORKERS" --plugins "$WORK/plugins" \
	--workflows "$WORK/workflows" --echo --base-url echo=echo://local --separate-admission --log warn
DB="host=$HOLDPOINT_DATA/run user=holdpoint dbname=holdpoint"

as_service "$WORK/bench" runs "$DB" ten_steps 200 >"$WORK/warm" || die "the warm-up failed"
as_service "$WORK/bench" latency "$DB" ten_steps 200 >"$WORK/latency" || die "the latency run failed"
# Baseline before and after: the machine's mood belongs into the figure.
as_service "$WORK/bench" baseline "$DB" 5 >"$WORK/before" || die "the baseline failed"
as_service "$WORK/bench" runs "$DB" ten_steps "$RUNS" >"$WORK/runs" || die "the engine's run failed"
as_service "$WORK/bench" baseline "$DB" 5 >"$WORK/after" || die "the baseline failed"

awk -v before="$(value baseline_commits_per_second before)" -v after="$(value baseline_commits_per_second after)" \
	-v runs="$(value runs_per_second runs)" -v moves="$(value transitions_per_second runs)" \
	-v n="$RUNS" -v seconds="$(value seconds runs)" -v wal="$(value wal_bytes_per_run runs)" \
	-v workers="$WORKERS" 'BEGIN {
	base = (before + after) / 2
	printf "%d runs of ten steps in %.2f s with %d worker(s); fsync on\n", n, seconds, workers
	printf "  baseline, one row per commit     %9.0f commits/s (before %.0f, after %.0f)\n", base, before, after
	printf "  baseline, two commits per step   %9.0f steps/s\n", base / 2
	printf "  holdpoint                        %9.0f steps/s, %.0f transitions/s, %.0f bytes of WAL per run\n", runs * 10, moves, wal
	printf "  ratio, transition for commit     %9.1f\n", moves / base
	printf "  ratio, step for step             %9.1f   (wanted: 10)\n", runs * 10 / (base / 2)
}'
printf '  start to first admission, µs     p50 p95 p99 = %s (%s samples, engine idle)\n' \
	"$(value start_latency_us_p50_p95_p99 latency)" "$(value start_latency_samples latency)"
