//go:build unix

// Package remote_test shows that services without a store learn of revocations through real proxies,
// and in other languages.
package remote_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

var ctx = context.Background()

var accessConfig = tokensession.AccessConfig{
	Issuer: "https://auth.example", Audience: []string{"https://api.example"},
}

// A fleet is some instances on one store, each a server of its own.
type fleet struct {
	tb        testing.TB
	signer    *tokensession.AccessSigner
	store     *tokensession.MemoryStore
	instances []*instance
}

type instance struct {
	*tokensession.Manager
	addr string
	stop func()
}

func newFleet(tb testing.TB, n int) *fleet {
	tb.Helper()
	key, err := tokensession.GenerateKey()
	must(tb, err)
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	must(tb, err)
	f := &fleet{tb: tb, signer: signer, store: tokensession.NewMemoryStore()}
	for range n {
		f.instances = append(f.instances, f.boot("127.0.0.1:0"))
	}
	tb.Cleanup(func() {
		for _, each := range f.instances {
			each.stop()
		}
	})
	return f
}

// boot starts an instance that knows nothing but what is in the store.
func (f *fleet) boot(addr string) *instance {
	f.tb.Helper()
	m, err := tokensession.New(f.signer, f.store, tokensession.Config{})
	must(f.tb, err)
	h, err := sessionhttp.New(m, sessionhttp.Config{
		MayFollow: func(r *http.Request) bool { return r.Header.Get("X-Service") == "api" },
	})
	must(f.tb, err)
	mux := http.NewServeMux()
	h.Mount(mux)
	listener, err := net.Listen("tcp", addr)
	must(f.tb, err)
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	running, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() { _ = server.Serve(listener) })
	both.Go(func() { _ = m.Run(running) })
	return &instance{m, listener.Addr().String(), func() {
		cancel()
		server.Close()
		both.Wait()
	}}
}

func (f *fleet) any() *instance { return f.instances[rand.IntN(len(f.instances))] }

func (f *fleet) addrs() (all []string) {
	for _, each := range f.instances {
		all = append(all, each.addr)
	}
	return all
}

func (f *fleet) start() tokensession.Tokens {
	f.tb.Helper()
	tokens, err := f.any().Start(ctx, "alice")
	must(f.tb, err)
	return tokens
}

// serviceTransport says which service it is.
type serviceTransport struct{ http.RoundTripper }

func (s serviceTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Service", "api")
	return s.RoundTripper.RoundTrip(r)
}

func newRemote(tb testing.TB, url string) *sessionhttp.Remote {
	tb.Helper()
	remote, err := sessionhttp.NewRemote(url+"/auth", sessionhttp.RemoteConfig{
		Access: accessConfig,
		Client: &http.Client{Transport: serviceTransport{http.DefaultTransport.(*http.Transport).Clone()}},
	})
	must(tb, err)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- remote.Run(running) }()
	tb.Cleanup(func() {
		stop()
		must(tb, <-ended)
	})
	return remote
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// soon requires that something becomes true within a time that no test on a busy machine exceeds.
func soon(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("never: %s", what)
		}
	}
}

func refuses(remote *sessionhttp.Remote, tokens tokensession.Tokens) bool {
	_, err := remote.Verify(tokens.AccessToken)
	return errors.Is(err, tokensession.ErrRevoked)
}

// nginx in its default settings buffers what the servers answer. Three instances behind it take
// turns, and are started anew all the time.
func TestRemote_behindNginx(t *testing.T) {
	f := newFleet(t, 3)
	nginx := servers.StartNginx(t, f.addrs()...)
	remote := newRemote(t, nginx.URL)
	soon(t, "healthy", func() bool { return remote.Healthy(ctx) == nil })
	var gone []tokensession.Tokens
	for round := range 30 {
		if round%3 == 2 {
			i := rand.IntN(len(f.instances))
			f.instances[i].stop()
			f.instances[i] = f.boot(f.instances[i].addr)
		}
		stays, goes := f.start(), f.start()
		if _, err := remote.Verify(goes.AccessToken); err != nil {
			t.Fatalf("a session that lives: %v", err)
		}
		must(t, f.any().Revoke(ctx, goes.Session.ID))
		gone = append(gone, goes)
		soon(t, "refused", func() bool { return refuses(remote, goes) })
		if _, err := remote.Verify(stays.AccessToken); err != nil {
			t.Fatalf("a session that lives: %v", err)
		}
	}
	nginx.Kill()
	for _, tokens := range gone {
		if !refuses(remote, tokens) {
			t.Fatal("forgotten while the proxy is down")
		}
	}
}

