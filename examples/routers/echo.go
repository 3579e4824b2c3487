package routers

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// Echo is an application on echo, which has an adapter for middleware of net/http.
func Echo(h *sessionhttp.Handlers) http.Handler {
	e := echo.New()
	e.Any("/auth/*", echo.WrapHandler(h))
	e.POST("/login", echo.WrapHandler(login(h)))
	e.GET("/me", echo.WrapHandler(http.HandlerFunc(me)), echo.WrapMiddleware(h.Require()))
	e.GET("/live", echo.WrapHandler(http.HandlerFunc(live)),
		echo.WrapMiddleware(h.Require(sessionhttp.UntilSessionEnds())))
	e.GET("/", echo.WrapHandler(http.HandlerFunc(home)),
		echo.WrapMiddleware(h.Require(sessionhttp.Optional())))
	return e
}
