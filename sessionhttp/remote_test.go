package sessionhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// An issuer is a server with sessions, over HTTP, which a test can take down and bring back. Its
// clock is the real one.
type issuer struct {
	t      testing.TB
	m      *tokensession.Manager
	signer *tokensession.AccessSigner
	store  *tokensession.MemoryStore
	url    string // of the endpoints

	handler atomic.Pointer[http.Handler]
	asked   sync.Map // *atomic.Int64 by path
}

var secretOfFollowers = "Bearer the-secret-of-all-services"

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{t: t, signer: newSigner(t), store: tokensession.NewMemoryStore()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := i.asked.LoadOrStore(r.URL.Path, &atomic.Int64{})
		n.(*atomic.Int64).Add(1)
		(*i.handler.Load()).ServeHTTP(w, r)
	}))
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	i.url = server.URL + "/auth"
	i.down()
	return i
}

// down makes the issuer answer as a proxy does whose server is down.
func (i *issuer) down() {
	i.serves(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "bad gateway", http.StatusBadGateway)
	}))
}

func (i *issuer) serves(h http.Handler) { i.handler.Store(&h) }

// up starts an instance on the issuer's store, which knows nothing but what is there.
func (i *issuer) up() {
	i.t.Helper()
	var h http.Handler
	i.m, h = i.instance()
	i.serves(h)
}

// instance starts one more, which stops with the test.
func (i *issuer) instance() (*tokensession.Manager, http.Handler) {
	i.t.Helper()
	m := newManager(i.t, i.signer, i.store, tokensession.Config{})
	runsFor(i.t, m.Run)
	require.Eventually(i.t, func() bool { return m.Healthy(ctx) == nil }, 5*time.Second,
		time.Millisecond)
	mayDo := func(r *http.Request) bool { return r.Header.Get("Authorization") == secretOfFollowers }
	h, err := sessionhttp.New(m, sessionhttp.Config{MayFollow: mayDo, MayIntrospect: mayDo})
	require.NoError(i.t, err)
	mux := http.NewServeMux()
	h.Mount(mux)
	return m, mux
}

func (i *issuer) start() tokensession.Tokens {
	i.t.Helper()
	tokens, err := i.m.Start(ctx, "alice")
	require.NoError(i.t, err)
	return tokens
}

// count returns how often an endpoint was asked.
func (i *issuer) count(endpoint string) int64 {
	n, ok := i.asked.Load("/auth/" + endpoint)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

func runsFor(t testing.TB, run func(context.Context) error) {
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(running) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
}

// A secretTransport adds the secret by which the issuer knows its services.
type secretTransport struct{}

func (secretTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", secretOfFollowers)
	return http.DefaultTransport.RoundTrip(r)
}

func remoteConfig() sessionhttp.RemoteConfig {
	return sessionhttp.RemoteConfig{
		Access: tokensession.AccessConfig{
			Issuer: "https://auth.example", Audience: []string{"https://api.example"},
		},
		Client: &http.Client{Transport: secretTransport{}},
	}
}

func newRemote(t testing.TB, authURL string, cfg sessionhttp.RemoteConfig) *sessionhttp.Remote {
	t.Helper()
	remote, err := sessionhttp.NewRemote(authURL, cfg)
	require.NoError(t, err)
	runsFor(t, remote.Run)
	return remote
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 10*time.Second, time.Millisecond, what)
}

func isHealthy(r *sessionhttp.Remote) func() bool {
	return func() bool { return r.Healthy(ctx) == nil }
}

func refuses(r *sessionhttp.Remote, tokens tokensession.Tokens) func() bool {
	return func() bool {
		_, err := r.Verify(tokens.AccessToken)
		return errors.Is(err, tokensession.ErrRevoked)
	}
}

func TestRemote_learnsOfARevocation(t *testing.T) {
	i := newIssuer(t)
	i.up()
	before := i.start()
	require.NoError(t, i.m.Revoke(ctx, before.Session.ID))
	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(remote))
	require.True(t, refuses(remote, before)(), "revoked before the Remote was started")
	require.Less(t, remote.Age(), 15*time.Second)

	for range 20 {
		tokens, other := i.start(), i.start()
		access, err := remote.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, "alice", access.Subject)
		open, cancel := remote.SessionContext(ctx, access)
		require.NoError(t, open.Err())
		require.NoError(t, i.m.Revoke(ctx, tokens.Session.ID))
		eventually(t, "refused", refuses(remote, tokens))
		select {
		case <-open.Done():
			require.ErrorIs(t, context.Cause(open), tokensession.ErrRevoked)
		case <-time.After(5 * time.Second):
			t.Fatal("the connection outlives its session")
		}
		cancel()
		_, err = remote.Verify(other.AccessToken)
		require.NoError(t, err, "another session")
	}
}

