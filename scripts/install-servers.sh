#!/bin/sh
# Installs the servers that `make test` runs the stores against, from Debian's packages. Needs root for that; otherwise
# it prints the command. Does nothing when they are all there. Starts no service.
set -eu

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
if [ -z "${TOKENSESSION_TEST_MARIADB_BIN:-}" ]; then need mariadb-server mariadbd; fi
if [ -z "${TOKENSESSION_TEST_REDIS_BIN:-}" ]; then need redis-server redis-server valkey-server; fi

if [ -z "$missing" ]; then exit 0; fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "install-servers: missing:$missing, and there is no apt-get: install them with this system's tool" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "install-servers: missing:$missing: run this as root:" >&2
	echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi

# Debian's packages start their services unless they are told not to.
made=
trap 'if [ -n "$made" ]; then rm -f /usr/sbin/policy-rc.d; fi' EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
	made=1
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
