package routers

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// Chi is an application on chi, whose middleware has the shape of Require.
func Chi(h *sessionhttp.Handlers) http.Handler {
	router := chi.NewRouter()
	router.Mount("/auth", h)
	router.Post("/login", login(h))
	router.With(h.Require()).Get("/me", me)
	router.With(h.Require(sessionhttp.UntilSessionEnds())).Get("/live", live)
	router.With(h.Require(sessionhttp.Optional())).Get("/", home)
	return router
}
