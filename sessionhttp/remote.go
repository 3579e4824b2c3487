package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A RemoteConfig says how a [Remote] verifies. Access.Issuer and Access.Audience are required.
type RemoteConfig struct {
	// Access says whose access tokens are accepted. Its Now is the clock of all that Remote does.
	Access tokensession.AccessConfig

	// Client makes the requests to the issuer. It is where a client certificate, or a transport
	// that adds a secret, goes in: the issuer's MayFollow may want one. Its Timeout and
	// CheckRedirect do not count, because requests have time limits of their own, and a redirect is
	// an error: a secret must not follow it. If the issuer does not answer in time, the client's
	// idle connections are closed, because they may be dead. If it is nil, it is a client of its
	// own.
	Client *http.Client

	// MaxAge makes Verify return ErrUnavailable while what is known of revocations is older than
	// this, as when the issuer cannot be reached: it fails closed. It is off if 0, and else at
	// least a minute. Off, a Remote goes on with what it knows, as a Manager does whose store is
	// down.
	MaxAge time.Duration

	// Cookies lets requests in by the cookies that Handlers set. It is for a service behind the
	// same host name as the issuer, as behind a gateway that routes by path. The others are as in
	// [Config], and must be the same as there.
	Cookies         bool
	InsecureCookies bool
	CookieSuffix    string
	CrossOrigin     *http.CrossOriginProtection
	Origins         []string

	// DPoP, ProofKeys, RequestURL and ProofMemory are as in [Config]. The secret is one that the
	// instances of this service share. It is the issuer's only where both are behind one host name,
	// because clients use one nonce for all that is there.
	DPoP        DPoPPolicy
	ProofKeys   [][]byte
	RequestURL  func(*http.Request) string
	ProofMemory int

	// InsecureHTTP allows an http URL to another host than this one: anybody on the way can then
	// put in keys of their own, and is let in with whatever they sign. It is for a network that
	// encrypts by itself.
	InsecureHTTP bool

	// OnEvent is told when the issuer cannot be followed, and when it can again: with
	// tokensession.EventFeedStale and EventFeedFresh for revocations, EventKeysStale and
	// EventKeysFresh for keys. It must not block.
	OnEvent func(context.Context, tokensession.Event)

	// OnError and Refuse are as in [Config].
	OnError func(*http.Request, error)
	Refuse  func(http.ResponseWriter, *http.Request, error)
}

// Format prints the config without ProofKeys, whatever the verb.
func (c RemoteConfig) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String describes the config without ProofKeys, and without functions.
func (c RemoteConfig) String() string {
	return fmt.Sprintf("sessionhttp.RemoteConfig{Issuer:%s Audience:%q MaxAge:%v Cookies:%v "+
		"InsecureCookies:%v CookieSuffix:%s InsecureHTTP:%v DPoP:%d ProofKeys:%d REDACTED}",
		c.Access.Issuer, c.Access.Audience, c.MaxAge, c.Cookies,
		c.InsecureCookies, c.CookieSuffix, c.InsecureHTTP, c.DPoP, len(c.ProofKeys))
}

// LogValue describes the config without ProofKeys.
func (c RemoteConfig) LogValue() slog.Value { return slog.StringValue(c.String()) }

// The kinds of events that only a [Remote] has.
const (
	EventKeysStale tokensession.EventKind = "keys_stale" // the issuer's keys cannot be fetched
	EventKeysFresh tokensession.EventKind = "keys_fresh" // they can again, or for the first time
)

const minMaxAge = time.Minute // a long poll, and time for one that is lost

// A Remote verifies access tokens in a service that has no store: a resource server. It fetches the
// issuer's keys, and follows what is revoked there. Make it with [NewRemote], and keep its
// [Remote.Run] running. It is safe for concurrent use.
//
// Until it has heard from the issuer for the first time, it lets nobody in, and says
// ErrUnavailable. Later it goes on with what it knows while the issuer is down.
type Remote struct {
	gate
	cfg    RemoteConfig
	url    string // without a slash at its end
	client *http.Client
	local  *tokensession.AccessVerifier
	keys   remoteKeys

	mu       sync.RWMutex
	asOf     time.Time // revocations up to this time are known; zero: none yet
	stale    error     // why revocations cannot be followed now
	since    time.Time // asOf when that began
	followed bool      // they could be followed at least once
}