func TestRemote_letsNobodyInBeforeItKnows(t *testing.T) {
	i := newIssuer(t)
	i.up()
	tokens := i.start()
	serving := *i.handler.Load()
	i.down()
	var events testkit.Events
	cfg := remoteConfig()
	cfg.OnEvent = events.Add
	remote := newRemote(t, i.url, cfg)
	require.Error(t, remote.Healthy(ctx))
	require.Greater(t, remote.Age(), 1000*time.Hour)
	eventually(t, "told", func() bool { return len(events.All()) >= 2 })
	for range 20 {
		_, err := remote.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.NotErrorIs(t, err, tokensession.ErrInvalidToken, "an outage is no verdict")
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	bearer(tokens.AccessToken)(r)
	remote.Require()(http.NotFoundHandler()).ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))

	// Keys alone let nobody in: the session may have been revoked.
	i.serves(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/revocations") {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		serving.ServeHTTP(w, r)
	}))
	eventually(t, "keys", func() bool { return i.count("jwks.json") > 1 })
	_, err := remote.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)

	i.serves(serving)
	eventually(t, "healthy", isHealthy(remote))
	_, err = remote.Verify(tokens.AccessToken)
	require.NoError(t, err)
	kinds := map[tokensession.EventKind]int{}
	for _, e := range events.All() {
		kinds[e.Kind]++
		require.Zero(t, e.Since, "never known before")
		require.NotContains(t, fmt.Sprint(e.Err), "the-secret")
	}
	require.Equal(t, map[tokensession.EventKind]int{
		tokensession.EventFeedStale: 1, tokensession.EventFeedFresh: 1,
		sessionhttp.EventKeysStale: 1, sessionhttp.EventKeysFresh: 1,
	}, kinds)
}

func TestRemote_goesOnWhileTheIssuerIsDown(t *testing.T) {
	i := newIssuer(t)
	i.up()
	tokens, revoked, later := i.start(), i.start(), i.start()
	require.NoError(t, i.m.Revoke(ctx, revoked.Session.ID))
	var events testkit.Events
	cfg := remoteConfig()
	cfg.OnEvent = events.Add
	remote := newRemote(t, i.url, cfg)
	eventually(t, "healthy", isHealthy(remote))
	i.down()
	require.NoError(t, i.m.Revoke(ctx, later.Session.ID)) // answers the poll under way
	eventually(t, "told", func() bool {
		all := events.All()
		return all[len(all)-1].Kind == tokensession.EventFeedStale
	})
	_, err := remote.Verify(tokens.AccessToken)
	require.NoError(t, err)
	require.True(t, refuses(remote, revoked)())

	// Another instance takes over, which knows the store alone.
	missed := i.start()
	require.NoError(t, i.m.Revoke(ctx, missed.Session.ID))
	i.up()
	eventually(t, "what was revoked meanwhile", refuses(remote, missed))
	require.NoError(t, remote.Healthy(ctx))
}

func TestRemote_failsClosedAfterMaxAge(t *testing.T) {
	i := newIssuer(t)
	i.up()
	tokens := i.start()
	var ahead atomic.Int64
	cfg := remoteConfig()
	cfg.MaxAge = 2 * time.Minute
	cfg.Access.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	remote := newRemote(t, i.url, cfg)
	eventually(t, "healthy", isHealthy(remote))
	i.down()
	ahead.Store(int64(119 * time.Second))
	_, err := remote.Verify(tokens.AccessToken)
	require.NoError(t, err)
	ahead.Store(int64(3 * time.Minute))
	_, err = remote.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Error(t, remote.Healthy(ctx))
	require.GreaterOrEqual(t, remote.Age(), 3*time.Minute)
}

