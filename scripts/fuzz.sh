#!/usr/bin/env bash
# Runs every fuzz target for FUZZTIME (10m), in FUZZPARALLEL processes (one for each core). FUZZ picks targets by a
# regular expression.
set -euo pipefail
cd "$(dirname "$0")/.."
for package in . internal/strictjson sessionhttp sessionclient redisstore sqlstore; do # the last two are modules of their own: each runs in its folder
	for target in $(grep -ho 'func Fuzz[A-Za-z0-9_]*' "$package"/*_test.go | sed 's/func //' | grep -E "${FUZZ:-.}"); do
		echo "fuzz: $target"
		(cd "$package" && go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10m}" -fuzzminimizetime 20x \
			${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} .)
	done
done
