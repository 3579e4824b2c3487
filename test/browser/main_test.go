//go:build browser

package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var (
	screenshots = flag.String("screenshots", "", "keep screenshots in this `folder`")

	webapp   string          // the path of the program
	chromium context.Context // one browser for all tests, each of which has its own cookies in it
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/browser:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	path, err := find("install-chromium.sh", "TOKENSESSION_TEST_CHROMIUM",
		"chromium", "chromium-browser", "google-chrome")
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "tokensession-browser-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)

	webapp = filepath.Join(dir, "webapp")
	build := exec.Command("go", "build", "-race", "-o", webapp, "./webapp")
	build.Dir = "../../sqlstore/examples"
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("building the web application: %w\n%s", err, out)
	}
	if err := makeCertificate(dir); err != nil {
		return 1, err
	}

	ctx, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("password-store", "basic"),
		chromedp.Flag("ignore-certificate-errors-spki-list", certificate.spki),
	)
	defer cancel()
	chromium, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Run(chromium); err != nil {
		return 1, fmt.Errorf("starting %s: %w", path, err)
	}
	defer func() { stopFirefox() }()
	return m.Run(), nil
}

// find returns the path of a program, which the environment variable can name. The script installs
// it.
func find(script, env string, names ...string) (string, error) {
	if path := os.Getenv(env); path != "" {
		names = []string{path}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run scripts/%s, or apt-get install %s, or set %s to "+
		"its path", strings.Join(names, ", "), script, names[0], env)
}
