package sessionclient

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

const keyBlock = "PRIVATE KEY" // PKCS #8 in PEM (RFC 7468 section 10)

// LoadKey returns the key in the named file, for [Config.Key] or [NewProver]. If there is no such
// file, it makes an Ed25519 key and writes it there. Only the owner can read the file then, and it
// is on the disk when LoadKey returns. If several processes do so at once, all get the same key.
// The directory must exist.
//
// The file is in PEM, of the type PRIVATE KEY (PKCS #8). The key in it may also be one of P-256.
// LoadKey never writes over a file that is there, whatever is in it. If others than the owner can
// read or change the file, the error is an [ErrExposed], because the key may have been copied.
// Without the file, the user has to log in again. Whoever has a copy of the file and of the tokens
// has both. A key that cannot be copied is one in hardware, which is a [crypto.Signer], too.
//
// The key prints without its private half.
func LoadKey(path string) (crypto.Signer, error) {
	key, err := loadKey(path)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: LoadKey: %w", err)
	}
	return key, nil
}

func loadKey(path string) (crypto.Signer, error) {
	path, err := followLinks(path)
	if err != nil {
		return nil, err
	}
	removeLeftovers(path)
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeKey(path); err != nil {
		return nil, err
	}
	return readKey(path) // another process may have been faster
}

// A fileKey is a key that LoadKey has read.
type fileKey struct {
	private    func() crypto.Signer // a function for the same reason as Transport's core
	thumbprint string
}

func (k fileKey) Public() crypto.PublicKey { return k.private().Public() }

func (k fileKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.private().Sign(rand, digest, opts)
}

func (k fileKey) String() string { return "sessionclient.Key{" + k.thumbprint + "}" }

func (k fileKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

func (k fileKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// readKey reads a key file. A file system without links may have half of it for a moment, and then
// it reads again: see createFile.
func readKey(path string) (crypto.Signer, error) {
	for try := 1; ; try++ {
		info, err := os.Stat(path)
		if err == nil && othersMayUse(info) {
			return nil, fmt.Errorf("%w: %s has mode %#o", ErrExposed, path, info.Mode().Perm())
		}
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		key, err := parseKey(data)
		if err == nil {
			return key, nil
		}
		if try == loadTries {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		time.Sleep(loadPause)
	}
}

// parseKey reads a key. No error shows what is in the file.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != keyBlock || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("holds no key in PEM, or not only one, or not one of the type " +
			keyBlock + " (PKCS #8)")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("holds a key that cannot be read")
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("holds a %T, which cannot sign", parsed)
	}
	checked, err := newProofKey(signer)
	if err != nil {
		return nil, err
	}
	return fileKey{func() crypto.Signer { return signer }, checked.thumbprint}, nil
}

// makeKey makes a key file, unless there is one by then.
func makeKey(path string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return createFile(path, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), os.Link)
}
