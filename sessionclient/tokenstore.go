package sessionclient

import (
	"context"
	"sync/atomic"

	"github.com/seed67bc9b7f/tokensession"
)

// A TokenStore keeps the tokens of one session for a [Transport]: in a file, a keychain, or a row
// of a mobile back end's database. The Transport saves the tokens of a refresh, and the program
// saves those of a login. Both methods MUST be safe for concurrent use.
//
// [TokenFile] and [TokenMemory] are TokenStores, and also [TokenSwapper]s. Saving the zero Tokens
// to them is a logout. [Transport.Logout] does that to every store.
type TokenStore interface {
	// Load returns the tokens that were saved last. If there are none, it MUST return
	// [ErrNoTokens], wrapped or not. Any other error means that it could not tell. Load is called
	// at each request, so a store that takes long should keep a copy. The Transport uses
	// AccessToken, TokenType, AccessExpiresAt, RefreshToken and Session.KeyThumbprint, and
	// completes the answer to a refresh with the others. A zero AccessExpiresAt means unknown. A
	// store that does not keep the KeyThumbprint may be used with one [Config.Key] only.
	Load(ctx context.Context) (tokensession.Tokens, error)

	// Save replaces the tokens. The zero Tokens remove them. It MUST replace all of them or
	// nothing. Once it has returned nil, Load MUST return the new tokens. The Transport loads
	// before it saves, and does not save if it finds that somebody else has saved others. What
	// somebody saves between the two is lost, unless the store is a [TokenSwapper].
	Save(ctx context.Context, tokens tokensession.Tokens) error
}

// A TokenSwapper is a [TokenStore] that compares and saves in one step. With it, the Transport
// never saves over a login or a logout that the program has saved a moment before.
type TokenSwapper interface {
	TokenStore

	// Swap does the same as Save if held is the refresh token in the store, and reports true. If
	// the store has another one, or no tokens, Swap MUST change nothing, and reports false.
	Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error)
}

// A TokenPreparer is a [TokenSwapper] that can find out, before a refresh token is spent, whether
// its successor can be saved. With it, the Transport does not refresh if the result would be lost:
// requests that need a new token fail with [tokensession.ErrUnavailable] until the store is well.
// Without it, a refresh token is spent although its successor cannot be saved, and the next start
// of the program finds the spent one.
type TokenPreparer interface {
	TokenSwapper

	// Prepare makes ready for one swap. Its error means that the swap would fail. It is called
	// before a refresh, which takes half a minute at most.
	Prepare(ctx context.Context) (PreparedSwap, error)
}

// A PreparedSwap is a swap that a [TokenPreparer] has made ready. One goroutine uses it.
type PreparedSwap interface {
	// Swap does the same as that of the [TokenSwapper]. After it has reported false, it is called
	// again if the refresh is repeated.
	Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error)

	// Discard is called when no more swap will come.
	Discard()
}

// A TokenMemory is a [TokenStore] that forgets the tokens when the program ends. The zero value has
// none. Saving the zero Tokens is a logout.
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
func (m *TokenMemory) Swap(
	_ context.Context, held string, tokens tokensession.Tokens,
) (bool, error) {
	old := m.tokens.Load()
	if old == nil || noTokens(*old) || old.RefreshToken != held {
		return false, nil
	}
	return m.tokens.CompareAndSwap(old, &tokens), nil
}

func noTokens(tokens tokensession.Tokens) bool {
	return tokens.AccessToken == "" && tokens.RefreshToken == ""
}
