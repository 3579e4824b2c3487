package sessionclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A TokenFile is a [TokenStore] in a file that only its owner can read. A save replaces the file in one step, and is on
// the disk when it returns, so several processes may share the file: each refreshes with the newest tokens there are,
// and of two that refresh at once, the grace period serves both. A process that logs in or out while another one is about
// to save a refresh may lose to it; where both happen through the same TokenFile, the login or logout never does.
//
// Saving the zero Tokens removes the file: a logout. A symbolic link stays: the file that it leads to is replaced, or
// removed. The Session of the tokens is not kept.
type TokenFile struct {
	path string
	mu   sync.Mutex // held while the file is changed
}

var _ TokenSwapper = (*TokenFile)(nil)

// NewTokenFile returns the store in the named file. The file need not exist; its directory must.
func NewTokenFile(path string) *TokenFile { return &TokenFile{path: path} }

const maxLinks = 40 // as Linux has it

// tokenFile is the file's content.
type tokenFile struct {
	AccessToken      string    `json:"access_token"`
	AccessExpiresAt  time.Time `json:"access_expires_at,omitzero"`
	RefreshToken     string    `json:"refresh_token"`
	RefreshExpiresAt time.Time `json:"refresh_expires_at,omitzero"`
	Scope            string    `json:"scope,omitempty"`
}

// Load reads the file. It returns [ErrNoTokens] if there is none.
func (f *TokenFile) Load(context.Context) (tokensession.Tokens, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return tokensession.Tokens{}, fmt.Errorf("%w: %w", ErrNoTokens, err)
	}
	if err != nil {
		return tokensession.Tokens{}, err
	}
	var content tokenFile
	if err := json.Unmarshal(data, &content); err != nil {
		return tokensession.Tokens{}, fmt.Errorf("%s holds no tokens but something else", f.path) // err may quote it
	}
	tokens := tokensession.Tokens{
		AccessToken: content.AccessToken, AccessExpiresAt: content.AccessExpiresAt,
		RefreshToken: content.RefreshToken, RefreshExpiresAt: content.RefreshExpiresAt, Scope: content.Scope,
	}
	if noTokens(tokens) {
		return tokensession.Tokens{}, fmt.Errorf("%w in %s", ErrNoTokens, f.path)
	}
	return tokens, nil
}

// Save replaces the file.
func (f *TokenFile) Save(_ context.Context, tokens tokensession.Tokens) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.save(tokens)
}

// Swap replaces the file if it holds that refresh token.
func (f *TokenFile) Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := f.Load(ctx)
	switch {
	case errors.Is(err, ErrNoTokens) || err == nil && old.RefreshToken != held:
		return false, nil
	case err != nil:
		return false, err
	}
	return true, f.save(tokens)
}

func (f *TokenFile) save(tokens tokensession.Tokens) error {
	path, err := f.target()
	if err != nil {
		return err
	}
	if noTokens(tokens) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncDirectory(filepath.Dir(path))
	}
	data, err := json.Marshal(tokenFile{
		AccessToken: tokens.AccessToken, AccessExpiresAt: tokens.AccessExpiresAt,
		RefreshToken: tokens.RefreshToken, RefreshExpiresAt: tokens.RefreshExpiresAt, Scope: tokens.Scope,
	})
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err == nil {
		err = temporary.Sync()
	}
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return syncDirectory(filepath.Dir(path))
}

// target returns the path of the file itself, where the named one is a symbolic link. To replace or remove the link would
// leave the file behind, with tokens that are consumed or to be forgotten. The file need not exist.
func (f *TokenFile) target() (string, error) {
	path := f.path
	for range maxLinks {
		to, err := os.Readlink(path)
		if err != nil { // it is no link, or there is nothing
			return path, nil
		}
		if !filepath.IsAbs(to) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path)) // which is where ".." begins
			if err != nil {
				return "", err
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", fmt.Errorf("%s: too many symbolic links", f.path)
}

// syncDirectory makes a rename survive a power failure: the tokens before it are consumed.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // which cannot, and need not
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
