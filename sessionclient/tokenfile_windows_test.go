package sessionclient_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// Others have the file open for much of the time: a virus scanner, a backup, or other processes of
// the program. No save fails, and no load finds that there are no tokens.
func TestTokenFile_savesAndLoadsWhileOthersHaveItOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	tokensOf := func(n int) tokensession.Tokens {
		return tokensession.Tokens{AccessToken: fmt.Sprint(n), RefreshToken: fmt.Sprint(n)}
	}
	require.NoError(t, sessionclient.NewTokenFile(path).Save(t.Context(), tokensOf(0)))
	var done atomic.Bool
	var others sync.WaitGroup
	var opened, loads atomic.Int64
	others.Go(func() { // the scanner
		for !done.Load() {
			if file, err := os.Open(path); err == nil {
				opened.Add(1)
				time.Sleep(5 * time.Millisecond)
				file.Close()
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for range 3 {
		others.Go(func() {
			for !done.Load() {
				tokens, err := sessionclient.NewTokenFile(path).Load(t.Context())
				if err != nil || tokens.AccessToken != tokens.RefreshToken {
					t.Errorf("load: %v", err)
				}
				loads.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	failed := 0
	for n := range 345 {
		file := sessionclient.NewTokenFile(path)
		if n%2 == 0 {
			if err := file.Save(t.Context(), tokensOf(n)); err != nil {
				failed++
				t.Log(err)
			}
			continue
		}
		prepared, err := file.Prepare(t.Context())
		if err != nil {
			failed++
			t.Log(err)
			continue
		}
		if ok, err := prepared.Swap(t.Context(), fmt.Sprint(n-1), tokensOf(n)); err != nil || !ok {
			failed++
			t.Log(ok, err)
		}
		prepared.Discard()
	}
	done.Store(true)
	others.Wait()
	t.Logf("%d saves failed of 345; opened by others %d times, loaded %d times", failed, opened.Load(), loads.Load())
	require.Zero(t, failed)
	require.Equal(t, tokensOf(344), loaded(t, sessionclient.NewTokenFile(path)))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the file")
}
