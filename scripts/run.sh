#!/bin/sh
# run.sh: what `make run` does once everything is built: start the engine with its
# private PostgreSQL and simulated providers, let the airline refuse a booking, and
# follow the refund until a person is needed, and then to its end.
#
# Data stays where it is between two starts. HOLDPOINT_LISTEN changes the address.
# finish() and others are called through trap:
# shellcheck disable=SC2317
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=scripts/lib/engine.sh
. scripts/lib/engine.sh

WATCH_PID=
finish() {
	trap '' INT TERM
	[ -z "$WATCH_PID" ] || kill "$WATCH_PID" 2>/dev/null
	if [ -n "$ENGINE_PID" ]; then
		say ""
		say "Stopping…"
		engine_stop
		say "Stopped. All data is in $HOLDPOINT_DATA; 'make run' goes on from there."
	fi
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

# In the background and waited for: a Ctrl-C is then heard at once.
watch_run() {
	"$HOLDPOINT" watch "$RUN" --until "$1" &
	WATCH_PID=$!
	wait "$WATCH_PID"
	WATCHED=$?
	WATCH_PID=
}

say "Starting the engine…"
engine_start "$(default_data)" --listen "${HOLDPOINT_LISTEN:-127.0.0.1:8080}" --simulated stripe,duffel,resend
ADDRESS=$(cat "$HOLDPOINT_DATA/address")
say "The engine answers at $ADDRESS (/livez, /readyz, /metrics, /api/v1/runs); its log is $ENGINE_LOG"

# The first booking whose refund is not at its end yet; earlier ones stay to be seen.
n=1
while [ "$n" -lt 255 ]; do
	known=$(engine_sql -c "select s.status from holdpoint.run r join holdpoint.run_state s on s.run_id = r.id
		where r.workflow = 'refund_on_booking_failure' and r.key = 'ord_0000HoldpointDemo$n'
		order by r.id desc limit 1") || exit 1
	if [ -z "$known" ] || [ "$known" -lt 4 ]; then
		break
	fi
	n=$((n + 1))
done
if [ "$n" -gt 1 ] || [ -n "$known" ]; then
	say ""
	say "From earlier starts:"
	"$HOLDPOINT" runs
fi
say ""
if [ -z "$known" ]; then
	seed "$n" || exit 1
	say "The airline refuses booking ord_0000HoldpointDemo$n, paid with 50000 minor units. Duffel says so, signed:"
	airline_refuses "$n" || exit 1
else
	say "The refund of booking ord_0000HoldpointDemo$n goes on where it was:"
fi
wait_for_run "$n"
watch_run approval
if [ "$WATCHED" = 10 ]; then
	APPROVAL=$(engine_sql -c "select id from holdpoint.approval where run_id = $RUN and status = 'open'")
	say ""
	"$HOLDPOINT" approvals "$APPROVAL"
	say ""
	say "The run is parked until somebody decides. In another terminal, here:"
	say ""
	say "    ./holdpoint approve $APPROVAL --reason \"the airline confirmed the refusal\""
	say ""
	say "Also worth a look:  ./holdpoint why $RUN    ./holdpoint show $RUN    ./holdpoint help"
	say ""
	watch_run end
fi
say ""
"$HOLDPOINT" show "$RUN"
say ""
say "The engine goes on running at $ADDRESS. Ctrl-C stops it."
wait "$ENGINE_PID"
status=$?
ENGINE_PID=
say "The engine ended by itself (exit code $status); see $ENGINE_LOG"
exit "$status"
