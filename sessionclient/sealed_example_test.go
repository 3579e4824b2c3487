package sessionclient_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A sealedFile is a TokenStore whose tokens nobody can use without a key. The file is a TokenFile,
// with all that it promises. The key of 32 bytes is in the keychain of the system, which has room
// for it and asks the user, or in a credential of systemd, or comes from a TPM.
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

// The tokens are in a file that is sealed with a key of the system's keychain.
func ExampleTokenStore() {
	server := exampleServer() // stands for https://auth.example
	defer server.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tokens.json")

	key := make([]byte, 32) // from the keychain
	_, _ = rand.Read(key)
	store, err := newSealedFile(path, key)
	if err != nil {
		panic(err)
	}
	logIn(server, store)
	for range 2 { // two runs of the program
		fmt.Println(getMe(server, store))
	}
	tokens, err := store.Load(context.Background())
	if err != nil {
		panic(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	fmt.Println("in the file:", strings.Contains(string(data), tokens.RefreshToken))

	otherKey, err := newSealedFile(path, make([]byte, 32))
	if err != nil {
		panic(err)
	}
	_, err = otherKey.Load(context.Background())
	fmt.Println(err, errors.Is(err, sessionclient.ErrNoTokens))
	// Output:
	// 200 alice, with refresh 1
	// 200 alice, with refresh 1
	// in the file: false
	// the tokens cannot be opened with this key false
}
