#!/bin/sh
# Installs Chromium, which `make test-browser` drives, from Debian's packages. Needs root for that; otherwise it prints
# the command. Does nothing where there is one, or TOKENSESSION_TEST_CHROMIUM is the path of one.
set -eu

if [ -n "${TOKENSESSION_TEST_CHROMIUM:-}" ]; then exit 0; fi
for program in chromium chromium-browser google-chrome; do
	if command -v "$program" >/dev/null 2>&1; then exit 0; fi
done

if ! command -v apt-get >/dev/null 2>&1; then
	echo "install-chromium: there is no chromium, and no apt-get: install it with this system's tool" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "install-chromium: there is no chromium: run this as root:" >&2
	echo "    apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core
