package sessionclient

import (
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultRefreshBefore  = time.Minute
	defaultRefreshTimeout = 4 * time.Second

	// maxRefreshTimeout is shorter than retryWindow. If the first attempt takes all of its time,
	// there is still time for a second one.
	maxRefreshTimeout = 7 * time.Second
)

// A Config says how a [Transport] works. The zero value is good for a program that sends its
// requests to the origin of its token endpoint. [New] copies and validates it.
type Config struct {
	// Origins are the origins that get the access token, such as "https://api.example" or
	// "http://localhost:8080". If there are none, the token endpoint's origin gets it. If there are
	// any, the token endpoint's origin gets it only if it is one of them.
	Origins []string

	// RevokeURL is the revocation endpoint (RFC 7009), which [Transport.Logout] needs. If it is
	// empty and the token endpoint's path ends in /token, it is the same URL with /revoke in place
	// of that, as package sessionhttp has it.
	RevokeURL string

	// ClientID is sent with each refresh and each logout, as a public client's is (RFC 6749 section
	// 3.2.1), if it is not empty.
	ClientID string

	// Key is the key that tokens are bound to (DPoP, RFC 9449), if it is not nil. It is of P-256 or
	// Ed25519. It may be in a file ([LoadKey]), in a TPM, in a smart card or in the system's
	// keychain, and MUST be safe for concurrent use. See [Transport] for what a key changes.
	Key crypto.Signer

	// RefreshBefore is how long before its expiry an access token is refreshed: 1 minute if 0. It
	// is never more than a quarter of the token's lifetime, if that is known. A request that finds
	// the token in this state waits for the refresh, but for a second at most. If the refresh takes
	// longer or fails for now, the request goes with the old token, which is still good. After a
	// failure, requests do so for some time without trying another refresh.
	RefreshBefore time.Duration

	// RefreshTimeout is how long one attempt to refresh may take: 4 seconds if 0, and 7 at most.
	// There are at most five attempts, and the last one begins at most 8 seconds after the first.
	// If the server may have applied an attempt although its answer is lost, the attempts go on
	// until 8 seconds after the first such one, however many they are. A request that cannot do
	// without the new token waits for all of them.
	RefreshTimeout time.Duration

	// Base sends the requests and the refreshes: [http.DefaultTransport] if nil. It must not follow
	// redirects. If a refresh is not answered in time, its idle connections are closed, if it has a
	// method CloseIdleConnections, because they may be dead.
	Base http.RoundTripper

	// OnSessionEnd is called when the session is over and the user has to log in again. It is
	// called once for each session, however many requests meet the end. The error is an
	// [ErrSessionEnded]. It runs in another goroutine, before the requests that wait for the
	// refresh return, and must not block. It may use the Transport and its store.
	OnSessionEnd func(error)

	// OnError is called with the error of a refresh that failed for now, which some requests do not
	// notice. It is also called when the store does not take new tokens. They are used
	// nevertheless, and later requests and [Transport.Wait] try again to save them. If they are
	// never saved, the next start of the program finds a consumed refresh token. OnError is called
	// as OnSessionEnd is, and perhaps by several goroutines at once.
	OnError func(error)

	// Now is the clock; time.Now if nil.
	Now func() time.Time

	// InsecureAllowPlainHTTP lets the tokens travel over http, where everybody on the way can read
	// them. Loopback addresses and localhost need no permission.
	InsecureAllowPlainHTTP bool
}

// Format prints the Config without its Key, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String describes the Config without its Key.
func (c Config) String() string {
	return fmt.Sprintf("sessionclient.Config{Origins:%q ClientID:%q Key:%T REDACTED}",
		c.Origins, c.ClientID, c.Key)
}

// LogValue describes the Config without its Key.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// New returns a Transport that refreshes at a token endpoint, such as
// "https://auth.example/auth/token", and keeps its tokens in the store. It returns an error that
// says which argument is wrong.
func New(tokenURL string, store TokenStore, cfg Config) (*Transport, error) {
	if store == nil {
		return nil, errors.New("sessionclient: New: store is nil")
	}
	endpoint, err := cfg.parseURL(tokenURL)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: New: tokenURL %w", err)
	}
	origins, err := cfg.originsFor(endpoint)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: Config.Origins: %w", err)
	}
	revokeURL, err := cfg.revokeURLFor(endpoint)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: Config.RevokeURL %w", err)
	}
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("sessionclient: Config.%w", err)
	}
	prover, err := cfg.proverFor(endpoint)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: Config.Key: %w", err)
	}
	made := &core{
		tokenURL: endpoint.String(), revokeURL: revokeURL, store: store, cfg: cfg,
		origins: origins, prover: prover,
		state: state{replaced: map[string]replacement{}},
	}
	return &Transport{func() *core { return made }}, nil
}

// proverFor returns what proves the key, or nil if there is none.
func (c Config) proverFor(endpoint *url.URL) (*prover, error) {
	if c.Key == nil {
		return nil, nil
	}
	if _, _, err := proofTarget(&http.Request{URL: endpoint}); err != nil {
		return nil, fmt.Errorf("a proof for the token endpoint: %w", err)
	}
	return newProver(c.Key, c.Base, c.Now)
}

// originsFor returns the origins that get the token, in the form of originOf.
func (c Config) originsFor(endpoint *url.URL) (map[string]bool, error) {
	origins := map[string]bool{}
	for _, text := range c.Origins {
		u, err := c.parseURL(text)
		if err != nil {
			return nil, err
		}
		if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery {
			return nil, fmt.Errorf("%q: must end after the host or port", text)
		}
		origins[originOf(u)] = true
	}
	if len(origins) == 0 {
		origins[originOf(endpoint)] = true
	}
	return origins, nil
}

// revokeURLFor returns the URL of the revocation endpoint, or "" if it is not known.
func (c Config) revokeURLFor(endpoint *url.URL) (string, error) {
	if c.RevokeURL != "" {
		u, err := c.parseURL(c.RevokeURL)
		if err != nil {
			return "", err
		}
		return u.String(), nil
	}
	path, ok := strings.CutSuffix(endpoint.Path, "/token")
	if !ok || endpoint.RawPath != "" || endpoint.RawQuery != "" {
		return "", nil
	}
	u := url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host, Path: path + "/revoke"}
	return u.String(), nil
}

func (c Config) withDefaults() (Config, error) {
	c.Origins = nil // the caller's slice may change; the Transport has its own map
	if c.RefreshBefore == 0 {
		c.RefreshBefore = defaultRefreshBefore
	}
	if c.RefreshTimeout == 0 {
		c.RefreshTimeout = defaultRefreshTimeout
	}
	if c.Base == nil {
		c.Base = http.DefaultTransport
	}
	if c.OnSessionEnd == nil {
		c.OnSessionEnd = func(error) {}
	}
	if c.OnError == nil {
		c.OnError = func(error) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.RefreshBefore < 0:
		return c, fmt.Errorf("RefreshBefore %v: cannot be negative", c.RefreshBefore)
	case c.RefreshTimeout < 0 || c.RefreshTimeout > maxRefreshTimeout:
		return c, fmt.Errorf("RefreshTimeout %v: must be from 0 to %v",
			c.RefreshTimeout, maxRefreshTimeout)
	}
	return c, nil
}
