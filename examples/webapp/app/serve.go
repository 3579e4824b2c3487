package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// Options say where the application listens, and how long things last.
type Options struct {
	Addr              string // "" tries localhost:8080, and then any free port
	CertFile, KeyFile string // for HTTPS

	Pace // of a page without ?short

	HashRounds int           // how much work a password's hash is
	ProofAge   time.Duration // how old the password may be for a change of the e-mail address: 1m

	ProofKey []byte // sessionhttp's ProofKeys has it; nil makes one that goes with the process
}

// Flags adds the options to a flag set.
func Flags(flags *flag.FlagSet) *Options {
	o := new(Options)
	flags.StringVar(&o.Addr, "addr", "",
		"where to listen (localhost:8080, or any free port if that is taken)")
	flags.StringVar(&o.CertFile, "tls-cert", "", "serve HTTPS with this certificate, in PEM")
	flags.StringVar(&o.KeyFile, "tls-key", "", "the certificate's private key, in PEM")
	flags.DurationVar(&o.Access, "access", 0, "life of an access token (15m)")
	flags.DurationVar(&o.Refresh, "refresh", 0, "life of a session that is not refreshed (168h)")
	flags.DurationVar(&o.Max, "max", 0, "life of a session at most (720h)")
	flags.IntVar(&o.HashRounds, "hash-rounds", 600_000, "how much work a password's hash is; the default is what OWASP asks for PBKDF2 with SHA-256")
	flags.DurationVar(&o.ProofAge, "proof", time.Minute,
		"how long a password counts for a change of the e-mail address")
	flags.BoolFunc("short", "the same as -access 20s -refresh 2m -max 10m, for watching; /?short in a browser does it for that one", func(string) error {
		o.Pace = fast
		return nil
	})
	return o
}

// Serve runs the application until ctx ends.
func Serve(ctx context.Context, o Options, sign Signer, store tokensession.RefreshStore, out io.Writer) error {
	a, err := New(o, sign, store)
	if err != nil {
		return err
	}
	listener, err := listen(o.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: a, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	server.RegisterOnShutdown(a.live.close)

	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { _ = a.sessions.Run(ctx) }) // learns of revocations elsewhere, and sweeps; ends with ctx
	background.Go(func() {
		<-ctx.Done()
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		_ = server.Shutdown(grace)
	})
	defer background.Wait()
	defer cancel()

	fmt.Fprintf(out, "Open %s in a browser. Ctrl+C ends it.\n", o.url(listener.Addr()))
	if o.CertFile != "" {
		err = server.ServeTLS(listener, o.CertFile, o.KeyFile)
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func listen(addr string) (net.Listener, error) {
	if addr != "" {
		return net.Listen("tcp", addr)
	}
	listener, err := net.Listen("tcp", "localhost:8080")
	if errors.Is(err, syscall.EADDRINUSE) {
		return net.Listen("tcp", "localhost:0")
	}
	return listener, err
}

// url says localhost of whatever listens on this machine only: browsers treat it as secure.
func (o Options) url(addr net.Addr) string {
	scheme := "http"
	if o.CertFile != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip.IsLoopback() || ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
