package sessionhttp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// withPages adds pages that the server renders: /page, which says who it is, and /home, which is
// for users only.
func (s *site) withPages() {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, ok := sessionhttp.FromContext(r.Context())
		if !ok {
			access.Subject = "nobody"
		}
		fmt.Fprint(w, access.Subject)
	})
	s.mux.Handle("/page", s.h.Require(sessionhttp.Resume(), sessionhttp.Optional())(page))
	s.mux.Handle("/home", s.h.Require(sessionhttp.Resume())(page))
	s.mux.Handle("/plain", s.h.Require(sessionhttp.Optional())(page))
}

// fromASite makes a request what it is if a link on another site's page has led to it.
func fromASite(r *http.Request) {
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
}

// requireLeadsTo requires a page that leads on.
func requireLeadsTo(t *testing.T, answer *http.Response, to string) {
	t.Helper()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", answer.Header.Get("Content-Type"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	body := bodyOf(t, answer)
	require.Contains(t, body, `<meta http-equiv="refresh" content="0;url=`+to+`">`)
	require.Contains(t, body, `<a href="`+to+`">`)
}

func requireGoesTo(t *testing.T, answer *http.Response, status int, to string) {
	t.Helper()
	require.Equal(t, status, answer.StatusCode)
	require.Equal(t, to, answer.Header.Get("Location"))
}

const resumePage = "/auth/resume?to=%2Fpage"

func TestLead_fromAnotherSitesLink(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.withPages()
	b := &deviceBrowser{t: t, s: s, jar: map[string]string{}}
	b.logIn()
	noCookies := func(r *http.Request) { r.Header.Del("Cookie") }
	for _, path := range []string{"/page", "/home"} {
		answer := b.send(http.MethodGet, path+"?a=1&b=%22%3E", fromASite, noCookies)
		requireLeadsTo(t, answer, path+"?a=1&amp;b=%22%3E")
		require.Equal(t, "alice", bodyOf(t, b.send(http.MethodGet, path+"?a=1&b=%22%3E")))
	}

	for name, edit := range map[string]func(*http.Request){
		"of this site":   header2("Sec-Fetch-Site", "same-site"),
		"of this origin": header2("Sec-Fetch-Site", "same-origin"),
		"of the user":    header2("Sec-Fetch-Site", "none"),
		"of an old one":  func(r *http.Request) { r.Header.Del("Sec-Fetch-Site") },
		"a script's":     header2("Sec-Fetch-Mode", "cors"),
		"an image":       header2("Sec-Fetch-Dest", "image"),
		"a frame":        header2("Sec-Fetch-Dest", "iframe"),
		"a prefetch":     header2("Sec-Purpose", "prefetch"),
		"a POST":         func(r *http.Request) { r.Method = http.MethodPost },
		"a HEAD":         func(r *http.Request) { r.Method = http.MethodHead },
		"a long path":    func(r *http.Request) { r.RequestURI = "/page?" + strings.Repeat("x", 5000) },
		"another host's": func(r *http.Request) { r.RequestURI = "//evil.example/page" },
	} {
		answer := b.send(http.MethodGet, "/page", fromASite, noCookies, edit)
		if name == "a POST" {
			require.Equal(t, http.StatusOK, answer.StatusCode)
		}
		require.Equal(t, "nobody", bodyOf(t, answer), name)
	}
	require.Equal(t, "nobody", bodyOf(t, b.send(http.MethodGet, "/plain", fromASite, noCookies)))

	lax := newSite(t, sessionhttp.Config{Cookies: true, SameSite: http.SameSiteLaxMode})
	lax.withPages()
	b.s = lax
	require.Equal(t, "nobody", bodyOf(t, b.send(http.MethodGet, "/page", fromASite, noCookies)))
}

