#!/bin/sh
# coverage.sh [SUITE...]: what the suites reach (all of them without an argument).
#
# Builds with COVERAGE=1, runs unit, contract, integration, authors and e2e, and prints
# lines and branches per room, each branch of core that was not taken, each exclusion with
# its reason, and where the lines are that no test reaches. Fails when a suite failed, when
# a branch of core (assertions aside) was not taken, or when fewer than 90 % of the
# engine's lines ran. With a SUITE only those run, and the threshold of lines is not asked.
#
# Counters are written by exit(), by crash points before they strike and by plugin hosts
# (tests/lib/coverage.c). Of a process that somebody else kills nothing is counted.
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
unset MAKEFLAGS MFLAGS MAKEOVERRIDES
HP_BUILD=build-coverage
HP_BIN=$PWD/$HP_BUILD/holdpoint
HP_TIME_FACTOR=${HP_TIME_FACTOR:-3} # -O0 with counters
export HP_BUILD HP_BIN HP_TIME_FACTOR
MAKEFLAGS=COVERAGE=1
export MAKEFLAGS
whole=yes
[ $# = 0 ] || whole=
[ $# -gt 0 ] || set -- unit contract integration authors e2e

$make --no-print-directory -j"$(nproc)" all build-unit build-contract build-integration >"$HP_BUILD.log" 2>&1 || {
	tail -n 30 "$HP_BUILD.log"
	exit 1
}
rm -f "$HP_BUILD.log"

# Workers and plugin hosts run as another user, under a umask of their own: the files
# are there before and anybody may write them. Empty ones are taken for new.
find "$HP_BUILD/obj" -name '*.gcda' -delete
find "$HP_BUILD/obj" -name '*.gcno' | sed 's/gcno$/gcda/' | xargs touch
find "$HP_BUILD/obj" -name '*.gcda' -exec chmod 666 {} +

status=0
sh scripts/test.sh "$@" || status=1
find "$HP_BUILD/obj" -name '*.gcda' -size 0 -delete

gcovr --root . --object-directory "$HP_BUILD/obj" --filter engine/ --json -o "$HP_BUILD/coverage.json" "$HP_BUILD/obj" || exit 1
mkdir -p "$HP_BUILD/report"
gcovr --root . -a "$HP_BUILD/coverage.json" --html-details "$HP_BUILD/report/index.html" || status=1
node scripts/lib/coverage.mjs "$HP_BUILD/coverage.json" ${whole:+--lines 90} --branches 100 || status=1
echo "every line: $HP_BUILD/report/index.html"
exit $status
