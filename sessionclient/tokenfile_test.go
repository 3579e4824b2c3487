package sessionclient_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTokenFile_givesBackWhatItGot(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 123456789, time.UTC)
	for _, tokens := range []tokensession.Tokens{
		{AccessToken: "a", AccessExpiresAt: at, RefreshToken: "r", RefreshExpiresAt: at.Add(time.Hour), Scope: "read write"},
		{AccessToken: "a"},
		{RefreshToken: "r"},
		{AccessToken: "a", TokenType: "DPoP", Session: tokensession.Session{KeyThumbprint: "k"}},
	} {
		dir := t.TempDir()
		file := sessionclient.NewTokenFile(filepath.Join(dir, "tokens"))
		require.NoError(t, file.Save(t.Context(), tokensession.Tokens{AccessToken: "older"}))
		require.NoError(t, file.Save(t.Context(), tokens))
		got, err := sessionclient.NewTokenFile(filepath.Join(dir, "tokens")).Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, tokens, got)
		info, err := os.Stat(filepath.Join(dir, "tokens"))
		require.NoError(t, err)
		if runtime.GOOS != "windows" { // it has access control lists instead
			require.Equal(t, os.FileMode(0o600), info.Mode())
		}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "nothing is left behind")

		require.NoError(t, file.Save(t.Context(), tokensession.Tokens{}), "a logout")
		require.NoError(t, file.Save(t.Context(), tokensession.Tokens{}), "another one")
		_, err = file.Load(t.Context())
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
		entries, err = os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
}

func TestTokenFile_tellsAbsentFromBroken(t *testing.T) {
	for content, absent := range map[string]bool{
		"{}":                              true,
		`{"access_token":""}`:             true,
		"":                                false,
		"secret":                          false,
		`{"access_token":`:                false,
		`{"access_token":1234567890}`:     false,
		`{"access_token":"a","secret`:     false,
		`{"access_expires_at":"secret"}`:  false,
		`{"refresh_token":["tsr_secret"]`: false,
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := sessionclient.NewTokenFile(path).Load(t.Context())
		require.Error(t, err)
		require.Equal(t, absent, errors.Is(err, sessionclient.ErrNoTokens), content)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "1234567890")
	}
	_, err := sessionclient.NewTokenFile(t.TempDir()).Load(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, sessionclient.ErrNoTokens, "a directory")
}

func TestTokenFile_keepsTheOldTokensIfItCannotSave(t *testing.T) {
	dir := t.TempDir()
	err := sessionclient.NewTokenFile(filepath.Join(dir, "missing", "tokens")).Save(t.Context(), tokensession.Tokens{AccessToken: "a"})
	require.ErrorIs(t, err, os.ErrNotExist)

	occupied := filepath.Join(dir, "occupied")
	require.NoError(t, os.MkdirAll(filepath.Join(occupied, "x"), 0o700))
	require.Error(t, sessionclient.NewTokenFile(occupied).Save(t.Context(), tokensession.Tokens{AccessToken: "a"}))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")
}

// Programs can share a file under two names. Both names must lead to the same tokens, because a
// second copy would be a consumed one.
func TestTokenFile_savesWhereASymbolicLinkLeads(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	target, link, second := filepath.Join(dir, "real", "tokens"), filepath.Join(dir, "link"), filepath.Join(dir, "second")
	if err := os.Symlink(filepath.Join("real", "tokens"), link); err != nil {
		t.Skip(err) // Windows needs a privilege for it
	}
	require.NoError(t, os.Symlink("link", second))
	for n, name := range []string{link, second, target, link} { // at first, it leads nowhere
		tokens := tokensession.Tokens{RefreshToken: fmt.Sprint("r", n)}
		require.NoError(t, sessionclient.NewTokenFile(name).Save(t.Context(), tokens))
		for _, other := range []string{link, second, target} {
			got, err := sessionclient.NewTokenFile(other).Load(t.Context())
			require.NoError(t, err)
			require.Equal(t, tokens, got)
		}
	}
	require.NoError(t, sessionclient.NewTokenFile(second).Save(t.Context(), tokensession.Tokens{}), "a logout")
	require.NoFileExists(t, target)
	for _, name := range []string{link, second} {
		info, err := os.Lstat(name)
		require.NoError(t, err)
		require.NotZero(t, info.Mode()&os.ModeSymlink, "it stays, for the next login")
	}

	// A relative link leads on from the directory that it is really in, not from the one in its
	// path.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real", "deep"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join("real", "deep"), filepath.Join(dir, "shortcut")))
	require.NoError(t, os.Symlink(filepath.Join("..", "tokens"), filepath.Join(dir, "real", "deep", "link")))
	require.NoError(t, sessionclient.NewTokenFile(filepath.Join(dir, "shortcut", "link")).Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
	require.FileExists(t, target)

	circle := filepath.Join(dir, "circle")
	require.NoError(t, os.Symlink("circle", circle))
	require.Error(t, sessionclient.NewTokenFile(circle).Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
}

// A reader sees the old tokens or the new ones, never half of them.
func TestTokenFile_replacesInOneStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	tokensOf := func(writer, n int) tokensession.Tokens {
		text := strings.Repeat(fmt.Sprintf("%d.%d/", writer, n), 500)
		return tokensession.Tokens{AccessToken: text, RefreshToken: text}
	}
	require.NoError(t, sessionclient.NewTokenFile(path).Save(t.Context(), tokensOf(0, 0)))
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				tokens, err := sessionclient.NewTokenFile(path).Load(ctx)
				if err != nil || tokens.AccessToken != tokens.RefreshToken {
					t.Errorf("half a file, or none: %v", err)
					return
				}
			}
		})
	}
	for writer := range 3 {
		writers.Go(func() {
			for n := range 50 {
				if err := sessionclient.NewTokenFile(path).Save(ctx, tokensOf(writer, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
}
