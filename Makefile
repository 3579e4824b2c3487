.PHONY: test test-clients test-browser screenshot webapp lint proofs bench bench-stores bench-http fuzz servers quickstart model mutants bench-peers soak vectors coverage

# The modules' tests with the race detector, and the vectors. The stores' tests start their own servers.
test: servers vectors
	go test -race -timeout 30m work

# Wycheproof's test vectors for JWS and JWK. Their module asks for a newer Go than the workspace does.
vectors:
	cd vectors && GOWORK=off go test -count=1 ./...

# The OAuth clients of npm, and Python's Authlib, against the endpoints of sessionhttp. Needs Node.js 20 or later and npm.
test-clients:
	scripts/test-clients.sh

# The browser's script, by itself in Node.js and in Chromium on the pages of the web application.
test-browser:
	scripts/test-browser.sh

# Pictures of the web application in .bin/screenshots, and the README's among them.
screenshot:
	scripts/install-chromium.sh
	cd browsertest && go test -tags browser -count=1 -run '^TestPage_fitsItsScreen$$' . -screenshots ../.bin/screenshots
	cp .bin/screenshots/webapp.png docs/webapp.png

webapp:
	go run ./examples/webapp

# Two processes race for one token on each store, a thousand rounds instead of a hundred.
proofs: servers
	cd proof && TOKENSESSION_PROOF_ROUNDS=1000 go test -count=1 -timeout 30m -v -run '^TestTwoProcesses$$' ./manager

# 64 clients on each durable store in faults of all kinds, 15 minutes each, and then random games against a model for 10;
# or TOKENSESSION_SOAK=1m make soak. Prints the figures as a table. Without the race detector, under which make test runs
# a short one.
soak: servers
	cd proof && TOKENSESSION_SOAK=$${TOKENSESSION_SOAK:-15m} go test -count=1 -timeout 6h -v -run '^TestSoak$$' ./manager
	cd statetest && TOKENSESSION_STATETEST=$${TOKENSESSION_STATETEST:-10m} go test -race -count=1 -timeout 2h -v .

# The model of the protocol: every order of its steps, and the faults that it must find.
model:
	scripts/install-spin.sh
	proof/model/check.sh

# Plants the faults of proof/mutants/faults.txt in the core, one at a time, and shows which test notices each. Some by
# their names: make mutants FAULTS="accept-n-minus-2 issuer-by-prefix".
mutants:
	cd proof && go run ./mutants $(FAULTS)

# Formatting, vet, staticcheck, known vulnerabilities, tidy go.mod files.
lint:
	scripts/lint.sh

# Installs the servers that the stores' tests start, where they are missing and Debian's packages can be had.
servers:
	scripts/install-servers.sh

quickstart:
	go run ./examples/quickstart

# The core beside the raw operations that nothing can be faster than.
bench:
	cd benchmarks && go test -run '^$$' -bench '^Benchmark(Verify|Refresh|MemoryStore)' -timeout 30m .

# A refresh on real servers beside the cheapest possible write.
bench-stores: servers
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkStore' -timeout 60m .

# Refreshes over loopback HTTP beside a handler that only signs, and Require beside the bare handler.
bench-http:
	cd benchmarks && go test -run '^$$' -bench '^BenchmarkHTTP' -timeout 30m .

# Everything beside the libraries that one would take instead. Writes the tables and the figure of the README's comparison.
bench-peers: servers
	scripts/bench-peers.sh

# Which statements of the packages that hold secrets no test of theirs reaches: go tool cover -html .bin/coverage.out
coverage:
	mkdir -p .bin
	go test -coverprofile .bin/coverage.out . ./internal/... ./sessionhttp

# Each fuzz target for ten minutes, or FUZZTIME=1m make fuzz.
fuzz:
	scripts/fuzz.sh
