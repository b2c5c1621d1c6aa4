#!/bin/sh
# bootstrap.sh [run|test|chaos|deep]: installs the Debian packages a target needs.
#
# Works on a fresh Debian 12 with nothing but git and make, as root or as a user
# with sudo (asked only when something is missing). Says what it installs and
# why. Starts no service and creates no PostgreSQL cluster: Holdpoint runs its
# own. Silent and quick when nothing is missing.
set -eu

mode=${1:-run}

# One package a line: when it is needed, its name, why.
wanted() {
	cat <<-'LIST'
	run  gcc                   the C compiler
	run  libc6-dev             headers of the C library
	run  pkg-config            finds the flags of the libraries
	run  libpq-dev             PostgreSQL's client library
	run  libcurl4-openssl-dev  HTTP client
	run  liblua5.4-dev         workflows and connectors are written in Lua
	run  libjansson-dev        JSON
	run  libev-dev             event loop
	run  libssl-dev            SHA-256, HMAC and TLS
	run  libmicrohttpd-dev     HTTP server
	run  libc-ares-dev         DNS, for the plugin of that name
	run  postgresql-15         the database: Holdpoint runs a private one
	run  ca-certificates       trusted roots for HTTPS
	run  tzdata                time zones of schedules
	run  util-linux            setpriv, setsid: servers do not run as root
	run  curl                  the demonstration talks to the simulated providers
	run  passwd                useradd: the account they run as
	test check                 unit test framework
	test libsubunit-dev        needed to link check
	test pgbouncer             one test goes through a connection pooler
	chaos iproute2             network namespaces that can be cut off
	chaos iptables             … in one direction, too
	chaos mount                small disks that can be full
	chaos faketime             clocks that jump
	chaos openssl              certificates that are wrong
	deep valgrind              memory checks
	deep clang                 the second compiler
	deep libclang-rt-14-dev    sanitizers for clang
	deep shellcheck            checks of the shell scripts
	deep gcovr                 reads what was covered
	LIST
	if [ "$mode" != run ] && ! usable_node; then
		echo "test nodejs                end-to-end tests; the official Stripe client as a judge"
		echo "test npm                   installs that client"
	fi
}

usable_node() {
	command -v npm >/dev/null || return 1
	case $(node --version 2>/dev/null) in
	v1[89].* | v[2-9][0-9].*) return 0 ;;
	*) return 1 ;;
	esac
}

# Lines of wanted() for this mode whose package is not installed.
missing() {
	case $mode in
	run) modes=' run ' ;;
	test) modes=' run test ' ;;
	chaos) modes=' run test chaos ' ;;
	deep) modes=' run test deep ' ;;
	*)
		echo "bootstrap: unknown mode \"$mode\"; use run, test, chaos or deep" >&2
		return 2
		;;
	esac
	list=$(wanted)
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null)
	printf '%s\n--\n%s\n' "$installed" "$list" | awk -v modes="$modes" '
		$1 == "--" { lists = 1; next }
		!lists { if ($1 == "installed") have[$2] = 1; next }
		index(modes, " " $1 " ") && !($2 in have) { sub(/^[a-z]+ +/, ""); print }'
}

# --- as root ----------------------------------------------------------------

restore=
undo() {
	for path in $restore; do
		rm -f "$path"
	done
	# Only when it was ours alone: a directory with content stays.
	rmdir /etc/postgresql-common/createcluster.d /etc/postgresql-common 2>/dev/null || true
}

# Packages may not start services, nor create the cluster "main".
hold_services() {
	trap undo EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		restore="$restore /usr/sbin/policy-rc.d"
		printf '#!/bin/sh\n# Temporary, by the installation of Holdpoint: start no services.\nexit 101\n' \
			>/usr/sbin/policy-rc.d
		chmod 0755 /usr/sbin/policy-rc.d
	fi
	if [ ! -e /etc/postgresql-common/createcluster.d/holdpoint.conf ]; then
		mkdir -p /etc/postgresql-common/createcluster.d
		restore="$restore /etc/postgresql-common/createcluster.d/holdpoint.conf"
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/holdpoint.conf
	fi
}

# apt's own report is long; it is shown only when something went wrong.
quietly() {
	"$@" >"$log" 2>&1 && return
	status=$?
	tail -n 40 "$log" >&2
	return "$status"
}

apt_install() {
	quietly env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q -y \
		--no-install-recommends install "$@"
}

apt_update() {
	echo "fetching the package lists"
	quietly apt-get -o DPkg::Lock::Timeout=120 -q update
}

install_as_root() {
	log=$(mktemp)
	restore=$log
	hold_services
	echo "installing them takes a minute or two; no service is started"
	# Lists are fetched when apt does not know a package yet, or knows a version
	# that the mirror no longer has.
	if ! apt-cache show --no-all-versions "$@" >/dev/null 2>&1; then
		apt_update
		apt_install "$@"
	elif ! apt_install "$@"; then
		echo "bootstrap: the package lists may be out of date; once more with new ones"
		apt_update
		apt_install "$@"
	fi
}

if [ "$mode" = --install ]; then
	shift
	install_as_root "$@"
	exit
fi

# --- as anybody -------------------------------------------------------------

if ! command -v dpkg-query >/dev/null; then
	echo "bootstrap: this is not a Debian system; install the libraries of docs/architecture.md by hand" >&2
	exit 1
fi

cd "$(dirname "$0")/.."
need=$(missing)
if [ -n "$need" ]; then
	echo "Debian packages to install:"
	echo "$need" | sed 's/^/  /'
	packages=$(echo "$need" | awk '{ print $1 }')
	# Word splitting is meant: one argument a package.
	# shellcheck disable=SC2086
	if [ "$(id -u)" = 0 ]; then
		sh scripts/bootstrap.sh --install $packages
	elif command -v sudo >/dev/null; then
		echo "sudo is asked for this only:"
		sudo sh scripts/bootstrap.sh --install $packages
	else
		echo "bootstrap: you are not root and there is no sudo. As root, type:" >&2
		echo "  apt-get install --no-install-recommends" "$(echo "$need" | awk '{ printf "%s ", $1 }')" >&2
		exit 1
	fi
fi

# The tests' npm packages, when the lock file is newer than what is installed.
npm_outdated() {
	newer=$(find tests/package-lock.json -newer tests/node_modules/.package-lock.json 2>/dev/null) || return 0
	[ -n "$newer" ]
}
if [ "$mode" != run ] && npm_outdated; then
	echo "npm packages of tests/ (the official Stripe client):"
	(cd tests && npm ci --ignore-scripts --no-audit --no-fund)
	touch tests/node_modules/.package-lock.json
fi
