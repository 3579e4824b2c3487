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
// Where a router or a proxy takes the prefix off the path, as [http.StripPrefix] does, it works as
// well: Config.Prefix is the path that clients see. Any other path is 404.
func (h *Handlers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, h.cfg.Prefix+"/") {
		inner := *r
		u := *r.URL
		u.Path, u.RawPath = h.cfg.Prefix+"/"+strings.TrimPrefix(r.URL.Path, "/"), ""
		inner.URL = &u
		r = &inner
	}
	h.mux.ServeHTTP(w, r)
}

// Mount puts the endpoints on a mux, under Config.Prefix: token, revoke, jwks.json; introspect and
// revocations, if somebody may; sessions, with Config.Devices; and with cookies logout, session,
// session.js, session.d.ts and resume, and with Config.DeviceBound device. The mux may have patterns for everything else, like "GET /" or "/", and
// routes of the host's own below the prefix. A method that RFC 9110 and RFC 5789 do not have is
// refused by the mux itself.
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
