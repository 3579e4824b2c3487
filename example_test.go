package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// must stands for the error handling of the host.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var ctx = context.Background()

func exampleSigner() *tokensession.AccessSigner {
	return must(tokensession.NewAccessSigner(must(tokensession.GenerateKey()), tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))
}

func Example() {
	key := must(tokensession.GenerateKey()) // a server that restarts loads its key with ParseKeyPEM
	signer := must(tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))
	sessions := must(tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{}))

	// The user has logged in: your password check, passkey or identity provider.
	tokens := must(sessions.Start(ctx, "alice"))

	// Every request: no I/O.
	access := must(sessions.Verify(tokens.AccessToken))
	fmt.Println("request by", access.Subject)

	// When the access token has expired, and from as many tabs at once as there are.
	tokens = must(sessions.Refresh(ctx, tokens.RefreshToken))

	// Logout. The access token is dead, too.
	err := sessions.RevokeToken(ctx, tokens.RefreshToken)
	_, verifyErr := sessions.Verify(tokens.AccessToken)
	fmt.Println("logout:", err, "- afterwards revoked:", errors.Is(verifyErr, tokensession.ErrRevoked))
	// Output:
	// request by alice
	// logout: <nil> - afterwards revoked: true
}

// A web application in a browser.
func ExampleConfig_browser() {
	cfg := tokensession.Config{} // 15 minutes, 7 days sliding, 30 days in all, 10 seconds of grace
	_, err := tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), cfg)
	fmt.Println(err)
	// Output: <nil>
}

// A mobile application loses the network in the middle of a refresh and comes back hours later with the old token.
func ExampleConfig_mobile() {
	cfg := tokensession.Config{
		RefreshTTL:     60 * 24 * time.Hour,
		MaxLifetime:    tokensession.Unlimited,
		RecoveryPeriod: 7 * 24 * time.Hour,
	}
	_, err := tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), cfg)
	fmt.Println(err)
	// Output: <nil>
}

// Administration, money, health: NIST 800-63B-4's AAL2 asks for a login after 24 hours, and after 1 hour of inactivity.
func ExampleConfig_highSecurity() {
	cfg := tokensession.Config{
		AccessTTL:   5 * time.Minute,
		RefreshTTL:  time.Hour,
		MaxLifetime: 24 * time.Hour,
		MaxSessions: 1,
	}
	_, err := tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), cfg)
	fmt.Println(err)
	// Output: <nil>
}

// The authorizer is asked at every refresh, so a role that was taken away is gone within 15 minutes, and a disabled
// user's session ends.
func ExampleAuthorizer() {
	roles := map[string][]string{"alice": {"admin", "editor"}} // your database
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{
		Authorize: func(ctx context.Context, s tokensession.Session) (tokensession.Grant, error) {
			r, ok := roles[s.Subject]
			if !ok {
				return tokensession.Grant{}, tokensession.ErrDenied
			}
			return tokensession.Grant{Scope: "read write", Claims: map[string]any{"roles": r}}, nil
		},
	}))
	tokens := must(sessions.Start(ctx, "alice"))
	access := must(sessions.Verify(tokens.AccessToken))
	var granted []string
	err := access.Claim("roles", &granted)
	fmt.Println(access.Scope, granted, err)

	delete(roles, "alice")
	_, err = sessions.Refresh(ctx, tokens.RefreshToken)
	fmt.Println(errors.Is(err, tokensession.ErrDenied))
	// Output:
	// read write [admin editor] <nil>
	// true
}

// What an HTTP handler makes of the error: only a verdict ends the login, never a failure.
func ExampleManager_Refresh() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	refresh := func(token string) string {
		tokens, err := sessions.Refresh(ctx, token)
		var reuse *tokensession.ReuseError
		switch {
		case err == nil:
			return "200, the next token has " + fmt.Sprint(len(tokens.RefreshToken)) + " characters"
		case errors.Is(err, tokensession.ErrUnavailable):
			return "503, Retry-After: the client tries again with the same token"
		case errors.As(err, &reuse):
			return "400 invalid_grant, and tell " + reuse.Session.Subject + " that somebody else was logged in"
		case errors.Is(err, tokensession.ErrInvalidToken), errors.Is(err, tokensession.ErrExpired),
			errors.Is(err, tokensession.ErrRevoked), errors.Is(err, tokensession.ErrDenied):
			return "400 invalid_grant: log in again"
		default:
			return "500: this program passes something wrong"
		}
	}
	fmt.Println(refresh(must(sessions.Start(ctx, "alice")).RefreshToken))
	fmt.Println(refresh("tsr_guess"))
	// Output:
	// 200, the next token has 68 characters
	// 400 invalid_grant: log in again
}

