#!/bin/sh
# Installs Authlib, an OAuth client of Python, which `make test-clients` runs, from Debian's packages. Needs root for that;
# otherwise it prints the command. Does nothing where it is, or TOKENSESSION_TEST_PYTHON is the path of a Python that has it.
set -eu
. "$(dirname "$0")/apt.sh"

if "${TOKENSESSION_TEST_PYTHON:-/usr/bin/python3}" -c 'import authlib.jose, requests' 2>/dev/null; then exit 0; fi
if [ -n "${TOKENSESSION_TEST_PYTHON:-}" ]; then
	echo "install-authlib: $TOKENSESSION_TEST_PYTHON has no Authlib and requests: install them for it" >&2
	exit 1
fi

apt_install install-authlib python3 python3-authlib python3-requests
