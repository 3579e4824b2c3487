#!/usr/bin/env bash
# Runs every fuzz target of the root module for FUZZTIME (1m).
set -euo pipefail
cd "$(dirname "$0")/.."
for target in $(grep -ho 'func Fuzz[A-Za-z0-9_]*' ./*_test.go | sed 's/func //'); do
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" .
done
