package app

import (
	"html/template"
	"net/http"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

var profile = template.Must(template.ParseFS(page, "page/profile.html"))

// profile is a page that the server renders. It is behind Resume, which sends the browser to
// refresh where the access token has run out, and behind Optional, so that it can say that nobody
// is logged in.
func (a *App) profile(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = profile.Execute(w, access)
}
