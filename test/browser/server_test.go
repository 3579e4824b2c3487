//go:build browser

package browser

import (
	"bufio"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"time"
)

// A server is a process of the web application, with its sessions in a file.
type server struct {
	t      *testing.T
	url    string // with localhost for a host
	args   []string
	cmd    *exec.Cmd
	exited chan struct{}
}

// startServer starts the application on a free port.
func startServer(t *testing.T, secure bool, args ...string) *server {
	t.Helper()
	s := &server{t: t, args: append([]string{"-db", filepath.Join(t.TempDir(), "sessions.db"), "-hash-rounds", "1"}, args...)}
	if secure {
		s.args = append(s.args, "-tls-cert", certificate.certFile, "-tls-key", certificate.keyFile)
	}
	t.Cleanup(s.kill)
	s.start("localhost:0")
	return s
}

// restart starts the application where it was.
func (s *server) restart() {
	s.t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.start(u.Host)
}

var opened = regexp.MustCompile(`Open (\S+) in a browser`)

func (s *server) start(addr string) {
	s.t.Helper()
	path, err := webapp()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path, slices.Concat([]string{"-addr", addr}, s.args)...)
	cmd.Env = append(os.Environ(), "TOKENSESSION_SECRET=RN10o2MRZBUXHFo1olbo8zXQRK-YeFk-tZP52Xv6xXU")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = dieWithParent()
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the process dies with the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.exited = cmd, exited
	line := make(chan string, 1)
	go func() {
		first, _ := bufio.NewReader(out).ReadString('\n')
		line <- first
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case first := <-line:
		found := opened.FindStringSubmatch(first)
		if found == nil {
			s.t.Fatalf("the web application says %q", first)
		}
		s.url = found[1]
	case <-time.After(time.Minute):
		s.t.Fatal("the web application does not start")
	}
}

// kill ends the process as a power failure would.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// wait waits for what another goroutine has to do.
func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("waited a minute for %s", what)
	}
}
