//go:build browser

package browser

import (
	"os"
	"path/filepath"
	"time"

	cdbrowser "github.com/chromedp/cdproto/browser"
)

// downloadsTo has the browser put downloads into a folder, which it returns.
func (b *browser) downloadsTo() (folder string) {
	b.t.Helper()
	folder = b.t.TempDir()
	err := cdbrowser.SetDownloadBehavior(cdbrowser.SetDownloadBehaviorBehaviorAllow).
		WithBrowserContextID(b.id).WithDownloadPath(folder).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
	return folder
}

// downloaded waits for the one file in the folder, and returns what is in it. While it is being
// written, its name has another ending.
func (b *browser) downloaded(folder string) string {
	b.t.Helper()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		if files, _ := filepath.Glob(filepath.Join(folder, "*.csv")); len(files) == 1 {
			content, err := os.ReadFile(files[0])
			if err != nil {
				b.t.Fatal(err)
			}
			return string(content)
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatal("waited a minute for a download")
		}
	}
}
