// Package routers puts sessions behind four routers: net/http, chi, gin and echo. What all have in
// common is in this file. Each router's file has a handful of lines.
package routers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// login is the host's own. What it checks is not shown here.
func login(h *sessionhttp.Handlers) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.Login(w, r, "alice"); err != nil {
			h.Refuse(w, r, err)
		}
	}
}

// me is for users who are logged in.
func me(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	fmt.Fprintln(w, "hello", access.Subject)
}

// home is for everybody.
func home(w http.ResponseWriter, r *http.Request) {
	if access, ok := sessionhttp.FromContext(r.Context()); ok {
		fmt.Fprintln(w, "welcome back,", access.Subject)
		return
	}
	fmt.Fprintln(w, "welcome")
}

// live is a stream of events, which goes on until the session ends.
func live(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: hello\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
	fmt.Fprintf(w, "data: %v\n\n", tokensession.Kind(context.Cause(r.Context())))
}