// A proxy that lets a connection through, stalls it, cuts it off in the middle of an answer, or
// holds it until the answer is complete, as chance has it.
func TestRemote_behindABadProxy(t *testing.T) {
	f := newFleet(t, 2)
	var turn atomic.Int64
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream := f.instances[turn.Add(1)%2].addr
			go badProxy(client, upstream)
		}
	}()
	remote := newRemote(t, "http://"+listener.Addr().String())
	soon(t, "healthy", func() bool { return remote.Healthy(ctx) == nil })
	for range 60 {
		stays, goes := f.start(), f.start()
		must(t, f.any().Revoke(ctx, goes.Session.ID))
		soon(t, "refused", func() bool { return refuses(remote, goes) })
		soon(t, "let in", func() bool {
			_, err := remote.Verify(stays.AccessToken)
			if errors.Is(err, tokensession.ErrRevoked) {
				t.Fatal("a session that lives is refused")
			}
			return err == nil
		})
	}
}

func badProxy(client net.Conn, upstream string) {
	defer client.Close()
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		_, _ = client.(*net.TCPConn).WriteTo(server)
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		switch rand.IntN(6) {
		case 0: // cut off in the middle
			_, _ = client.Write(buffer[:n/2])
			return
		case 1: // lost
			return
		case 2:
			time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// The follower of docs/revocations.md, in Node.js.
func TestFollower_inJavaScript(t *testing.T) {
	document, err := os.ReadFile("../../../docs/revocations.md")
	must(t, err)
	code := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(document)
	if code == nil || strings.Count(string(code[1]), "\n") > 40 {
		t.Fatal("the document has no follower of at most 40 lines")
	}
	node, err := servers.Find(servers.Binary{Name: "node", Package: "nodejs"})
	must(t, err)
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "follower.mjs"), code[1], 0o600))
	must(t, os.WriteFile(filepath.Join(folder, "main.mjs"), []byte(`
import { Follower } from "./follower.mjs";
import { createInterface } from "node:readline";
const follower = new Follower(process.argv[2] + "/auth/revocations", { "X-Service": "api" });
const end = new AbortController();
follower.run(end.signal);
for await (const line of createInterface({ input: process.stdin })) {
  console.log(String(follower.allows(JSON.parse(atob(line.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))))));
}
end.abort();
process.exit(0);
`), 0o600))
	f := newFleet(t, 3)
	nginx := servers.StartNginx(t, f.addrs()...)
	before := f.start()
	must(t, f.any().Revoke(ctx, before.Session.ID))

	command := exec.Command(node, filepath.Join(folder, "main.mjs"), nginx.URL)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	must(t, err)
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	answers := bufio.NewScanner(out)
	allows := func(tokens tokensession.Tokens) string {
		fmt.Fprintln(in, tokens.AccessToken)
		if !answers.Scan() {
			t.Fatal("the follower has ended")
		}
		return answers.Text()
	}
	soon(t, "it knows", func() bool { return allows(before) != "undefined" })
	if allows(before) != "false" {
		t.Fatal("revoked before it was started")
	}
	for range 10 {
		stays, goes := f.start(), f.start()
		if allows(stays) != "true" || allows(goes) != "true" {
			t.Fatal("a session that lives is refused")
		}
		must(t, f.any().Revoke(ctx, goes.Session.ID))
		soon(t, "refused", func() bool { return allows(goes) == "false" })
		if allows(stays) != "true" {
			t.Fatal("a session that lives is refused")
		}
	}
	changed := f.start()
	if _, err := f.any().Reauthorize(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	soon(t, "outdated", func() bool { return allows(changed) == "false" })
	next, err := f.any().Refresh(ctx, changed.RefreshToken)
	must(t, err)
	if allows(next) != "true" {
		t.Fatal("a token that was made after the change is refused")
	}
	in.Close()
	must(t, command.Wait())
}
