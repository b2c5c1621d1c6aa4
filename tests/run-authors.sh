#!/bin/sh
# run-authors.sh: holdpoint test as authors use it: the shipped workflows' own tests,
# the example of docs/testing.md as written, and the command's words and exit codes.
# Prints "# pass N" and "# fail N"; exits non-zero when anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
HP_BIN=${HP_BIN:-$root/${HP_BUILD:-build}/holdpoint}
dir=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-authors.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
pass=0
fail=0

holdpoint() {
	"$HP_BIN" "$@"
}

# The command's output and exit code are as said.
like() { # NAME EXIT EXPECTED COMMAND...
	name=$1 exit=$2 expected=$3
	shift 3
	got=$("$@" 2>&1)
	code=$?
	if [ "$code" = "$exit" ] && [ "$got" = "$expected" ]; then
		pass=$((pass + 1))
	else
		fail=$((fail + 1))
		printf 'FAILED %s: exit %s, expected %s\n%s\n--- expected\n%s\n' "$name" "$code" "$exit" "$got" "$expected"
	fi
}

# ---- the shipped workflows: each test counts ----

if ! holdpoint test workflows >"$dir/out" 2>&1; then
	cat "$dir/out"
fi
# "N passed, N failed"
summary=$(tail -n 1 "$dir/out")
case $summary in
*" passed, "*" failed")
	pass=$((pass + ${summary%% *}))
	summary=${summary#*, }
	fail=$((fail + ${summary%% *}))
	;;
*)
	echo "FAILED holdpoint test workflows: no summary"
	fail=$((fail + 1))
	;;
