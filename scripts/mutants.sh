#!/bin/sh
# mutants.sh [NAME...]: takes one guard away at a time; some test must go red.
#
# tests/mutants.txt lists them: the promise each one breaks (docs/architecture.md)
# and the test programs that are expected to notice. All work is done in copies of
# the working tree, two mutants at a time. A mutant counts as killed only when a
# program ran and one of its checks failed: one that does not build, whose guard is
# not found exactly once, or that no check notices, fails this script.
#
# HP_MUTANT_JOBS is the number of copies (2).
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
jobs=${HP_MUTANT_JOBS:-2}
# This is not a part of the build that called us.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES HP_BUILD HP_BIN HP_TEST_PG
work=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-mutants.XXXXXX") || exit 1
chmod 755 "$work"
pids=
finish() {
	for pid in $pids; do kill "$pid" 2>/dev/null; done
	# each copy stops its own PostgreSQL before its directory goes
	for pid in $pids; do wait "$pid" 2>/dev/null; done
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- the list -----------------------------------------------------------------

field() { # N LINE: the Nth field without the blanks around it
	printf '%s\n' "$2" | cut -d '|' -f "$1" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//'
}

list=$work/list
grep -v -e '^[[:space:]]*#' -e '^[[:space:]]*$' tests/mutants.txt >"$work/all"
if [ $# -gt 0 ]; then
	: >"$list"
	for name in "$@"; do
		grep -E "^${name}[[:space:]]*\|" "$work/all" >>"$list" || {
			echo "mutants.sh: there is no mutant \"$name\" in tests/mutants.txt" >&2
			exit 2
		}
	done
else
	cp "$work/all" "$list"
fi
doubles=$(cut -d '|' -f 1 "$work/all" | tr -d ' \t' | sort | uniq -d)
[ -z "$doubles" ] || {
	echo "mutants.sh: named twice: $doubles" >&2
	exit 2
}
# A guard that nobody takes away proves nothing.
# Names have no blanks: words are lines here.
# shellcheck disable=SC2013
for name in $(grep -rhoE 'HP_(GUARD|MUTANT)\([a-z_]+' engine --include='*.c' | sed 's/.*(//' | sort -u); do
	grep -qE "^${name}[[:space:]]*\| *guard" "$work/all" || {
		echo "mutants.sh: the guard \"$name\" of engine/ is not in tests/mutants.txt" >&2
		exit 2
	}
done
total=$(grep -c . "$list")

# --- building and running -------------------------------------------------------

# -O0: what is built is run once.
build() {
	make --no-print-directory BUILD=build OPTIMISE=-O0 HARDEN= "$@"
}

target_of() {
	case $1 in
	e2e/*) echo build/holdpoint ;;
	*) echo "build/tests/${1%%:*}" ;;
	esac
}

run_program() { # PROGRAM[:CASE] LOG
	unset CK_RUN_CASE
	case $1 in
	e2e/*)
		pattern=.
		case $1 in *:*) pattern=$(echo "${1#*:}" | sed 's/_/[ _]/g') ;; esac
		HP_BIN=$PWD/build/holdpoint HP_BUILD=build timeout -k 10 240 \
			node --test --test-reporter=tap --test-name-pattern="$pattern" "tests/${1%%:*}.test.mjs" >"$2" 2>&1
		return
		;;
	*:*)
		CK_RUN_CASE=$(echo "${1#*:}" | tr _ ' ')
		export CK_RUN_CASE
		set -- "${1%%:*}" "$2"
		;;
	esac
	case $1 in
	contract/store_pg | integration/*)
		[ -n "$PG_DIR" ] || pg_start >"$2" 2>&1 || return 99
		HP_TEST_PG=$PG_CONNINFO timeout -k 10 180 "build/tests/$1" >"$2" 2>&1
		;;
	*) timeout -k 10 180 "build/tests/$1" >"$2" 2>&1 ;;
	esac
}

# red: a check failed; green: all passed; broken: it did not come to its checks
# (or there is no case of that name).
verdict() { # STATUS LOG
	if awk '/^[0-9]+%: Checks: / { gsub(/[^0-9 ]/, ""); if ($3 + $4 > 0) bad = 1 }
		/^# fail [1-9]/ { bad = 1 } END { exit !bad }' "$2"; then
		echo red
	elif [ "$1" = 0 ] && ! grep -q -e 'Checks: 0,' -e '^# pass 0' "$2"; then
		echo green
	else
		echo broken
	fi
}

# Removes the guard from this copy. The changed files are named in $changed.
mutate() { # NAME KIND FILE SUBSTITUTION
	case $2 in
	guard) # as if built with make MUTANT=name: only the files that have it are built again
		files=$3
		[ -n "$files" ] || files=$(grep -rlE "HP_(GUARD|MUTANT)\($1[,)]" engine --include='*.[ch]')
		[ -n "$files" ] || {
			echo "no HP_GUARD($1, …) in engine/"
			return 1
		}
		for file in $files; do
			changed="$changed $file"
			{ echo "#define HP_MUTANT_$1 1" && cat "$root_copy/$file"; } >"$file"
		done
		;;
	change)
		changed=$3
		# exactly one place, or the mutant is not the one that was meant
		HP_WHERE=$3 perl -0777 -i -pe "\$n = ($4g); END { die qq{\$ENV{HP_WHERE}: the guard is there \$n times\n} if \$n != 1 }" "$3"
		;;
	*)
		echo "there is no kind \"$2\""
		return 1
		;;
	esac
}

restore() {
	for file in $changed; do cp "$root_copy/$file" "$file"; done
	changed=
}

one() { # LINE: prints "verdict|seconds|program or reason"
	name=$(field 1 "$1") kind=$(field 2 "$1") programs=$(field 4 "$1") file=$(field 5 "$1")
	substitution=$(printf '%s\n' "$1" | cut -d '|' -f 6- | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
	log=$work/log.$name
	changed=
	began=$(date +%s)
	result=survived why='' killers=''
	if ! mutate "$name" "$kind" "$file" "$substitution" >"$log" 2>&1; then
		result=error why="$(tail -n 1 "$log")"
		programs=
	fi
	for program in $programs; do
		needed=
		case $program in +*) needed=yes program=${program#+} ;; esac
		[ "$result" != killed ] || [ -n "$needed" ] || continue
		if ! build "$(target_of "$program")" >"$log" 2>&1; then
			result=error why="it does not build: $(grep -m 1 'error' "$log")"
			break
		fi
		run_program "$program" "$log"
		seen=$(verdict $? "$log")
		why="$why $program is $seen;"
		if [ "$seen" = red ]; then
			result=killed why=${killers:+$killers and }$program killers=$why
		elif [ "$seen" = broken ]; then
			result=error
			cp "$log" "$work/broken.$name"
			[ -z "$needed" ] || break
		elif [ -n "$needed" ]; then
			result=survived why="$program must notice it, and is green"
			break
		fi
	done
	restore
	echo "$result|$(($(date +%s) - began))|$name|$(field 3 "$1")|$why" >"$work/result.$2"
	# While it runs, so that it can be watched.
	echo "  $result $name ($why)" >&2
}

worker() { # N: a copy of the tree of its own
	cd "$work/tree.$1" || exit 1
	root_copy=$work/pristine
	# shellcheck source=tests/lib/pg.sh
	. tests/lib/pg.sh
	trap 'pg_stop' EXIT
	trap 'exit 143' TERM INT HUP
	n=0
	while IFS= read -r line; do
		n=$((n + 1))
		mkdir "$work/claim.$n" 2>/dev/null || continue # the other one has it
		one "$line" "$n"
	done <"$list"
}

# --- one clean build, then the mutants ------------------------------------------

mkdir "$work/pristine"
tar -cf - --exclude=node_modules Makefile engine migrations plugins workflows scripts tests docs |
	tar -xf - -C "$work/pristine" || exit 1
cp -R "$work/pristine" "$work/tree.1"
[ ! -d tests/node_modules ] || ln -s "$root/tests/node_modules" "$work/tree.1/tests/node_modules"
programs=$(while IFS= read -r line; do field 4 "$line"; done <"$list" | tr ' ' '\n' | sed 's/^+//' | sort -u)
targets=$(for p in $programs; do target_of "$p"; done | sort -u)
echo "mutants: building once without any"
# shellcheck disable=SC2086
(cd "$work/tree.1" && build -j"$(nproc)" $targets) >"$work/log" 2>&1 || {
	tail -n 30 "$work/log"
	echo "mutants.sh: the tree does not build" >&2
	exit 1
}
# A program that is red by itself would kill every mutant.
echo "mutants: every program must be green without any"
(
	cd "$work/tree.1" || exit 1
	. tests/lib/pg.sh
	trap pg_stop EXIT
	for p in $programs; do
		run_program "$p" "$work/log"
		[ "$(verdict $? "$work/log")" = green ] || {
			tail -n 40 "$work/log"
			echo "mutants.sh: $p is not green without any mutant" >&2
			exit 1
		}
	done
) || exit 1
for n in $(seq 2 "$jobs"); do cp -a "$work/tree.1" "$work/tree.$n"; done
for n in $(seq "$jobs"); do
	worker "$n" &
	pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
pids=

# --- the table --------------------------------------------------------------------

printf '\n%-9s %4s  %-18s %s\n' result s mutant 'promise: killed by'
killed=0
for n in $(seq "$total"); do
	[ -f "$work/result.$n" ] || echo "error|0|$(field 1 "$(sed -n "${n}p" "$list")")||it was not run" >"$work/result.$n"
	IFS='|' read -r result seconds name promise why <"$work/result.$n"
	[ "$result" != killed ] || killed=$((killed + 1))
	printf '%-9s %4s  %-18s %s: %s\n' "$result" "$seconds" "$name" "$promise" "$why"
	[ ! -f "$work/broken.$name" ] || tail -n 15 "$work/broken.$name" | sed 's/^/          | /'
done
echo "$killed of $total mutants killed"
[ "$killed" = "$total" ]
