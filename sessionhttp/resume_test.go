package sessionhttp_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A pages is a site with pages that the server renders, and a browser on it.
type pages struct {
	*site
	server *httptest.Server
	client *http.Client
	asked  []string // what the browser has asked for: "GET /page"
}

func newPages(t *testing.T, cfg sessionhttp.Config, opts ...sessionhttp.RequireOption) *pages {
	t.Helper()
	cfg.Cookies = true
	p := &pages{site: newSite(t, cfg)}
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, ok := sessionhttp.FromContext(r.Context())
		if !ok {
			access.Subject = "nobody"
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(w, "%s %s %s %d", access.Subject, r.Method, r.URL.RawQuery, len(body))
	})
	opts = append(opts, sessionhttp.Resume())
	p.mux.Handle("/page", p.h.Require(opts...)(page))
	p.mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		_, err := p.h.Login(w, r, "alice")
		require.NoError(t, err)
	})
	p.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked = append(p.asked, r.Method+" "+r.URL.Path)
		p.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	p.client = p.server.Client()
	p.client.Jar, _ = cookiejar.New(nil)
	p.visit(http.MethodPost, "/login", "")
	return p
}

// visit returns the status and the body of what a browser sees in the end.
func (p *pages) visit(method, path, body string, edit ...func(*http.Request)) (int, string) {
	p.t.Helper()
	p.asked = nil
	r, err := http.NewRequest(method, p.server.URL+path, strings.NewReader(body))
	require.NoError(p.t, err)
	for _, e := range edit {
		e(r)
	}
	answer, err := p.client.Do(r)
	require.NoError(p.t, err)
	defer answer.Body.Close()
	return answer.StatusCode, bodyOf(p.t, answer)
}

// endpointCookies returns the names of those that the browser has for the endpoints.
func (p *pages) endpointCookies() []string {
	u, err := url.Parse(p.server.URL + "/auth/resume")
	require.NoError(p.t, err)
	var names []string
	for _, c := range p.client.Jar.Cookies(u) {
		names = append(names, c.Name)
	}
	return names
}

var thereAndBack = []string{"GET /page", "GET /auth/resume", "GET /page"}

func TestResume_refreshesOnTheWay(t *testing.T) {
	p := newPages(t, sessionhttp.Config{})
	p.clock.Advance(time.Hour)
	status, body := p.visit(http.MethodGet, "/page?a=b%2Fc&d=%0A", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "alice GET a=b%2Fc&d=%0A 0", body)
	require.Equal(t, thereAndBack, p.asked)
	require.Empty(t, p.causes, "it is no error")
	status, _ = p.visit(http.MethodGet, "/page", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, p.asked, 1)
}

// A form that is posted after twenty minutes arrives whole, however long it is.
func TestResume_keepsWhatIsPosted(t *testing.T) {
	for _, size := range []int{5, 5 << 20} {
		p := newPages(t, sessionhttp.Config{})
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			p.wait(20 * time.Minute)
			status, body := p.visit(method, "/page?x", strings.Repeat("x", size))
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, fmt.Sprintf("alice %s x %d", method, size), body)
			require.Equal(t, []string{method + " /page", method + " /auth/resume", method + " /page"}, p.asked)
		}
	}
}

func TestResume_onlyWhatItMay(t *testing.T) {
	p := newPages(t, sessionhttp.Config{})
	p.clock.Advance(time.Hour)
	origin := header("Origin", "https://evil.example")
	for name, c := range map[string]struct {
		method string
		edit   func(*http.Request)
		status int
	}{
		"a prefetch":          {http.MethodGet, header("Sec-Purpose", "prefetch;prerender"), 401},
		"an older prefetch":   {http.MethodGet, header("Purpose", "prefetch"), 401},
		"Firefox's prefetch":  {http.MethodGet, header("X-Moz", "prefetch"), 401},
		"another site's POST": {http.MethodPost, origin, 403},
		"a sibling's POST":    {http.MethodPost, header("Sec-Fetch-Site", "same-site"), 403},
		"a WebSocket":         {http.MethodGet, header("Upgrade", "websocket"), 401},
		"a program's token":   {http.MethodGet, func(r *http.Request) { r.Header.Del("Cookie"); bearer("x")(r) }, 400},
		"OPTIONS":             {http.MethodOptions, func(*http.Request) {}, 401},
	} {
		status, _ := p.visit(c.method, "/page", "", c.edit)
		require.Equal(t, c.status, status, name)
		if status != http.StatusOK {
			require.Len(t, p.asked, 1, name)
		}
	}
	require.Len(t, p.events.TakeKinds(), 1, "nothing but the login")
}

// A host trusts another origin's page with unsafe requests. Nevertheless they are not sent around.
func TestResume_ofATrustedOriginIsRefused(t *testing.T) {
	trusted := http.NewCrossOriginProtection()
	require.NoError(t, trusted.AddTrustedOrigin("https://app.example"))
	p := newPages(t, sessionhttp.Config{CrossOrigin: trusted})
	p.clock.Advance(time.Hour)
	status, _ := p.visit(http.MethodPost, "/page", "", header("Origin", "https://app.example"))
	require.Equal(t, http.StatusUnauthorized, status)
	require.Len(t, p.asked, 1)
}

