#!/bin/sh
# check-deep.sh: what `make test` has no time for. Runs every part even when one
# failed; each ends with its own closing lines.
#   1. gcc and clang without a warning
#   2. every suite under AddressSanitizer and UndefinedBehaviorSanitizer
#   3. unit and contract suites under valgrind
#   4. every fuzzing target for a minute
#   5. one call that can fail after the other (torture.sh)
#   6. the worlds of make explore-core, most of them whole
#   7. the shell scripts under shellcheck
# Functions are called through part():
# shellcheck disable=SC2317
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
# This is a build of its own: nothing of the caller's variant may leak in.
unset HP_BUILD HP_BIN MAKEFLAGS MFLAGS MAKEOVERRIDES
result=0

part() { # TITLE COMMAND...
	title=$1
	shift
	echo
	echo "== $title"
	if "$@"; then
		echo "== $title: passed"
	else
		echo "== $title: FAILED"
		result=1
	fi
}

no_warnings() { # COMPILER
	$make --no-print-directory -j"$(nproc)" BUILD="build-deep-$1" CC="$1" CFLAGS=-Werror all build-tests >"build-deep-$1.log" 2>&1 ||
		{ grep -E 'warning|error' "build-deep-$1.log"; return 1; }
	rm -f "build-deep-$1.log"
}

# Check forks per test; leaks are looked for in each child and fail it.
sanitizers() {
	HP_TIME_FACTOR=4 UBSAN_OPTIONS=print_stacktrace=1 $make --no-print-directory SAN=address,undefined test
}

valgrind_suites() {
	HP_TIME_FACTOR=20 HP_TEST_WRAPPER='valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,possible --trace-children=no --child-silent-after-fork=no' \
		$make -k --no-print-directory BUILD=build-valgrind CFLAGS=-DHP_SLOWNESS=20 unit contract
}

part "gcc without a warning" no_warnings gcc
part "clang without a warning" no_warnings clang
part "sanitizers over all suites" sanitizers
part "valgrind over unit and contract" valgrind_suites
part "a minute of each fuzzing target" env TIME=60 scripts/fuzz.sh
part "calls that fail" scripts/torture.sh
part "every interleaving, two minutes a world" "$make" --no-print-directory TIME=120 explore-core
part "shell scripts" shellcheck -x scripts/*.sh scripts/lib/*.sh scripts/completion.bash tests/*.sh tests/lib/*.sh .ci/run
exit $result
