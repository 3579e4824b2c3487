package sessiontest

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Origin is where a [Browser] finds the site that it visits.
const Origin = "https://app.example"

// A Browser visits one site, over HTTPS as far as the site can tell, and keeps its cookies. There
// is no network: the site's handler is called directly. It follows redirects, and says of each
// request that it comes from the site's own pages, as browsers do (Sec-Fetch-Site).
//
// It runs no script. What session.js does when a page asks for it, a refresh, is
// Post("/auth/token", nil).
type Browser struct {
	Client *http.Client // for requests of another form, whose URL begins with Origin

	t    testing.TB
	site http.Handler
	jar  *jar
}

// Browser returns a new browser, without cookies, that visits the site which a handler serves.
func (w *World) Browser(site http.Handler) *Browser {
	return w.browser(site, newJar(w.Clock))
}

func (w *World) browser(site http.Handler, jar *jar) *Browser {
	b := &Browser{t: w.t, site: site, jar: jar}
	b.Client = &http.Client{Jar: jar, Transport: direct{site}}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.browsers = append(w.browsers, b)
	return b
}

// Stolen returns another browser with a copy of all the cookies that the first one has. What either
// gets from then on, the other does not have.
func (w *World) Stolen(from *Browser) *Browser {
	return w.browser(from.site, from.jar.copy())
}

// Get gets a path of the site, as /api/me.
func (b *Browser) Get(path string) *http.Response {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

// Post posts a form to a path of the site. It may be nil.
func (b *Browser) Post(path string, form url.Values) *http.Response {
	b.t.Helper()
	return b.do(http.MethodPost, path, form)
}

func (b *Browser) do(method, path string, form url.Values) *http.Response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, Origin+path,
		strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal("sessiontest: ", err)
	}
	if len(form) > 0 {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.Client.Do(r)
	if err != nil {
		b.t.Fatal("sessiontest: ", err)
	}
	return answer
}

// direct is a transport that calls a handler. The body of its answers need not be closed.
type direct struct{ site http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		defer r.Body.Close()
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	served := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(),
		bytes.NewReader(body))
	served.Header = r.Header.Clone()
	if served.Header.Get("Sec-Fetch-Site") == "" {
		served.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	served.TLS = &tls.ConnectionState{}
	recorder := httptest.NewRecorder()
	d.site.ServeHTTP(recorder, served)
	answer := recorder.Result()
	answer.Request = r
	return answer, nil
}

// A jar is a [cookiejar.Jar] whose cookies end by the world's clock, too.
type jar struct {
	clock *Clock

	mu   sync.Mutex
	jar  *cookiejar.Jar
	seen []setCookie
}

// A setCookie is a cookie as the site has set it.
type setCookie struct {
	url    *url.URL
	cookie *http.Cookie
	ends   time.Time // zero: with the browser
}

func newJar(clock *Clock) *jar {
	cookies, _ := cookiejar.New(nil) // which returns no error
	return &jar{clock: clock, jar: cookies}
}

// SetCookies implements [http.CookieJar].
func (j *jar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range cookies {
		s := setCookie{url: u, cookie: c}
		if c.MaxAge > 0 {
			s.ends = j.clock.Now().Add(time.Duration(c.MaxAge) * time.Second)
		}
		j.seen = append(j.seen, s)
	}
	j.jar.SetCookies(u, cookies)
}

// Cookies implements [http.CookieJar].
func (j *jar) Cookies(u *url.URL) []*http.Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expire()
	return j.jar.Cookies(u)
}

// expire takes out the cookies whose time is over. One that was set again since then has its own
// time, so the newest of a name and path says it.
func (j *jar) expire() {
	type place struct{ name, path string }
	newest := map[place]setCookie{}
	for _, s := range j.seen {
		newest[place{s.cookie.Name, s.cookie.Path}] = s
	}
	for _, s := range newest {
		if !s.ends.IsZero() && !j.clock.Now().Before(s.ends) {
			over := *s.cookie
			over.MaxAge = -1
			j.jar.SetCookies(s.url, []*http.Cookie{&over})
		}
	}
}

// copy returns a jar with the same cookies.
func (j *jar) copy() *jar {
	j.mu.Lock()
	defer j.mu.Unlock()
	to := newJar(j.clock)
	to.seen = append(to.seen, j.seen...)
	for _, s := range j.seen {
		to.jar.SetCookies(s.url, []*http.Cookie{s.cookie})
	}
	return to
}

// all returns the cookies that go to the site's root.
func (j *jar) all() []*http.Cookie {
	u, _ := url.Parse(Origin + "/") // which is a URL
	return j.Cookies(u)
}
