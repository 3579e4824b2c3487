#!/bin/sh
# Installs Firefox ESR, which `make test-browser` drives beside Chromium, from Debian's packages. Needs
# root for that; otherwise it prints the command. Does nothing where it is there;
# TOKENSESSION_TEST_FIREFOX can be the path of a Firefox.
set -eu
. "$(dirname "$0")/apt.sh"

if [ -n "${TOKENSESSION_TEST_FIREFOX:-}" ]; then exit; fi
for program in firefox-esr firefox; do
	if command -v "$program" >/dev/null 2>&1; then exit; fi
done
apt_install install-firefox firefox-esr
