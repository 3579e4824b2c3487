#!/usr/bin/env bash
# Measures tokensession beside its peers, RUNS times (10), and writes the tables and the figure of docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/../benchmarks/peers"
export GOWORK=off
go build -o ../../.bin/ ./report
go test -c -o ../../.bin/peers.test .

measure() { # which benchmarks, and how often
	../../.bin/peers.test -test.run '^$' -test.bench "$1" -test.benchtime 1x -test.count "$2"
}
{
	echo "go: $(go env GOVERSION)"
	measure '^Benchmark(Verify|Check|Refresh)$' "${RUNS:-10}"
	measure '^BenchmarkRaces$' 1
	measure '^BenchmarkGrowth' 3
} | tee ../../.bin/peers.txt
mv ../../.bin/peers.txt results.txt
../../.bin/report