// Whatever ended the session, the visit ends, and with Optional the page says that nobody is there.
func TestResume_endsWithAVerdict(t *testing.T) {
	for name, end := range map[string]func(*pages, string){
		"logged out":  func(p *pages, id string) { require.NoError(p.t, p.m.Revoke(ctx, id)) },
		"all revoked": func(p *pages, _ string) { _, err := p.m.RevokeSubject(ctx, "alice"); require.NoError(p.t, err) }, // cookies are kept
		"replaced":    func(p *pages, id string) { p.start(tokensession.Replacing(id)) },                                 // so are they
		"expired":     func(p *pages, _ string) { p.clock.Advance(60 * 24 * time.Hour) },
		"elsewhere":   func(p *pages, id string) { require.NoError(p.t, p.other().Revoke(ctx, id)) },
		"forgotten":   func(p *pages, _ string) { p.forget() },
	} {
		for _, optional := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", optional), func(t *testing.T) {
				var opts []sessionhttp.RequireOption
				if optional {
					opts = append(opts, sessionhttp.Optional())
				}
				p := newPages(t, sessionhttp.Config{}, opts...)
				sessions, err := p.m.Sessions(ctx, "alice")
				require.NoError(t, err)
				p.clock.Advance(time.Hour)
				end(p, sessions[0].ID)
				for range 3 {
					status, body := p.visit(http.MethodGet, "/page", "")
					if optional {
						require.Equal(t, http.StatusOK, status)
						require.Equal(t, "nobody GET  0", body)
					} else {
						require.Equal(t, http.StatusUnauthorized, status)
					}
					require.LessOrEqual(t, len(p.asked), 3)
				}
				require.Len(t, p.asked, 1, "it is not tried again and again")
			})
		}
	}
}

// wait lets time pass, also for the browser's cookie of a minute: its jar has the real clock.
func (p *pages) wait(d time.Duration) {
	p.clock.Advance(d)
	u, err := url.Parse(p.server.URL)
	require.NoError(p.t, err)
	p.client.Jar.SetCookies(u, []*http.Cookie{{Name: "__Host-resumed", Path: "/", MaxAge: -1, Secure: true}})
}

// forget has the browser lose the refresh cookie.
func (p *pages) forget() {
	u, err := url.Parse(p.server.URL + "/auth/resume")
	require.NoError(p.t, err)
	p.client.Jar.SetCookies(u, []*http.Cookie{{Name: refreshCookie, Path: "/auth", MaxAge: -1, Secure: true}})
}

func TestResume_answersAnOutageAndKeepsTheCookies(t *testing.T) {
	p := newPages(t, sessionhttp.Config{Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
		http.Error(w, "we are back soon", sessionhttp.Status(err))
	}})
	p.clock.Advance(time.Hour)
	before := p.endpointCookies()
	p.store.Down()
	status, body := p.visit(http.MethodGet, "/page", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "we are back soon\n", body)
	require.Equal(t, "GET /auth/resume", p.asked[len(p.asked)-1])
	require.Equal(t, before, p.endpointCookies())
	p.store.Clear()
	status, body = p.visit(http.MethodGet, "/auth/resume?to=/page", "") // it is loaded again
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "alice GET  0", body)
}

// A page's instance does not accept what the endpoint's instance makes: its clock is ahead or behind,
// or it does not have the key.
func TestResume_neverGoesInCircles(t *testing.T) {
	for name, clock := range map[string]time.Duration{"ahead": time.Hour, "behind": -2 * time.Hour, "another key": 0} {
		t.Run(name, func(t *testing.T) {
			p := newPages(t, sessionhttp.Config{})
			signer := p.signer
			if clock == 0 {
				signer = newSigner(t)
			}
			their := testkit.NewClockAt(p.clock.Now().Add(time.Hour + clock))
			m := newManager(t, signer, p.site.store.Store(), tokensession.Config{Now: their.Now})
			h, err := sessionhttp.New(m, sessionhttp.Config{Cookies: true})
			require.NoError(t, err)
			p.mux.Handle("/strange", h.Require(sessionhttp.Resume(), sessionhttp.Optional())(anyone))
			p.clock.Advance(time.Hour)
			for range 3 {
				status, body := p.visit(http.MethodGet, "/strange", "")
				require.Equal(t, http.StatusOK, status)
				require.Equal(t, "nobody", body)
				require.LessOrEqual(t, len(p.asked), 5)
			}
			require.Len(t, p.asked, 1)
			_, body := p.visit(http.MethodGet, "/page", "")
			require.Equal(t, "alice GET  0", body)
		})
	}
}

