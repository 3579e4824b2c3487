package sessionclient

import (
	"context"
	"sync/atomic"

	"github.com/seed67bc9b7f/tokensession"
)

// A TokenStore keeps the tokens of one session for a [Transport]: a file, a keychain, a row of a mobile back end's
// database. The Transport saves what a refresh gives; the program saves what a login gives. Both methods MUST be safe
// for concurrent use.
//
// [TokenFile] and [TokenMemory] are TokenStores, and [TokenSwapper]s.
type TokenStore interface {
	// Load returns the tokens last saved. It MUST return [ErrNoTokens], wrapped or not, if there are none. Any other
	// error means that it could not tell. It is called at each request: if it takes long, keep a copy. Of
	// the tokens, AccessToken, AccessExpiresAt and RefreshToken are used; a zero AccessExpiresAt means unknown.
	Load(ctx context.Context) (tokensession.Tokens, error)

	// Save replaces the tokens. It MUST replace all or nothing, and Load MUST return what was saved once Save has
	// returned nil. The Transport loads before it saves, and does not save over tokens that it finds somebody else to
	// have saved. What is saved between the two may be lost, but for a [TokenSwapper].
	Save(ctx context.Context, tokens tokensession.Tokens) error
}

// A TokenSwapper is a [TokenStore] that looks before it saves: a login or a logout that the program saves while the
// Transport is about to save is never lost.
type TokenSwapper interface {
	TokenStore

	// Swap is Save if the refresh token in the store is held. Else it changes nothing, and reports false.
	Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error)
}

// A TokenMemory is a [TokenStore] that forgets the tokens when the program ends. The zero value has none. Saving the
// zero Tokens is a logout.
type TokenMemory struct {
	tokens atomic.Pointer[tokensession.Tokens]
}

var _ TokenSwapper = (*TokenMemory)(nil)

// Load returns the tokens or [ErrNoTokens].
func (m *TokenMemory) Load(context.Context) (tokensession.Tokens, error) {
	tokens := m.tokens.Load()
	if tokens == nil || noTokens(*tokens) {
		return tokensession.Tokens{}, ErrNoTokens
	}
	return *tokens, nil
}

// Save never fails.
func (m *TokenMemory) Save(_ context.Context, tokens tokensession.Tokens) error {
	m.tokens.Store(&tokens)
	return nil
}

// Swap never fails.
func (m *TokenMemory) Swap(_ context.Context, held string, tokens tokensession.Tokens) (bool, error) {
	old := m.tokens.Load()
	return old != nil && !noTokens(*old) && old.RefreshToken == held && m.tokens.CompareAndSwap(old, &tokens), nil
}

func noTokens(tokens tokensession.Tokens) bool {
	return tokens.AccessToken == "" && tokens.RefreshToken == ""
}
