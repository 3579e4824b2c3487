package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/attributes"
)

// A Config says how the endpoints behave. The zero value serves programs that carry their tokens
// themselves.
type Config struct {
	// Prefix is the path of the endpoints as clients see it: "/auth" if empty. It begins with a
	// slash, and does not end with one.
	Prefix string

	// Cookies lets browsers have their tokens in cookies. Other clients are served as without.
	Cookies bool

	// InsecureCookies makes cookies without Secure, so that they travel over plain HTTP where
	// anybody can read them. It is for development on http://localhost, and for nothing else.
	InsecureCookies bool

	// SameSite says whether the cookies come along when a page of another site leads here:
	// [http.SameSiteStrictMode], which it is if zero, or [http.SameSiteLaxMode].
	//
	// Strict: never. A link in a mail opens a page with [Resume] by a page that leads on, and any
	// other page as nobody's, until the next click. Lax: with a link, but not with a form that is
	// posted, an image or a script. Either way, what changes something must be a POST, which both
	// keep out, and [http.CrossOriginProtection] refuses.
	SameSite http.SameSite

	// CookieSuffix ends the names of the cookies, after a hyphen. Two applications on one host need
	// different ones, also if they are on different ports: a browser has one jar for both, and a
	// login in one would be a logout from the other.
	CookieSuffix string

	// CrossOrigin says which other origins may send requests that change something: none if nil. It
	// is asked at each endpoint, at Login and Logout, and by Require where a cookie says who it is.
	// Require shows it a request that opens a WebSocket as a POST. Browsers say of a WebSocket only
	// its origin, which is compared with the Host header: behind a proxy that changes that, the
	// public origin has to be added as a trusted one.
	CrossOrigin *http.CrossOriginProtection

	// Origins are other origins whose pages are the host's own: "https://app.shop.example" for a
	// single-page application there, where this server is https://api.shop.example. Their scripts
	// may send requests with the cookies, read the answers (CORS), and change what the user may
	// change. The endpoints and Require see to that, and [Handlers.CORS] for the host's other
	// routes.
	//
	// They must be hosts of the same site as this server, because no browser sends SameSite cookies
	// from one site to another: of a domain that the host has for itself, like shop.example. They
	// must be https, except on localhost, where another port is another origin.
	Origins []string

	// LoginOrigins are the origins of other sites whose pages may post a login to the host's own
	// route, like "https://idp.example". It is for an identity provider that answers with
	// response_mode=form_post, and is asked by Login only. It lifts a protection: by it, another
	// site's page could log a user in as somebody else. So before it calls Login, the route checks
	// that this browser has asked for the login, by OAuth's state. A provider whose pages have the
	// Referrer-Policy no-referrer sends the origin "null", which any page can.
	LoginOrigins []string

	// Attributes returns what to remember of the device that a login or a refresh comes from, under
	// the same names each time; see [tokensession.WithAttributes]. Values are cut to 255 bytes of
	// valid UTF-8, and to less where the names are many, so that there is room for all; of more
	// than 32 names, the first in the order of the alphabet count. A refresh goes without them if
	// the session has got so many others at its login that there is no room.
	Attributes func(*http.Request) map[string]string

	// Devices lets users see and end their own sessions: it adds the endpoints GET
	// <Prefix>/sessions, DELETE <Prefix>/sessions/{id} and POST <Prefix>/sessions/revoke-others.
	Devices bool

	// AuthenticateClient checks the secret of an OAuth client (RFC 6749 section 2.3.1), which is
	// empty where the client sent none. If it is nil, clients are public: whoever sends a secret is
	// refused. An error means that it could not tell. Which sessions are a client's is not its
	// matter; see [tokensession.WithClient]. A browser that refreshes with its cookie is no client:
	// what its Authorization header has may be for a proxy.
	AuthenticateClient func(ctx context.Context, clientID, secret string) (bool, error)

	// MayIntrospect says whether who sends the request may ask about tokens (RFC 7662), by its
	// headers or its connection: it must not read the body. If it is nil, nobody may.
	MayIntrospect func(*http.Request) bool

	// Refuse is the host's own form of what Require and Handlers.Refuse answer: a page, a redirect
	// to the login, an error in the form of its API. Retry-After, the challenge and Cache-Control
	// are set when it is called, and it writes the status and the body. [Status] says which status
	// belongs to the error. If it is nil, the body is JSON like {"error":"invalid_token"}. The
	// endpoints under Prefix answer as OAuth has it in any case, and so do errors of ProofOptions.
	Refuse func(http.ResponseWriter, *http.Request, error)

	// ProofKeys are secrets of at least 32 random bytes each, which all instances share and which
	// are kept outside of the store, as in a secret manager. They make what a client has to prove
	// with its key anew: nonces and challenges. The first one makes them, and all are accepted.
	//
	// To change the secret, add the new one at the end, on every instance. Then move it to the
	// front, on every instance. Drop the old one an hour after that. There is no default: with a
	// secret made at random in each process, instances would not accept what another one has made.
	ProofKeys [][]byte

	// DPoP says whether clients that carry their tokens themselves bind them to a key: DPoPOff,
	// which it is if zero, DPoPAccepted or DPoPRequired. It needs ProofKeys.
	DPoP DPoPPolicy

	// RequestURL returns the URL of a request as clients see it, without its query, where a proxy
	// in front changes the path or the host: a proof names the URL that it was made for. If it is
	// nil, the URL is that of the request as it came in, with https or, where TLS ends at a proxy,
	// either scheme. It must not believe headers that clients could send through the proxy.
	RequestURL func(*http.Request) string

	// ProofMemory is as in [ProofConfig]: how many proofs are remembered.
	ProofMemory int

	// DeviceBound has browsers bind their sessions to their device, where they can (Device Bound
	// Session Credentials): off if zero. It needs Cookies and ProofKeys, and TLS. Begin with
	// DeviceBoundReported.
	DeviceBound DeviceBoundPolicy

	// DeviceExclude are paths, like "/static/", for which a browser does not refresh first: of
	// files that are for everybody, and those of another application on this host. What is below
	// them is excluded, too.
	DeviceExclude []string

	// MayFollow says whether who sends the request may follow what is revoked, by its headers or
	// its connection: see [Handlers.Revocations]. It tells ids of sessions, and no secret. If it is
	// nil, nobody may.
	MayFollow func(*http.Request) bool

	// OnError is told why a request was refused or failed, for a log. The error contains no token.
	// The answer never contains the error.
	OnError func(*http.Request, error)

	origins originSet // of Origins
}

