package sessionhttp

import (
	"net/http"
	"strings"
)

var _ http.Handler = (*Handlers)(nil)

// ServeHTTP serves the endpoints, so that any router mounts them in one line, which sends all that
// is below Config.Prefix here:
//
//	mux.Handle("/auth/", h)                    // net/http, but see Mount
//	router.Mount("/auth", h)                   // chi
//	router.Any("/auth/*path", gin.WrapH(h))    // gin
//	e.Any("/auth/*", echo.WrapHandler(h))      // echo
//
// Config.Prefix is the path that clients see. Where a router or a proxy takes it off, or a part of
// it, as [http.StripPrefix] does, it works as well. Any other path is 404.
func (h *Handlers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mux.ServeHTTP(w, h.asClientsSeeIt(r))
}

// asClientsSeeIt returns a request with the whole prefix in its path, of which a router or a proxy
// may have taken off the beginning, or all. A prefix that ends like an endpoint, as /api/sessions,
// could be mistaken for one, so that a part counts only if an endpoint comes of it.
func (h *Handlers) asClientsSeeIt(r *http.Request) *http.Request {
	prefix := h.cfg.Prefix
	if strings.HasPrefix(r.URL.Path, prefix+"/") {
		return r
	}
	for i := 1; i < len(prefix); i++ {
		if below, ok := strings.CutPrefix(r.URL.Path, prefix[i:]+"/"); ok && prefix[i] == '/' {
			whole := withPath(r, prefix+"/"+below)
			if _, endpoint := h.mux.Handler(whole); endpoint != "" {
				return whole
			}
		}
	}
	return withPath(r, prefix+"/"+strings.TrimPrefix(r.URL.Path, "/"))
}

func withPath(r *http.Request, path string) *http.Request {
	with, u := *r, *r.URL
	u.Path, u.RawPath = path, ""
	with.URL = &u
	return &with
}

// Mount puts the endpoints on a mux, under Config.Prefix: token, revoke, jwks.json; introspect and
// revocations, if somebody may; sessions, with Config.Devices; and with cookies logout, session,
// session.js, session.d.ts and resume, and with Config.DeviceBound device. The mux may have
// patterns for everything else, like "GET /" or "/", and routes of the host's own below the prefix.
// A method that RFC 9110 and RFC 5789 do not have is refused by the mux itself.
//
// A mux compares paths with Config.Prefix as it is. Behind a proxy that takes a part of it off,
// give the Handlers to the router as a handler: see [Handlers.ServeHTTP].
func (h *Handlers) Mount(mux *http.ServeMux) {
	h.mount(mux, "/token", h.Token)
	h.mount(mux, "/revoke", h.Revoke)
	h.mount(mux, "/jwks.json", h.JWKS)
	if h.cfg.MayIntrospect != nil {
		h.mount(mux, "/introspect", h.Introspect)
	}
	if h.cfg.Devices {
		h.mount(mux, "/sessions", h.listDevices)
		h.mount(mux, "/sessions/{id}", h.endDevice)
		h.mount(mux, "/sessions/revoke-others", h.endOtherDevices)
	}
	if h.cfg.MayFollow != nil {
		h.mount(mux, "/revocations", h.Revocations)
	}
	if h.cfg.Cookies {
		h.mount(mux, "/logout", h.LogoutEndpoint)
		h.mount(mux, "/session", h.Session)
		h.mount(mux, "/session.js", h.Script)
		h.mount(mux, "/session.d.ts", h.types)
		h.mount(mux, resumePath, h.ResumeEndpoint)
	}
	if h.binder.on() {
		h.mount(mux, devicePath, h.registerDevice)
	}
}

// mount puts an endpoint on a mux for each method, those that it refuses included. A pattern
// without a method would be in conflict with a host's "GET /".
func (h *Handlers) mount(mux *http.ServeMux, endpoint string, serve http.HandlerFunc) {
	for _, method := range []string{
		http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, // HEAD comes with GET
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace,
	} {
		mux.Handle(method+" "+h.cfg.Prefix+endpoint, h.withCORS(serve))
	}
}
