#!/usr/bin/env bash
# Runs the tests of the browser's script: those of the script alone in Node.js, and those in Chromium and Firefox.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(node --version 2>/dev/null || true)
major=${version#v}
major=${major%%.*}
if [ "${major:-0}" -lt 20 ]; then
	echo "test-browser: Node.js 20 or later is needed, and node here is ${version:-missing}: install it, on Debian with" >&2
	echo "    apt-get update && apt-get install -y --no-install-recommends nodejs" >&2
	exit 1
fi
scripts/install-chromium.sh
scripts/install-firefox.sh

timeout 300 node --test --test-reporter=spec test/browser/
cd test/browser
go test -count=1 -race -tags browser -parallel 4 -timeout 25m -v .
