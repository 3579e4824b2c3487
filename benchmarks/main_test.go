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
	if text := os.Getenv(childEnv); text != "" {
		doChildJob(text)
		return
	}
	os.Exit(m.Run())
}
