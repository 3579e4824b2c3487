package sessionhttp

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A verifierWithoutStore cannot tell whether a session lives.
type verifierWithoutStore struct{}

func (verifierWithoutStore) Verify(token string) (tokensession.Access, error) {
	if token != "good" {
		return tokensession.Access{}, tokensession.ErrInvalidToken
	}
	return tokensession.Access{Subject: "alice"}, nil
}

func (verifierWithoutStore) VerifyBound(string, string) (tokensession.Access, error) {
	return tokensession.Access{}, tokensession.ErrInvalidToken
}

func (verifierWithoutStore) Now() time.Time { return time.Unix(0, 0) }

func (verifierWithoutStore) SessionContext(
	ctx context.Context, _ tokensession.Access, _ ...tokensession.ContextOption,
) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func TestGate_takesAnyVerifier(t *testing.T) {
	g := &gate{
		verifier: verifierWithoutStore{}, access: cookie{name: "access"},
		crossOrigin: http.NewCrossOriginProtection(), onError: func(*http.Request, error) {},
		live: func(context.Context, string, tokensession.Access) error {
			return fmt.Errorf("%w: there is no store", tokensession.ErrUnavailable)
		},
	}
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := FromContext(r.Context())
		fmt.Fprint(w, access.Subject)
	})
	get := func(header, value string, opts ...RequireOption) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set(header, value)
		w := httptest.NewRecorder()
		g.require(opts)(whoami).ServeHTTP(w, r)
		return w
	}
	require.Equal(t, "alice", get("Authorization", "Bearer good").Body.String())
	require.Equal(t, "alice", get("Cookie", "access=good").Body.String())
	require.Equal(t, http.StatusUnauthorized, get("Cookie", "access=bad").Code)
	require.Equal(t, http.StatusServiceUnavailable, get("Cookie", "access=good", Live()).Code)
}
