package routers

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// ginRequire makes a middleware of net/http one of gin. The handlers that follow run within it,
// because a context that it gives them ends when it returns. If it refuses, gin must not go on.
func ginRequire(require func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		admitted := false
		require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			admitted, c.Request = true, r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !admitted {
			c.Abort()
		}
	}
}

// Gin is an application on gin.
func Gin(h *sessionhttp.Handlers) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Any("/auth/*path", gin.WrapH(h))
	router.POST("/login", gin.WrapF(login(h)))
	router.GET("/me", ginRequire(h.Require()), gin.WrapF(me))
	router.GET("/live", ginRequire(h.Require(sessionhttp.UntilSessionEnds())), gin.WrapF(live))
	router.GET("/", ginRequire(h.Require(sessionhttp.Optional())), gin.WrapF(home))
	return router
}
