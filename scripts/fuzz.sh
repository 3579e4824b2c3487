#!/usr/bin/env bash
# Runs every fuzz target of the root module's packages for FUZZTIME (1m), in FUZZPARALLEL processes (one for each core).
# FUZZ picks targets by a regular expression.
set -euo pipefail
cd "$(dirname "$0")/.."
for package in . ./sessionhttp; do
	for target in $(grep -ho 'func Fuzz[A-Za-z0-9_]*' "$package"/*_test.go | sed 's/func //' | grep -E "${FUZZ:-.}"); do
		echo "fuzz: $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" -fuzzminimizetime 20x \
			${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} "$package"
	done
done
