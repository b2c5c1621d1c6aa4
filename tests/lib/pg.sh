# shellcheck shell=sh
# pg.sh: a throw-away PostgreSQL 15 for tests. Source it, then:
#
#   pg_start            a new cluster on a unix socket in a directory of its own;
#                       sets PG_DIR, PG_PID and PG_CONNINFO (superuser), exports PGHOST
#   pg_stop             stops it and removes the directory; may be called twice
#
# HP_TEST_PG_FSYNC=on makes commits durable (off by default: the data is thrown
# away). Anything in HP_TEST_PG_OPTIONS is added to the server's command line.
# PostgreSQL refuses to run as root, so then it runs as the account "holdpoint".

PG_BIN=${PG_BIN:-/usr/lib/postgresql/15/bin}
PG_ACCOUNT=holdpoint
PG_DIR=
PG_PID=

# Runs a command inside PG_DIR (the caller's directory may be closed to the
# account) as somebody PostgreSQL accepts.
pg_as_user() {
	if [ "$(id -u)" = 0 ]; then
		(cd "$PG_DIR" && exec setpriv --reuid="$PG_ACCOUNT" --regid="$PG_ACCOUNT" --init-groups -- "$@")
	else
		(cd "$PG_DIR" && exec "$@")
	fi
}

pg_start() {
	if [ ! -x "$PG_BIN/postgres" ]; then
		echo "pg.sh: no PostgreSQL 15 in $PG_BIN; 'make bootstrap' installs it" >&2
		return 1
	fi
	PG_DIR=$(mktemp -d "${TMPDIR:-/tmp}/holdpoint-test.XXXXXX") || return 1
	if [ "$(id -u)" = 0 ]; then
		id "$PG_ACCOUNT" >/dev/null 2>&1 ||
			useradd --system --user-group --no-create-home --home-dir /var/lib/holdpoint \
				--shell /usr/sbin/nologin "$PG_ACCOUNT" || return 1
		chown "$PG_ACCOUNT:" "$PG_DIR" || return 1
	fi
	pg_as_user "$PG_BIN/initdb" -D "$PG_DIR/data" -U postgres -A trust -E UTF8 --locale=C --no-sync \
		>"$PG_DIR/initdb.log" 2>&1 || {
		cat "$PG_DIR/initdb.log" >&2
		return 1
	}
	# HP_TEST_PG_OPTIONS is a list of options: splitting is meant.
	pg_as_user "$PG_BIN/pg_ctl" start -s -w -t 60 -D "$PG_DIR/data" -l "$PG_DIR/server.log" \
		-o "-c listen_addresses='' -c unix_socket_directories='$PG_DIR' -c max_connections=200 \
		-c fsync=${HP_TEST_PG_FSYNC:-off} -c shared_buffers=64MB -c log_min_messages=warning \
		${HP_TEST_PG_OPTIONS:-}" || {
		cat "$PG_DIR/server.log" >&2
		return 1
	}
	PG_PID=$(head -n 1 "$PG_DIR/data/postmaster.pid")
	PGHOST=$PG_DIR
	PG_CONNINFO="host=$PG_DIR user=postgres dbname=postgres"
	export PGHOST PG_CONNINFO
}

pg_stop() {
	[ -n "$PG_DIR" ] || return 0
	# pg_ctl's word counts, not kill -0: the process may be a zombie for a while.
	if [ -n "$PG_PID" ] && ! pg_as_user "$PG_BIN/pg_ctl" stop -s -w -t 60 -m fast -D "$PG_DIR/data"; then
		echo "pg.sh: PostgreSQL $PG_PID did not stop; its directory $PG_DIR stays" >&2
	else
		rm -rf "$PG_DIR"
	fi
	PG_DIR=
	PG_PID=
}
