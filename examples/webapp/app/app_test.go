package app_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/examples/webapp/app"
)

func newApp(t *testing.T) *httptest.Server {
	t.Helper()
	return serve(t, app.Options{HashRounds: 1})
}

func serve(t *testing.T, o app.Options) *httptest.Server {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	a, err := app.New(o, app.WithKey(key), tokensession.NewMemoryStore())
	require.NoError(t, err)
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return server
}

// A visitor is a browser without a page.
type visitor struct {
	t      *testing.T
	server *httptest.Server
	client http.Client
}

func visit(t *testing.T, server *httptest.Server) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t, server, http.Client{Jar: jar}}
}

// do sends a request and decodes the answer into dst, if there is one.
func (v *visitor) do(method, path, body string, dst any) int {
	v.t.Helper()
	req, err := http.NewRequest(method, v.server.URL+path, strings.NewReader(body))
	require.NoError(v.t, err)
	if strings.Contains(body, "=") {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36")
	resp, err := v.client.Do(req)
	require.NoError(v.t, err)
	defer resp.Body.Close()
	if dst != nil {
		require.NoError(v.t, json.NewDecoder(resp.Body).Decode(dst))
	}
	return resp.StatusCode
}

const alice = "name=alice&password=correct+horse+battery"

func (v *visitor) logIn() *visitor {
	v.t.Helper()
	require.Equal(v.t, 200, v.do("POST", "/login", alice, nil))
	return v
}

type device struct {
	ID         string
	Current    bool
	Attributes map[string]string
}

func (v *visitor) devices() []device {
	v.t.Helper()
	var list struct{ Sessions []device }
	require.Equal(v.t, 200, v.do("GET", "/auth/sessions", "", &list))
	return list.Sessions
}

func (v *visitor) calls() int {
	v.t.Helper()
	return v.do("POST", "/api/echo", "Hello", nil)
}

func TestLogin_letsCallTheAPI(t *testing.T) {
	v := visit(t, newApp(t))
	require.Equal(t, 401, v.calls())
	v.logIn()
	var echo struct{ Subject, Text string }
	require.Equal(t, 200, v.do("POST", "/api/echo", "Hello", &echo))
	require.Equal(t, "alice", echo.Subject)
	require.Equal(t, "Hello", echo.Text)
}

func TestLogin_refusesWithoutACookie(t *testing.T) {
	for name, form := range map[string]string{
		"wrong password":         "name=alice&password=staple+my+stapler",
		"prefix of the password": "name=alice&password=correct+horse+batter",
		"unknown name":           "name=mallory&password=correct+horse+battery",
		"no password":            "name=alice",
		"empty password":         "name=alice&password=",
		"no name":                "password=correct+horse+battery",
		"long password":          "name=alice&password=" + strings.Repeat("x", 129),
		"huge body":              "name=alice&password=" + strings.Repeat("x", 1<<20),
		"in the URL":             "",
	} {
		t.Run(name, func(t *testing.T) {
			v := visit(t, newApp(t))
			path := "/login"
			if form == "" {
				path += "?" + alice
			}
			status := v.do("POST", path, form, nil)
			require.Contains(t, []int{400, 401}, status)
			u, _ := url.Parse(v.server.URL)
			require.Empty(t, v.client.Jar.Cookies(u))
			require.Equal(t, 401, v.calls())
		})
	}
}

func TestLogin_limitsAttemptsOfOneName(t *testing.T) {
	v := visit(t, newApp(t))
	for range 5 {
		require.Equal(t, 401, v.do("POST", "/login", "name=alice&password=guess", nil))
	}
	require.Equal(t, 429, v.do("POST", "/login", alice, nil))
	require.Equal(t, 200, v.do("POST", "/login", "name=bob&password=staple+my+stapler", nil))
}

func TestLogin_limitsFailuresOfOneAddress(t *testing.T) {
	server := newApp(t)
	tryFrom := func(address, form string) int {
		r := httptest.NewRequest("POST", "/login", strings.NewReader(form))
		r.RemoteAddr = address + ":1234"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		server.Config.Handler.ServeHTTP(w, r)
		return w.Code
	}
	const attacker, home = "192.0.2.1", "192.0.2.2"
	for n := range 10_000 {
		want := 401
		if n >= 50 {
			want = 429
		}
		require.Equal(t, want, tryFrom(attacker, fmt.Sprintf("name=user%d&password=guess", n)))
		if n == 25 { // who knows one password gets no more guesses for it
			require.Equal(t, 200, tryFrom(attacker, "name=bob&password=staple+my+stapler"))
		}
	}
	require.Equal(t, 429, tryFrom(attacker, alice))
	for range 100 { // an office behind one address
		require.Equal(t, 200, tryFrom(home, alice))
	}
	require.Equal(t, 401, tryFrom(home, "name=alice&password=guess"))
	require.Equal(t, 200, tryFrom(home, alice))
}

func TestDevices_areSignedOutOneByOneOrAllButOne(t *testing.T) {
	server := newApp(t)
	laptop, phone, tablet := visit(t, server).logIn(), visit(t, server).logIn(), visit(t, server).logIn()
	require.Equal(t, 200, laptop.do("POST", "/demo/phone", "", nil))

	devices := laptop.devices()
	require.Len(t, devices, 4)
	require.Equal(t, map[string]string{"device": "Chrome on Linux", "ip": "127.0.0.1"}, devices[3].Attributes)
	require.True(t, devices[3].Current)
	require.False(t, devices[2].Current)

	require.Equal(t, 200, laptop.do("DELETE", "/auth/sessions/"+devices[2].ID, "", nil))
	require.Equal(t, 401, phone.calls())
	require.Equal(t, 200, tablet.calls())

	var others struct{ Ended int }
	require.Equal(t, 200, laptop.do("POST", "/auth/sessions/revoke-others", "", &others))
	require.Equal(t, 2, others.Ended)
	require.Equal(t, 401, tablet.calls())
	require.Equal(t, 401, tablet.do("POST", "/auth/sessions/revoke-others", "", nil))
	require.Len(t, laptop.devices(), 1)
}

func TestDevices_ofOthersAreNotMine(t *testing.T) {
	server := newApp(t)
	a, b := visit(t, server).logIn(), visit(t, server)
	require.Equal(t, 200, b.do("POST", "/login", "name=bob&password=staple+my+stapler", nil))
	require.Equal(t, 404, b.do("DELETE", "/auth/sessions/"+a.devices()[0].ID, "", nil))
	require.Equal(t, 404, b.do("DELETE", "/auth/sessions/no+id+at+all", "", nil))
	require.Equal(t, 200, a.calls())
}

func TestReplay_endsTheFamilyAndNoOther(t *testing.T) {
	server := newApp(t)
	v, other := visit(t, server).logIn(), visit(t, server).logIn()
	for range 2 {
		require.Equal(t, 409, v.do("POST", "/demo/replay", "", nil))
		require.Equal(t, 200, v.do("POST", "/auth/token", "", nil))
	}
	var reuse struct{ Presented, Live int }
	require.Equal(t, 200, v.do("POST", "/demo/replay", "", &reuse))
	require.Equal(t, 0, reuse.Presented)
	require.Equal(t, 2, reuse.Live)
	require.Equal(t, 401, v.calls())
	require.Equal(t, 400, v.do("POST", "/auth/token", "", nil))
	require.Equal(t, 200, other.calls())

	var events []struct {
		Number                int64
		Kind, Subject, Reason string
	}
	require.Equal(t, 200, visit(t, server).do("GET", "/demo/events", "", &events))
	after, last := events[len(events)-1], events[len(events)-2]
	require.Equal(t, "refused", after.Kind, "the page's refresh after that")
	require.Equal(t, "reused", last.Kind)
	require.Equal(t, "alice", last.Subject)
	require.Equal(t, "reuse", last.Reason)

	var none []any
	require.Equal(t, 200, v.do("GET", "/demo/events?after="+jsonNumber(after.Number), "", &none))
	require.Empty(t, none)
}

func jsonNumber(n int64) string {
	text, _ := json.Marshal(n)
	return string(text)
}

// A life is what a session's times are, in seconds from now.
type life struct {
	Access  int `json:"expires_in"`
	Refresh int `json:"refresh_expires_in"`
	Max     int `json:"session_ends_in"`
}

var (
	inRealTime   = life{15 * 60, 7 * 24 * 3600, 30 * 24 * 3600}
	inFastMotion = life{20, 120, 600}
)

// open loads the page, and returns it.
func (v *visitor) open(path string) string {
	v.t.Helper()
	resp, err := v.client.Get(v.server.URL + path)
	require.NoError(v.t, err)
	defer resp.Body.Close()
	require.Equal(v.t, 200, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(v.t, err)
	return string(body)
}

// lives checks how long the session lasts, and that it is good for something.
func (v *visitor) lives(want life, method, path string) {
	v.t.Helper()
	var got life
	require.Equal(v.t, 200, v.do(method, path, "", &got))
	require.InDelta(v.t, want.Access, got.Access, 5)
	require.InDelta(v.t, want.Refresh, got.Refresh, 5)
	require.InDelta(v.t, want.Max, got.Max, 5)
	require.Equal(v.t, 200, v.calls())
}

func TestShort_shortensTheSessionsOfItsPage(t *testing.T) {
	server := newApp(t)
	v, other := visit(t, server), visit(t, server)
	require.Contains(t, v.open("/?short"), `data-access="20" data-refresh="120" data-changed`)
	require.Contains(t, v.open("/?short"), `data-access="20" data-refresh="120">`)
	v.logIn().lives(inFastMotion, "GET", "/auth/session")
	v.lives(inFastMotion, "POST", "/auth/token")
	require.Contains(t, other.open("/"), `data-access="900" data-refresh="604800">`)
	other.logIn().lives(inRealTime, "POST", "/auth/token")
	require.Len(t, v.devices(), 2)

	require.Equal(t, 200, other.do("POST", "/auth/sessions/revoke-others", "", nil))
	require.Equal(t, 401, v.calls())
	require.Equal(t, 400, v.do("POST", "/auth/token", "", nil))
}

func TestShort_changesThePaceOfASessionButNotItsEnd(t *testing.T) {
	v := visit(t, newApp(t)).logIn()
	require.Contains(t, v.open("/"), `<a href="/?short">`)
	require.Contains(t, v.open("/?short"), `<a href="/">`)
	v.lives(inFastMotion, "POST", "/auth/token") // whose end is the earlier one, and holds while it is asked
	require.Contains(t, v.open("/"), ` data-changed`)
	v.lives(inRealTime, "POST", "/auth/token")

	v.open("/?short")
	v.logIn()
	v.open("/")
	v.lives(life{120, 120, 600}, "POST", "/auth/token") // its periods were chosen at login, and are the shorter ones
}

func TestShort_isAFlagToo(t *testing.T) {
	flags := flag.NewFlagSet("webapp", flag.ContinueOnError)
	options := app.Flags(flags)
	require.NoError(t, flags.Parse([]string{"-short", "-hash-rounds", "1"}))
	v := visit(t, serve(t, *options))
	page := v.open("/")
	require.Contains(t, page, `data-access="20" data-refresh="120">`)
	require.NotContains(t, page, "fast motion")
	v.logIn().lives(inFastMotion, "POST", "/auth/token")
}

func TestPage_hasNoScriptInIt(t *testing.T) {
	server := newApp(t)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/page/app.js": "text/javascript; charset=utf-8", "/page/style.css": "text/css; charset=utf-8",
		"/page/icon.svg": "image/svg+xml", "/auth/session.js": "text/javascript; charset=utf-8",
	} {
		resp, err := http.Get(server.URL + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode, path)
		require.Equal(t, kind, resp.Header.Get("Content-Type"), path)
		require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';")
		require.NotContains(t, string(body), "style=", path)
		if path == "/" {
			require.Contains(t, string(body), "correct horse battery")
			require.NotContains(t, string(body), "onclick")
			require.Equal(t, 1, strings.Count(string(body), "<script"))
		}
	}
	for _, path := range []string{"/page/", "/page/index.html", "/nothing"} {
		resp, err := http.Get(server.URL + path)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 404, resp.StatusCode, path)
	}
}

