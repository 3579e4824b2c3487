//go:build unix

// Package servers starts the database servers that the tests of this module run against: each in a
// process group and a temporary folder of its own, on a free port of 127.0.0.1, and dead as soon as
// the test process is.
//
// StartPostgres, StartMariaDB and the like start a server that belongs to one test, which may kill
// and restart it. PostgresDatabase, MySQLDatabase and the like give a test an empty database on a
// server that all tests of the package share; for them the package's TestMain has to call [Run].
package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = 60 * time.Second // a slow machine under load
	stopTimeout  = 30 * time.Second
	pollInterval = 10 * time.Millisecond
	logShown     = 32 << 10 // bytes of a server's log that a failed test prints
)

// A Spec says how to run a server.
type Spec struct {
	Name   string // in messages: "postgres"
	Path   string // from [Find]
	Args   []string
	Env    []string
	Folder *Folder // working directory and log

	// Ready returns nil once the server answers. It is called again and again until then.
	Ready func(context.Context) error

	StopSignal  syscall.Signal // asks for an orderly end; default SIGTERM
	DeathSignal syscall.Signal // what the server gets when the test process dies (on Linux); default SIGKILL
}

// A Process is a server that a test has started. Its methods end the test on failure.
type Process struct {
	spec Spec
	tb   testing.TB

	mu     sync.Mutex
	pid    int
	exited chan struct{} // closed once the process has ended; nil if there is none
	result error         // what Wait returned; after exited
}

// Start starts a server and returns once it is ready. It is stopped when the test ends; a failed
// test prints its log.
func Start(tb testing.TB, spec Spec) *Process {
	tb.Helper()
	p := newProcess(spec)
	p.tb = tb
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the end of the log of %s:\n%s", spec.Name, p.log())
		}
		if err := p.end(); err != nil {
			tb.Errorf("%v", err)
		}
	})
	p.Start()
	return p
}

func newProcess(spec Spec) *Process {
	spec.StopSignal = cmp.Or(spec.StopSignal, syscall.SIGTERM)
	spec.DeathSignal = cmp.Or(spec.DeathSignal, syscall.SIGKILL)
	return &Process{spec: spec}
}

// Start starts the server again after Stop or Kill, with the same arguments, and returns once it is
// ready.
func (p *Process) Start() {
	p.tb.Helper()
	if err := p.start(); err != nil {
		p.tb.Fatalf("%v", err)
	}
}

// Stop ends the server in an orderly way and returns once it is gone.
func (p *Process) Stop() {
	p.tb.Helper()
	if err := p.stop(); err != nil {
		p.tb.Fatalf("%v", err)
	}
}

// Kill sends SIGKILL to the server and all its children and returns once they are gone.
func (p *Process) Kill() {
	p.tb.Helper()
	if err := p.kill(); err != nil {
		p.tb.Fatalf("%v", err)
	}
}

// Pid returns the process id of the running server, or 0.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// CPUTime returns how long the server and its children that still run have used processors, to the
// nanosecond on Linux, and zero elsewhere.
func (p *Process) CPUTime() time.Duration {
	pid := p.Pid()
	all := cpuTime(pid)
	for _, child := range descendants(pid) {
		all += cpuTime(child)
	}
	return all
}

func (p *Process) start() error {
	if p.Pid() != 0 {
		return fmt.Errorf("servers: %s is running already", p.spec.Name)
	}
	if err := p.spawn(); err != nil {
		return fmt.Errorf("servers: %s: %w", p.spec.Name, err)
	}
	if err := p.awaitReady(); err != nil {
		return errors.Join(fmt.Errorf("servers: %s on start: %w; the end of its log:\n%s", p.spec.Name, err, p.log()), p.kill())
	}
	return nil
}

// spawn starts the process from a thread that lives as long as the process does: the kernel sends
// the parent-death signal when the thread that forked ends, not the whole parent.
func (p *Process) spawn() error {
	log, err := os.OpenFile(p.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()

	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Dir = p.spec.Folder.Path
	cmd.Env = append(os.Environ(), p.spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = processAttributes(p.spec)

	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.mu.Lock()
			p.pid, p.exited, p.result = cmd.Process.Pid, exited, nil
			p.mu.Unlock()
		}
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.pid, p.result = 0, err
		p.mu.Unlock()
		close(exited)
	}()
	return <-started
}

