package sessionhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A browser that can binds its session to its device. Others pass over the header.
func ExampleConfig_deviceBound() {
	sessions := newExampleManager()
	h, err := sessionhttp.New(sessions, sessionhttp.Config{
		Cookies:       true,
		DeviceBound:   sessionhttp.DeviceBoundReported, // later DeviceBoundEnforced
		DeviceExclude: []string{"/static/"},
		ProofKeys:     [][]byte{proofSecret}, // all instances have the same
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	h.Mount(mux)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.Login(w, r, "alice"); err != nil {
			h.Refuse(w, r, err)
		}
	})

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/login", nil))
	offer, _, _ := strings.Cut(w.Header().Get("Secure-Session-Registration"), ";challenge")
	fmt.Println(offer)
	// Output: (ES256);path="/auth/device"
}
