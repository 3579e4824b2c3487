#!/usr/bin/env bash
# Runs the OAuth clients of npm, pinned in test/clients/node, and Python's Authlib against the endpoints of sessionhttp.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(node --version 2>/dev/null || true)
major=${version#v}
major=${major%%.*}
if [ "${major:-0}" -lt 20 ] || ! command -v npm >/dev/null 2>&1; then
	echo "test-clients: Node.js 20 or later and npm are needed, and node here is ${version:-missing}: install them, on Debian with" >&2
	echo "    apt-get update && apt-get install -y --no-install-recommends nodejs npm" >&2
	exit 1
fi

scripts/install-authlib.sh
python=${TOKENSESSION_TEST_PYTHON:-/usr/bin/python3}

go build -o .bin/clients ./test/clients
export TOKENSESSION_TEST_SERVER="$PWD/.bin/clients"
timeout 300 "$python" test/clients/python/test_authlib.py -v
cd test/clients/node
npm ci --no-progress
timeout 300 node --test --test-reporter=spec
