#!/bin/sh
# Installs spin and a C compiler, which `make model` needs, from Debian's packages. Needs root for that; otherwise it
# prints the command. Does nothing when they are there.
set -eu

missing=
command -v spin >/dev/null 2>&1 || missing="$missing spin"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
if [ -z "$missing" ]; then exit 0; fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "install-spin: missing:$missing, and there is no apt-get: install them with this system's tool" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "install-spin: missing:$missing: run this as root:" >&2
	echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
