#!/bin/sh
# Installs the servers that `make test` runs the stores against, from Debian's packages. Needs root for that; otherwise
# it prints the command. Does nothing when they are all there. Starts no service.
set -eu
. "$(dirname "$0")/apt.sh"

missing=
need() { # package, then the programs of which one must be there
	package=$1
	shift
	for program in "$@"; do
		if command -v "$program" >/dev/null 2>&1; then return; fi
		for path in /usr/lib/postgresql/*/bin/"$program" /usr/sbin/"$program"; do
			if [ -x "$path" ]; then return; fi
		done
	done
	missing="$missing $package"
}

if [ -z "${TOKENSESSION_TEST_POSTGRES_BIN:-}" ]; then need postgresql postgres; fi
need pgbouncer pgbouncer
need pgpool2 pgpool
need nginx nginx
need nodejs node
need swtpm swtpm
need dbus-daemon dbus-daemon
need gnome-keyring gnome-keyring-daemon
if [ -z "${TOKENSESSION_TEST_MARIADB_BIN:-}" ]; then need mariadb-server mariadbd; fi
if [ -z "${TOKENSESSION_TEST_REDIS_BIN:-}" ]; then need redis-server redis-server valkey-server; fi
if [ -z "${TOKENSESSION_TEST_VALKEY_SERVER:-}" ]; then
	need valkey-server valkey-server
	case $missing in *valkey-server*)
		if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then # there it is in the backports only
			mirror=$(apt_mirror bookworm) || {
				echo "install-servers: valkey-server is in bookworm-backports, on the mirror of bookworm, which no" >&2
				echo "source in /etc/apt names: add one, or set TOKENSESSION_TEST_VALKEY_SERVER to the program's path" >&2
				exit 1
			}
			keyring=/usr/share/keyrings/debian-archive-keyring.gpg
			apt_source="deb [signed-by=$keyring] $mirror bookworm-backports main"
		fi
	esac
fi

# shellcheck disable=SC2086
apt_install install-servers $missing
