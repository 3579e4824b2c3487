package tokensession_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A login form has a box "remember me".
func ExampleWithLifetimes() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	remember := false

	var opts []tokensession.StartOption
	if !remember {
		opts = append(opts, tokensession.Transient(), tokensession.WithLifetimes(2*time.Hour, 12*time.Hour))
	}
	tokens, err := sessions.Start(ctx, "alice", opts...)

	s := tokens.Session
	fmt.Println(err, s.Transient, s.ExpiresAt.Sub(s.CreatedAt), s.MaxExpiresAt.Sub(s.CreatedAt))
	// Output: <nil> true 2h0m0s 12h0m0s
}

// An administrator gives bob other rights.
func ExampleManager_Reauthorize() {
	admins := map[string]bool{}
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{
		Authorize: func(_ context.Context, s tokensession.Session) (tokensession.Grant, error) {
			if admins[s.Subject] {
				return tokensession.Grant{Scope: "read admin"}, nil
			}
			return tokensession.Grant{Scope: "read"}, nil
		},
	}))
	tokens := must(sessions.Start(ctx, "bob"))

	admins["bob"] = true // first the rights
	n, err := sessions.Reauthorize(ctx, "bob")

	_, refused := sessions.Verify(tokens.AccessToken)
	fmt.Println(n, err, "- outdated:", errors.Is(refused, tokensession.ErrOutdated))
	tokens = must(sessions.Refresh(ctx, tokens.RefreshToken)) // as any client does when a token has expired
	fmt.Println(tokens.Scope)
	// Output:
	// 1 <nil> - outdated: true
	// read admin
}

// Alice changes her e-mail address. The host has asked for her one-time password once more.
func ExampleManager_Reauthenticate() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))
	tokens := must(sessions.Start(ctx, "alice", tokensession.WithAuthMethods("pwd")))
	access := must(sessions.Verify(tokens.AccessToken))

	tokens, err := sessions.Reauthenticate(ctx, access.SessionID,
		tokensession.WithAuthMethods("pwd", "otp"), tokensession.Rotating(tokens.RefreshToken))

	access = must(sessions.Verify(tokens.AccessToken))
	fmt.Println(err, access.AuthMethods)
	// Output: <nil> [pwd otp]
}

// Carol of the support sees what alice sees. The log says who did what.
func ExampleWithActor() {
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{}))

	tokens, err := sessions.Start(ctx, "alice",
		tokensession.WithActor("carol"), tokensession.WithLifetimes(15*time.Minute, time.Hour))

	access := must(sessions.Verify(tokens.AccessToken))
	fmt.Println(err, access.Actor, "acts for", access.Subject)
	// Output: <nil> carol acts for alice
}

// auditLog returns a function that writes each event as a line of JSON.
func auditLog(w io.Writer) func(context.Context, tokensession.Event) {
	log := slog.New(slog.NewJSONHandler(w, nil))
	return func(ctx context.Context, e tokensession.Event) {
		level := slog.LevelInfo
		switch e.Kind {
		case tokensession.EventReused, tokensession.EventDenied, tokensession.EventUnreadable,
			tokensession.EventFeedStale:
			level = slog.LevelWarn
		}
		log.LogAttrs(ctx, level, "session", slog.Any("", e)) // the event's fields, without a group
	}
}

// shortened returns a writer that passes on of each line only what is the same each time.
func shortened(w io.Writer) io.Writer { return lineWriter{w} }

type lineWriter struct{ w io.Writer }

func (l lineWriter) Write(line []byte) (int, error) {
	var e struct {
		Kind, Subject, Reason string
		ErrorKind             string `json:"error_kind"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return 0, err
	}
	fmt.Fprintf(l.w, "%s subject=%s", e.Kind, e.Subject)
	if e.Reason != "" {
		fmt.Fprint(l.w, " reason=", e.Reason)
	}
	if e.ErrorKind != "" {
		fmt.Fprint(l.w, " error_kind=", e.ErrorKind)
	}
	fmt.Fprintln(l.w)
	return len(line), nil
}

// Why was alice logged out? The lines with her name say it.
func Example_auditLog() {
	clock := time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)
	sessions := must(tokensession.New(exampleSigner(), tokensession.NewMemoryStore(), tokensession.Config{
		OnEvent: auditLog(shortened(os.Stdout)),
		Now:     func() time.Time { return clock },
	}))
	phone := must(sessions.Start(ctx, "alice"))
	laptop := must(sessions.Start(ctx, "alice"))
	_, err := sessions.RevokeSubject(ctx, "alice",
		tokensession.Keep(laptop.Session.ID), tokensession.Because("password_change"))
	if err != nil {
		panic(err)
	}
	_, _ = sessions.Refresh(ctx, phone.RefreshToken) // the phone comes back
	clock = clock.Add(7 * 24 * time.Hour)
	_, _ = sessions.Refresh(ctx, laptop.RefreshToken) // the laptop comes back after a week
	// Output:
	// started subject=alice
	// started subject=alice
	// revoked subject=alice reason=password_change
	// refused subject=alice reason=password_change error_kind=revoked
	// refused subject=alice error_kind=expired
}
