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

// A TokenFile is a [TokenStore] in a file that only its owner can read. A save replaces the file in
// one step, and the new content is on the disk when the save returns.
//
// Several processes may share the file. Each of them refreshes with the newest tokens that there
// are. If two refresh at once, both get the same answer, because the second one comes within the
// grace period. A login or a logout in one process can be lost if another process saves a refresh
// in the same moment. Within one process, a login or a logout through the same TokenFile is never
// lost.
//
// Saving the zero Tokens is a logout, and removes the file. If the path is a symbolic link, the
// link stays, and the file that it leads to is replaced or removed. The Session of the tokens is
// not kept.
type TokenFile struct {
	path string
	mu   sync.Mutex // held while the file is changed
}

var _ TokenSwapper = (*TokenFile)(nil)

// NewTokenFile returns the store in the named file. The file need not exist, but its directory
// must.
func NewTokenFile(path string) *TokenFile { return &TokenFile{path: path} }

// maxLinks is how many symbolic links are followed. Linux follows as many.
const maxLinks = 40

// fileContent is the JSON object in the file.
type fileContent struct {
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
	var content fileContent
	if err := json.Unmarshal(data, &content); err != nil {
		// err may quote the file, and is not wrapped for that reason.
		return tokensession.Tokens{}, fmt.Errorf("%s holds no tokens but something else", f.path)
	}
	tokens := tokensession.Tokens{
		AccessToken:      content.AccessToken,
		AccessExpiresAt:  content.AccessExpiresAt,
		RefreshToken:     content.RefreshToken,
		RefreshExpiresAt: content.RefreshExpiresAt,
		Scope:            content.Scope,
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
func (f *TokenFile) Swap(
	ctx context.Context, held string, tokens tokensession.Tokens,
) (bool, error) {
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

// save writes a temporary file beside the old one and renames it. A program that is killed in the
// middle, or a full disk, leaves the old tokens.
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
	data, err := json.Marshal(fileContent{
		AccessToken:      tokens.AccessToken,
		AccessExpiresAt:  tokens.AccessExpiresAt,
		RefreshToken:     tokens.RefreshToken,
		RefreshExpiresAt: tokens.RefreshExpiresAt,
		Scope:            tokens.Scope,
	})
	if err != nil {
		return err
	}
	// CreateTemp gives the file mode 0600.
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
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

// target follows symbolic links and returns the path of the file itself, which need not exist. If a
// save replaced or removed the link, the file would stay behind, with tokens that are consumed or
// that a logout was to remove.
func (f *TokenFile) target() (string, error) {
	path := f.path
	for range maxLinks {
		to, err := os.Readlink(path)
		if err != nil { // the path is no link, or nothing is there
			return path, nil
		}
		if !filepath.IsAbs(to) {
			// A ".." in the link leads on from the directory that the link is really in.
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", fmt.Errorf("%s: too many symbolic links", f.path)
}

// syncDirectory makes a rename survive a power failure. Without it the old file could come back,
// and its refresh token is consumed.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // Windows cannot sync a directory, and need not
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
