package sessionclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	defaultRefreshBefore  = time.Minute
	defaultRefreshTimeout = 4 * time.Second
	maxRefreshTimeout     = 7 * time.Second // leaves time for a second attempt within retryWindow
)

// A Config says how a [Transport] works. The zero value is a good one where the program's requests go to the
// origin of its token endpoint. [New] copies and validates it.
type Config struct {
	// Origins are the origins that get the access token, such as "https://api.example" or "http://localhost:8080": the
	// token endpoint's if there are none. If there are any, the token endpoint's has to be among them to get it.
	Origins []string

	// ClientID is sent with each refresh, as a public client's is (RFC 6749 section 3.2.1), if it is not empty.
	ClientID string

	// RefreshBefore is how long before its expiry an access token is refreshed: 1 minute if 0, and never more than a
	// quarter of its lifetime, as far as that is known. A request that finds the token in this state waits for the
	// refresh, for a second at most. If it takes longer or fails for now, the request goes with the token there is, and
	// after a failure others do so for some time.
	RefreshBefore time.Duration

	// RefreshTimeout is how long one attempt to refresh may take: 4 seconds if 0, 7 at most. There may be five, and
	// the last one begins at most 8 seconds after the first. If one may have been applied though its answer is lost, they go
	// on until 8 seconds after the first such one, however many they are. A request that cannot do without the new token
	// waits for them all.
	RefreshTimeout time.Duration

	// Base sends the requests, and the refreshes, of which it must not follow redirects: [http.DefaultTransport] if nil.
	Base http.RoundTripper

	// OnSessionEnd is told that the session is over and the user has to log in again: once, whatever number of requests
	// meets it. The error is an [ErrSessionEnded]. It is called in another goroutine, before the requests that wait for
	// the refresh return, and must not block. It may use the Transport and its store.
	OnSessionEnd func(error)

	// OnError is told of a refresh that failed for now, which some requests may not notice, and of tokens that could
	// not be saved: they are used, and saving them is tried again at later requests and by [Transport.Wait]. If they
	// never are, the next start of the program finds a consumed refresh token. It is called as OnSessionEnd is, and
	// perhaps by several goroutines.
	OnError func(error)

	// Now is the clock; time.Now if nil.
	Now func() time.Time

	// InsecureAllowPlainHTTP lets the tokens travel over http, where everybody on the way can read them. Loopback
	// addresses and localhost need no permission.
	InsecureAllowPlainHTTP bool
}

// New returns a Transport that refreshes at a token endpoint, such as "https://auth.example/token", and keeps
// its tokens in a store, or says what is wrong.
func New(tokenURL string, store TokenStore, cfg Config) (*Transport, error) {
	if store == nil {
		return nil, errors.New("sessionclient: New: store is nil")
	}
	endpoint, err := cfg.parseURL(tokenURL)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: New: tokenURL %w", err)
	}
	origins := map[string]bool{}
	for _, text := range cfg.Origins {
		u, err := cfg.parseURL(text)
		if err != nil {
			return nil, fmt.Errorf("sessionclient: Config.Origins: %w", err)
		}
		if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery {
			return nil, fmt.Errorf("sessionclient: Config.Origins: %q: must end after the host or port", text)
		}
		origins[originOf(u)] = true
	}
	if len(origins) == 0 {
		origins[originOf(endpoint)] = true
	}
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("sessionclient: Config.%w", err)
	}
	made := &core{
		tokenURL: endpoint.String(), store: store, cfg: cfg, origins: origins,
		state: state{renewed: map[string]renewal{}},
	}
	return &Transport{func() *core { return made }}, nil
}

func (c Config) withDefaults() (Config, error) {
	c.Origins = nil
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
		return c, fmt.Errorf("RefreshTimeout %v: must be from 0 to %v", c.RefreshTimeout, maxRefreshTimeout)
	}
	return c, nil
}

// parseURL refuses what tokens may not be sent to. Its errors show no user information.
func (c Config) parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.User != nil:
		return nil, errors.New("has user information")
	case originOf(u) == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q: must begin with https:// and a host", text)
	case u.Fragment != "":
		return nil, fmt.Errorf("%q: has a fragment", text)
	case u.Scheme == "http" && !c.InsecureAllowPlainHTTP && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("%q: plain http needs InsecureAllowPlainHTTP, except to a loopback address", text)
	}
	return u, nil
}

func isLoopback(host string) bool {
	if asciiLower(host) == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