// The issuer answers, and cannot read its own store: what it tells is old.
func TestRemote_ofAnIssuerThatKnowsNothingNew(t *testing.T) {
	i := newIssuer(t)
	i.up()
	tokens := i.start()
	keys := *i.handler.Load()
	var age atomic.Int64
	i.serves(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/revocations") {
			keys.ServeHTTP(w, r)
			return
		}
		header := `{"cursor":"AQAAAAAAAAAA","snapshot":true,"age_ms":%d,"waited_ms":0,` +
			`"access_ttl_s":900,"keep_s":1000}`
		answering(fmt.Sprintf(header, age.Load()), "end\n")(w, r)
	}))
	cfg := remoteConfig()
	cfg.MaxAge = 2 * time.Minute
	closed := newRemote(t, i.url, cfg)
	open := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(closed))
	eventually(t, "healthy", isHealthy(open))
	age.Store(time.Hour.Milliseconds())
	eventually(t, "told", func() bool { return closed.Age() > 59*time.Minute })
	eventually(t, "told", func() bool { return open.Age() > 59*time.Minute })
	require.ErrorIs(t, closed.Healthy(ctx), tokensession.ErrUnavailable)
	require.ErrorIs(t, open.Healthy(ctx), tokensession.ErrUnavailable)
	_, err := closed.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	_, err = open.Verify(tokens.AccessToken)
	require.NoError(t, err)
	age.Store(0)
	eventually(t, "healthy again", isHealthy(open))
	eventually(t, "healthy again", isHealthy(closed))
}

// The issuer's clock was set forward while the answer was held back. Nothing is known of a time that
// has not come.
func TestRemote_failsClosedWhateverTheIssuerSaysThatItWaited(t *testing.T) {
	i := newIssuer(t)
	i.up()
	tokens := i.start()
	keys := *i.handler.Load()
	i.serves(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/revocations") {
			keys.ServeHTTP(w, r)
			return
		}
		answering(`{"cursor":"AQAAAAAAAAAA","snapshot":true,"age_ms":0,"waited_ms":3600000,`+
			`"access_ttl_s":900,"keep_s":1000}`, "end\n")(w, r)
	}))
	var ahead atomic.Int64
	cfg := remoteConfig()
	cfg.MaxAge = 2 * time.Minute
	cfg.Access.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	remote := newRemote(t, i.url, cfg)
	eventually(t, "healthy", isHealthy(remote))
	i.down()
	asked := i.count("revocations")
	eventually(t, "no answer is under way", func() bool { return i.count("revocations") >= asked+2 })
	ahead.Store(int64(5 * time.Minute))
	eventually(t, "closed", func() bool {
		_, err := remote.Verify(tokens.AccessToken)
		return errors.Is(err, tokensession.ErrUnavailable)
	})
	require.Error(t, remote.Healthy(ctx))
}