func TestServe_printsWhereItIs(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:8080") // or somebody else has it
	if err == nil {
		defer taken.Close()
	}
	for name, addr := range map[string]string{"any port": "localhost:0", "8080 is taken": ""} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, in := io.Pipe()
			served := make(chan error, 1)
			go func() {
				key, err := tokensession.GenerateKey()
				if err == nil {
					err = app.Serve(ctx, app.Options{Addr: addr, HashRounds: 1}, app.WithKey(key), tokensession.NewMemoryStore(), in)
				}
				in.CloseWithError(err)
				served <- err
			}()
			line := make([]byte, 100)
			n, err := out.Read(line)
			require.NoError(t, err)
			u := strings.Fields(string(line[:n]))[1]
			resp, err := http.Get(u)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, 200, resp.StatusCode)
			cancel()
			require.NoError(t, <-served)
		})
	}
}

func TestServe_saysThatAnAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer taken.Close()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	err = app.Serve(t.Context(), app.Options{Addr: taken.Addr().String(), HashRounds: 1}, app.WithKey(key), tokensession.NewMemoryStore(), io.Discard)
	require.ErrorContains(t, err, "address already in use")
}

type who struct {
	Subject, Actor, Scope string
	AuthMethods           []string `json:"auth_methods"`
}

func (v *visitor) whoAmI(path string) (who, int) {
	v.t.Helper()
	var w who
	status := v.do("GET", path, "", &w)
	return w, status
}

