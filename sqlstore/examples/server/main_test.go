package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const secret = "RN10o2MRZBUXHFo1olbo8zXQRK-YeFk-tZP52Xv6xXU"

// start runs the server on a file until stop is called, and returns when it answers.
func start(t *testing.T, addr, file string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, addr, file) }()
	for {
		select {
		case err := <-done:
			t.Fatal("the server ended: ", err)
		default:
		}
		if answer, err := http.Get("http://" + addr + "/auth/jwks.json"); err == nil {
			_ = answer.Body.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error("it was told to stop: ", err)
			}
		case <-time.After(time.Minute):
			t.Error("it was told to stop, and goes on")
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// login logs alice in, and returns the answer and its cookies that go to all paths.
func login(t *testing.T, addr, password string) (*http.Response, []*http.Cookie) {
	t.Helper()
	form := url.Values{"user": {"alice"}, "password": {password}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var cookies []*http.Cookie
	for _, c := range answer.Cookies() {
		if c.Path == "/" {
			cookies = append(cookies, c)
		}
	}
	return answer, cookies
}

func get(t *testing.T, addr string, cookies []*http.Cookie) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestServer_itsLoginsOutliveARestart(t *testing.T) {
	t.Setenv("TOKENSESSION_SECRET", secret)
	file, addr := filepath.Join(t.TempDir(), "sessions.db"), freeAddr(t)
	stop := start(t, addr, file)
	if status, _ := get(t, addr, nil); status != http.StatusUnauthorized {
		t.Errorf("without a login: %d", status)
	}
	if answer, cookies := login(t, addr, "guessed"); answer.StatusCode != http.StatusForbidden || cookies != nil {
		t.Errorf("with a wrong password: %s", answer.Status)
	}
	answer, cookies := login(t, addr, "open sesame")
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	if status, body := get(t, addr, cookies); body != "hello alice\n" {
		t.Errorf("after the login: %d %s", status, body)
	}
	stop()

	defer start(t, addr, file)()
	if status, body := get(t, addr, cookies); body != "hello alice\n" {
		t.Errorf("after a restart: %d %s", status, body)
	}
}

func TestRun_saysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions.db")
	t.Setenv("TOKENSESSION_SECRET", "")
	if err := run(t.Context(), freeAddr(t), file); err == nil || !strings.Contains(err.Error(), "tokenkeys secret") {
		t.Errorf("without a secret: %v", err)
	}

	t.Setenv("TOKENSESSION_SECRET", secret)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := run(t.Context(), l.Addr().String(), file); err == nil {
		t.Error("the port is in use, and that is no error")
	}
}
