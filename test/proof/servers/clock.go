//go:build unix

package servers

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

//go:embed testdata/clock.c
var clockSource []byte

// clockAhead returns the environment in which a server's clock is ahead of this machine's. It needs
// a C compiler: where there is none the test is skipped, but never in CI.
func clockAhead(tb testing.TB, ahead time.Duration) []string {
	tb.Helper()
	if ahead == 0 {
		return nil
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatalf("servers: %v", err)
		}
		tb.Skipf("servers: %v", err)
	}
	folder := NewFolder(tb, "clock")
	if err := os.Chmod(folder.Path, 0o755); err != nil { // for servers of other accounts
		tb.Fatalf("servers: %v", err)
	}
	source, library := folder.Join("clock.c"), folder.Join("clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		tb.Fatalf("servers: %v", err)
	}
	if out, err := exec.Command(cc, "-O1", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		tb.Fatalf("servers: %s: %v\n%s", filepath.Base(cc), err, out)
	}
	return []string{"LD_PRELOAD=" + library, fmt.Sprintf("CLOCK_AHEAD=%d", ahead/time.Second)}
}
