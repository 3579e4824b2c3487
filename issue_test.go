package tokensession_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestAuthorizer_failureChangesNothing(t *testing.T) {
	for name, failure := range map[string]error{
		"an error":            testkit.ErrDown,
		"a deadline":          context.DeadlineExceeded,
		"not found":           tokensession.ErrNotFound,
		"a conflict":          tokensession.ErrConflict,
		"joined, no verdict":  errors.Join(testkit.ErrDown, io.ErrUnexpectedEOF),
		"another unavailable": fmt.Errorf("%w: authorizer", tokensession.ErrUnavailable),
	} {
		t.Run(name, func(t *testing.T) {
			w := newAnsweringWorld(t, tokensession.Config{})
			tokens := w.start()
			w.answer(failure)
			w.unchanged(tokens.Session.ID, func() {
				for range 3 {
					requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), failure)
				}
				none, err := w.m.Start(context.Background(), "bob")
				requireUnavailableFor(t, err, failure)
				require.Zero(t, none)
			})
			require.Empty(t, listed(t, w, "bob"))
			w.answer(nil)
			w.requireLive(tokens)
		})
	}
}

func TestAuthorizer_deniedEndsTheSession(t *testing.T) {
	because := fmt.Errorf("account closed: %w", tokensession.ErrDenied)
	w := newAnsweringWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	w.answer(because)
	err := w.refreshError(first.RefreshToken) // a replay
	require.ErrorIs(t, err, because)
	require.ErrorContains(t, err, "account closed")
	require.Equal(t, tokensession.ReasonDenied, w.record(first.Session.ID).RevokeReason)
	w.answer(nil)
	w.requireDead(first, second)

	w.answer(because)
	w.store.Took()
	_, err = w.m.Start(context.Background(), "alice")
	require.ErrorIs(t, err, because)
	require.Empty(t, listed(t, w, "alice"))
	require.NotContains(t, w.store.Took(), testkit.Create)
}

// What it costs to ask an authorizer or a KMS must not grow with the number of tabs, nor with a
// store's troubles.
func TestRefresh_asksTheAuthorizerOnceHoweverOftenItWrites(t *testing.T) {
	for name, attempts := range map[string][][]testkit.Step{
		"conflicts": {
			{testkit.Refuse(tokensession.ErrConflict)}, {testkit.Refuse(tokensession.ErrConflict)},
		},
		"an outage":    {{testkit.Refuse(testkit.ErrDown)}, {testkit.Refuse(testkit.ErrDown)}},
		"a lost reply": {{testkit.Apply, testkit.LoseReply}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			w := newWorld(t, tokensession.Config{
				Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
					asked++
					return tokensession.Grant{}, nil
				},
			})
			tokens := w.start()
			asked = 0
			for _, steps := range attempts {
				w.store.On(testkit.Swap, steps...)
			}
			w.refresh(tokens.RefreshToken)
			require.Equal(t, 1, asked)
		})
	}
}

// A failingSigner is a KMS that is down.
type failingSigner struct {
	ed25519.PrivateKey
	down atomic.Pointer[error]
}

func (s *failingSigner) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.down.Load(); err != nil {
		return nil, *err
	}
	return s.PrivateKey.Sign(rand, message, opts)
}

func TestSigner_failureConsumesNothing(t *testing.T) {
	for _, failure := range append([]error{testkit.ErrDown}, verdicts...) {
		t.Run(failure.Error(), func(t *testing.T) {
			_, private, err := ed25519.GenerateKey(nil)
			require.NoError(t, err)
			signer := &failingSigner{PrivateKey: private}
			key, err := tokensession.NewKey(signer)
			require.NoError(t, err)
			w := newWorldOf(t, key, tokensession.Config{})
			tokens := w.start()
			signer.down.Store(&failure)
			w.unchanged(tokens.Session.ID, func() {
				err := w.refreshError(tokens.RefreshToken)
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				require.ErrorContains(t, err, failure.Error())
				requireNoVerdict(t, err)
				_, err = w.m.Start(context.Background(), "bob")
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				requireNoVerdict(t, err)
			})
			require.Empty(t, listed(t, w, "bob"))
			signer.down.Store(nil)
			w.requireLive(tokens)
		})
	}
}
