//go:build browser

package browser

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A lab is a server that binds browsers to their devices by hand, so that each of its answers can
// be another one. It has a site of its own, because Chromium counts signatures by site.
type lab struct {
	*tlsSite

	changing sync.Mutex
	register http.HandlerFunc // answers POST /auth/device
	refresh  http.HandlerFunc // answers POST /auth/token
}

const (
	labCredential   = "__Host-bound"
	labAttributes   = "Path=/; Secure; HttpOnly; SameSite=Strict"
	labRegistration = `(ES256);path="/auth/device";challenge="c1"`
	labInstructions = `{"session_identifier":"s1","refresh_url":"/auth/token",` +
		`"scope":{"include_site":false,"scope_specification":[` +
		`{"type":"exclude","domain":"*","path":"/static/"}]},` +
		`"credentials":[{"type":"cookie","name":"__Host-bound",` +
		`"attributes":"Path=/; Secure; HttpOnly; SameSite=Strict"}]}`
)

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{tlsSite: newTLSSite(t)}
	l.register = func(w http.ResponseWriter, _ *http.Request) { labInstruct(w, labInstructions) }
	l.refresh = labGrant
	l.mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><p>a page</p>`)
	})
	l.mux.HandleFunc("POST /login", labLogin)
	l.mux.HandleFunc("POST /auth/device", func(w http.ResponseWriter, r *http.Request) {
		l.changing.Lock()
		f := l.register
		l.changing.Unlock()
		f(w, r)
	})
	l.mux.HandleFunc("POST /auth/token", func(w http.ResponseWriter, r *http.Request) {
		l.changing.Lock()
		f := l.refresh
		l.changing.Unlock()
		f(w, r)
	})
	l.mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	return l
}

func labLogin(w http.ResponseWriter, _ *http.Request) {
	w.Header().Add("Set-Cookie", "__Secure-refresh=r; Path=/auth; Secure; HttpOnly; SameSite=Strict")
	w.Header().Add("Set-Cookie", "__Host-access=a; "+labAttributes)
	w.Header().Set("Secure-Session-Registration", labRegistration)
}

func labInstruct(w http.ResponseWriter, instructions string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(instructions))
}

// labGrant answers a refresh well: with a challenge where there is no proof, and then with the
// credential's cookie for ten minutes.
func labGrant(w http.ResponseWriter, r *http.Request) {
	if labChallenge(w, r, "c2") {
		return
	}
	labSet(w, 600)
	labInstruct(w, labInstructions)
}

// labChallenge asks for a proof where there is none.
func labChallenge(w http.ResponseWriter, r *http.Request, challenge string) bool {
	if r.Header.Get("Secure-Session-Response") != "" {
		return false
	}
	w.Header().Set("Secure-Session-Challenge", `"`+challenge+`";id="s1"`)
	w.WriteHeader(http.StatusForbidden)
	return true
}

func labSet(w http.ResponseWriter, seconds int) {
	cookie := fmt.Sprintf("%s=1; Max-Age=%d; %s", labCredential, seconds, labAttributes)
	w.Header().Add("Set-Cookie", cookie)
}

// labBroken closes the connection without an answer.
func labBroken(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// answer sets what refreshes are answered from now on.
func (l *lab) answer(f http.HandlerFunc) {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.refresh = f
}

// A device is a tab of a browser, and what the browser does about its sessions.
type device struct {
	*tab
	b *browser

	attached string // the page's session of DevTools

	mu     sync.Mutex
	events []deviceEvent
	more   chan struct{} // is closed and replaced with each event
}

// A deviceEvent is Network.deviceBoundSessionEventOccurred.
type deviceEvent struct {
	Session  string `json:"sessionId"`
	Creation *struct {
		FetchResult string `json:"fetchResult"`
	} `json:"creationEventDetails"`
	Refresh *struct {
		RefreshResult string `json:"refreshResult"`
		FetchResult   string `json:"fetchResult"`
	} `json:"refreshEventDetails"`
	Termination *struct {
		DeletionReason string `json:"deletionReason"`
	} `json:"terminationEventDetails"`
	Challenge *struct {
		ChallengeResult string `json:"challengeResult"`
	} `json:"challengeEventDetails"`
}

func (e deviceEvent) String() string {
	switch {
	case e.Creation != nil:
		return "creation " + e.Creation.FetchResult
	case e.Refresh != nil:
		return "refresh " + e.Refresh.RefreshResult
	case e.Termination != nil:
		return "end " + e.Termination.DeletionReason
	case e.Challenge != nil:
		return "challenge " + e.Challenge.ChallengeResult
	}
	return "unknown"
}

// openDevice opens a page in a new tab.
func (b *browser) openDevice(url string) *device {
	b.t.Helper()
	d := &device{tab: b.open(url), b: b, more: make(chan struct{})}
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	target := chromedp.FromContext(d.ctx).Target.TargetID
	err := b.in.wire.call("", "Target.attachToTarget",
		wireParams{"targetId": target, "flatten": true}, &attached)
	if err != nil {
		b.t.Fatal(err)
	}
	d.attached = attached.SessionID
	b.in.wire.hear(func(m wireMessage) {
		if m.SessionID == d.attached {
			d.hear(m)
		}
	})
	err = b.in.wire.call(d.attached, "Network.enableDeviceBoundSessions",
		wireParams{"enable": true}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (d *device) hear(m wireMessage) {
	if m.Method != "Network.deviceBoundSessionEventOccurred" {
		return
	}
	var e deviceEvent
	if err := json.Unmarshal(m.Params, &e); err != nil {
		d.t.Error(err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
	close(d.more)
	d.more = make(chan struct{})
}

// sessionName returns what the browser calls the session that it has registered last.
func (d *device) sessionName() string {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range slices.Backward(d.events) {
		if e.Creation != nil && e.Session != "" {
			return e.Session
		}
	}
	d.t.Fatal("the browser has registered no session")
	return ""
}

// loseKey has the browser forget a session of a site, and its key.
func (d *device) loseKey(url, id string) {
	d.t.Helper()
	host, _, _ := net.SplitHostPort(strings.TrimPrefix(url, "https://"))
	err := d.b.in.wire.call(d.attached, "Network.deleteDeviceBoundSession",
		wireParams{"key": wireParams{"site": "https://" + host, "id": id}}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.waitFor("end DevTools", 1)
}

// happened returns what has happened so far.
func (d *device) happened() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, e := range d.events {
		names = append(names, e.String())
	}
	return names
}

// waitFor waits until something has happened so often.
func (d *device) waitFor(name string, times int) {
	d.t.Helper()
	deadline := time.After(time.Minute)
	for {
		d.mu.Lock()
		more := d.more
		d.mu.Unlock()
		all := d.happened()
		n := 0
		for _, e := range all {
			if e == name {
				n++
			}
		}
		if n >= times {
			return
		}
		select {
		case <-more:
		case <-deadline:
			d.t.Fatalf("waited a minute for %d times %q; there was %q", times, name, all)
		}
	}
}

// fetch sends a request and returns its status, or the error.
func (d *device) fetch(method, path string) string {
	d.t.Helper()
	v, err := d.tryJS(fmt.Sprintf(
		`fetch(%q, {method: %q}).then((r) => String(r.status), String)`, path, method))
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return v.(string)
}

// newDevice opens a browser that is registered at the lab, without the credential's cookie.
func (l *lab) newDevice() *device {
	l.t.Helper()
	d := newBrowser(l.t).openDevice(l.url + "/page")
	if got := d.fetch("POST", "/login"); got != "200" {
		l.t.Fatalf("the login: %s", got)
	}
	d.waitFor("creation Success", 1)
	return d
}
