// Package movein shows how a program that has its own sessions moves to tokensession without
// logging anybody out: from refresh tokens in a table of its own, from gin-jwt, and from cookies of
// scs. It is an example: copy what you need.
package movein

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// Schema creates the table of a [Mover].
const Schema = `CREATE TABLE IF NOT EXISTS moved_tokens (
	hash          BLOB PRIMARY KEY, -- SHA-256 of the old token
	claimed_until BIGINT NOT NULL,  -- in milliseconds: somebody is moving it
	reply         BLOB              -- the new tokens, sealed with the old one
)`

// claim is how long one request has to move a token, before another one may try.
const claim = 10 * time.Second

// A Mover exchanges a program's old refresh tokens for sessions. An old token always gets the same
// answer, so that a client whose answer was lost, or a second tab, begins no second session.
//
// The answer is kept in the program's database. It is sealed with a key that is made of the old
// token, of which the database has only a hash. So whoever has only the database cannot open it.
//
// Whoever stole the old token gets the same answer, too. That is worth nothing for long: the first
// new refresh token is consumed by the owner, and its use by a thief ends the session.
type Mover struct {
	DB       *sql.DB
	Sessions *tokensession.Manager

	// Old says whose an old token is, and when that user logged in, or returns
	// [tokensession.ErrInvalidToken]. Any other error is an outage, and the client tries again.
	Old func(ctx context.Context, token string) (subject string, login time.Time, err error)
}

// Move returns the tokens that follow an old refresh token. If it returns
// [tokensession.ErrUnavailable], the client tries again with the same token.
func (m *Mover) Move(ctx context.Context, old string) (tokensession.Tokens, error) {
	hash := sha256.Sum256([]byte(old))
	tokens, err := m.moved(ctx, hash[:], old)
	if !errors.Is(err, sql.ErrNoRows) {
		return tokens, err
	}
	subject, login, err := m.Old(ctx, old)
	if err != nil {
		return tokens, err
	}
	if err := m.claim(ctx, hash[:]); err != nil {
		return tokens, err
	}
	if tokens, err = m.Sessions.Start(ctx, subject, tokensession.WithAuthTime(login)); err != nil {
		return tokens, err
	}
	reply, err := seal(old, tokens)
	if err != nil {
		return tokens, err
	}
	_, err = m.DB.ExecContext(ctx,
		"UPDATE moved_tokens SET reply = ? WHERE hash = ? AND reply IS NULL", reply, hash[:])
	if err != nil {
		return tokensession.Tokens{}, unavailable(err)
	}
	// The answer is what the table has: another request's, if this one took so long that its claim
	// was over.
	return m.moved(ctx, hash[:], old)
}

// moved returns what an old token was exchanged for, or sql.ErrNoRows.
func (m *Mover) moved(ctx context.Context, hash []byte, old string) (tokensession.Tokens, error) {
	var reply []byte
	err := m.DB.QueryRowContext(ctx,
		"SELECT reply FROM moved_tokens WHERE hash = ? AND reply IS NOT NULL", hash).Scan(&reply)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return tokensession.Tokens{}, err
	case err != nil:
		return tokensession.Tokens{}, unavailable(err)
	}
	return open(old, reply)
}

// claim lets one request in, and the others come again a moment later.
func (m *Mover) claim(ctx context.Context, hash []byte) error {
	now := m.Sessions.Now()
	result, err := m.DB.ExecContext(ctx, `INSERT INTO moved_tokens (hash, claimed_until) VALUES (?, ?)
		ON CONFLICT (hash) DO UPDATE SET claimed_until = excluded.claimed_until
		WHERE moved_tokens.reply IS NULL AND moved_tokens.claimed_until < ?`,
		hash, now.Add(claim).UnixMilli(), now.UnixMilli())
	if err != nil {
		return unavailable(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return unavailable(errors.New("another request moves the same token"))
	}
	return nil
}

func unavailable(err error) error {
	return fmt.Errorf("%w: moving a token: %w", tokensession.ErrUnavailable, err)
}

// A reply is what is kept of the tokens.
type reply struct {
	Access, Refresh                   string
	AccessExpiresAt, RefreshExpiresAt time.Time
}

func seal(old string, tokens tokensession.Tokens) ([]byte, error) {
	text, err := json.Marshal(reply{
		tokens.AccessToken, tokens.RefreshToken, tokens.AccessExpiresAt, tokens.RefreshExpiresAt,
	})
	if err != nil {
		return nil, err
	}
	aead, err := sealer(old)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, text, nil), nil
}

func open(old string, sealed []byte) (tokensession.Tokens, error) {
	aead, err := sealer(old)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	text, err := aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	var r reply
	if err := json.Unmarshal(text, &r); err != nil {
		return tokensession.Tokens{}, err
	}
	return tokensession.Tokens{
		AccessToken: r.Access, RefreshToken: r.Refresh,
		AccessExpiresAt: r.AccessExpiresAt, RefreshExpiresAt: r.RefreshExpiresAt,
	}, nil
}

// sealer returns AES-256-GCM with a key made of an old token, which has to be random: 128 bits or
// more.
func sealer(old string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(old), nil, "moved token", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
