// Package manager_test proves what a Manager promises on real stores, under races, faults and
// crashes.
package manager_test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"

	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// TestMain runs the tests, or what a test asked of a second process.
func TestMain(m *testing.M) {
	if job := os.Getenv(jobEnv); job != "" {
		os.Exit(work(job))
	}
	logging.Disable() // go-redis logs each connection that a proof cuts
	os.Exit(servers.Run(m))
}
