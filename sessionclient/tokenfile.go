package sessionclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A TokenFile is a [TokenStore] in a file that only its owner can read. A save replaces the file in
// one step, and the new content is on the disk when the save returns. Owner and mode of the file
// stay as they are. If others can read it, [Config.OnError] is told, with an [ErrExposed].
//
// Before a refresh token is spent, the TokenFile makes sure that its successor can be saved: it
// writes a file of sufficient size beside the token file, and looks whether that one can take the
// place of the token file. If the disk is full, or everything is mounted read-only, there is no
// refresh, and nothing is lost.
//
// Some files cannot be replaced: a file that is mounted by itself into a container, or one in a
// folder that cannot be written. Such a file is written in place. A reader that comes in that
// moment reads again. To share the tokens with a container, mount the folder and not the file:
// a save outside of the container replaces the file, and the container goes on with the old one.
//
// Several processes may share the file. Each of them refreshes with the newest tokens that there
// are. If two refresh at once, both get the same answer, because the second one comes within the
// grace period. A login or a logout in one process can be lost if another process saves a refresh
// in the same moment. Within one process, a login or a logout through the same TokenFile is never
// lost.
//
// Saving the zero Tokens is a logout, and removes the file. Each save, and each logout, also
// removes the files that killed processes have left beside the token file. If the path is a
// symbolic link, the link stays, and the file that it leads to is replaced or removed. Of the
// Session, only the KeyThumbprint is kept.
type TokenFile struct {
	path string
	mu   sync.Mutex // held while the file is changed
}

var _ TokenPreparer = (*TokenFile)(nil)

// NewTokenFile returns the store in the named file. The file need not exist, but its directory
// must.
func NewTokenFile(path string) *TokenFile { return &TokenFile{path: path} }

const (
	// maxLinks is how many symbolic links are followed. Linux follows as many.
	maxLinks = 40

	// A file that cannot be replaced is written in place. Half of it can be there when another
	// process reads it. So a reader that finds no JSON reads again, loadTries times in all.
	loadTries = 4
	loadPause = 20 * time.Millisecond
)

// fileContent is the JSON object in the file.
type fileContent struct {
	AccessToken      string    `json:"access_token"`
	TokenType        string    `json:"token_type,omitempty"`
	AccessExpiresAt  time.Time `json:"access_expires_at,omitzero"`
	RefreshToken     string    `json:"refresh_token"`
	RefreshExpiresAt time.Time `json:"refresh_expires_at,omitzero"`
	Scope            string    `json:"scope,omitempty"`
	KeyThumbprint    string    `json:"key_thumbprint,omitempty"`
}

// Load reads the file. It returns [ErrNoTokens] if there is none.
func (f *TokenFile) Load(context.Context) (tokensession.Tokens, error) {
	var content fileContent
	for try := 1; ; try++ {
		data, err := readFile(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			return tokensession.Tokens{}, fmt.Errorf("%w: %w", ErrNoTokens, err)
		}
		if err != nil {
			return tokensession.Tokens{}, err
		}
		content = fileContent{}
		err = json.Unmarshal(data, &content)
		if err == nil {
			break
		}
		if try == loadTries {
			// err may quote the file, and is not wrapped for that reason.
			return tokensession.Tokens{}, fmt.Errorf("%s holds no tokens but something else",
				f.path)
		}
		time.Sleep(loadPause)
	}
	tokens := tokensession.Tokens{
		AccessToken:      content.AccessToken,
		TokenType:        content.TokenType,
		AccessExpiresAt:  content.AccessExpiresAt,
		RefreshToken:     content.RefreshToken,
		RefreshExpiresAt: content.RefreshExpiresAt,
		Scope:            content.Scope,
		Session:          tokensession.Session{KeyThumbprint: content.KeyThumbprint},
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
	if ok, err := f.holds(ctx, held); !ok {
		return false, err
	}
	return true, f.save(tokens)
}

// Prepare writes a file beside the token file that the tokens will fit in. It returns an error if
// they could not be saved.
func (f *TokenFile) Prepare(context.Context) (PreparedSwap, error) {
	path, err := f.target()
	if err != nil {
		return nil, err
	}
	write, err := prepareWrite(path, roomForTokens)
	if err != nil {
		return nil, err
	}
	return &preparedFile{file: f, write: write}, nil
}

// A preparedFile is a [PreparedSwap] of a TokenFile.
type preparedFile struct {
	file  *TokenFile
	write *fileWrite // nil after it was used
}

func (p *preparedFile) Swap(
	ctx context.Context, held string, tokens tokensession.Tokens,
) (bool, error) {
	if p.write == nil || noTokens(tokens) {
		return p.file.Swap(ctx, held, tokens)
	}
	p.file.mu.Lock()
	defer p.file.mu.Unlock()
	if ok, err := p.file.holds(ctx, held); !ok {
		return false, err
	}
	data, err := encodeTokens(tokens)
	if err != nil {
		return false, err
	}
	write := p.write
	p.write = nil
	return true, write.commit(data)
}

func (p *preparedFile) Discard() {
	if p.write != nil {
		p.write.discard()
		p.write = nil
	}
}

// holds reports whether the file has that refresh token. The caller holds the lock.
func (f *TokenFile) holds(ctx context.Context, held string) (bool, error) {
	old, err := f.Load(ctx)
	if errors.Is(err, ErrNoTokens) {
		return false, nil
	}
	return err == nil && old.RefreshToken == held, err
}

// save replaces the file, or removes it. The caller holds the lock.
func (f *TokenFile) save(tokens tokensession.Tokens) error {
	path, err := f.target()
	if err != nil {
		return err
	}
	if noTokens(tokens) {
		return removeTokens(path)
	}
	data, err := encodeTokens(tokens)
	if err != nil {
		return err
	}
	write, err := prepareWrite(path, 0)
	if err != nil {
		return err
	}
	return write.commit(data)
}

func encodeTokens(tokens tokensession.Tokens) ([]byte, error) {
	return json.Marshal(fileContent{
		AccessToken:      tokens.AccessToken,
		TokenType:        tokens.TokenType,
		AccessExpiresAt:  tokens.AccessExpiresAt,
		RefreshToken:     tokens.RefreshToken,
		RefreshExpiresAt: tokens.RefreshExpiresAt,
		Scope:            tokens.Scope,
		KeyThumbprint:    tokens.Session.KeyThumbprint,
	})
}

// exposure returns an [ErrExposed] if others can read or change the file.
func (f *TokenFile) exposure() error {
	info, err := os.Stat(f.path)
	if err != nil || !othersMayUse(info) {
		return nil
	}
	return fmt.Errorf("%w: %s has mode %#o", ErrExposed, f.path, info.Mode().Perm())
}

// target returns the path of the file itself. If a save replaced or removed a symbolic link, the
// file would stay behind, with tokens that are consumed or that a logout was to remove.
func (f *TokenFile) target() (string, error) { return followLinks(f.path) }

// followLinks returns the path of the file itself, which need not exist, where a path may be that
// of a symbolic link.
func followLinks(path string) (string, error) {
	named := path
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
	return "", fmt.Errorf("%s: too many symbolic links", named)
}
