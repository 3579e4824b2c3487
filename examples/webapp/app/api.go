package app

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// echo is some API of the host.
func (a *App) echo(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "That was too much text.")
		return
	}
	answer(w, http.StatusOK, struct {
		Subject  string    `json:"subject"`
		Text     string    `json:"text"`
		IssuedAt time.Time `json:"issued_at"` // the access token's
	}{access.Subject, string(text), access.IssuedAt})
}

// addPhone lets visitors with one browser see two devices. Nobody gets the phone's tokens.
func (a *App) addPhone(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	_, err := a.sessions.Start(r.Context(), access.Subject,
		tokensession.WithAttributes(map[string]string{"device": "A phone that is not there", "ip": "203.0.113.7"}))
	if err != nil {
		a.unavailable(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// device is what the application remembers of where a session is.
func device(r *http.Request) map[string]string {
	return map[string]string{"device": deviceName(r.UserAgent()), "ip": remoteIP(r)}
}

// deviceName makes something a user recognizes of a User-Agent. The order matters: most claim to be
// others, too.
func deviceName(userAgent string) string {
	return firstIn(userAgent, "Some browser", [][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}}) +
		firstIn(userAgent, "", [][2]string{{"Android", " on Android"}, {"iPhone", " on an iPhone"}, {"iPad", " on an iPad"}, {"Windows", " on Windows"}, {"Mac OS", " on a Mac"}, {"Linux", " on Linux"}})
}

func firstIn(s, otherwise string, names [][2]string) string {
	for _, name := range names {
		if strings.Contains(s, name[0]) {
			return name[1]
		}
	}
	return otherwise
}
