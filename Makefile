# `make` lists the targets with the text beside each.
.DEFAULT_GOAL := help
.PHONY: help check test race-proofs vectors test-clients test-browser lint proofs soak model mutants fuzz
.PHONY: coverage bench bench-feed bench-news bench-millions bench-remote bench-stores bench-http bench-peers
.PHONY: bench-growth bench-servers servers screenshot quickstart webapp

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

check: ## before a commit, within two minutes: the quick linters, and the tests that need only Go
	scripts/lint.sh quick
	go test ./...

# The proofs start their own servers, and take three times as long with the race detector: make race-proofs.
test: servers vectors ## the tests of all modules, with the race detector, and the proofs on real servers
	go test -race -timeout 30m $$(go list work | grep -v /test/proof)
	go test -run '^TestDenials' . # denials_random_test.go is not for the race detector
	TOKENSESSION_TEST_REMEMBER=1 go test . # with Config.Remember, which most tests turn off
	go test -timeout 30m ./test/proof/...

race-proofs: servers ## the proofs on real servers, with the race detector
	go test -race -timeout 60m ./test/proof/...

# Their module asks for a newer Go than the workspace does.
vectors: ## Wycheproof's test vectors for JWS and JWK
	cd test/vectors && GOWORK=off go test -count=1 ./...

# Needs Node.js 20 or later and npm.
test-clients: ## OAuth clients of npm, and Python's Authlib, against the endpoints of sessionhttp
	scripts/test-clients.sh

test-browser: ## the browser's script, in Node.js, and in Chromium and Firefox on real pages
	scripts/test-browser.sh

lint: ## formatting, vet, staticcheck, known vulnerabilities and tidy go.mod files, of all modules
	scripts/lint.sh

# A thousand rounds; the tests have a hundred.
proofs: servers ## two processes race for one token on each store, a thousand rounds
	cd test/proof && TOKENSESSION_PROOF_ROUNDS=1000 go test -count=1 -timeout 30m -v \
		-run '^TestTwoProcesses$$' ./manager

# 64 clients on each durable store in faults of all kinds, 15 minutes each, and then random games
# against a model for 10; or TOKENSESSION_SOAK=1m make soak. Prints the figures as a table. Without
# the race detector, under which make test runs a short one.
soak: servers ## many clients in faults of all kinds, 15 minutes on each store, and random games
	cd test/proof && TOKENSESSION_SOAK=$${TOKENSESSION_SOAK:-15m} go test -count=1 -timeout 6h -v \
		-run '^TestSoak$$' ./manager
	cd test/state && TOKENSESSION_STATE=$${TOKENSESSION_STATE:-10m} go test -race -count=1 \
		-timeout 2h -v .

model: ## the model of the protocol: every order of its steps, and the faults that it must find
	scripts/install-spin.sh
	test/proof/model/check.sh

# The faults are in test/proof/mutants/faults.txt. Some by their names:
# make mutants FAULTS="accept-n-minus-2 issuer-by-prefix".
mutants: ## plant faults in the core, one at a time, and show which test notices each
	cd test/proof && go run ./mutants $(FAULTS)

# Or FUZZTIME=1m make fuzz.
fuzz: ## each fuzz target for ten minutes
	scripts/fuzz.sh

# To read it: go tool cover -html .bin/coverage.out
coverage: ## which statements of the packages that hold secrets no test of theirs reaches
	mkdir -p .bin
	go test -coverprofile .bin/coverage.out . ./internal/... ./keyring ./sessionhttp ./sessionclient

bench: ## the core beside the raw operations that nothing can be faster than
	cd benchmarks && go test -run '^$$' -bench '^Benchmark(Verify|Refresh|MemoryStore|SessionContext)' -timeout 30m .

bench-feed: ## how soon a revocation is known elsewhere, beside a million others
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkFeed' -benchtime 1x -timeout 30m .

bench-news: servers ## how soon another process knows of a revocation, and what an idle minute costs
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkNews' -benchtime 1x -timeout 30m .

bench-millions: servers ## the same, and a start, beside millions of revocations in PostgreSQL and in Redis
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkMillions' -benchtime 1x -timeout 60m .

bench-remote: servers ## how soon a revocation is known to services without a store, and what 10,000 of them cost
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkRemote' -benchtime 1x -timeout 30m .

bench-stores: servers ## a refresh on real servers beside the cheapest possible write
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkStore' -timeout 60m .

bench-http: ## refreshes over HTTP, Require, and DPoP proofs, each beside what nothing can be faster than
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkHTTP' -timeout 30m .

# Writes the tables and the figure of docs/benchmarks.md.
bench-peers: servers ## everything beside the libraries that one would take instead
	scripts/bench-peers.sh

# Or TOKENSESSION_GROWTH=10000000 make bench-growth.
bench-growth: servers ## refreshes on real servers beside a thousand to a million sessions
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkGrowth' -benchtime 1x -timeout 60m .

# Over HTTP, on one PostgreSQL and one Redis: docs/benchmarks.md has the figures.
bench-servers: servers ## refreshes over HTTP beside fosite, gin-jwt and scs on the same servers
	cd benchmarks/peers && GOWORK=off go test -run '^$$' -bench '^BenchmarkServers' -benchtime 1x -timeout 30m .

servers: ## install the servers that tests start, where Debian's packages can be had
	scripts/install-servers.sh

# In .bin/screenshots, and the README's among them.
screenshot: ## take pictures of the web application
	scripts/install-chromium.sh
	cd test/browser && go test -tags browser -count=1 -run '^TestPage_fitsItsScreen$$' . \
		-screenshots ../../.bin/screenshots
	cp .bin/screenshots/webapp.png docs/webapp.png

quickstart: ## the story of a few sessions, with real tokens
	go run ./examples/quickstart

webapp: ## a web application whose sessions one can watch
	go run ./examples/webapp