// NewRemote returns a Remote for the issuer whose endpoints are below authURL, such as
// "https://auth.example/auth": where it is mounted and with its Prefix. The URL must be https,
// except to this machine. It makes no request before [Remote.Run] or Verify is called.
func NewRemote(authURL string, cfg RemoteConfig) (*Remote, error) {
	where, err := parseAuthURL(authURL, cfg.InsecureHTTP)
	if err != nil {
		return nil, fmt.Errorf("sessionhttp: NewRemote: %w", err)
	}
	if cfg.MaxAge != 0 && cfg.MaxAge < minMaxAge {
		return nil, fmt.Errorf("sessionhttp: RemoteConfig.MaxAge %v: cannot be shorter than %v",
			cfg.MaxAge, minMaxAge)
	}
	door, err := Config{
		Cookies: cfg.Cookies, InsecureCookies: cfg.InsecureCookies, CookieSuffix: cfg.CookieSuffix,
		CrossOrigin: cfg.CrossOrigin, Origins: cfg.Origins, OnError: cfg.OnError,
	}.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("%w (of the RemoteConfig)", err)
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(context.Context, tokensession.Event) {}
	}
	if cfg.Access.Now == nil {
		cfg.Access.Now = time.Now
	}
	dpop, err := newDPoP("RemoteConfig", cfg.DPoP, cfg.ProofKeys, ProofConfig{
		RequestURL: cfg.RequestURL, Memory: cfg.ProofMemory, Now: cfg.Access.Now,
	})
	if err != nil {
		return nil, err
	}
	cfg.ProofKeys = nil // they would be printed from within
	local, err := verifierWithoutKeys(cfg.Access)
	if err != nil {
		return nil, err
	}
	r := &Remote{cfg: cfg, url: where, client: clientOf(cfg.Client), local: local}
	local.AskSessionEpoch(r.sessionEpoch)
	r.gate = gate{
		verifier: r, crossOrigin: door.CrossOrigin, origins: door.origins,
		onError: door.OnError, form: cfg.Refuse, dpop: dpop,
	}
	r.gate.access, _ = door.cookies()
	r.live = r.askLive
	return r, nil
}

func parseAuthURL(authURL string, insecure bool) (string, error) {
	u, err := url.Parse(authURL)
	switch {
	case err != nil:
		return "", errors.New("the URL cannot be parsed") // it may have a password in it
	case u.User != nil:
		return "", errors.New("the URL has a password in it: use RemoteConfig.Client")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "" ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("URL %q: must be like \"https://auth.example/auth\"", authURL)
	case u.Scheme == "http" && !insecure && !isLoopback(u.Hostname()):
		return "", fmt.Errorf("URL %q: must be https, except to this machine; see InsecureHTTP",
			authURL)
	}
	return strings.TrimRight(authURL, "/"), nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func clientOf(given *http.Client) *http.Client {
	if given == nil {
		given = &http.Client{}
		if t, ok := http.DefaultTransport.(*http.Transport); ok {
			given.Transport = t.Clone()
		}
	}
	client := *given
	client.Timeout = 0
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	return &client
}

// verifierWithoutKeys returns a verifier for the time until the issuer's keys are here. A verifier
// needs a key, so it has one that nobody signs with.
func verifierWithoutKeys(cfg tokensession.AccessConfig) (*tokensession.AccessVerifier, error) {
	key, err := tokensession.GenerateKey()
	if err != nil {
		return nil, err
	}
	signer, err := tokensession.NewAccessSigner(key, cfg)
	if err != nil {
		return nil, err
	}
	return tokensession.NewAccessVerifier(signer.JWKS(), cfg)
}

// Run fetches the issuer's keys and follows what it revokes until ctx ends, and then returns nil.
// It never gives up. What goes wrong is told by events and by [Remote.Healthy].
func (r *Remote) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { r.keepKeys(ctx) })
	both.Go(func() { r.follow(ctx) })
	both.Wait()
	return nil
}

// Verify returns what an access token says, as [tokensession.Manager.Verify] does. It reads nothing
// but the memory, with one exception: if a token names a key that is not known, the keys are
// fetched again, at most every five seconds, and all requests with such a token wait for the same
// fetch.
//
// The error is [tokensession.ErrUnavailable] if it cannot tell: nothing was heard from the issuer
// yet, the keys cannot be fetched, or what is known is older than MaxAge.
func (r *Remote) Verify(accessToken string) (tokensession.Access, error) {
	if err := r.knows(); err != nil {
		return tokensession.Access{}, err
	}
	access, err := r.local.Verify(accessToken)
	if !errors.Is(err, tokensession.ErrUnknownKey) {
		return access, err
	}
	if err := r.fetchMissingKey(); err != nil {
		return tokensession.Access{}, err
	}
	return r.local.Verify(accessToken)
}