func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "/auth"
	}
	if c.Prefix[0] != '/' || c.Prefix == "/" || path.Clean(c.Prefix) != c.Prefix ||
		strings.ContainsFunc(c.Prefix, notInPath) {
		return c, fmt.Errorf("sessionhttp: Config.Prefix %q: must be a clean path like \"/auth\", "+
			"of letters, digits and -._~/", c.Prefix)
	}
	if c.InsecureCookies && !c.Cookies {
		return c, errors.New("sessionhttp: Config.InsecureCookies is set, and Cookies is not")
	}
	if c.CookieSuffix != "" && !c.Cookies {
		return c, errors.New("sessionhttp: Config.CookieSuffix is set, and Cookies is not")
	}
	if len(c.CookieSuffix) > maxCookieSuffix || strings.ContainsFunc(c.CookieSuffix, notInName) {
		return c, fmt.Errorf("sessionhttp: Config.CookieSuffix %q: must be of letters, digits and hyphens, "+
			"and no longer than %d", c.CookieSuffix, maxCookieSuffix)
	}
	for _, origin := range c.LoginOrigins {
		if err := checkOrigin(origin); err != nil {
			return c, fmt.Errorf("sessionhttp: Config.LoginOrigins: %w", err)
		}
	}
	c.LoginOrigins = slices.Clone(c.LoginOrigins)
	if len(c.Origins) > 0 && !c.Cookies {
		return c, errors.New("sessionhttp: Config.Origins is set, and Cookies is not")
	}
	var err error
	if c.origins, err = newOriginSet(c.Origins); err != nil {
		return c, fmt.Errorf("sessionhttp: Config.Origins: %w", err)
	}
	if c.SameSite != 0 && !c.Cookies {
		return c, errors.New("sessionhttp: Config.SameSite is set, and Cookies is not")
	}
	switch c.SameSite {
	case 0:
		c.SameSite = http.SameSiteStrictMode
	case http.SameSiteStrictMode, http.SameSiteLaxMode:
	default:
		return c, fmt.Errorf("sessionhttp: Config.SameSite %d: must be http.SameSiteStrictMode or "+
			"http.SameSiteLaxMode: otherwise other sites' pages could act as the user", c.SameSite)
	}
	if err := c.checkDeviceBound(); err != nil {
		return c, err
	}
	c.DeviceExclude = slices.Clone(c.DeviceExclude)
	if c.CrossOrigin == nil {
		c.CrossOrigin = http.NewCrossOriginProtection()
	}
	if c.OnError == nil {
		c.OnError = func(*http.Request, error) {}
	}
	return c, nil
}

