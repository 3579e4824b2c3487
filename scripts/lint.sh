#!/usr/bin/env bash
# Checks every module: formatting, vet, staticcheck, known vulnerabilities, tidy go.mod files. The two
# tools are pinned in internal/tools/go.mod. A vulnerability database that cannot be reached is
# reported and is no failure.
#
# `lint.sh quick` leaves out vulnerabilities, go.mod files, and the modules that nobody imports.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOWORK=off

quick=
[ "${1:-}" != quick ] || quick=1
if [ "$quick" ]; then
	modules='. redisstore sqlstore sqlstore/pgxnotify sessiongrpc'
	tools='honnef.co/go/tools/cmd/staticcheck'
else
	modules=$(git ls-files 'go.mod' '*/go.mod' | xargs -n 1 dirname)
	tools='honnef.co/go/tools/cmd/staticcheck golang.org/x/vuln/cmd/govulncheck'
fi
# shellcheck disable=SC2086
(cd internal/tools && go build -o ../../.bin/ $tools)

failed=0
fail() {
	echo "lint: $*" >&2
	failed=1
}

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || fail "gofmt would change: $unformatted"

for dir in $modules; do
	echo "lint: module $dir"
	[ "$quick" ] || (cd "$dir" && go mod tidy -diff) || fail "$dir: go mod tidy -diff"
	[ "$dir" != internal/tools ] || continue
	(cd "$dir" && go vet -tags browser ./...) || fail "$dir: go vet"
	(cd "$dir" && "$OLDPWD/.bin/staticcheck" -tags browser ./...) || fail "$dir: staticcheck"
	[ ! "$quick" ] || continue
	if ! report=$(cd "$dir" && timeout 300 "$OLDPWD/.bin/govulncheck" ./... 2>&1); then
		if grep -qiE 'vuln\.go\.dev|fetching vulnerabilities' <<<"$report" && ! grep -q '^Vulnerability #' <<<"$report"; then
			echo "lint: $dir: govulncheck: the vulnerability database cannot be reached; not checked"
		else
			echo "$report" >&2
			fail "$dir: govulncheck"
		fi
	fi
done

# The client's token files have code of their own for each system.
echo "lint: module . for Windows"
GOOS=windows go vet ./... || fail "GOOS=windows go vet"

# The rules of the layout.
for f in $(git ls-files '*.go'); do
	case $f in
	keys.go | benchmarks/*) ;;
	*) ! grep -q '"github.com/lestrrat-go/jwx' "$f" || fail "$f imports jwx" ;;
	esac
	case $f in
	*_test.go) ;;
	*) ! grep -q '"github.com/stretchr/testify' "$f" || fail "$f imports testify" ;;
	esac
	case $f in
	*/* | *_test.go) ;;
	*) ! grep -q '"math/rand' "$f" || fail "$f imports math/rand: no secret may come from it, and no test could see it" ;;
	esac
done

[ "$failed" = 0 ] && echo "lint: clean"
exit "$failed"
