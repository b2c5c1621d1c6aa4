#!/bin/sh
# differential.sh: both stores under the same random operations, on a cluster of its own
# (OPS, TIME and HP_SEED as in tests/differential/stores.c); then what the database's functions
# do to each other, in every order (tests/integration/store_interleave.c).
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tests/lib/pg.sh
. tests/lib/pg.sh
trap pg_stop EXIT
trap 'exit 130' INT TERM HUP
pg_start
HP_TEST_PG=$PG_CONNINFO "${HP_BUILD:-build}/tests/differential/stores"
HP_TEST_PG=$PG_CONNINFO HP_INTERLEAVE=long "${HP_BUILD:-build}/tests/integration/store_interleave"