// Format prints the config without ProofKeys, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String describes the config without ProofKeys, and without functions.
func (c Config) String() string {
	return fmt.Sprintf("sessionhttp.Config{Prefix:%s Cookies:%v InsecureCookies:%v SameSite:%d "+
		"CookieSuffix:%s LoginOrigins:%q Devices:%v DPoP:%d DeviceBound:%d ProofKeys:%d REDACTED}",
		c.Prefix, c.Cookies, c.InsecureCookies, c.SameSite,
		c.CookieSuffix, c.LoginOrigins, c.Devices, c.DPoP, c.DeviceBound, len(c.ProofKeys))
}

// LogValue describes the config without ProofKeys.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// notInName reports characters that are not meant to be in a cookie's name.
func notInName(r rune) bool { return notInPath(r) || strings.ContainsRune("._~/", r) }

// notInPath reports characters that a cookie's Path or a pattern of a ServeMux could not have as
// they are.
func notInPath(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		strings.ContainsRune("-._~/", r))
}

func (c Config) resumer() resumer {
	if !c.Cookies {
		return resumer{}
	}
	return resumer{c.Prefix + resumePath, c.cookie("__Host-", "resumed", "/")}
}

// Handlers are the endpoints and the middleware of one Manager. Make them with [New]; they are safe
// for concurrent use.
type Handlers struct {
	gate

	m         *tokensession.Manager
	cfg       Config // without its ProofKeys
	proofKeys proofKeys
	refresh   cookie
	probe     cookie // shows that a page of another origin brings cookies
	binder    binder
	mux       *http.ServeMux // of the endpoints alone

	followers atomic.Int64
	packed    packing
}

// New returns the handlers of a Manager, or says which field of cfg is wrong.
func New(m *tokensession.Manager, cfg Config) (*Handlers, error) {
	if m == nil {
		return nil, errors.New("sessionhttp: New: the Manager is nil")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	proofKeys, err := newProofKeys("Config.ProofKeys", cfg.ProofKeys)
	if err != nil {
		return nil, err
	}
	dpop, err := newDPoP("Config", cfg.DPoP, cfg.ProofKeys, ProofConfig{
		RequestURL: cfg.RequestURL, Memory: cfg.ProofMemory, Now: m.Now,
	})
	if err != nil {
		return nil, err
	}
	cfg.ProofKeys = nil // they would be printed from within
	access, refresh := cfg.cookies()
	h := &Handlers{
		gate: gate{
			verifier: m, access: access, crossOrigin: cfg.CrossOrigin, origins: cfg.origins,
			onError: cfg.OnError, form: cfg.Refuse, resumer: cfg.resumer(), dpop: dpop,
			reportsSkips: cfg.DeviceBound == DeviceBoundReported,
		},
		m: m, cfg: cfg, proofKeys: proofKeys, refresh: refresh, mux: http.NewServeMux(),
		probe: cfg.cookie("__Secure-", "probe", cfg.Prefix), binder: cfg.binder(proofKeys),
	}
	h.live = func(ctx context.Context, _ string, a tokensession.Access) error { return m.Live(ctx, a) }
	h.Mount(h.mux)
	return h, nil
}

// attributes returns what the host wants to remember of a request's device, in a form that the
// Manager takes.
func (h *Handlers) attributes(r *http.Request) map[string]string {
	if h.cfg.Attributes == nil {
		return nil
	}
	return attributes.Fit(h.cfg.Attributes(r), maxAttribute)
}

// maxAttribute is how many bytes of one value are kept. A header of a request can be much longer.
const maxAttribute = 255
