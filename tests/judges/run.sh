#!/bin/sh
# run.sh: judges from outside. The official `stripe` package (tests/package.json)
# is the client of our simulated Stripe, the signer for our verifier and the
# verifier of our signer. HP_BUILD and HP_BIN come from make; prints TAP.
set -eu
cd "$(dirname "$0")/../.."
HP_BUILD=${HP_BUILD:-build}
HP_BIN=${HP_BIN:-$PWD/$HP_BUILD/holdpoint}
export HP_BUILD HP_BIN
${MAKE:-make} -s --no-print-directory BUILD="$HP_BUILD" "$HP_BUILD/holdpoint" "$HP_BUILD/tests/core_signature" >&2
exec node --test --test-reporter=tap tests/judges/*.test.mjs
