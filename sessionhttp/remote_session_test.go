package sessionhttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A wire carries a Remote's requests to handlers in the same bubble, where no network may be.
type wire struct {
	handler  http.Handler
	asked    atomic.Pointer[http.HandlerFunc] // answers instead of the introspection endpoint
	status   atomic.Int64                     // if it is not 0, the answer to each request
	dead     atomic.Bool                      // whether its connection is dead, until it is closed
	sessions atomic.Int64                     // how many questions about sessions there were
}

func (w *wire) CloseIdleConnections() { w.dead.Store(false) }

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.dead.Load() {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.RequestURI(), r.Body)
	in.Header = r.Header.Clone()
	in.Header.Set("Authorization", secretOfFollowers)
	out := httptest.NewRecorder()
	introspects := strings.HasSuffix(r.URL.Path, "/introspect")
	if introspects {
		w.sessions.Add(1)
	}
	asked := w.asked.Load()
	switch status := int(w.status.Load()); {
	case status != 0:
		out.WriteHeader(status)
	case introspects && asked != nil:
		(*asked)(out, in)
	default:
		w.handler.ServeHTTP(out, in)
	}
	return out.Result(), nil
}

// A bubble is an issuer and a Remote that follows it, on the clock of a bubble.
type bubble struct {
	*sessionhttp.Remote
	m    *tokensession.Manager
	wire *wire
}

// bubbled makes them for the test, and stops them when it has ended.
func bubbled(
	t *testing.T, cfg tokensession.Config, hcfg sessionhttp.Config, test func(*testing.T, *bubble),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{wire: &wire{}}
		b.m = newManager(t, newSigner(t), tokensession.NewMemoryStore(), cfg)
		hcfg.MayFollow = knowsTheSecret
		handlers, err := sessionhttp.New(b.m, hcfg)
		require.NoError(t, err)
		b.wire.handler = handlers
		remote := remoteConfig()
		remote.Client = &http.Client{Transport: b.wire}
		b.Remote, err = sessionhttp.NewRemote("https://auth.example/auth", remote)
		require.NoError(t, err)
		runsFor(t, b.m.Run)
		runsFor(t, b.Run)
		time.Sleep(time.Second)
		require.NoError(t, b.Healthy(t.Context()))
		test(t, b)
	})
}

func knowsTheSecret(r *http.Request) bool {
	return r.Header.Get("Authorization") == secretOfFollowers
}

func mayIntrospect() sessionhttp.Config {
	return sessionhttp.Config{MayIntrospect: knowsTheSecret}
}

func (b *bubble) opens(t *testing.T) (tokensession.Tokens, context.Context) {
	t.Helper()
	tokens, err := b.m.Start(t.Context(), "alice")
	require.NoError(t, err)
	access, err := b.Verify(tokens.AccessToken)
	require.NoError(t, err)
	open, cancel := b.SessionContext(t.Context(), access, tokensession.UntilSessionEnds())
	t.Cleanup(cancel)
	return tokens, open
}

func passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// The client refreshes at the issuer, and its connection to the service says nothing new for hours.
func TestRemote_asksWhetherTheSessionsOfOpenConnectionsLive(t *testing.T) {
	cfg := tokensession.Config{RefreshTTL: time.Hour}
	bubbled(t, cfg, mayIntrospect(), func(t *testing.T, b *bubble) {
		tokens, open := b.opens(t)
		passes(14 * time.Minute)
		require.Zero(t, b.wire.sessions.Load(), "while the access token can be used")
		for range 8 {
			passes(30 * time.Minute)
			require.NoError(t, context.Cause(open))
			next, err := b.m.Refresh(t.Context(), tokens.RefreshToken)
			require.NoError(t, err)
			tokens = next
		}
		require.InDelta(t, 4*60/14, b.wire.sessions.Load(), 2, "questions in four hours")
		passes(time.Hour + 15*time.Minute)
		require.ErrorIs(t, context.Cause(open), tokensession.ErrRevoked, "nobody has refreshed")
	})
}

// A client that shows its new access token here makes all questions needless.
func TestRemote_asksNothingWhileItSeesNewAccessTokens(t *testing.T) {
	bubbled(t, tokensession.Config{}, mayIntrospect(), func(t *testing.T, b *bubble) {
		tokens, open := b.opens(t)
		for range 10 {
			passes(14 * time.Minute)
			next, err := b.m.Refresh(t.Context(), tokens.RefreshToken)
			require.NoError(t, err)
			tokens = next
			_, err = b.Verify(tokens.AccessToken)
			require.NoError(t, err)
		}
		require.NoError(t, context.Cause(open))
		require.Zero(t, b.wire.sessions.Load())
	})
}

