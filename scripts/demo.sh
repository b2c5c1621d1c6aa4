#!/bin/sh
# demo.sh: the main job without a person. A second principal approves; then every
# step is looked for where it must have left its mark: at the simulated providers
# and in the database. Exits 0 only if all of it was seen. Uses a data directory of
# its own, which it removes.
# finish() and others are called through trap:
# shellcheck disable=SC2317
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=scripts/lib/engine.sh
. scripts/lib/engine.sh

WORK=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-demo.XXXXXX") || exit 1
chmod 755 "$WORK"
finish() {
	trap '' INT TERM
	engine_stop
	rm -rf "$WORK"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

engine_start "$WORK/data" --listen 127.0.0.1:0 --simulated stripe,duffel,resend --workers 2
seed 1 || die "the booking could not be made"
TOKEN=$("$HOLDPOINT" token create bob --kind person --scope read --scope approve --role payments --json) ||
	die "no token for the second principal"
TOKEN=$(printf '%s' "$TOKEN" | sed -n 's/.*"token":"\([^"]*\)".*/\1/p')
say "The airline refuses a booking…"
airline_refuses 1 || die "the simulated Duffel did not take the order"
wait_for_run 1
timeout 60 "$HOLDPOINT" watch "$RUN" --until approval
[ $? = 10 ] || die "the run did not stop for an approval: $("$HOLDPOINT" why "$RUN")"
refunds=$(curl -fsS "$(provider stripe)/_fake/state" | grep -c '"object":"refund"')
[ "$refunds" = 0 ] || die "money moved before anybody approved"
say "Bob approves…"
HOLDPOINT_TOKEN=$TOKEN "$HOLDPOINT" approve "$("$HOLDPOINT" approvals --json | sed -n 's/.*"approval":\([0-9]*\).*/\1/p')" \
	--reason "the airline confirmed the refusal" || die "the approval was not taken"
timeout 60 "$HOLDPOINT" watch "$RUN" --until end || die "the run did not succeed: $("$HOLDPOINT" why "$RUN")"
say ""
"$HOLDPOINT" show "$RUN"
say ""

stripe=$(curl -fsS "$(provider stripe)/_fake/state")
resend=$(curl -fsS "$(provider resend)/_fake/state")
# As a client would ask; the key goes by a file so that no process list shows it.
sed -n 's/^STRIPE_SECRET_KEY=\(.*\)/header = "authorization: Bearer \1"/p' \
	"$HOLDPOINT_DATA/simulated/secrets.env" >"$WORK/curl"
refunds=$(curl -fsS -K "$WORK/curl" "$(provider stripe)/v1/refunds?payment_intent=pi_3HoldpointDemo1")
failed=0
while IFS='|' read -r ok what; do
	[ -n "$what" ] || continue
	if [ "$ok" = t ]; then
		say "  seen      $what"
	else
		say "  NOT SEEN  $what"
		failed=1
	fi
done <<-SEEN
	$(engine_sql -v run="$RUN" -v stripe="$stripe" -v resend="$resend" -v refunds="$refunds" -f - <scripts/demo_seen.sql || echo "f|the database answered")
SEEN
[ "$failed" = 0 ] || die "not every step was seen"
say ""
say "Every step was seen at the providers and in the database."
