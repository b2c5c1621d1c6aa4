#!/bin/sh
# torture.sh [PROGRAM...]: the tests, again and again, with one call failing each time.
#
# Each test of each unit program and of the contract over the store in memory (PROGRAM:
# core_machine, store_mem, …; net_pg of tests/integration, too) runs once to count the
# calls of the engine that can fail, then once for each with that one failing. It may end
# well, or with an assertion of the test; it must not crash, hang, leak, or touch memory
# that is not its own (AddressSanitizer, UndefinedBehaviorSanitizer). First one call of
# each way (stack) that leads to one, then others, as many as TIME allows; another
# TORTURE_SEED takes others. tests/torture/torture.c says how, and how to see one again.
#
#   TIME (600)  seconds for all of it        TORTURE_SEED (1)
#   TORTURE_CLASS  only memory, arena, lua, json, system, libpq, curl, httpd, crypto or child
#
# Fails when something was found. What it says is in build-torture/found/.
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
unset MAKEFLAGS MFLAGS MAKEOVERRIDES
HP_BUILD=build-torture
export HP_BUILD
time=${TIME:-600}
lanes=$(nproc)
found=$PWD/$HP_BUILD/found

$make --no-print-directory -j"$(nproc)" TORTURE=1 build-unit build-contract build-integration >"$HP_BUILD.log" 2>&1 || {
	tail -n 30 "$HP_BUILD.log"
	exit 1
}
rm -rf "$HP_BUILD.log" "$found"
mkdir -p "$found"

