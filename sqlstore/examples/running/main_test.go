package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A program is the server, running.
type program struct {
	t    *testing.T
	url  string
	file string
	log  *lines
	stop context.CancelFunc
	done chan error
}

// lines is what has been logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func start(t *testing.T, drain time.Duration) *program {
	t.Helper()
	t.Setenv("TOKENSESSION_SECRET", "RN10o2MRZBUXHFo1olbo8zXQRK-YeFk-tZP52Xv6xXU")
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p := &program{
		t: t, url: "http://" + l.Addr().String(), log: &lines{}, stop: stop, done: make(chan error, 1),
		file: filepath.Join(t.TempDir(), "sessions.db"),
	}
	go func() { p.done <- run(ctx, l, p.file, slog.New(slog.NewTextHandler(p.log, nil)), drain) }()
	p.until("it has started", func() bool { return p.get("/probe/startup", nil) == http.StatusOK })
	t.Cleanup(stop)
	return p
}

// until waits until something is so.
func (p *program) until(what string, is func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("waited a minute until ", what)
		}
		select {
		case err := <-p.done:
			p.t.Fatal("the server has ended: ", err)
		default:
		}
	}
}

// ends waits for the end of the program, and returns what it ended with.
func (p *program) ends() error {
	p.t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(time.Minute):
		p.t.Fatal("the server does not end")
		return nil
	}
}

func (p *program) send(r *http.Request, cookies []*http.Cookie) (*http.Response, error) {
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return http.DefaultClient.Do(r)
}

// get returns the status of an answer, or 0 if there is none.
func (p *program) get(path string, cookies []*http.Cookie) int {
	r, err := http.NewRequest(http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := p.send(r, cookies)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func (p *program) login() []*http.Cookie {
	p.t.Helper()
	form := url.Values{"user": {"alice"}, "password": {"open sesame"}}
	answer, err := http.PostForm(p.url+"/login", form)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		p.t.Fatalf("the login: %s", answer.Status)
	}
	return answer.Cookies()
}

// While the database is locked, users go on, the probe for new instances says no, the one for traffic
// says yes, and the alarm is raised, and taken back.
func TestProbes_inAnOutage(t *testing.T) {
	p := start(t, 0)
	cookies := p.login()
	other, err := sql.Open("sqlite", "file:"+p.file)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.until("the database is locked", func() bool {
		_, err := conn.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
		return err == nil
	})
	for path, want := range map[string]int{
		"/probe/startup": http.StatusServiceUnavailable, "/probe/readiness": http.StatusOK,
		"/probe/liveness": http.StatusOK, "/me": http.StatusOK,
	} {
		if got := p.get(path, cookies); got != want {
			t.Errorf("%s in an outage: %d, want %d", path, got, want)
		}
	}
	p.until("the alarm is raised", func() bool { return p.log.has("cannot refresh") })
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	p.until("all is well again", func() bool { return p.log.has("well again") })
	if got := p.get("/probe/startup", nil); got != http.StatusOK {
		t.Errorf("the probe after it: %d", got)
	}
	p.stop()
	if err := p.ends(); err != nil {
		t.Error(err)
	}
}

// A server that is told to stop first says so to the load balancer, and goes on for a while. Then
// streams end, and nothing is lost.
func TestServe_endsInOrder(t *testing.T) {
	p := start(t, time.Second)
	cookies := p.login()
	r, err := http.NewRequest(http.MethodGet, p.url+"/news", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := p.send(r, cookies)
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatal(stream, err)
	}
	defer stream.Body.Close()

	p.stop()
	p.until("it is not ready", func() bool {
		return p.get("/probe/readiness", nil) == http.StatusServiceUnavailable
	})
	if got := p.get("/me", cookies); got != http.StatusOK {
		t.Errorf("a request while it drains: %d", got)
	}
	if text, err := io.ReadAll(stream.Body); err != nil || string(text) != "no news yet\n" {
		t.Errorf("the stream: %q, %v", text, err)
	}
	if err := p.ends(); err != nil {
		t.Error(err)
	}
	if got := p.get("/probe/liveness", nil); got != 0 {
		t.Errorf("it still answers: %d", got)
	}
}

// If one part fails, the others end, and the program with its error.
func TestServe_endsWhenAPartFails(t *testing.T) {
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		t.Fatal(err)
	}
	auth, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{sessions: sessions, auth: auth, log: slog.New(slog.DiscardHandler), drain: time.Hour}
	broken := errors.New("broken")
	ended := false
	err = s.serve(t.Context(), l, sessions.Run,
		func(context.Context) error { return broken },
		func(ctx context.Context) error { <-ctx.Done(); ended = true; return nil })
	if !errors.Is(err, broken) || !ended {
		t.Errorf("it ended with %v; the other part: %v", err, ended)
	}
}

// With these settings a burst of calls opens each connection once. With database/sql's own, all
// but two are closed each time.
func TestPool_keepsItsConnections(t *testing.T) {
	closed := func(configure func(*sql.DB)) int64 {
		db, err := openDatabase("file:" + filepath.Join(t.TempDir(), "sessions.db") +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		configure(db)
		for range 5 {
			var burst []*sql.Conn // all at the same time
			for range 8 {
				conn, err := db.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				burst = append(burst, conn)
			}
			for _, conn := range burst {
				_ = conn.Close() // back into the pool
			}
		}
		return db.Stats().MaxIdleClosed
	}
	if n := closed(func(*sql.DB) {}); n != 0 {
		t.Errorf("%d connections were closed", n)
	}
	if n := closed(func(db *sql.DB) { db.SetMaxIdleConns(2) }); n == 0 {
		t.Error("with two idle connections, none was closed either: this test shows nothing")
	}
}
