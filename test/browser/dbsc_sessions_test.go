//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// The browser ends and begins again. Session and key are there, the last challenge is not.
func TestChromium_keepsSessionsWhenItRestarts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	profile := filepath.Join(t.TempDir(), "profile")
	first := startProcess(t, profile)
	d := ofProcess(t, first).openDevice(l.url + "/page")
	d.fetch("POST", "/login")
	d.waitFor("creation Success", 1)
	d.fetch("GET", "/thing")
	d.waitFor("refresh Refreshed", 1)
	key := checkProof(t, l.last("/auth/device").header, []string{"alg", "jwk", "typ"}, "c1", nil)
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		if !labChallenge(w, r, "c4") {
			labInstruct(w, labInstructions)
		}
	})
	first.stop()

	again := ofProcess(t, startProcess(t, profile))
	again.expire(l, labCredential)
	before := len(l.requests("/auth/token"))
	again.open(l.url + "/page")
	all := l.requests("/auth/token")[before:]
	if len(all) != 2 || all[0].header.Get("Secure-Session-Response") != "" {
		t.Fatalf("there were %d refreshes, want one without a proof and one with it", len(all))
	}
	checkProof(t, all[1].header, []string{"alg", "typ"}, "c4", key)
}

// A second login leaves two sessions that have one credential: both refresh. Where the older one's
// refresh is answered 400, only that one is gone.
func TestChromium_keepsTheSessionOfASecondLogin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	l.register = func(w http.ResponseWriter, _ *http.Request) {
		labInstruct(w, `{"session_identifier":"s2"`+labInstructions[len(`{"session_identifier":"s1"`):])
	}
	d.fetch("POST", "/login")
	d.waitFor("creation Success", 2)
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Sec-Secure-Session-Id")
		switch {
		case id == "s1":
			w.WriteHeader(http.StatusBadRequest)
		case r.Header.Get("Secure-Session-Response") == "":
			w.Header().Set("Secure-Session-Challenge", fmt.Sprintf(`"c5";id="%s"`, id))
			w.WriteHeader(http.StatusForbidden)
		default:
			labSet(w, 600)
		}
	})
	d.b.expire(l, labCredential) // the login's request had the first one refresh
	d.fetch("GET", "/thing")
	d.waitFor("end RefreshFatalError", 1)
	d.waitFor("refresh Refreshed", 2)
	before := len(l.requests("/auth/token"))
	d.b.expire(l, labCredential)
	d.fetch("GET", "/thing")
	d.waitFor("refresh Refreshed", 3)
	for _, r := range l.requests("/auth/token")[before:] {
		if id := r.header.Get("Sec-Secure-Session-Id"); id != "s2" {
			t.Errorf("session %s refreshes still", id)
		}
	}
}

// A page's own answer takes the credential away, and the next request refreshes.
func TestChromium_refreshesWhereTheCookieWasTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	d.fetch("GET", "/thing")
	d.waitFor("refresh Refreshed", 1)
	l.mux.HandleFunc("/takes", func(w http.ResponseWriter, _ *http.Request) { labSet(w, -1) })
	d.fetch("POST", "/takes")
	before := len(l.requests("/auth/token"))
	d.fetch("GET", "/thing")
	if len(l.requests("/auth/token")) == before {
		t.Error("it does not refresh")
	}
}

// What a site can have the browser clear. The session goes with cookies and storage.
func TestChromium_forgetsWithItsCookies(t *testing.T) {
	t.Parallel()
	for what, keeps := range map[string]bool{"cookies": false, "storage": false, "cache": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			d := l.newDevice()
			l.mux.HandleFunc("/static/clear", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Clear-Site-Data", `"`+what+`"`)
			})
			d.fetch("GET", "/static/clear")
			d.fetch("GET", "/thing")
			if refreshes := l.order("/auth/token") >= 0; refreshes != keeps {
				t.Errorf("it refreshes: %t, want %t", refreshes, keeps)
			}
		})
	}
}

// A test can have the browser lose its key.
func TestChromium_forgetsWhereDevToolsSaySo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	d.loseKey(l.url, "s1")
	d.fetch("GET", "/thing")
	if l.order("/auth/token") >= 0 {
		t.Error("it refreshes")
	}
}

// A request that a page of a sibling domain makes goes with its cookies. The browser refreshes for
// it only if the instructions name that host.
func TestChromium_refreshesForSiblingDomainsThatAreNamed(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint(named), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			instructions := labInstructions
			if named {
				instructions = `{"allowed_refresh_initiators":["sibling.` + l.host + `"],` + labInstructions[1:]
			}
			l.register = func(w http.ResponseWriter, _ *http.Request) { labInstruct(w, instructions) }
			d := l.newDevice()
			d.run(chromedp.Navigate(l.sub("sibling") + "/page"))
			l.answer(labGrant)
			d.start(`fetch("` + l.url + `/thing", {credentials: "include", mode: "no-cors"})`)
			l.comes("/thing")
			if got := l.last("/thing").cookies(); len(got) == 0 {
				t.Error("the request has no cookies")
			}
			if skipped := l.last("/thing").header.Get("Secure-Session-Skipped"); skipped != "" {
				t.Errorf("the request says that it has skipped %q", skipped)
			}
			if refreshes := l.order("/auth/token") >= 0; refreshes != named {
				t.Errorf("it refreshes: %t, want %t", refreshes, named)
			}
		})
	}
}
