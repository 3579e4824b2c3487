//go:build unix

package benchmarks

import (
	"os"
	"testing"
)

// TestMain runs the benchmarks, or what a benchmark asked of a second process.
func TestMain(m *testing.M) {
	if text := os.Getenv(followerEnv); text != "" {
		os.Exit(followFor(text))
	}
	os.Exit(m.Run())
}