func header2(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// The access token has run out before the trigger did, or was outdated: then the browser is sent
// back without it, and nothing is asked of the store.
func TestLead_takesTheTriggerAway(t *testing.T) {
	for method, status := range map[string]int{
		http.MethodGet: http.StatusSeeOther, http.MethodPost: http.StatusTemporaryRedirect,
	} {
		s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
		s.withPages()
		b := s.newBoundBrowser()
		s.clock.Advance(16 * time.Minute)
		requireGoesTo(t, b.send(method, "/page"), status, resumePage)
		b.requireUntouched(func() {
			s.store.Took()
			requireGoesTo(t, b.send(method, resumePage), status, "/page")
			require.Empty(t, s.store.Took())
		})
		require.NotContains(t, b.jar, triggerCookie)
		require.Equal(t, http.StatusOK, b.refresh().StatusCode) // as the browser does now
		require.Equal(t, "alice", bodyOf(t, b.send(method, "/page")))
	}
}

// A link on another site's page: the cookies come along, being Lax, and the browser does not
// refresh. A redirect would change nothing about that.
func TestLead_toABoundSession(t *testing.T) {
	cfg := deviceConfig(sessionhttp.DeviceBoundEnforced)
	cfg.SameSite = http.SameSiteLaxMode
	s := newSite(t, cfg)
	s.withPages()
	b := s.newBoundBrowser()
	s.clock.Advance(16 * time.Minute)
	b.forgetTrigger()
	requireGoesTo(t, b.send(http.MethodGet, "/page", fromASite), http.StatusSeeOther, resumePage)
	before := b.stored()
	requireLeadsTo(t, b.send(http.MethodGet, resumePage, fromASite), "/page")
	require.Equal(t, before, b.stored())
	require.Equal(t, http.StatusOK, b.refresh().StatusCode) // as the browser does now
	require.Equal(t, "alice", bodyOf(t, b.send(http.MethodGet, "/page")))
}

// A browser that cannot refresh says so, and that is no verdict. One that says nothing has lost its
// key. Whatever it is, it does not go round.
func TestLead_once(t *testing.T) {
	type edit = func(*http.Request)
	for name, c := range map[string]struct {
		edit func(b *deviceBrowser) edit
		ends bool
	}{
		"the browser cannot": {func(b *deviceBrowser) edit { return skips(b.id, "unreachable") }, false},
		"it has lost its key, and another session could not": {func(b *deviceBrowser) edit {
			return skips(b.s.newBoundBrowser().id, "unreachable")
		}, true},
		"it has lost its key": {func(*deviceBrowser) edit { return func(*http.Request) {} }, true},
	} {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprint(name, elsewhere), func(t *testing.T) {
				s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
				s.withPages()
				b := s.newBoundBrowser()
				s.clock.Advance(16 * time.Minute)
				edit := c.edit(b)
				b.forgetTrigger()
				from := func(r *http.Request) {
					edit(r)
					if elsewhere {
						fromASite(r)
					}
				}
				requireGoesTo(t, b.send(http.MethodGet, "/page", from), http.StatusSeeOther, resumePage)
				first := b.send(http.MethodGet, resumePage, from)
				if elsewhere {
					requireLeadsTo(t, first, "/page")
				} else {
					requireGoesTo(t, first, http.StatusSeeOther, "/page")
				}
				requireGoesTo(t, b.send(http.MethodGet, "/page", edit), http.StatusSeeOther, resumePage)
				second := b.send(http.MethodGet, resumePage, edit)
				if !c.ends {
					requireError(t, second, http.StatusServiceUnavailable, "temporarily_unavailable")
					require.Empty(t, second.Header["Set-Cookie"])
					require.Equal(t, http.StatusOK, b.refresh().StatusCode)
					require.Equal(t, "alice", bodyOf(t, b.send(http.MethodGet, "/page")))
					return
				}
				requireGoesTo(t, second, http.StatusSeeOther, "/page")
				require.Equal(t, "nobody", bodyOf(t, b.send(http.MethodGet, "/page", edit)))
				require.Equal(t, http.StatusUnauthorized, b.send(http.MethodGet, "/home", edit).StatusCode)
				require.Contains(t, b.jar, accessCookie, "the cookies stay, for a browser that finds its key")
				require.True(t, b.stored().RevokedAt.IsZero())
			})
		}
	}
}

// A script has set the trigger in a browser without keys.
func TestLead_aForgedTriggerCostsOneRound(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	s.withPages()
	b := s.newDeviceBrowser()
	s.clock.Advance(16 * time.Minute)
	for _, sticks := range []bool{false, true} { // also if the browser does not let go of it
		b.jar[triggerCookie] = "1"
		requireGoesTo(t, b.send(http.MethodGet, "/page"), http.StatusSeeOther, resumePage)
		requireGoesTo(t, b.send(http.MethodGet, resumePage), http.StatusSeeOther, "/page")
		if sticks {
			b.jar[triggerCookie] = "1"
		}
		requireGoesTo(t, b.send(http.MethodGet, "/page"), http.StatusSeeOther, resumePage)
		requireGoesTo(t, b.send(http.MethodGet, resumePage), http.StatusSeeOther, "/page")
		require.Equal(t, "alice", bodyOf(t, b.send(http.MethodGet, "/page")))
		s.clock.Advance(16 * time.Minute)
		delete(b.jar, "__Host-resumed")
	}
}

// Without a refresh cookie, nobody can refresh: it costs no round.
func TestLead_notWithoutARefreshCookie(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	s.withPages()
	b := s.newBoundBrowser()
	s.clock.Advance(16 * time.Minute)
	delete(b.jar, refreshCookie)
	requireGoesTo(t, b.send(http.MethodGet, "/page"), http.StatusSeeOther, resumePage)
	requireGoesTo(t, b.send(http.MethodGet, resumePage), http.StatusSeeOther, "/page")
	require.Equal(t, "nobody", bodyOf(t, b.send(http.MethodGet, "/page")))
}

// A page that is refreshed for asks a browser for its key, as any refresh does.
func TestLead_asksForAKey(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	s.withPages()
	b := s.newDeviceBrowser()
	s.clock.Advance(16 * time.Minute)
	b.send(http.MethodGet, "/page")
	b.register(offeredChallenge(t, b.send(http.MethodGet, resumePage)))
}
