package examples

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/zalando/go-keyring"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A sealedFile is a TokenStore whose tokens nobody can use without a key. The file is a TokenFile,
// with all that it promises. The key of 32 bytes is in the keychain of the system, which has room
// for it, and not for long access tokens. It may as well be a credential of systemd.
type sealedFile struct {
	file *sessionclient.TokenFile
	aead cipher.AEAD
}

var _ sessionclient.TokenPreparer = (*sealedFile)(nil)

func newSealedFile(path string, key []byte) (*sealedFile, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealedFile{sessionclient.NewTokenFile(path), aead}, nil
}

func (s *sealedFile) Load(ctx context.Context) (tokensession.Tokens, error) {
	sealed, err := s.file.Load(ctx)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	return s.open(sealed)
}

func (s *sealedFile) Save(ctx context.Context, tokens tokensession.Tokens) error {
	return s.file.Save(ctx, s.seal(tokens))
}

func (s *sealedFile) Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error) {
	return s.swap(ctx, s.file, held, tokens)
}

func (s *sealedFile) Prepare(ctx context.Context) (sessionclient.PreparedSwap, error) {
	prepared, err := s.file.Prepare(ctx)
	if err != nil {
		return nil, err
	}
	return &preparedSealed{s, prepared}, nil
}

type preparedSealed struct {
	store *sealedFile
	sessionclient.PreparedSwap
}

func (p *preparedSealed) Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error) {
	return p.store.swap(ctx, p.PreparedSwap, held, tokens)
}

// swap compares what is sealed in the file, and then lets the file compare the sealed form.
func (s *sealedFile) swap(ctx context.Context, file interface {
	Swap(context.Context, string, tokensession.Tokens) (bool, error)
}, held string, tokens tokensession.Tokens) (bool, error) {
	sealed, err := s.file.Load(ctx)
	if errors.Is(err, sessionclient.ErrNoTokens) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	old, err := s.open(sealed)
	if err != nil || old.RefreshToken != held {
		return false, err
	}
	return file.Swap(ctx, sealed.RefreshToken, s.seal(tokens))
}

func (s *sealedFile) seal(tokens tokensession.Tokens) tokensession.Tokens {
	for name, token := range map[string]*string{"access": &tokens.AccessToken, "refresh": &tokens.RefreshToken} {
		if *token != "" { // none stays none
			*token = base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(*token), []byte(name)))
		}
	}
	return tokens
}

func (s *sealedFile) open(tokens tokensession.Tokens) (tokensession.Tokens, error) {
	for name, token := range map[string]*string{"access": &tokens.AccessToken, "refresh": &tokens.RefreshToken} {
		if *token == "" {
			continue
		}
		data, err := base64.RawURLEncoding.DecodeString(*token)
		if err == nil {
			data, err = s.aead.Open(nil, nil, data, []byte(name))
		}
		if err != nil { // not ErrNoTokens: another key may open them
			return tokensession.Tokens{}, errors.New("the tokens cannot be opened with this key")
		}
		*token = string(data)
	}
	return tokens, nil
}

// keychainKey returns the key of a program and a user from the keychain of the system: that of macOS,
// the Credential Manager of Windows, or the Secret Service of a Linux desktop. The first login makes
// it. Where no keychain answers, that is an error, and no reason to make another key.
func keychainKey(program, user string) ([]byte, error) {
	text, err := keyring.Get(program, user)
	if errors.Is(err, keyring.ErrNotFound) {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		text = base64.RawURLEncoding.EncodeToString(key)
		err = keyring.Set(program, user, text)
	}
	if err != nil {
		return nil, fmt.Errorf("the keychain: %w", err)
	}
	return base64.RawURLEncoding.DecodeString(text)
}

// The tokens are in a file that is sealed with a key of the system's keychain.
func Example_keychain() {
	w := newWorld()
	defer w.close()
	dir, err := os.MkdirTemp("", "keychain")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	defer startKeychain(dir)()
	path := filepath.Join(dir, "tokens.json")

	open := func() *sealedFile { // at the start of the program
		key, err := keychainKey("tool", "alice")
		if err != nil {
			panic(err)
		}
		store, err := newSealedFile(path, key)
		if err != nil {
			panic(err)
		}
		return store
	}
	ctx := context.Background()
	if err := open().Save(ctx, must(w.tokens.Load(ctx))); err != nil { // the login
		panic(err)
	}
	for range 2 { // two runs of the program
		transport, err := sessionclient.New(w.url+"/auth/token", open(), sessionclient.Config{
			Base: w.base(),
		})
		if err != nil {
			panic(err)
		}
		client := &http.Client{Transport: transport}
		resp, err := client.Get(w.url + "/me")
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, string(body), err)
	}
	tokens := must(open().Load(ctx))
	data := must(os.ReadFile(path))
	fmt.Println("in the file:", strings.Contains(string(data), tokens.RefreshToken))

	if err := keyring.Delete("tool", "alice"); err != nil { // somebody has cleared the keychain
		panic(err)
	}
	_, err = open().Load(ctx)
	fmt.Println(err, errors.Is(err, sessionclient.ErrNoTokens))
	// Output:
	// 200 alice, with refresh 1 <nil>
	// 200 alice, with refresh 1 <nil>
	// in the file: false
	// the tokens cannot be opened with this key false
}