func (p *Process) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		attempt, done := context.WithTimeout(ctx, 5*time.Second)
		err := p.spec.Ready(attempt)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("ended: %w", p.result)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}

func (p *Process) stop() error {
	p.mu.Lock()
	pid, exited := p.pid, p.exited
	p.mu.Unlock()
	if pid == 0 {
		return fmt.Errorf("servers: %s is not running", p.spec.Name)
	}
	signal := p.spec.StopSignal
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("servers: stop %s: %w", p.spec.Name, err)
	}
	select {
	case <-exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("servers: %s did not stop within %v of %v", p.spec.Name, stopTimeout, signal), p.kill())
	}
}

func (p *Process) kill() error {
	p.mu.Lock()
	pid, exited := p.pid, p.exited
	p.mu.Unlock()
	if pid == 0 {
		return nil
	}
	// A child may have left the process group, as PostgreSQL's do, and would keep the data folder
	// locked. The parent is stopped first, so that it has no more of them meanwhile.
	freeze(pid)
	family := append(descendants(pid), pid)
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	<-exited

	deadline := time.After(stopTimeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for _, pid := range family {
		for alive(pid) {
			select {
			case <-deadline:
				return fmt.Errorf("servers: child %d of %s lives on after SIGKILL", pid,
					p.spec.Name)
			case <-tick.C:
			}
		}
	}
	return nil
}

// end brings the process to its end, if there is one, at the end of the test.
func (p *Process) end() error {
	if p.Pid() == 0 {
		return nil
	}
	return p.stop()
}

func (p *Process) logPath() string { return filepath.Join(p.spec.Folder.Path, p.spec.Name+".log") }

// log returns the end of what the server has printed.
func (p *Process) log() string {
	f, err := os.Open(p.logPath())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logShown {
		_, _ = f.Seek(-logShown, io.SeekEnd)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// A Folder is a temporary folder and the account that owns it.
type Folder struct {
	Path    string
	account *syscall.Credential // nil: the one that runs the tests
}

// NewFolder makes a temporary folder that is removed when the test ends. Servers that refuse to run
// as root are run by the first of the accounts that exists, or else by nobody; the folder belongs
// to it. Tests that do not run as root run servers as themselves. (A folder of [testing.TB.TempDir]
// will not do: other accounts may not enter it.)
func NewFolder(tb testing.TB, name string, accounts ...string) *Folder {
	tb.Helper()
	f, err := newFolder(name, accounts)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		if err := f.remove(); err != nil {
			tb.Errorf("%v", err)
		}
	})
	return f
}

func newFolder(name string, accounts []string) (*Folder, error) {
	account, err := credential(accounts)
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp("", "tokensession-"+name+"-")
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	if account != nil {
		if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
			return nil, fmt.Errorf("servers: %w", errors.Join(err, os.RemoveAll(path)))
		}
	}
	return &Folder{Path: path, account: account}, nil
}

func (f *Folder) remove() error {
	if err := os.RemoveAll(f.Path); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	return nil
}

// Join returns the path of something in the folder.
func (f *Folder) Join(elem ...string) string {
	return filepath.Join(append([]string{f.Path}, elem...)...)
}

// Exec runs a program to its end in the folder, as the account that owns it.
func (f *Folder) Exec(path string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = f.Path
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if f.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: f.account}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("servers: %s: %w\n%s", cmd, err, out)
	}
	return nil
}

func credential(accounts []string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 || len(accounts) == 0 {
		return nil, nil
	}
	for _, name := range append(accounts, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("servers: account %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("servers: account %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("servers: none of the accounts %v and nobody exists", accounts)
}

// FreePort returns a port of 127.0.0.1 that nobody listens on. It is below the range that outgoing
// connections use: otherwise a client that keeps dialling a dead server's port might connect to
// itself, and the server could not come back.
func FreePort(tb testing.TB) int {
	tb.Helper()
	port, err := freePort()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return port
}

func freePort() (int, error) {
	const low, high = 12000, 30000
	var last error
	for range 100 {
		port := low + rand.IntN(high-low)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("servers: no free port: %w", last)
}

func localAddr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
