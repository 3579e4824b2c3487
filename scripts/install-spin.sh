#!/bin/sh
# Installs spin and a C compiler, which `make model` needs, from Debian's packages. Needs root for that; otherwise it
# prints the command. Does nothing when they are there.
set -eu
. "$(dirname "$0")/apt.sh"

missing=
command -v spin >/dev/null 2>&1 || missing="$missing spin"
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
# shellcheck disable=SC2086
apt_install install-spin $missing
