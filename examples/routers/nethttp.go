package routers

import (
	"net/http"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// NetHTTP is an application on net/http alone.
func NetHTTP(h *sessionhttp.Handlers) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/auth/", h)
	mux.Handle("POST /login", login(h))
	mux.Handle("GET /me", h.Require()(http.HandlerFunc(me)))
	mux.Handle("GET /live", h.Require(sessionhttp.UntilSessionEnds())(http.HandlerFunc(live)))
	mux.Handle("GET /{$}", h.Require(sessionhttp.Optional())(http.HandlerFunc(home)))
	return mux
}
