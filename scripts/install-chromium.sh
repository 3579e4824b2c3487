#!/bin/sh
# Installs Chromium, which `make test-browser` drives, from Debian's packages. Needs root for that; otherwise it prints
# the command. Does nothing where there is one, or TOKENSESSION_TEST_CHROMIUM is the path of one.
set -eu
. "$(dirname "$0")/apt.sh"

if [ -n "${TOKENSESSION_TEST_CHROMIUM:-}" ]; then exit 0; fi
for program in chromium chromium-browser google-chrome; do
	if command -v "$program" >/dev/null 2>&1; then exit 0; fi
done

apt_install install-chromium chromium fonts-dejavu-core
