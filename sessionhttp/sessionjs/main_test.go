package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestWrite_replacesWhatIsThereAndSaysWhereTheEndpointsAre(t *testing.T) {
	folder := t.TempDir()
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		return string(content)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "session.js"), []byte("old"), 0o600))
	require.NoError(t, write(folder, "/api/v1/auth"))
	types, err := fs.ReadFile(sessionhttp.ScriptFiles(), "session.d.ts")
	require.NoError(t, err)
	require.Equal(t, string(types), read("session.d.ts"))

	const (
		own     = `export const session = new Session(import.meta.url);`
		written = `export const session = new Session("/api/v1/auth/");`
	)
	script, err := fs.ReadFile(sessionhttp.ScriptFiles(), "session.js")
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(script), "import.meta.url"))
	require.Equal(t, strings.Replace(string(script), own, written, 1), read("session.js"))
	require.Contains(t, read("session.js"), written)
}

func TestWrite_refusesWhatIsNoPlace(t *testing.T) {
	folder := t.TempDir()
	require.ErrorIs(t, write(filepath.Join(folder, "none"), "/auth"), os.ErrNotExist)
	for _, prefix := range []string{
		"", "auth", "/auth/", "/", `/a"b`, "/a?b", "/a\nb", "//api.example/auth", "https://api.example",
		"https://api.example/", "https:/auth", "ftp://api.example/auth", "https://u@api.example/auth",
	} {
		require.ErrorContains(t, write(folder, prefix), "like /auth", prefix)
	}
}

// A page of another origin has the whole address in its bundle.
func TestWrite_anotherOrigin(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, write(folder, "https://api.shop.example/auth"))
	script, err := os.ReadFile(filepath.Join(folder, "session.js"))
	require.NoError(t, err)
	require.Contains(t, string(script), `new Session("https://api.shop.example/auth/");`)
}
