#!/usr/bin/env bash
# Runs every fuzz target of the root module's packages for FUZZTIME (1m).
set -euo pipefail
cd "$(dirname "$0")/.."
for package in . ./sessionhttp; do
	for target in $(grep -ho 'func Fuzz[A-Za-z0-9_]*' "$package"/*_test.go | sed 's/func //'); do
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" "$package"
	done
done
