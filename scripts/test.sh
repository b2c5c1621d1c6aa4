#!/bin/sh
# test.sh [SUITE...]: runs the test suites (all of them without an argument),
# one after the other, every one even when another failed.
#
# Prints what a suite's first failure says, then the name of every check that
# failed, a table with the seconds and the budget of each suite, and as its
# last line "N passed, M failed".
# Exits non-zero when anything failed, was not built, or ran no check.
#
# HP_BUILD (the build directory) comes from make. HP_TEST_PG, the superuser's
# conninfo of a throw-away cluster, is given to the contract and integration
# suites; with it already set, that cluster is used and left alone.
set -u

cd "$(dirname "$0")/.." || exit 1
HP_BUILD=${HP_BUILD:-build}
HP_BIN=${HP_BIN:-$PWD/$HP_BUILD/holdpoint}
export HP_BUILD HP_BIN
# Any variant's switches come in MAKEFLAGS; the directory is said once more.
build() {
	${MAKE:-make} --no-print-directory BUILD="$HP_BUILD" "$@"
}
# A slow build (sanitizers, valgrind) stretches budgets and time-outs.
factor=${HP_TIME_FACTOR:-1}
export CK_TIMEOUT_MULTIPLIER="$factor"
# What each program is run under; "valgrind …" in check-deep.
wrapper=${HP_TEST_WRAPPER:-}

# shellcheck source=tests/lib/pg.sh
. tests/lib/pg.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-suites.XXXXXX") || exit 1
child=
finish() {
	# One process, or the workers of run_at_once().
	# shellcheck disable=SC2086
	[ -z "$child" ] || kill $child 2>/dev/null
	pg_stop
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

total_passed=0
total_failed=0
total_seconds=0
passed=0
failed=0
shown=
table=$work/table
names=$work/names # of what failed
: >"$table"
: >"$names"

budget_of() {
	case $1 in
	check-deps) seconds=5 ;;
	unit) seconds=120 ;; # building included
	contract) seconds=90 ;;
	integration) seconds=150 ;;
	authors) seconds=60 ;; # --real included
	e2e) seconds=270 ;;
	chaos) seconds=60 ;;
	esac
	echo $((seconds * factor))
}

# What a log says of the checks that failed: TAP's "not ok" with its
# explanation up to "...", Check's "file:line:F:…" and ":E:…".
failures() {
	awk '
	/^ *not ok / { on = 1 }
	on || /:[FE]:/ { print }
	/^ *\.\.\.$/ { on = 0 }' "$1"
}

# A failure: counted and named; of a suite's first one all that its log says,
# and the end of the log, where an abort or a sanitizer has the word.
fail() { # NAME LOG COUNT
	failed=$((failed + $3))
	echo "  FAILED $1"
	echo "FAILED $1" >>"$names"
	failures "$2" >"$work/failures"
	grep -E '^ *not ok |:[FE]:' "$work/failures" | cut -c 1-300 >>"$names"
	if [ -z "$shown" ]; then
		shown=yes
		{ head -n 300 "$work/failures" && echo ... && tail -n 60 "$2"; } | sed 's/^/  | /'
	fi
}

# Adds up the counts in a log: Check's "NN%: Checks: X, Failures: Y, Errors: Z"
# and TAP's "# pass N", "# fail N". Prints "passed failed lines".
counts() {
	awk '
	/^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
		gsub(/[^0-9 ]/, ""); bad = $3 + $4; pass += $2 - bad; fail += bad; lines++ }
	/^# pass [0-9]+/ { pass += $3; lines++ }
	/^# (fail|cancelled) [0-9]+/ { fail += $3 }
	END { print pass + 0, fail + 0, lines + 0 }' "$1"
}

# Runs one command as part of a suite and counts what its output says.
run_counted() { # NAME TIMEOUT COMMAND...
	name=$1 limit=$(($2 * factor))
	shift 2
	log=$work/log
	# In the background, so that an interrupt stops it at once and is not
	# held up until it ends.
	timeout -k 10 "$limit" "$@" >"$log" 2>&1 &
	child=$!
	wait "$child"
	status=$?
	child=
	count "$name" "$status" "$log" "$limit"
}

count() { # NAME STATUS LOG LIMIT
	name=$1 status=$2 log=$3
	[ "$status" != 124 ] || echo "stopped after $4 seconds" >>"$log"
	# The three numbers of counts().
	# shellcheck disable=SC2046
	set -- $(counts "$log")
	passed=$((passed + $1))
	if [ "$2" -gt 0 ]; then
		fail "$name: $2 of $(($1 + $2)) checks" "$log" "$2"
	elif [ "$status" != 0 ]; then
		fail "$name: exit status $status" "$log" 1
	elif [ "$3" = 0 ] || [ "$1" = 0 ]; then
		echo "no check was run, or no count of checks was printed" >>"$log"
		fail "$name: no checks" "$log" 1
	fi
}