esac
for workflow in workflows/*.lua; do
	case $workflow in
	*_test.lua | workflows/policy.lua) ;;
	*)
		[ -f "${workflow%.lua}_test.lua" ] && continue
		echo "FAILED $workflow has no tests beside it"
		fail=$((fail + 1))
		;;
	esac
done

# ---- a workflow that takes back what it did ----

out=$(holdpoint test --plugins tests/fixtures/trip/plugins tests/fixtures/trip/trip_test.lua 2>&1)
case $out in
*" passed, 0 failed") pass=$((pass + ${out%% *})) ;;
*)
	echo "$out"
	fail=$((fail + 1))
	;;
esac

# ---- docs/testing.md, as written ----

# Prints the block that begins with the line.
block() { # DOCUMENT LINE
	awk -v start="$2" '$0 == start { on = 1; next } on && /^```$/ { exit } on' "$1"
}

block docs/authoring.md '```lua file=trip.lua' >"$dir/trip.lua"
like "the trip of docs/authoring.md is the tested one" 0 "" cmp "$dir/trip.lua" tests/fixtures/trip/trip.lua
block docs/authoring.md '```lua file=welcome.lua' >"$dir/welcome.lua"
block docs/testing.md '```lua file=welcome_test.lua' >"$dir/welcome_test.lua"
mkdir -p "$dir/migrations/club"
block docs/authoring.md '```sql file=migrations/club/0001_members.sql' >"$dir/migrations/club/0001_members.sql"
cd "$dir" || exit 1
# Each console command to a file N.cmd, what it prints to N.out.
awk '/^```console$/ { on = 1; next } /^```$/ { on = 0 }
	on && /^\$ / { n++; print substr($0, 3) >(n ".cmd"); printf "" >(n ".out"); next }
	on { print >(n ".out") }' "$root/docs/testing.md"
n=1
while [ -f "$n.cmd" ]; do
	command=$(cat "$n.cmd")
	got=$(eval "$command" 2>&1)
	if [ "$got" = "$(cat "$n.out")" ]; then
		pass=$((pass + 1))
	else
		fail=$((fail + 1))
		printf 'FAILED docs/testing.md: $ %s\n%s\n--- the page says\n%s\n' "$command" "$got" "$(cat "$n.out")"
	fi
	n=$((n + 1))
done
if [ "$n" -lt 5 ]; then
	echo "FAILED docs/testing.md: only $((n - 1)) commands were found"
	fail=$((fail + 1))
fi

# ---- --real ----

# The mended table of the tutorial, and a mail that the simulated Resend takes.
block "$root/docs/authoring.md" '```sql file=migrations/club/0002_welcomed.sql' >migrations/club/0002_welcomed.sql
sed 's/timeout, { id = "mail_1" }/timeout/; s/mail = "mail_1"/mail = any/' welcome_test.lua >real_test.lua
like 'a simulated provider answers what the test does not' 0 '1 passed, 0 failed' \
	holdpoint test --real --migrations migrations real_test.lua -k sent
sed 's/name = "Ada"/name = "Eva"/' welcome_test.lua >real_test.lua
like 'an answer that PostgreSQL does not give' 1 'real_test.lua:5: FAILED read and found wanting
  sql state "find_member" (welcome.lua:8): the test says that it answers {"email":"ada@example.com","id":7,"name":"Eva","vip":false}, PostgreSQL answers {"email":"ada@example.com","id":7,"name":"Ada","vip":false}
0 passed, 1 failed' holdpoint test --real --migrations migrations real_test.lua -k wanting
like 'a server that is not there' 6 "holdpoint: the database of --real cannot be reached: connection to server on socket \"$dir/.s.PGSQL.5432\" failed: No such file or directory
  --database is the conninfo of a superuser of a PostgreSQL that may be thrown away, whose roles may connect without a password; without it a private one is started" \
	holdpoint test --real --database "host=$dir port=5432 user=x" welcome_test.lua
like 'a database without --real' 2 'holdpoint: test: --database is for --real' \
	holdpoint test --database "host=$dir" welcome_test.lua
like 'roads of the shipped workflow, with a seed' 0 '6 passed, 0 failed' \
	holdpoint test --real "$root/workflows/refund_on_booking_failure_test.lua" -k refund
like 'what only memory can do' 0 '0 passed, 0 failed, 1 skipped' \
	holdpoint test --real "$root/workflows/refund_on_booking_failure_test.lua" -k 'for a moment'

cat >spent_test.lua <<'LUA'
return tests "remind" {
  test("used up", function()
    spent("sms", 10)
  end),
}
LUA
cp "$root/tests/fixtures/workflows/remind.lua" .
like 'a budget of other people is for memory' 1 'spent_test.lua:3: FAILED used up
  spent is for tests in memory: say in_memory "why" before it, and with --real the test is skipped
0 passed, 1 failed' holdpoint test --real spent_test.lua

# ---- docs/authoring.md: arms ----

block "$root/docs/authoring.md" '```lua file=late_refund.lua' >late_refund.lua
cp "$root/tests/fixtures/workflows/late_refund_test.lua" .
like 'the example of arms is clean' 0 '1 file: 0 errors, 0 warnings' holdpoint check late_refund.lua
keyring=$root/tests/fixtures
like 'the example of secrets' 0 '3 passed, 0 failed' \
	holdpoint test --plugins "$keyring/plugins" "$keyring/workflows/rotate_key_test.lua"
like 'every arm of it' 0 '6 passed, 0 failed' holdpoint test late_refund_test.lua

# ---- docs/authoring.md: limits ----

cp "$root/tests/fixtures/workflows/remind.lua" "$root/tests/fixtures/workflows/remind_test.lua" .
like 'the example of limits' 0 '3 passed, 0 failed' holdpoint test remind_test.lua

# ---- the command ----

cat >one_test.lua <<'LUA'
return tests "welcome" {
  test("good", function()
    sql("find_member", none)
    start { input = { member = 1 } }
    expect { state = "unknown_member" }
  end),
  test("bad", function()
    sql("find_member", none)
    start { input = { member = 1 } }
    expect { state = "welcomed" }
  end),
}
LUA
why='Run 1 failed at 2026-01-01 00:00:00 UTC with code unknown_member.'
like 'a failing test' 1 "one_test.lua:10: FAILED bad
  state: expected \"welcomed\", is \"unknown_member\". $why
1 passed, 1 failed" holdpoint test one_test.lua
like 'the short filter' 0 '1 passed, 0 failed' holdpoint test one_test.lua -k good
like 'the long filter' 0 '1 passed, 0 failed' holdpoint test --filter=good one_test.lua
like 'a filter that fits nothing' 4 'holdpoint: no test has "ugly" in its name' holdpoint test one_test.lua -k ugly
like 'JSON' 1 '{"failed":1,"passed":1,"tests":[{"file":"one_test.lua","line":2,"name":"good","passed":true},{"actual":"\"unknown_member\"","expected":"\"welcomed\"","file":"one_test.lua","line":10,"message":"state: expected \"welcomed\", is \"unknown_member\". '"$why"'","name":"bad","passed":false}]}' \
	holdpoint test one_test.lua --json
echo 'return 1' >broken_test.lua
like 'a file that is no test, and one that is' 2 'broken_test.lua:1: the file must end with: return tests "workflow" { test("name", function() … end), … }
1 passed, 1 failed' holdpoint test broken_test.lua one_test.lua -k good
like 'a broken file as JSON' 2 '{"failed":1,"passed":0,"tests":[{"file":"broken_test.lua","hint":"","message":"broken_test.lua:1: the file must end with: return tests \"workflow\" { test(\"name\", function() … end), … }","passed":false}]}' \
	holdpoint test broken_test.lua --json
sed 's/"remember",/"remembr",/' welcome.lua >other.lua
echo 'return tests "other" { test("x", function() end) }' >other_test.lua
like 'a workflow that does not load' 2 'other.lua:47: state "which_door": otherwise: unknown state "remembr", did you mean "remember"?
0 passed, 1 failed' holdpoint test other_test.lua
like 'a file that is not there' 4 'holdpoint: none_test.lua: No such file or directory' holdpoint test none_test.lua
like 'no workflows here' 4 'holdpoint: workflows: No such file or directory' holdpoint test
mkdir workflows
like 'no tests here' 4 'holdpoint: there is no test file (*_test.lua) in workflows' holdpoint test
cp welcome.lua welcome_test.lua workflows/
like 'tests in a directory' 0 '3 passed, 0 failed' holdpoint test
like 'a letter that is no option' 2 'holdpoint: test: unknown option -x
  holdpoint test --help shows what it takes.' holdpoint test -x
like 'a filter without a value' 2 'holdpoint: test: --filter needs a value: NAME
  holdpoint test --help shows what it takes.' holdpoint test -k

echo "# pass $pass"
echo "# fail $fail"
[ "$fail" = 0 ]