// Whatever tokens come, the issuer is asked for its keys once, and not again for five seconds.
func TestRemote_fetchesTheKeysOnceForAllTokensOfUnknownKeys(t *testing.T) {
	i := newIssuer(t)
	i.up()
	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(remote))
	stranger := newManager(t, newSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
	tokens, err := stranger.Start(ctx, "mallory")
	require.NoError(t, err)
	before := i.count("jwks.json")
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			_, err := remote.Verify(tokens.AccessToken)
			if !errors.Is(err, tokensession.ErrUnknownKey) {
				t.Errorf("a token of a stranger: %v", err)
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, i.count("jwks.json")-before, int64(1))
	_, err = remote.Verify("garbage")
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

func TestRemote_fetchesANewKeyWhenATokenNeedsIt(t *testing.T) {
	i := newIssuer(t)
	i.up()
	var ahead atomic.Int64
	cfg := remoteConfig()
	cfg.Access.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	remote := newRemote(t, i.url, cfg)
	eventually(t, "healthy", isHealthy(remote))
	old := i.start()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, i.signer.Rotate(key, time.Now()))
	ahead.Store(int64(6 * time.Second)) // since the last fetch
	tokens := i.start()
	require.NotEqual(t, strings.SplitN(old.AccessToken, ".", 2)[0],
		strings.SplitN(tokens.AccessToken, ".", 2)[0])
	_, err = remote.Verify(tokens.AccessToken)
	require.NoError(t, err)
	_, err = remote.Verify(old.AccessToken)
	require.NoError(t, err)

	// The issuer is down, and a token comes whose key may be a new one: nobody can tell.
	i.down()
	ahead.Store(int64(20 * time.Second))
	stranger := newManager(t, newSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
	strange, err := stranger.Start(ctx, "mallory")
	require.NoError(t, err)
	_, err = remote.Verify(strange.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	_, err = remote.Verify(tokens.AccessToken)
	require.NoError(t, err, "the last good set is kept")
}

func TestRemote_requireIsThatOfHandlers(t *testing.T) {
	i := newIssuer(t)
	i.up()
	cfg := remoteConfig()
	plain := newRemote(t, i.url, cfg)
	cfg.Cookies = true
	cookies := newRemote(t, i.url, cfg)
	eventually(t, "healthy", isHealthy(plain))
	eventually(t, "healthy", isHealthy(cookies))
	tokens := i.start()
	get := func(r *sessionhttp.Remote, name, value string, opts ...sessionhttp.RequireOption) int {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.Header.Set(name, value)
		w := httptest.NewRecorder()
		r.Require(opts...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			access, ok := sessionhttp.FromContext(r.Context())
			require.True(t, ok)
			require.Equal(t, "alice", access.Subject)
		})).ServeHTTP(w, request)
		return w.Code
	}
	bearer, cookie := "Bearer "+tokens.AccessToken, "__Host-access="+tokens.AccessToken
	require.Equal(t, http.StatusOK, get(plain, "Authorization", bearer))
	require.Equal(t, http.StatusForbidden, get(plain, "Authorization", bearer, sessionhttp.Scope("x")))
	require.Equal(t, http.StatusOK, get(plain, "Authorization", bearer, sessionhttp.Live()))
	require.Equal(t, http.StatusUnauthorized, get(plain, "Authorization", "Bearer nonsense"))
	require.Equal(t, http.StatusUnauthorized, get(plain, "Cookie", cookie), "cookies only if told")
	require.Equal(t, http.StatusOK, get(cookies, "Cookie", cookie))

	require.NoError(t, i.m.Revoke(ctx, tokens.Session.ID))
	eventually(t, "refused", func() bool {
		return get(plain, "Authorization", bearer) == http.StatusUnauthorized
	})
	tokens = i.start()
	i.down()
	bearer = "Bearer " + tokens.AccessToken
	require.Equal(t, http.StatusServiceUnavailable,
		get(plain, "Authorization", bearer, sessionhttp.Live()), "introspection cannot tell")
}

func TestRemote_liveKnowsAtOnce(t *testing.T) {
	i := newIssuer(t)
	i.up()
	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(remote))
	other, err := tokensession.New(i.signer, i.store, tokensession.Config{}) // which nobody follows
	require.NoError(t, err)
	tokens := i.start()
	_, err = remote.VerifyLive(ctx, tokens.AccessToken)
	require.NoError(t, err)
	require.NoError(t, other.Revoke(ctx, tokens.Session.ID))
	_, err = remote.VerifyLive(ctx, tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// The context of a request ends with the session, and not already with the access token.
func TestRequire_untilSessionEnds(t *testing.T) {
	i := newIssuer(t)
	i.up()
	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(remote))
	handlers, err := sessionhttp.New(i.m, sessionhttp.Config{})
	require.NoError(t, err)
	for name, middleware := range map[string]func(http.Handler) http.Handler{
		"Handlers": handlers.Require(sessionhttp.UntilSessionEnds()),
		"Remote":   remote.Require(sessionhttp.UntilSessionEnds()),
	} {
		t.Run(name, func(t *testing.T) {
			tokens := i.start()
			began, ended := make(chan struct{}), make(chan error, 1)
			server := httptest.NewServer(middleware(http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					close(began)
					<-r.Context().Done()
					ended <- context.Cause(r.Context())
				})))
			defer server.Close()
			request, err := http.NewRequest(http.MethodGet, server.URL, nil)
			require.NoError(t, err)
			bearer(tokens.AccessToken)(request)
			go func() {
				if response, err := http.DefaultClient.Do(request); err == nil {
					response.Body.Close()
				}
			}()
			<-began
			require.NoError(t, i.m.Revoke(ctx, tokens.Session.ID))
			select {
			case cause := <-ended:
				require.ErrorIs(t, cause, tokensession.ErrRevoked)
			case <-time.After(10 * time.Second):
				t.Fatal("the stream outlives its session")
			}
		})
	}
}

