#!/bin/sh
# run-e2e.sh [FILE...]: end-to-end tests: whole engines with a private PostgreSQL and
# simulated providers (tests/e2e), then the judges from outside (tests/judges).
# HP_BIN (the program) and HP_BUILD come from make. Prints TAP with one
# "# pass N" and "# fail N" per part; every part runs even when one failed.
set -u
cd "$(dirname "$0")/.." || exit 1
HP_BUILD=${HP_BUILD:-build}
HP_BIN=${HP_BIN:-$PWD/$HP_BUILD/holdpoint}
export HP_BUILD HP_BIN
[ -x "$HP_BIN" ] || {
	echo "run-e2e.sh: $HP_BIN is not there; build it with 'make'" >&2
	exit 1
}
node=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
[ "$node" -ge 18 ] || {
	echo "run-e2e.sh: node 18 or newer is needed; 'make bootstrap' installs it" >&2
	exit 1
}
failed=0
if [ $# -gt 0 ]; then
	exec node --test --test-reporter=tap "$@"
fi
# Most of their time is waiting for leases and timers: three files at once.
node --test --test-concurrency=3 --test-reporter=tap tests/e2e/*.test.mjs || failed=1
if [ -x tests/judges/run.sh ]; then
	tests/judges/run.sh || failed=1
fi
exit "$failed"