// Another user's rights change at once, and nobody is logged out.
func TestRights_changeAtOnce(t *testing.T) {
	server := newApp(t)
	alice, bob := visit(t, server).logIn(), visit(t, server)
	require.Equal(t, 200, bob.do("POST", "/login", "name=bob&password=staple+my+stapler", nil))
	got, status := bob.whoAmI("/api/me")
	require.Equal(t, 200, status)
	require.Equal(t, who{Subject: "bob", Scope: "notes", AuthMethods: []string{"pwd"}}, got)

	require.Equal(t, 404, alice.do("POST", "/demo/admins/mallory", "", nil))
	require.Equal(t, 200, alice.do("POST", "/demo/admins/bob", "", nil))
	_, status = bob.whoAmI("/api/me")
	require.Equal(t, 401, status, "which has the page refresh")
	require.Equal(t, 200, bob.do("POST", "/auth/token", "", nil))
	got, _ = bob.whoAmI("/api/me")
	require.Equal(t, "notes admin", got.Scope)
	require.Equal(t, 200, alice.calls())
}

func TestEmail_needsAPasswordThatIsNotOld(t *testing.T) {
	v := visit(t, newApp(t)).logIn()
	require.Equal(t, 200, v.do("POST", "/api/email", "", nil))
	require.Equal(t, 403, v.do("POST", "/auth/step-up", "password=wrong", nil))
	require.Equal(t, 400, v.do("POST", "/auth/step-up", "", nil))
	require.Equal(t, 200, v.do("POST", "/auth/step-up", "password=correct+horse+battery", nil))
	require.Equal(t, 200, v.do("POST", "/api/email", "", nil))
	require.Equal(t, 401, visit(t, v.server).do("POST", "/auth/step-up", "password=correct+horse+battery", nil))
}