if [ $# = 0 ]; then
	# shellcheck disable=SC2046 # one word a program
	set -- $(for p in $($make --no-print-directory -s TORTURE=1 list-unit); do basename "$p"; done) store_mem net_pg
fi

# The contract's store_mem has the name of a unit program: all of that name run.
paths_of() { # NAME
	for path in "$HP_BUILD/tests/$1" "$HP_BUILD/tests/contract/$1" "$HP_BUILD/tests/integration/$1"; do
		[ ! -x "$path" ] || [ -d "$path" ] || echo "$path"
	done
}

# shellcheck source=tests/lib/pg.sh
. tests/lib/pg.sh
trap pg_stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A program has time by the number of its ways: they are counted first, without a failure.
# What comes of it are words of WAYS:TESTS:PATH.
export ASAN_OPTIONS=detect_leaks=1:exitcode=99:handle_abort=1:allocator_may_return_null=1:malloc_context_size=16
export UBSAN_OPTIONS=print_stacktrace=1:exitcode=98
export CK_TIMEOUT_MULTIPLIER=10000 HP_TORTURE_SEED="${TORTURE_SEED:-1}" HP_TORTURE_CLASS="${TORTURE_CLASS:-}"
mkdir "$found/count"
programs=
for name in "$@"; do
	paths=$(paths_of "$name")
	[ -n "$paths" ] || {
		echo "torture.sh: there is no program \"$name\"" >&2
		exit 2
	}
	for path in $paths; do
		case " $programs " in *":$path "*) continue ;; esac
		case $path in
		*/integration/*) [ -n "$PG_DIR" ] || pg_start || exit 1 ;;
		esac
		HP_TORTURE_LOG="$found/count" HP_TORTURE_MS=0 HP_TORTURE_OTHERS_MS=0 HP_TEST_PG=${PG_CONNINFO:-} \
			"$path" >"$found/count/log" 2>&1 || tail -n 5 "$found/count/log"
		n=$(awk -v only="${TORTURE_CLASS:-}" '
			only == "" || only == $3 { n += $5 }
			{ tests[$2] = 1 }
			END { for (t in tests) k++; print n + 1 ":" k + 1 }' "$found/count/sums" 2>/dev/null)
		programs="$programs ${n:-1:1}:$path"
		rm -f "$found"/count/*
	done
done
echo "torture: $(echo "$programs" | wc -w) programs, $time s, $lanes at a time, seed ${TORTURE_SEED:-1}"

touch "$found/sums" "$found/found"
# LANE WAYS:TESTS:PATH a line: every lane about as many ways.
# shellcheck disable=SC2086 # one word a program
plan=$(printf '%s\n' $programs | sort -t : -k 1,1nr | awk -F : -v lanes="$lanes" '{
	least = 0
	for (i = 1; i < lanes; i++) if (load[i] < load[least]) least = i
	load[least] += $1
	print least, $0
}')

# One program after the other, those with most ways last: what one has left of its time, the
# next ones have. Of all time a tenth is for calls whose way has been tried.
lane() { # NUMBER
	running=
	trap 'kill $running 2>/dev/null; exit 1' TERM
	end=$(($(date +%s) + time)) rest=0
	mine=$(echo "$plan" | sed -n "s/^$1 //p" | sort -n)
	for program in $mine; do
		rest=$((rest + ${program%%:*}))
	done
	for program in $mine; do
		path=${program##*:} n=${program%%:*} tests=${program%:*}
		tests=${tests#*:}
		ms=$(((end - $(date +%s)) * 1000 * n / rest))
		[ "$ms" -gt 0 ] || ms=0
		rest=$((rest - n))
		HP_TORTURE_MS=$ms HP_TORTURE_OTHERS_MS=$((ms / 10 / tests)) HP_TORTURE_LOG="$found" HP_TEST_PG=${PG_CONNINFO:-} \
			setsid "$path" >"$found/log.$1" 2>&1 & # what is told to end, Check passes on to its group
		running=$!
		wait "$running" && continue
		tail -n 5 "$found/log.$1" # Check itself: a test that fails without any fault
		touch "$found/broken"
	done
}
pids=
trap 'kill $pids 2>/dev/null; pg_stop' EXIT
i=0
while [ "$i" -lt "$lanes" ]; do
	lane "$i" &
	pids="$pids $!"
	i=$((i + 1))
done
for pid in $pids; do wait "$pid"; done
broken=0
[ ! -e "$found/broken" ] || broken=1

awk -v only="${TORTURE_CLASS:-}" '
{ seen[$3] += $4; ways[$3] += $5; failed[$3] += $6; borne[$3] += $7; found[$3] += $8; tried[$3] += $9 }
END {
	printf "\n%-8s %12s %8s %8s %8s %8s %8s %10s\n", "class", "calls", "ways", "of them", "failed", "borne", "found", "not failed"
	n = split("memory arena lua json system libpq curl httpd crypto child", order, " ")
	for (i = 1; i <= n; i++) {
		c = order[i]
		if (!seen[c]) continue
		printf "%-8s %12d %8d %8d %8d %8d %8d %10d\n", c, seen[c], ways[c], tried[c], failed[c], borne[c], found[c], seen[c] - failed[c]
		if (!failed[c] && (only == "" || only == c)) idle = idle " " c
		s += seen[c]; w += ways[c]; t += tried[c]; f += failed[c]; b += borne[c]; g += found[c]
	}
	printf "%-8s %12d %8d %8d %8d %8d %8d %10d\n", "all", s, w, t, f, b, g, s - f
	if (idle != "" || !f) { print "no call was made to fail, although there were some:" idle; exit 1 }
}' "$found/sums" || broken=1
echo "of them: ways with a call that failed; failed: one call at a time; borne: the test passed all the same; the others ended with an assertion of the test"
if [ -s "$found/waits" ]; then
	echo
	echo "a test waited for what did not come (is that right?):"
	sed 's/^FOUND //' "$found/waits" | sort | uniq | head -n 40
fi
if [ -s "$found/found" ]; then
	echo
	sed 's/0x[0-9a-f]*//g' "$found/found" | cut -d ' ' -f 4- | sort | uniq -c | sort -rn
	cat "$found/found"
	echo "each is told in $found/PROGRAM.TEST.CLASS.N; again: HP_TORTURE_ONE=TEST:CLASS:N PROGRAM"
	broken=1
fi
exit $broken
