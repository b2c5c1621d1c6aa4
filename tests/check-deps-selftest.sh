#!/bin/sh
# check-deps-selftest.sh: each rule of scripts/check-deps against a small tree
# that breaks just that rule, and trees that must pass.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-deps.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
pass=0
fail=0

# One file with the given text in an otherwise empty tree.
tree() { # PATH TEXT
	rm -rf "$dir/engine" "$dir/tests" "$dir/migrations"
	mkdir -p "$dir/engine" "$dir/$(dirname "$1")"
	printf '%b' "$2" >"$dir/$1"
}

good() { # PATH TEXT
	tree "$1" "$2"
	if found=$(scripts/check-deps "$dir" 2>&1) && [ -z "$found" ]; then
		pass=$((pass + 1))
	else
		fail=$((fail + 1))
		echo "should pass, but: $found"
	fi
}

bad() { # PATH TEXT EXPECTED
	tree "$1" "$2"
	if found=$(scripts/check-deps "$dir" 2>&1); then
		fail=$((fail + 1))
		echo "not noticed: $3"
	elif [ "$found" = "$3" ]; then
		pass=$((pass + 1))
	else
		fail=$((fail + 1))
		echo "expected: $3"
		echo "but got:  $found"
	fi
}

lines() { # COUNT TEXT
	awk -v n="$1" -v text="$2" 'BEGIN { for (i = 0; i < n; i++) printf "%s\\n", text }'
}

order='(order: base core script net store testing plugin runtime api cli)'

good engine/store/pg/x.c '#include <libpq-fe.h>\n#include "base/buf.h"\n#include "store/store.h"\n'
bad engine/net/x.c '\n#include "store/store.h"\n' \
	"engine/net/x.c:2: net may not include store $order"
bad engine/base/x.h '#include "core/keys.h"\n' \
	"engine/base/x.h:1: base may not include core $order"
bad engine/net/x.c '#include "pg.h"\n' \
	'engine/net/x.c:1: "pg.h": write includes relative to engine/, as "ROOM/file.h"'
bad engine/misc/x.c 'int x;\n' \
	'engine/misc/x.c:1: not in a room that the order knows (base core script net store testing plugin runtime api cli)'

good engine/core/x.c '#include <string.h>\n#include "base/arena.h"\n/* not time() */\nstatic const int x[] = {1};\nstatic int f(void)\n{\n\treturn x[0];\n}\n'
bad engine/core/x.c '#include <time.h>\n' 'engine/core/x.c:1: core is pure and may not include <time.h>'
bad engine/core/x.c '#include "base/clock.h"\n' 'engine/core/x.c:1: core is pure and may not include base/clock.h'
bad engine/core/x.c 'int64_t f(void)\n{\n\treturn hp_now_us();\n}\n' \
	'engine/core/x.c:3: core is pure and may not call hp_now_us()'
bad engine/core/x.c 'void f(void)\n{\n\tprintf("x");\n}\n' 'engine/core/x.c:3: core is pure and may not call printf()'
bad engine/core/x.c 'static int counter;\n' 'engine/core/x.c:1: core is pure: a variable that is not const at file scope'
bad engine/core/x.c 'int f(void)\n{\n\tstatic int n;\n\treturn n++;\n}\n' \
	'engine/core/x.c:3: core is pure: a static variable that is not const'

good engine/api/x.c '/* strcpy(a, b) and malloc(1) */\nconst char *s = "atoi(x)";\nint f(void)\n{\n\treturn x->free(1) + my_strcpy(2);\n}\n'
bad engine/api/x.c 'void f(void)\n{\n\tstrcpy(a, b);\n}\n' 'engine/api/x.c:3: strcpy() is banned: use hp_buf or snprintf'
bad engine/api/x.c 'void f(void)\n{\n\tfree(a);\n}\n' 'engine/api/x.c:3: free() is banned: use base/alloc.h'
good engine/base/alloc.c 'void f(void)\n{\n\tfree(a);\n}\n'
bad tests/unit/x.c 'void f(void)\n{\n\tsleep(1);\n}\n' 'tests/unit/x.c:3: sleep() is banned: a sleep hides a race'

good engine/net/x.c "int f(void)\n{\n$(lines 67 '\tg();')}\n"
bad engine/net/x.c "int f(void)\n{\n$(lines 68 '\tg();')}\n" \
	'engine/net/x.c:2: function has 70 lines, allowed are 69: the parent keeps the control flow, move steps out'
good engine/net/x.h "$(lines 800 '/* */')"
bad engine/net/x.h "$(lines 801 '/* */')" 'engine/net/x.h:801: file has 801 lines, allowed are 800: split it by topic'
bad tests/unit/x.c "$(lines 801 '/* */')" 'tests/unit/x.c:801: file has 801 lines, allowed are 800: split it by topic'
bad migrations/x/0001_x.sql "$(lines 801 '-- x')" \
	'migrations/x/0001_x.sql:801: file has 801 lines, allowed are 800: split it by topic'

echo "# pass $pass"
echo "# fail $fail"
[ "$fail" = 0 ]
