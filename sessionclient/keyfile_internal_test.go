package sessionclient

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Some file systems, such as those of memory cards, have no links.
func TestCreateFile_whereThereAreNoLinks(t *testing.T) {
	dir := t.TempDir()
	noLinks := func(string, string) error { return errors.ErrUnsupported }
	path := filepath.Join(dir, "key")
	require.NoError(t, createFile(path, []byte("first"), noLinks))
	require.NoError(t, createFile(path, []byte("second"), noLinks), "it is there")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(data))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.False(t, othersMayUse(info))

	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			path := filepath.Join(dir, "shared")
			if err := createFile(path, []byte{byte('a' + n)}, noLinks); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Error(t, createFile(filepath.Join(dir, "missing", "key"), nil, noLinks))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing is left behind")
}

// Half of a key may be there for a moment, where a process writes it in place.
func TestReadKey_readsAgain(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	key, err := LoadKey(whole)
	require.NoError(t, err)
	data, err := os.ReadFile(whole)
	require.NoError(t, err)
	half := filepath.Join(dir, "half")
	require.NoError(t, os.WriteFile(half, data[:50], 0o600))
	synctest.Test(t, func(t *testing.T) {
		var read crypto.Signer
		var err error
		go func() { read, err = readKey(half) }()
		synctest.Wait() // it has found half a key, and sleeps
		require.NoError(t, os.WriteFile(half, data, 0o600))
		time.Sleep(loadPause)
		synctest.Wait()
		require.NoError(t, err)
		require.Equal(t, key.(fileKey).thumbprint, read.(fileKey).thumbprint)
	})
}