// A page's instance takes none of the tokens that are made, and each has run out at the next visit. A
// visit makes one token, and not one after another.
func TestResume_makesOneTokenAVisit(t *testing.T) {
	p := newPages(t, sessionhttp.Config{})
	page, err := sessionhttp.New(
		newManager(t, newSigner(t), p.site.store.Store(), tokensession.Config{Now: p.clock.Now}),
		sessionhttp.Config{Cookies: true})
	require.NoError(t, err)
	p.mux.Handle("/strange", page.Require(sessionhttp.Resume())(whoami))
	for range 5 {
		p.wait(time.Hour)
		status, _ := p.visit(http.MethodGet, "/strange", "")
		require.Equal(t, http.StatusUnauthorized, status)
		require.Equal(t, []string{"GET /strange", "GET /auth/resume", "GET /strange"}, p.asked)
	}
}

func TestResume_onlyEverLeadsToAPathOfThisOrigin(t *testing.T) {
	p := newPages(t, sessionhttp.Config{})
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, to := range []string{
		"", "page", "https://evil.example/", "//evil.example/", "/\\evil.example/", "\\\\evil.example", "/\t/evil.example",
		"/\n/evil.example", "\t//evil.example", "///evil.example", "javascript:alert(1)", "/page#x", " /page", "/a\\b",
		"/" + strings.Repeat("x", 5000), "/%zz",
	} {
		status, _ := p.visit(http.MethodGet, "/auth/resume?to="+url.QueryEscape(to), "")
		require.Equal(t, http.StatusBadRequest, status, "%q", to)
	}
	for _, to := range []string{"/", "/page", "/page?x=//evil.example", "/a//b", "/%5Cevil.example", "/@evil.example"} {
		r, err := http.NewRequest(http.MethodGet, p.server.URL+"/auth/resume?to="+url.QueryEscape(to), nil)
		require.NoError(t, err)
		answer, err := p.client.Do(r)
		require.NoError(t, err)
		answer.Body.Close()
		require.Equal(t, http.StatusSeeOther, answer.StatusCode, to)
		require.Equal(t, to, answer.Header.Get("Location"))
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	}
	status, _ := p.visit(http.MethodPost, "/auth/resume?to=/page", "", header("Sec-Fetch-Site", "cross-site"))
	require.Equal(t, http.StatusForbidden, status)
	status, _ = p.visit(http.MethodGet, "/auth/resume?to=/page", "", header("Sec-Purpose", "prefetch"))
	require.Equal(t, http.StatusBadRequest, status)
}

// Another site's page can send a browser to the endpoint as often as it likes. While the access token
// is good, that refreshes nothing.
func TestResume_ofAGoodTokenRefreshesNothing(t *testing.T) {
	p := newPages(t, sessionhttp.Config{})
	p.events.TakeKinds()
	for range 5 {
		status, body := p.visit(http.MethodGet, "/auth/resume?to=/page", "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "alice GET  0", body)
	}
	require.Empty(t, p.events.TakeKinds())
}

// Images of a page are asked for at the same time. Their refreshes get one successor.
func TestResume_atTheSameTimeIsOneRefresh(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login()
	s.clock.Advance(time.Hour)
	s.events.TakeKinds()
	successors := map[string]bool{}
	for range 5 {
		r := httptest.NewRequest(http.MethodGet, "/auth/resume?to=/image", nil)
		withCookies(cookies, accessCookie, refreshCookie)(r)
		answer := s.do(r)
		require.Equal(t, http.StatusSeeOther, answer.StatusCode)
		for _, c := range answer.Cookies() {
			if c.Name == refreshCookie {
				successors[c.Value] = true
			}
		}
	}
	require.Len(t, successors, 1)
	require.Equal(t, tokensession.EventRefreshed, s.events.TakeKinds()[0])
}

func TestResume_behindARouterThatTakesThePrefixOff(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login()
	s.mux.Handle("/app/", http.StripPrefix("/app", s.h.Require(sessionhttp.Resume())(whoami)))
	s.clock.Advance(time.Hour)
	r := httptest.NewRequest(http.MethodGet, "/app/page?x", nil)
	withCookies(cookies, accessCookie)(r)
	answer := s.do(r)
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	require.Equal(t, "/auth/resume?to=%2Fapp%2Fpage%3Fx", answer.Header.Get("Location"))
}

func TestSameSite(t *testing.T) {
	for _, mode := range []http.SameSite{0, http.SameSiteStrictMode, http.SameSiteLaxMode} {
		s := newSite(t, sessionhttp.Config{Cookies: true, SameSite: mode})
		want := max(mode, http.SameSiteLaxMode)
		if mode == 0 {
			want = http.SameSiteStrictMode
		}
		for name, c := range s.login() {
			require.Equal(t, want, c.SameSite, name)
		}
	}
	for _, cfg := range []sessionhttp.Config{
		{Cookies: true, SameSite: http.SameSiteNoneMode}, {Cookies: true, SameSite: http.SameSiteDefaultMode},
		{SameSite: http.SameSiteLaxMode},
	} {
		_, err := sessionhttp.New(newSite(t, sessionhttp.Config{}).m, cfg)
		require.ErrorContains(t, err, "Config.SameSite")
	}
}
