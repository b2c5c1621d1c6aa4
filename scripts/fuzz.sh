#!/bin/bash
# fuzz.sh: every target of tests/fuzz under libFuzzer with its sanitizers, for TIME
# seconds each (60), two at once; TARGET=name: only that one. `make fuzz` calls it.
#
# Everything goes into build-fuzz/: corpus/NAME has what is new (what is in the tree is
# read, never written), findings/NAME-… the inputs that broke something, logs/NAME.log.
# A finding is repeated with   build-fuzz/fuzz/NAME build-fuzz/findings/NAME-…
# and, mended, becomes tests/fuzz/corpus/NAME/finding-….
#
# MERGE=1 instead makes the corpora of the tree anew from both, small: seed-… and
# finding-… stay.
#
# Exits 1 when there is a finding, or a target did not run.
set -u
cd "$(dirname "$0")/.." || exit 1
time=${TIME:-60}
jobs=${JOBS:-2}
out=build-fuzz
CORPUS_MAX=${CORPUS_MAX:-60000}
FILES_MAX=${FILES_MAX:-120}
make=${MAKE:-make}
unset HP_BUILD HP_BIN MAKEFLAGS MFLAGS MAKEOVERRIDES

build() {
	"$make" --no-print-directory -j"$(nproc)" FUZZER=1 "$@"
}
targets=$(build -s list-fuzz) || exit 1
if [ -n "${TARGET:-}" ]; then
	case " $targets " in
	*" $TARGET "*) targets=$TARGET ;;
	*) echo "fuzz.sh: no target \"$TARGET\"; there are: $targets" >&2; exit 2 ;;
	esac
fi
programs=()
for name in $targets; do programs+=("$out/fuzz/$name"); done
build "${programs[@]}" >"$out.log" 2>&1 || { tail -n 30 "$out.log"; exit 1; }
rm -f "$out.log"
mkdir -p "$out/findings" "$out/logs"

# Lua's own state, OpenSSL's and curl's tables live to the end: leaks are looked for per run.
fuzz() { # NAME
	mkdir -p "$out/corpus/$1"
	options=
	[ ! -f "tests/fuzz/dict/$1.dict" ] || options=-dict=tests/fuzz/dict/$1.dict
	# shellcheck disable=SC2086
	"$out/fuzz/$1" -max_total_time="$time" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
		-artifact_prefix="$out/findings/$1-" $options "$out/corpus/$1" "tests/fuzz/corpus/$1" \
		>"$out/logs/$1.log" 2>&1
	echo $? >"$out/logs/$1.status"
}

# What reaches more than the seeds, with as few files as it takes; of these at most FILES_MAX
# of together CORPUS_MAX bytes. A file is named by the SHA-1 of its content.
merge() { # NAME
	new=$out/merged/$1 tree=tests/fuzz/corpus/$1
	rm -rf "$new"
	mkdir -p "$new" "$out/corpus/$1"
	"$out/fuzz/$1" -merge=1 -timeout=10 -max_len=8192 "$new" "$tree" "$out/corpus/$1" \
		>"$out/logs/$1.merge" 2>&1 || { tail -n 20 "$out/logs/$1.merge"; return 1; }
	find "$tree" -type f ! -name 'finding-*' ! -name 'seed-*' -delete
	sha1sum "$tree"/* | cut -c 1-40 >"$out/logs/$1.have"
	bytes=0 files=0
	for file in "$new"/*; do
		name=$(basename "$file") size=$(wc -c <"$file")
		if [ "$files" -lt "$FILES_MAX" ] && [ $((bytes + size)) -le "$CORPUS_MAX" ] && ! grep -q "$name" "$out/logs/$1.have"; then
			cp "$file" "$tree/${name:0:12}"
			bytes=$((bytes + size)) files=$((files + 1))
		fi
	done
	echo "$1: $(find "$tree" -type f | wc -l) files, $(cat "$tree"/* | wc -c) bytes"
}

if [ -n "${MERGE:-}" ]; then
	for target in $targets; do merge "$target" || exit 1; done
	exit 0
fi

number() { # LOG WORD: the number after the last "WORD: " of libFuzzer's lines
	sed -n "s/^#.* $2: \([0-9]*\).*/\1/p" "$1" | tail -n 1
}
stat_of() { # LOG WORD
	sed -n "s/^stat::$2: *//p" "$1" | tail -n 1
}

report() { # NAME; 1: a finding
	log=$out/logs/$1.log status=$(cat "$out/logs/$1.status" 2>/dev/null)
	what=none
	[ "$status" = 0 ] || what=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
	printf '%-12s %10s %8s %8s %9s %8s  %s\n' "$1" "$(stat_of "$log" number_of_executed_units)" \
		"$(stat_of "$log" average_exec_per_sec)" "$(find "$out/corpus/$1" -type f | wc -l)" \
		"$(number "$log" cov)" "$(number "$log" ft)" "${what:-exit $status, see $log}"
	[ "$what" = none ] && return
	grep -aE 'must hold:|ERROR: |runtime error:|SUMMARY:' "$log" | head -n 5 | sed 's/^/    /'
	return 1
}

result=0
for name in $targets; do
	rm -f "$out/logs/$name.status"
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
	fuzz "$name" &
done
wait
printf '%-12s %10s %8s %8s %9s %8s  %s\n' target runs exec/s corpus coverage features findings
for name in $targets; do
	report "$name" || result=1
done
exit "$result"