// VerifyBound is Verify for a token that is bound to a key, from a client that has proved to have
// the key with that thumbprint: see [tokensession.Manager.VerifyBound]. Require does all of this.
func (r *Remote) VerifyBound(accessToken, thumbprint string) (tokensession.Access, error) {
	if err := r.knows(); err != nil {
		return tokensession.Access{}, err
	}
	access, err := r.local.VerifyBound(accessToken, thumbprint)
	if !errors.Is(err, tokensession.ErrUnknownKey) {
		return access, err
	}
	if err := r.fetchMissingKey(); err != nil {
		return tokensession.Access{}, err
	}
	return r.local.VerifyBound(accessToken, thumbprint)
}

func (r *Remote) fetchMissingKey() error {
	if err := r.fetchUnknownKey(); err != nil {
		return fmt.Errorf("%w: fetching the issuer's keys: %v", tokensession.ErrUnavailable, err)
	}
	return nil
}

// CORS is [Handlers.CORS] for this service.
func (r *Remote) CORS(next http.Handler) http.Handler { return r.withCORS(next) }

// Require is [Handlers.Require] for this service: the same options and the same answers. [Live]
// asks the issuer's introspection endpoint.
func (r *Remote) Require(opts ...RequireOption) func(http.Handler) http.Handler {
	return r.require(opts)
}

// Access is [Handlers.Access] for this service.
func (r *Remote) Access(request *http.Request) (tokensession.Access, error) {
	if access, ok := FromContext(request.Context()); ok {
		return access, nil
	}
	return r.admit(nil, request, requirement{})
}

// Refuse is [Handlers.Refuse] for this service.
func (r *Remote) Refuse(w http.ResponseWriter, request *http.Request, err error) {
	r.refuseAccess(w, request, err)
}

// SessionContext returns a context for an open connection that ends with the access token, or when
// its session is revoked: see [tokensession.AccessVerifier.SessionContext].
//
// With [tokensession.UntilSessionEnds] it goes on for as long as newer access tokens of the session
// are verified here. When none has been, the issuer's introspection endpoint is asked whether the
// session lives, and again after each AccessTTL. The issuer's Config.MayIntrospect has to let this
// service in, or the context ends with the newest access token. An issuer that cannot be reached
// ends nothing.
func (r *Remote) SessionContext(
	ctx context.Context, a tokensession.Access, opts ...tokensession.ContextOption,
) (context.Context, context.CancelFunc) {
	return r.local.SessionContext(ctx, a, opts...)
}

// Age returns how old the knowledge of what is revoked is: the time since the issuer's own
// knowledge that was told last. While all is well it is less than half a minute. Before anything
// was told it is the longest time that there is.
func (r *Remote) Age() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.asOf.IsZero() {
		return math.MaxInt64
	}
	return max(r.Now().Sub(r.asOf), 0)
}

// Healthy returns nil if this Remote has the issuer's keys and knows what was revoked up to a
// minute ago, else an ErrUnavailable. That is so, too, if the issuer answers and cannot read its
// own store. Like [tokensession.Manager.Healthy], it is for a probe at the start and for an alarm,
// and not for readiness. It makes no request.
func (r *Remote) Healthy(context.Context) error {
	if err := r.knows(); err != nil {
		return err
	}
	if err := r.keysState(); err != nil {
		return fmt.Errorf("%w: the issuer's keys: %v", tokensession.ErrUnavailable, err)
	}
	age := r.Age()
	if age <= minMaxAge {
		return nil
	}
	r.mu.RLock()
	stale := r.stale
	r.mu.RUnlock()
	if stale == nil {
		stale = errors.New("the issuer itself knows nothing newer")
	}
	return fmt.Errorf("%w: revocations are known as of %v ago: %v",
		tokensession.ErrUnavailable, age.Round(time.Second), stale)
}

// knows returns an ErrUnavailable if nobody can be let in.
func (r *Remote) knows() error {
	r.mu.RLock()
	asOf, stale := r.asOf, r.stale
	r.mu.RUnlock()
	switch {
	case asOf.IsZero() && stale != nil:
		return fmt.Errorf("%w: nothing is known of revocations: %v",
			tokensession.ErrUnavailable, stale)
	case asOf.IsZero():
		return fmt.Errorf("%w: nothing is known of revocations: Run has not been told any yet",
			tokensession.ErrUnavailable)
	case r.cfg.MaxAge > 0 && r.Now().Sub(asOf) > r.cfg.MaxAge:
		return fmt.Errorf("%w: revocations are known as of %v, longer ago than MaxAge: %v",
			tokensession.ErrUnavailable, asOf, stale)
	}
	return nil
}

// Now returns the time by the clock that access tokens are verified with.
func (r *Remote) Now() time.Time { return r.cfg.Access.Now() }

func (r *Remote) emit(
	ctx context.Context, kind tokensession.EventKind, since time.Time, err error,
) {
	r.cfg.OnEvent(ctx, tokensession.Event{Kind: kind, At: r.Now(), Since: since, Err: err})
}
