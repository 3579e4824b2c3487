package main

import (
	"context"
	"database/sql"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "RN10o2MRZBUXHFo1olbo8zXQRK-YeFk-tZP52Xv6xXU"

// start starts the server on a file, until the test ends or stop is called.
func start(t *testing.T, file string) (handler http.Handler, stop func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop = func() {
		cancel()
		_ = db.Close()
	}
	t.Cleanup(stop)
	handler, err = newServer(ctx, db, secret)
	if err != nil {
		t.Fatal(err)
	}
	return handler, stop
}

func TestServer_itsLoginsOutliveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions.db")
	handler, stop := start(t, file)
	login := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader("user=alice"))
	login.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	login.Header.Set("Sec-Fetch-Site", "same-origin")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, login)
	if answer.Code != http.StatusOK {
		t.Fatal(answer.Code, answer.Body)
	}
	me := func(handler http.Handler) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/me", nil)
		for _, c := range answer.Result().Cookies() {
			if c.Path == "/" {
				r.AddCookie(c)
			}
		}
		got := httptest.NewRecorder()
		handler.ServeHTTP(got, r)
		if got.Body.String() != "hello alice\n" {
			t.Errorf("%d: %s", got.Code, got.Body)
		}
	}
	me(handler)
	beside, _ := start(t, file)
	me(beside)
	stop()
	again, _ := start(t, file)
	me(again)
}

func TestNewServer_saysHowASecretIsMade(t *testing.T) {
	_, err := newServer(t.Context(), nil, "")
	if err == nil || !strings.Contains(err.Error(), "tokenkeys secret") {
		t.Error(err)
	}
}