func TestRemote_anOutageEndsNoConnection(t *testing.T) {
	// A proxy that has lost the issuer may know no such path, or want a login for everything.
	for _, status := range []int{503, 502, 404, 403, 401, 302, 200} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			bubbled(t, tokensession.Config{}, mayIntrospect(), func(t *testing.T, b *bubble) {
				_, open := b.opens(t)
				gone, goes := b.opens(t)
				_, changes := b.opens(t)
				b.wire.status.Store(int64(status))
				passes(3 * time.Hour)
				for _, each := range []context.Context{open, goes, changes} {
					require.NoError(t, context.Cause(each), "the issuer cannot be reached")
				}
				// The issuer knows, and the service cannot be told.
				require.NoError(t, b.m.Revoke(t.Context(), gone.Session.ID))
				passes(time.Minute)
				require.NoError(t, context.Cause(goes))
				b.wire.status.Store(0)
				passes(time.Minute)
				require.ErrorIs(t, context.Cause(goes), tokensession.ErrRevoked)
				require.NoError(t, context.Cause(open))
			})
		})
	}
}

// Nothing comes through the connection any more, and no error says so, as when a balancer has
// moved. With HTTP/2 all requests would go through that one until the system gives it up.
func TestRemote_leavesADeadConnection(t *testing.T) {
	bubbled(t, tokensession.Config{}, mayIntrospect(), func(t *testing.T, b *bubble) {
		b.wire.dead.Store(true)
		gone, open := b.opens(t)
		require.NoError(t, b.m.Revoke(t.Context(), gone.Session.ID))
		passes(2 * time.Minute)
		require.NoError(t, b.Healthy(t.Context()))
		require.ErrorIs(t, context.Cause(open), tokensession.ErrRevoked)
	})
}

// Rights that have changed while the issuer could not be reached are found by the question, also
// when the deny list has forgotten of them.
func TestRemote_aConnectionWithOutdatedRightsEnds(t *testing.T) {
	bubbled(t, tokensession.Config{}, mayIntrospect(), func(t *testing.T, b *bubble) {
		_, open := b.opens(t)
		b.wire.status.Store(http.StatusBadGateway)
		passes(time.Minute)
		_, err := b.m.Reauthorize(t.Context(), "alice")
		require.NoError(t, err)
		passes(3 * time.Hour)
		require.NoError(t, context.Cause(open))
		b.wire.status.Store(0)
		passes(2 * time.Minute)
		require.ErrorIs(t, context.Cause(open), tokensession.ErrOutdated)
	})
}

// Where there is nobody to ask, a connection ends with the newest access token, and not earlier.
func TestRemote_whereNobodyAnswersQuestionsAboutSessions(t *testing.T) {
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc // nil: the issuer has no such endpoint
		ends   bool
	}{
		"no such endpoint": {nil, true},
		"may not":          {answers(401, ""), true},
		"forbidden":        {answers(403, ""), true},
		"another issuer":   {answers(200, `{"active":false}`), true},
		"of another one":   {answers(200, `{"active":true,"sid":"AAAAAAAAAAAAAAAAAAAAAA"}`), true},

		"garbage":               {answers(200, "<html>"), false},
		"no verdict":            {answers(200, "{}"), false},
		"an epoch that is none": {answers(200, `{"active":true,"epoch":-1}`), false},
		"a proxy":               {answers(502, `{"active":false}`), false},
		"too many questions":    {answers(429, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			bubbled(t, tokensession.Config{}, sessionhttp.Config{}, func(t *testing.T, b *bubble) {
				if c.answer != nil {
					b.wire.asked.Store(&c.answer)
				}
				tokens, open := b.opens(t)
				time.Sleep(time.Until(tokens.AccessExpiresAt) - time.Millisecond)
				require.NoError(t, context.Cause(open))
				passes(time.Hour)
				if c.ends {
					require.ErrorIs(t, context.Cause(open), tokensession.ErrExpired)
				} else {
					require.NoError(t, context.Cause(open), "that is no verdict")
				}
			})
		})
	}
}

func TestIntrospect_saysWhetherASessionLives(t *testing.T) {
	s := newSite(t, sessionhttp.Config{MayIntrospect: func(r *http.Request) bool {
		return r.Header.Get("X-Service") == "api"
	}})
	api := func(r *http.Request) { r.Header.Set("X-Service", "api") }
	tokens := s.start()
	form := url.Values{"token": {tokens.Session.ID}, "token_type_hint": {"session"}}
	ask := func() string { return bodyOf(t, s.post("/auth/introspect", form, api)) }
	require.JSONEq(t, `{"active":true,"sid":"`+tokens.Session.ID+`"}`, ask())
	requireError(t, s.post("/auth/introspect", form), http.StatusUnauthorized, "invalid_token")

	without := url.Values{"token": {tokens.Session.ID}}
	require.JSONEq(t, `{"active":false}`, bodyOf(t, s.post("/auth/introspect", without, api)),
		"an id is no token")
	require.NoError(t, s.m.Revoke(ctx, tokens.Session.ID))
	require.JSONEq(t, `{"active":false,"sid":"`+tokens.Session.ID+`"}`, ask())
	form.Set("token", `nobody's"`)
	require.JSONEq(t, `{"active":false,"sid":"nobody's\""}`, ask())
	s.store.Down()
	form.Set("token", tokens.Session.ID)
	requireError(t, s.post("/auth/introspect", form, api), http.StatusServiceUnavailable,
		"temporarily_unavailable")
}
