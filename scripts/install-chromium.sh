#!/bin/sh
# Installs Chromium, which `make test-browser` drives, and nginx, which keeps answers in between, from
# Debian's packages. Needs root for that; otherwise it prints the command. Does nothing where they are
# there; TOKENSESSION_TEST_CHROMIUM can be the path of a Chromium. Starts no service.
set -eu
. "$(dirname "$0")/apt.sh"

has() {
	for program in "$@"; do
		if command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ]; then return; fi
	done
	return 1
}

missing=
if [ -z "${TOKENSESSION_TEST_CHROMIUM:-}" ]; then
	has chromium chromium-browser google-chrome || missing="chromium fonts-dejavu-core"
fi
has nginx || missing="$missing nginx-light"

# shellcheck disable=SC2086
apt_install install-chromium $missing
