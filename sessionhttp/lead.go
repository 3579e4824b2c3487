package sessionhttp

import (
	"errors"
	"fmt"
	"html"
	"net/http"
)

// This file is about a page that leads on by itself, to where the browser wanted to go.
//
// A link in a mail is a navigation that another site's page has begun. The browser keeps Strict
// cookies to itself then, and refreshes no session that is bound to its device. A redirect changes
// nothing about that: what has begun a navigation stays the same. But a page of ours begins another
// one. So where cookies are Strict and [Resume] is asked for, such a request is answered with a
// page that leads to the same path again, and now the browser brings its cookies.
//
// It gives up a part of what Strict is for: another site's page can lead the browser to such a page
// as its user, as with Lax. It cannot post anything. It never goes in circles, because the browser
// says of the second request that this origin's page has begun it.

// fromElsewhere reports whether another origin's page has begun the navigation that a request
// belongs to.
func fromElsewhere(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	elsewhere := site == "cross-site" || site == "same-site"
	return elsewhere && r.Header.Get("Sec-Fetch-Mode") == "navigate"
}

// lacksStrict reports whether a request may have no cookies only because another site's page has
// begun it.
func (g *gate) lacksStrict(r *http.Request) bool {
	return g.resumer.path != "" && g.access.sameSite == http.SameSiteStrictMode &&
		r.Method == http.MethodGet && fromElsewhere(r) &&
		r.Header.Get("Sec-Fetch-Site") == "cross-site" &&
		r.Header.Get("Sec-Fetch-Dest") == "document" && !isPrefetch(r)
}

// lead answers a request that may have no cookies only because another site's page has begun it. It
// reports whether it has answered.
func (g *gate) lead(w http.ResponseWriter, r *http.Request, err error) bool {
	if !errors.Is(err, errNoToken) || !g.lacksStrict(r) {
		return false
	}
	to, err := resumeTarget(requestTarget(r))
	if err != nil {
		return false
	}
	leadOn(w, to)
	return true
}

// The page needs no script. Of a Content-Security-Policy, only a sandbox without scripts forbids
// what it does. The link is for that, and for browsers that are told not to be led on.
const leadingOn = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="robots" content="noindex">
<meta http-equiv="refresh" content="0;url=%[1]s"><title>…</title>
<p><a href="%[1]s">Go on</a></p></html>
`

// leadOn answers with a page that leads to a path of this origin.
func leadOn(w http.ResponseWriter, to string) {
	neverStored(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprintf(w, leadingOn, html.EscapeString(to))
}
