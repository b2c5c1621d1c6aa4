#!/bin/sh
# chaos.sh [--short] [NAME...]: runs the scenarios of tests/chaos one after the other,
# every one even when another failed.
#
# A scenario is `node tests/chaos/NAME.mjs`; what it takes, prints and promises is said in
# tests/chaos/lib/scenario.mjs. TIME (seconds) and SEED of the environment go to each;
# without them each takes its own time and one seed that is drawn here. Prints what each
# prints, then a table with how each ended, and what was skipped. As its last lines
# "# pass N" and "# fail N", counted in checks. Exits 1 when anything was wrong, took too
# long or ran no check.
set -u
cd "$(dirname "$0")/.." || exit 1

# To add one: its name, how long it may take at most, and in the short form ("-": it has none).
scenarios='
storm        1000  120
zombies       500    -
lease         300    -
database      420    -
partition     420    -
disk          300    -
clock         300    -
descriptors   180    -
peers         240    -
'

HP_BUILD=${HP_BUILD:-build}
HP_BIN=${HP_BIN:-$PWD/$HP_BUILD/holdpoint}
export HP_BUILD HP_BIN
factor=${HP_TIME_FACTOR:-1}
[ -x "$HP_BIN" ] || {
	echo "chaos.sh: $HP_BIN is not there; build it with 'make'" >&2
	exit 1
}
short=
if [ "${1:-}" = --short ]; then
	short=--short
	shift
fi
known=$(echo "$scenarios" | awk 'NF { printf "%s ", $1 }')
[ $# -gt 0 ] || {
	# shellcheck disable=SC2046
	set -- $(echo "$scenarios" | awk -v short="$short" 'NF && (short == "" || $3 != "-") { print $1 }')
}
for name in "$@"; do
	case " $known" in *" $name "*) continue ;; esac
	echo "chaos.sh: no scenario \"$name\"; there are ${known% }" >&2
	exit 2
done
SEED=${SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}

work=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-chaos.XXXXXX") || exit 1
child=
finish() {
	[ -z "$child" ] || kill "$child" 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

checks=0
wrong=0
began=$(date +%s)
for name in "$@"; do
	limit=$(echo "$scenarios" | awk -v name="$name" -v short="$short" '$1 == name { print short == "" ? $2 : $3 == "-" ? $2 : $3 }')
	[ -z "${TIME:-}" ] || limit=$((limit + TIME))
	log=$work/$name
	: >"$log"
	# In the background, so that an interrupt stops it at once.
	timeout -k 30 $((limit * factor)) node "tests/chaos/$name.mjs" $short --seed "$SEED" ${TIME:+--time "$TIME"} >"$log" 2>&1 &
	child=$!
	tail -n +1 -f --pid="$child" "$log" &
	teller=$!
	wait "$child"
	status=$?
	child=
	wait "$teller"
	# "NAME: N checks, M wrong (…)"
	last=$(grep -E "^$name: [0-9]+ checks, [0-9]+ wrong" "$log" | tail -n 1)
	n=$(echo "$last" | awk '{ print $2 + 0 }')
	m=$(echo "$last" | awk '{ print $4 + 0 }')
	complaint=
	case $status in
	0 | 1) [ -n "$last" ] || complaint="ended without its last line" ;;
	124 | 137) complaint="stopped after $((limit * factor)) seconds" ;;
	*) complaint="exit status $status" ;;
	esac
	if [ -z "$complaint" ] && [ "$n" = 0 ] && ! grep -q '^  skipped: ' "$log"; then
		complaint="no check was run"
	fi
	if [ -n "$complaint" ]; then
		last="$name: $complaint (seed $SEED)"
		m=$((m + 1)) n=$((n + 1))
	fi
	[ "$m" -le "$n" ] || n=$m # a check may find more than one thing wrong
	checks=$((checks + n))
	wrong=$((wrong + m))
	echo "$last" >>"$work/summary"
done

echo
echo "chaos, $(($(date +%s) - began)) s:"
sed 's/^/  /' "$work/summary"
echo "# pass $((checks - wrong))"
echo "# fail $wrong"
[ "$wrong" = 0 ] && [ "$checks" -gt 0 ]