// After a change of password, all sessions end but the one that changed it.
func ExampleManager_RevokeSubject() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	must(sessions.Start(ctx, "alice"))
	must(sessions.Start(ctx, "alice"))
	here := must(sessions.Start(ctx, "alice"))

	ended, err := sessions.RevokeSubject(ctx, "alice",
		tokensession.Keep(here.Session.ID), tokensession.Because("password_change"))
	fmt.Println(ended, err, len(must(sessions.Sessions(ctx, "alice"))))
	// Output: 2 <nil> 1
}

// A user signs out a device. The id comes from a form, and might be that of somebody else's session.
func ExampleManager_RevokeOwn() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	phone := must(sessions.Start(ctx, "alice"))
	other := must(sessions.Start(ctx, "bob"))
	access := must(sessions.Verify(must(sessions.Start(ctx, "alice")).AccessToken))

	for _, id := range []string{phone.Session.ID, other.Session.ID} {
		err := sessions.RevokeOwn(ctx, access.Subject, id)
		fmt.Println(err == nil, errors.Is(err, tokensession.ErrNotFound))
	}
	// Output:
	// true false
	// false true
}

// "Where you are logged in": what the host recorded of each session.
func ExampleManager_Sessions() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	must(sessions.Start(ctx, "alice", tokensession.WithAttributes(map[string]string{"device": "Firefox on Linux", "ip": "192.0.2.1"})))
	for _, s := range must(sessions.Sessions(ctx, "alice")) {
		fmt.Println(s.Attributes["device"], "from", s.Attributes["ip"])
	}
	// Output: Firefox on Linux from 192.0.2.1
}

// Run belongs beside the HTTP server, in each instance.
func ExampleManager_Run() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	running, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- sessions.Run(running) }()
	// … serve …
	stop()
	fmt.Println(<-done)
	// Output: <nil>
}

// Events go where the host's logs and counters are.
func ExampleEvent() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "session" {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{
		GracePeriod: tokensession.Strict,
		OnEvent: func(ctx context.Context, e tokensession.Event) {
			level := slog.LevelInfo
			if e.Kind == tokensession.EventReused {
				level = slog.LevelWarn
			}
			log.Log(ctx, level, "session", "event", e)
		},
	}))
	tokens := must(sessions.Start(ctx, "alice"))
	must(sessions.Refresh(ctx, tokens.RefreshToken))
	_, _ = sessions.Refresh(ctx, tokens.RefreshToken)
	// Output:
	// level=INFO msg=session event.kind=started event.subject=alice
	// level=INFO msg=session event.kind=refreshed event.subject=alice event.presented=0 event.live=0
	// level=WARN msg=session event.kind=reused event.subject=alice event.reason=reuse event.presented=0 event.live=1
}

// A service that accepts access tokens and has no store needs the public keys only.
func ExampleNewAccessVerifier() {
	signer := exampleSigner()
	sessions := must(tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{}))
	tokens := must(sessions.Start(ctx, "alice"))

	jwks := signer.JWKS() // served by the one, fetched by the other
	verifier := must(tokensession.NewAccessVerifier(jwks, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
		Leeway: 5 * time.Second, // for clocks that differ
	}))
	access, err := verifier.Verify(tokens.AccessToken)
	fmt.Println(access.Subject, err)
	// Output: alice <nil>
}

// A service fetches the keys again every few minutes, and goes on with what it has while it cannot.
func ExampleAccessVerifier_SetKeys() {
	signer := exampleSigner()
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(signer.JWKS()) }))
	defer auth.Close()

	fetch := func(ctx context.Context) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, auth.URL, nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, errors.New(resp.Status)
		}
		return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	}
	verifier := must(tokensession.NewAccessVerifier(must(fetch(ctx)), tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))

	// Beside the server: a key is published some time before it signs, so a fetch that fails does no harm.
	keepUp := func(ctx context.Context) {
		for tick := time.Tick(5 * time.Minute); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
			jwks, err := fetch(ctx)
			if err == nil {
				err = verifier.SetKeys(jwks)
			}
			if err != nil {
				slog.Error("the keys stay as they are", "err", err)
			}
		}
	}
	ending, end := context.WithCancel(ctx)
	end() // at once, here
	keepUp(ending)

	sessions := must(tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{}))
	access := must(verifier.Verify(must(sessions.Start(ctx, "alice")).AccessToken))
	fmt.Println("request by", access.Subject)
	// Output: request by alice
}

// A new key is published an hour before it signs, so that every verifier has fetched it by then. The old one goes by
// itself when its last token has expired.
func ExampleAccessSigner_Rotate() {
	signer := exampleSigner()
	next := must(tokensession.GenerateKey())
	err := signer.Rotate(next, time.Now().Add(time.Hour))
	fmt.Println(err)
	// Output: <nil>
}
