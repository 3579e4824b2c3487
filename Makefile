.PHONY: test lint proofs bench bench-stores bench-peers fuzz servers quickstart

# Every module's tests with the race detector. The stores' tests start their own servers.
test: servers
	go test -race -timeout 30m work

# Two processes race for one token on each store, a thousand rounds instead of a hundred.
proofs: servers
	cd proof && TOKENSESSION_PROOF_ROUNDS=1000 go test -count=1 -timeout 30m -v -run '^TestTwoProcesses$$' ./manager

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

# Everything beside the libraries that one would take instead. Writes the tables and the figure of the README's comparison.
bench-peers: servers
	scripts/bench-peers.sh

# Each fuzz target for a minute.
fuzz:
	scripts/fuzz.sh
