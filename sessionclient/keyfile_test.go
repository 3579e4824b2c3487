package sessionclient_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func keyPEM(t testing.TB, kind string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func requireKey(t testing.TB, path string) crypto.Signer {
	t.Helper()
	key, err := sessionclient.LoadKey(path)
	require.NoError(t, err)
	return key
}

func TestLoadKey_makesAKeyOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	key := requireKey(t, path)
	require.IsType(t, ed25519.PublicKey{}, key.Public())
	require.Equal(t, key.Public(), requireKey(t, path).Public())
	require.NotEqual(t, key.Public(), requireKey(t, filepath.Join(dir, "other.pem")).Public())
	message := []byte("hello")
	signature, err := key.Sign(rand.Reader, message, crypto.Hash(0))
	require.NoError(t, err)
	require.True(t, ed25519.Verify(key.Public().(ed25519.PublicKey), message, signature))
	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" { // it has access control lists instead
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing is left behind")

	// Other programs can read it, and it is the private half of the same key.
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	block, _ := pem.Decode(data)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	require.Equal(t, key.Public(), parsed.(ed25519.PrivateKey).Public())
}

func TestLoadKey_takesKeysOfOtherPrograms(t *testing.T) {
	for kind, key := range newKeys(t) {
		path := filepath.Join(t.TempDir(), "key")
		text := append([]byte("a comment\n"), keyPEM(t, "PRIVATE KEY", key)...)
		require.NoError(t, os.WriteFile(path, append(text, "\n \n"...), 0o600))
		require.Equal(t, key.Public(), requireKey(t, path).Public(), kind)
	}
}

// What is there stays, whatever it is. A key that is lost is a login that is lost.
func TestLoadKey_writesOverNothing(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	good := string(keyPEM(t, "PRIVATE KEY", edKey))
	for content, want := range map[string]string{
		"":                 "holds no key in PEM",
		"secret":           "holds no key in PEM",
		good[:len(good)/2]: "holds no key in PEM",
		good + good:        "or not only one",
		good + "secret":    "or not only one",
		strings.ReplaceAll(good, "PRIVATE KEY", "EC PRIVATE KEY"):            "PKCS #8",
		string(keyPEM(t, "ENCRYPTED PRIVATE KEY", edKey)):                    "PKCS #8",
		"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n": "cannot be read",
		string(keyPEM(t, "PRIVATE KEY", rsaKey)):                             "rsa.PublicKey",
		string(keyPEM(t, "PRIVATE KEY", p384)):                               "P-256",
		string(keyPEM(t, "PRIVATE KEY", x25519)):                             "cannot sign",
	} {
		path := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := sessionclient.LoadKey(path)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "c2VjcmV0")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(data))
	}
	dir := t.TempDir()
	_, err = sessionclient.LoadKey(dir)
	require.Error(t, err, "a directory")
	_, err = sessionclient.LoadKey(filepath.Join(dir, "missing", "key"))
	require.ErrorIs(t, err, os.ErrNotExist)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestLoadKey_refusesAKeyThatOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has access control lists instead")
	}
	path := filepath.Join(t.TempDir(), "key")
	key := requireKey(t, path)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := sessionclient.LoadKey(path)
		require.ErrorIs(t, err, sessionclient.ErrExposed)
		require.ErrorContains(t, err, fmt.Sprintf("%#o", mode))
	}
	require.NoError(t, os.Chmod(path, 0o400))
	require.Equal(t, key.Public(), requireKey(t, path).Public())
}

func TestLoadKey_makesTheKeyWhereASymbolicLinkLeads(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	target, link := filepath.Join(dir, "real", "key"), filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join("real", "key"), link); err != nil {
		t.Skip(err) // Windows needs a privilege for it
	}
	key := requireKey(t, link)
	require.Equal(t, key.Public(), requireKey(t, target).Public())
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink)
}

func TestLoadKey_printsNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key := requireKey(t, path)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	block, _ := pem.Decode(data)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	seed := parsed.(ed25519.PrivateKey).Seed()
	text, err := json.Marshal(key)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", key)
	within := struct{ key crypto.Signer }{key}
	printed := fmt.Sprintf("%v %+v %#v %s %v %#v", key, key, key, key, within, within) + string(text) + log.String()
	require.Contains(t, printed, newProver(t, key, nil).Thumbprint())
	for _, secret := range []string{
		fmt.Sprintf("%x", seed), strings.Trim(fmt.Sprint(seed[:8]), "[]"), b64(seed),
	} {
		require.NotContains(t, printed, secret)
	}
}

// Several processes come to a file that is not there, in the same moment. All get the same key, and
// it is the one in the file.
func TestLoadKey_severalProcessesMakeOneKey(t *testing.T) {
	dir := t.TempDir()
	var loaders []*child
	for range 4 {
		loaders = append(loaders, startChild(t, "load-keys", dir))
	}
	for n := range 40 {
		name := fmt.Sprint("key", n)
		for _, l := range loaders {
			l.ask(name)
		}
		first := loaders[0].answer()
		require.Len(t, first, 64, "a key and not an error")
		for _, l := range loaders[1:] {
			require.Equal(t, first, l.answer(), name)
		}
		require.Equal(t, first, fmt.Sprintf("%x", requireKey(t, filepath.Join(dir, name)).Public()))
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 40, "nothing is left behind")
}

// A process is killed while it makes a key. The key is there or not, but never half of it.
func TestLoadKey_afterAKill(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("what is left there goes when it is old")
	}
	dir := t.TempDir()
	const rounds, keys = 8, 8
	for n := range rounds {
		l := startChild(t, "load-keys", dir)
		var told []string
		for i := range keys {
			l.ask(fmt.Sprintf("key%d.%d", n, i))
		}
		for range n % keys { // a kill some keys later, wherever that finds it
			told = append(told, l.answer())
		}
		l.kill()
		for i := range keys {
			path := filepath.Join(dir, fmt.Sprintf("key%d.%d", n, i))
			key := fmt.Sprintf("%x", requireKey(t, path).Public())
			if i < len(told) {
				require.Equal(t, told[i], key, "what was there before")
			}
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, rounds*keys, "and what was left is gone")
}