func TestNewRemote_refuses(t *testing.T) {
	for authURL, says := range map[string]string{
		"":                               "must be like",
		"auth.example":                   "must be like",
		"ftp://auth.example":             "must be like",
		"https://auth.example/auth?x":    "must be like",
		"https://auth.example/#x":        "must be like",
		"http://auth.example/auth":       "must be https",
		"http://127.0.0.1.evil/auth":     "must be https",
		"https://me:secret@auth.example": "password",
		"http://\x00":                    "cannot be parsed",
	} {
		_, err := sessionhttp.NewRemote(authURL, remoteConfig())
		require.ErrorContains(t, err, says, authURL)
		require.NotContains(t, err.Error(), "secret")
	}
	for _, authURL := range []string{
		"https://auth.example/auth/", "http://localhost:1/auth", "http://127.0.0.1", "http://[::1]:2",
	} {
		_, err := sessionhttp.NewRemote(authURL, remoteConfig())
		require.NoError(t, err, authURL)
	}
	cfg := remoteConfig()
	cfg.InsecureHTTP = true
	_, err := sessionhttp.NewRemote("http://auth.internal/auth", cfg)
	require.NoError(t, err)
	cfg.MaxAge = 59 * time.Second
	_, err = sessionhttp.NewRemote("https://auth.example", cfg)
	require.ErrorContains(t, err, "MaxAge 59s")
	cfg = remoteConfig()
	cfg.InsecureCookies = true
	_, err = sessionhttp.NewRemote("https://auth.example", cfg)
	require.ErrorContains(t, err, "InsecureCookies")
	_, err = sessionhttp.NewRemote("https://auth.example", sessionhttp.RemoteConfig{})
	require.ErrorContains(t, err, "Issuer")
}

// A redirect would carry the secret of the client to another place.
func TestRemote_followsNoRedirect(t *testing.T) {
	var told atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told.Add(1) }))
	defer other.Close()
	i := newIssuer(t)
	i.serves(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "asked", func() bool { return i.count("revocations") > 2 })
	require.ErrorContains(t, remote.Healthy(ctx), "status 307")
	require.Zero(t, told.Load())
}

// What is no answer of an issuer changes nothing, and the next good one counts.
func TestRemote_survivesGarbage(t *testing.T) {
	i := newIssuer(t)
	i.up()
	serving := *i.handler.Load()
	tokens := i.start()
	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(remote))
	good := `{"cursor":"AQAAAAAAAAAA","snapshot":true,"age_ms":0,"waited_ms":0,"access_ttl_s":900,"keep_s":1000}`
	for name, garbage := range map[string]http.HandlerFunc{
		"no header":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "end\n") },
		"bad header": answering("{", "end\n"),
		"huge times": answering(strings.Replace(good, "900", "9223372036854775807", 1), "end\n"),
		"no TTL":     answering(strings.Replace(good, "900", "0", 1), "end\n"),
		"no cursor":  answering(strings.Replace(good, "AQAAAAAAAAAA", "", 1), "end\n"),
		"cut off":    answering(good, tokens.Session.ID+" 1"),
		"cut off between lines": answering(good, tokens.Session.ID+" "+
			fmt.Sprint(time.Now().Unix())+"\n"),
		"a page":       answering(good, "<html>end\n"),
		"a short id":   answering(good, "abc 1\nend\n"),
		"no time":      answering(good, tokens.Session.ID+"\nend\n"),
		"bad time":     answering(good, tokens.Session.ID+" 0x7fffffff\nend\n"),
		"bad epoch":    answering(good, tokens.Session.ID+" 1 +1\nend\n"),
		"more columns": answering(good, tokens.Session.ID+" 1 1 1\nend\n"),
	} {
		t.Run(name, func(t *testing.T) {
			i.serves(garbage)
			woken := i.start()
			require.NoError(t, i.m.Revoke(ctx, woken.Session.ID)) // ends the poll under way
			n := i.count("revocations")
			eventually(t, "asked", func() bool { return i.count("revocations") > n+1 })
			_, err := remote.Verify(tokens.AccessToken)
			require.NoError(t, err)
			i.serves(serving)
			eventually(t, "refused", refuses(remote, woken))
		})
	}
}

func answering(header, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Denials", header)
		fmt.Fprint(w, body)
	}
}