# Runs programs that share nothing, one on each core; what each printed is in
# $work/ran/NAME.log, its exit status in $work/ran/NAME.
run_at_once() { # TIMEOUT PROGRAM...
	limit=$(($1 * factor))
	shift
	rm -rf "$work/ran"
	mkdir "$work/ran"
	for _ in $(seq "$(nproc)"); do
		(
			running=
			trap '[ -z "$running" ] || kill "$running" 2>/dev/null; exit 143' TERM
			for program in "$@"; do
				name=$work/ran/$(basename "$program")
				mkdir "$name.claim" 2>/dev/null || continue # another one has it
				# The wrapper is a command with its arguments.
				# shellcheck disable=SC2086
				timeout -k 10 "$limit" $wrapper "$program" >"$name.log" 2>&1 &
				running=$!
				wait "$running"
				echo $? >"$name"
				running=
			done
		) &
		child="$child $!"
	done
	# shellcheck disable=SC2086
	wait $child
	child=
}

suite_check_deps() {
	if scripts/check-deps >"$work/log" 2>&1; then
		passed=1
	else
		fail check-deps "$work/log" 1
	fi
	run_counted "the checker itself" 30 tests/check-deps-selftest.sh
}

# Builds and runs the C programs of a suite. What cannot be built fails alone.
run_programs() { # SUITE
	build_log=$work/build
	build -k -j"$(nproc)" "build-$1" >"$build_log" 2>&1
	built=$?
	programs=$(build -s "list-$1")
	if [ -z "$programs" ]; then
		echo "there is no test program in tests/$1" >"$build_log"
		fail "$1: no tests" "$build_log" 1
	fi
	there=
	for program in $programs; do
		if [ "$built" != 0 ] && ! build "$program" >"$build_log" 2>&1; then
			fail "$(basename "$program"): not built" "$build_log" 1
		else
			there="$there $program"
		fi
	done
	# Integration tests share a server, and some stop it.
	if [ "$1" = unit ]; then
		# shellcheck disable=SC2086
		run_at_once 120 $there
		for program in $there; do
			log=$work/ran/$(basename "$program")
			count "$(basename "$program")" "$(cat "$log")" "$log.log" $((120 * factor))
		done
		return
	fi
	for program in $there; do
		# The wrapper is a command with its arguments.
		# shellcheck disable=SC2086
		run_counted "$(basename "$program")" 120 $wrapper "$program"
	done
}

# One cluster for all suites that want it, started at the first need.
with_postgres() { # SUITE
	if [ -z "${HP_TEST_PG:-}" ]; then
		if ! pg_start >"$work/log" 2>&1; then
			fail "$1: PostgreSQL did not start" "$work/log" 1
			return
		fi
		HP_TEST_PG=$PG_CONNINFO
		export HP_TEST_PG
	fi
	run_programs "$1"
}

# The program itself: some integration tests start it, end-to-end tests do nothing else.
build_program() { # SUITE
	build -j"$(nproc)" all >"$work/build" 2>&1 && return 0
	fail "$1: the program was not built" "$work/build" 1
	return 1
}

# The workflows' own tests, by the program itself.
suite_authors() {
	build_program authors && run_counted authors 180 tests/run-authors.sh
}

suite_e2e() {
	build_program e2e || return
	build build-plugins >"$work/build" 2>&1 || fail "e2e: the test plugins were not built" "$work/build" 1
	if [ ! -x tests/run-e2e.sh ]; then
		echo "tests/run-e2e.sh is missing or not executable" >"$work/log"
		fail "e2e" "$work/log" 1
	else
		run_counted e2e 600 tests/run-e2e.sh
	fi
}

# The short forms of the scenarios; the same story each time, as far as processes let it.
suite_chaos() {
	build_program chaos && SEED=${SEED:-2026} run_counted chaos 180 scripts/chaos.sh --short
}

run_suite() { # SUITE
	passed=0 failed=0 shown=
	budget=$(budget_of "$1")
	echo "$1 (budget $budget s)"
	began=$(date +%s)
	case $1 in
	check-deps) suite_check_deps ;;
	unit) run_programs unit ;;
	contract) with_postgres "$1" ;;
	integration) build_program integration && with_postgres integration ;;
	authors) suite_authors ;;
	e2e) suite_e2e ;;
	chaos) suite_chaos ;;
	esac
	seconds=$(($(date +%s) - began))
	note=
	[ "$seconds" -le "$budget" ] || note='over budget'
	echo "  $passed passed, $failed failed, $seconds s${note:+, $note}"
	printf '%-12s %8s %8s %8s %8s%s\n' "$1" "$passed" "$failed" "$seconds" "$budget" "${note:+  $note}" >>"$table"
	total_passed=$((total_passed + passed))
	total_failed=$((total_failed + failed))
	total_seconds=$((total_seconds + seconds))
}

[ $# -gt 0 ] || set -- check-deps unit contract integration authors e2e chaos
for suite in "$@"; do
	case $suite in
	check-deps | unit | contract | integration | authors | e2e | chaos) ;;
	*)
		echo "test.sh: no suite \"$suite\"; there are check-deps, unit, contract, integration, authors, e2e and chaos" >&2
		exit 2
		;;
	esac
done
for suite in "$@"; do
	run_suite "$suite"
done

mkdir -p "$HP_BUILD"
{
	[ ! -s "$names" ] || { echo && cat "$names"; }
	printf '\n%-12s %8s %8s %8s %8s\n' suite passed failed seconds budget
	cat "$table"
	printf '%-12s %8s %8s %8s\n' total "$total_passed" "$total_failed" "$total_seconds"
	echo "$total_passed passed, $total_failed failed"
} | tee "$HP_BUILD/test-result"
[ "$total_failed" = 0 ] && [ "$total_passed" -gt 0 ]
