//go:build browser

package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	devtools "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// Sessions that are bound to their device are off in Chromium on Linux, which has no place for keys
// that a thief cannot copy. With the second one, it keeps them in files. With either alone it
// ignores the header.
const deviceBoundFeatures = "DeviceBoundSessions," +
	"EnableBoundSessionCredentialsSoftwareKeysForManualTesting"

// A chrome is a process of Chromium.
type chrome struct {
	ctx     context.Context
	version string
	wire    *wire  // beside chromedp, for what it does not know
	stop    func() // ends the process as its user does: what it keeps is written
}

// startChrome starts a Chromium that keeps its profile in a folder, which it makes.
func startChrome(profile string) (*chrome, error) {
	path, err := find("install-chromium.sh", "TOKENSESSION_TEST_CHROMIUM",
		"chromium", "chromium-browser", "google-chrome")
	if err != nil {
		return nil, err
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("password-store", "basic"),
		chromedp.Flag("enable-features", deviceBoundFeatures),
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", certificate.spki),
	)
	c := &chrome{}
	c.ctx, _ = chromedp.NewContext(ctx)
	if err := chromedp.Run(c.ctx); err != nil {
		cancel()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	if err := c.connect(profile); err != nil {
		cancel()
		return nil, fmt.Errorf("connecting to %s: %w", path, err)
	}
	c.stop = sync.OnceFunc(func() {
		_ = chromedp.Cancel(c.ctx)
		c.wire.close()
		cancel()
	})
	return c, nil
}

// connect opens a second connection, at the address that Chromium leaves in its profile.
func (c *chrome) connect(profile string) error {
	address, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
	if err != nil {
		return err
	}
	port, path, ok := strings.Cut(strings.TrimSpace(string(address)), "\n")
	if !ok {
		return errors.New("no address")
	}
	if c.wire, err = dial("ws://127.0.0.1:" + port + path); err != nil {
		return err
	}
	of := cdp.WithExecutor(c.ctx, chromedp.FromContext(c.ctx).Browser)
	_, c.version, _, _, _, err = devtools.GetVersion().Do(of)
	return err
}

// startProcess starts a Chromium of a test's own.
func startProcess(t *testing.T, profile string) *chrome {
	t.Helper()
	c, err := startChrome(profile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	return c
}
