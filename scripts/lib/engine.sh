# shellcheck shell=sh
# engine.sh: an engine with simulated providers, for run.sh, demo.sh and bench.sh.
#
#   engine_start DATA [OPTION...]   starts `holdpoint serve` and waits until it is ready
#   engine_stop                     ends it in order; may be called twice
#   engine_sql [PSQL OPTION...]     psql on the private database, as its owner
#   provider NAME                   the address of a simulated provider
#   seed N                          booking number N, in the wallet and at Stripe
#   airline_refuses N               Duffel says, signed, that booking N failed
#
# HOLDPOINT is the program. As root the servers run as the account "holdpoint".

HOLDPOINT=${HP_BIN:-./holdpoint}
ENGINE_PID=
PSQL=/usr/lib/postgresql/15/bin/psql

say() { printf '%s\n' "$*"; }
die() {
	printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
	exit 1
}

default_data() {
	if [ "$(id -u)" = 0 ]; then
		echo /var/lib/holdpoint/data
	else
		echo "$PWD/.holdpoint"
	fi
}

# PostgreSQL refuses root, and nothing here needs to be root either.
service_account() {
	[ "$(id -u)" = 0 ] || return 0
	id holdpoint >/dev/null 2>&1 && return 0
	say "Adding the system account \"holdpoint\": servers do not run as root."
	useradd --system --user-group --no-create-home --home-dir /var/lib/holdpoint --shell /usr/sbin/nologin holdpoint
}

as_service() {
	if [ "$(id -u)" = 0 ]; then
		(cd / && exec setpriv --reuid=holdpoint --regid=holdpoint --init-groups -- "$@")
	else
		"$@"
	fi
}

engine_start() {
	HOLDPOINT_DATA=$1
	export HOLDPOINT_DATA
	shift
	service_account
	mkdir -p "$(dirname "$HOLDPOINT_DATA")" "$HOLDPOINT_DATA"
	[ "$(id -u)" != 0 ] || chown holdpoint: "$HOLDPOINT_DATA"
	chmod 700 "$HOLDPOINT_DATA"
	ENGINE_LOG=$HOLDPOINT_DATA/serve.log
	# A session of its own: a Ctrl-C at the terminal reaches this script only, and
	# the script ends the engine once and in order.
	# Opened for appending: a start beside a running engine harms nothing.
	setsid "$HOLDPOINT" serve --data "$HOLDPOINT_DATA" "$@" 2>>"$ENGINE_LOG" &
	ENGINE_PID=$!
	tries=0
	until engine_ready; do
		if ! kill -0 "$ENGINE_PID" 2>/dev/null; then
			wait "$ENGINE_PID" && status=0 || status=$?
			ENGINE_PID=
			tail -n 3 "$ENGINE_LOG" >&2
			exit "${status:-1}"
		fi
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || die "the engine was not ready within a minute; see $ENGINE_LOG"
		sleep 0.1
	done
}

# Ours: a second start beside a running engine must not take that one for itself.
engine_ready() {
	kill -0 "$ENGINE_PID" 2>/dev/null && [ -f "$HOLDPOINT_DATA/address" ] &&
		grep -qw "$ENGINE_PID" "$HOLDPOINT_DATA/serve.lock" &&
		curl -fs -o /dev/null "$(cat "$HOLDPOINT_DATA/address")/readyz"
}

engine_stop() {
	[ -n "$ENGINE_PID" ] || return 0
	kill -TERM "$ENGINE_PID" 2>/dev/null
	wait "$ENGINE_PID" 2>/dev/null
	ENGINE_PID=
}

engine_sql() {
	as_service "$PSQL" -X -q -At -v ON_ERROR_STOP=1 -h "$HOLDPOINT_DATA/run" -U holdpoint -d holdpoint "$@"
}

provider() { echo "http://127.0.0.1:$(cat "$HOLDPOINT_DATA/simulated/$1.port")"; }

emit() { # PROVIDER JSON
	curl -fsS -o /dev/null -H 'content-type: application/json' -d "$2" "$(provider "$1")/_fake/emit"
}

seed() {
	engine_sql -v n="$1" -f - <scripts/seed.sql
	emit stripe "{\"type\":\"payment\",\"id\":\"pi_3HoldpointDemo$1\",\"amount\":50000,\"currency\":\"usd\"}"
}

airline_refuses() {
	emit duffel "{\"type\":\"order.creation_failed\",\"booking\":\"ord_0000HoldpointDemo$1\"}"
}

# The run of booking N; empty while there is none.
run_of() {
	engine_sql -c "select max(id) from holdpoint.run where workflow = 'refund_on_booking_failure' and key = 'ord_0000HoldpointDemo$1'"
}

wait_for_run() {
	tries=0
	while RUN=$(run_of "$1") && [ -z "$RUN" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || die "no run was started within 20 seconds; see $ENGINE_LOG"
		sleep 0.1
	done
}