func TestActAs_isBesideOnesOwnSession(t *testing.T) {
	v := visit(t, newApp(t)).logIn()
	_, status := v.whoAmI("/support/me")
	require.Equal(t, 401, status)
	require.Equal(t, 200, v.do("POST", "/demo/act/bob", "", nil))
	got, status := v.whoAmI("/support/me")
	require.Equal(t, 200, status)
	require.Equal(t, [2]string{"bob", "alice"}, [2]string{got.Subject, got.Actor})
	got, _ = v.whoAmI("/api/me")
	require.Equal(t, [2]string{"alice", ""}, [2]string{got.Subject, got.Actor})

	require.Equal(t, 200, v.do("POST", "/support/logout", "", nil))
	_, status = v.whoAmI("/support/me")
	require.Equal(t, 401, status)
	require.Equal(t, 200, v.calls(), "back again")
}

func TestLogin_canBeForgotten(t *testing.T) {
	server := newApp(t)
	for form, want := range map[string]bool{alice: true, alice + "&forget=on": false} {
		resp, err := http.Post(server.URL+"/login", "application/x-www-form-urlencoded", strings.NewReader(form))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Len(t, resp.Cookies(), 2)
		for _, c := range resp.Cookies() {
			require.Equal(t, want, c.MaxAge > 0, c.Name)
		}
	}
}
