// Quickstart tells the story of a few sessions that outlive the server, kept in a SQLite file: two
// devices, two tabs, a restart, a thief, a change of password. The clock is moved by hand. It exits
// with an error if anything comes out differently from what it should.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

func main() {
	dir, err := os.MkdirTemp("", "tokensession-quickstart-")
	if err == nil {
		err = errors.Join(tell(os.Stdout, filepath.Join(dir, "sessions.db")), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// tell runs the story on a new file. It returns an error if a line was not as it should be.
func tell(w io.Writer, file string) error {
	s := &story{w: w, ctx: context.Background(), file: file, secret: make([]byte, 32)}
	_, _ = rand.Read(s.secret) // a real server has it from its environment
	s.now = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)
	defer func() {
		if s.db != nil {
			s.db.Close()
		}
	}()
	for _, chapter := range []func() error{
		s.startServer, s.twoDevices, s.restart, s.thief, s.changeOfPassword, s.ends,
	} {
		if err := chapter(); err != nil {
			return err
		}
	}
	if s.wrong > 0 {
		return fmt.Errorf("%d lines came out differently", s.wrong)
	}
	return nil
}

// A story is a server, the time, and how many lines were not as they should be.
type story struct {
	w      io.Writer
	ctx    context.Context
	file   string
	secret []byte // that seals the signing keys
	now    time.Time

	db    *sql.DB
	store *sqlstore.Store
	m     *tokensession.Manager
	wrong int

	laptop, phone, stolen tokensession.Tokens
}

// startServer is what a server does when it starts.
func (s *story) startServer() (err error) {
	// The settings that sqlstore's README asks for.
	const settings = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	s.db, err = sql.Open("sqlite", "file:"+s.file+settings)
	if err != nil {
		return err
	}
	if s.store, err = sqlstore.New(s.db, sqlstore.SQLite, sqlstore.Config{}); err != nil {
		return err
	}
	if err := s.store.Migrate(s.ctx); err != nil {
		return err
	}
	now := func() time.Time { return s.now }
	ring, err := keyring.Open(s.ctx, s.store, keyring.Config{
		Secret: s.secret,
		Access: tokensession.AccessConfig{
			Issuer: "https://auth.example", Audience: []string{"https://api.example"}, Now: now,
		},
	})
	if err != nil {
		return err
	}
	s.m, err = tokensession.New(ring.Signer(), s.store, tokensession.Config{Now: now})
	return err
}

func (s *story) twoDevices() (err error) {
	s.laptop, err = s.m.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "laptop", "ip": "203.0.113.7"}))
	s.line(err == nil, "log in on the laptop", got(s.laptop, err))
	s.phone, err = s.m.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "phone", "ip": "198.51.100.23"}))
	s.line(err == nil, "log in on the phone", got(s.phone, err))

	s.now = s.now.Add(10 * time.Minute)
	first, err := s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	isNew := first.RefreshToken != s.laptop.RefreshToken
	s.line(err == nil && isNew, "10 minutes later a tab refreshes", got(first, err))
	second, err := s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	isSame := second.RefreshToken == first.RefreshToken
	s.line(err == nil && isSame, "another tab, with the same token", got(second, err))
	s.stolen, s.laptop = s.laptop, first
	return nil
}

func (s *story) restart() error {
	if err := s.db.Close(); err != nil {
		return err
	}
	if err := s.startServer(); err != nil {
		return err
	}
	sessions, err := s.m.Sessions(s.ctx, "alice")
	s.line(err == nil && len(sessions) == 2, "the server restarts",
		fmt.Sprintf("%d sessions in %s", len(sessions), filepath.Base(s.file)))

	rows, err := s.db.Query(`SELECT subject, created_at, rotated_at, attributes
		FROM token_sessions WHERE revoked_at IS NULL ORDER BY rotated_at DESC`)
	if err != nil {
		return err
	}
	defer rows.Close()
	read := 0
	for ; rows.Next(); read++ {
		var subject, since, seen, from string
		if err := rows.Scan(&subject, &since, &seen, &from); err != nil {
			return err
		}
		s.line(subject == "alice", "an operator reads",
			fmt.Sprintf("%s since %.16s, seen %.16s, %s", subject, since, seen, from))
	}
	s.line(read == 2, "that is everyone who is logged in", fmt.Sprintf("%d rows", read))
	return rows.Err()
}

func (s *story) thief() (err error) {
	s.now = s.now.Add(10 * time.Minute)
	s.laptop, err = s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(err == nil, "the laptop refreshes once more", got(s.laptop, err))
	_, err = s.m.Refresh(s.ctx, s.stolen.RefreshToken)
	s.refused(err, tokensession.ErrReused, "a thief replays the laptop's first token")
	_, err = s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	s.refused(err, tokensession.ErrRevoked, "so the laptop's live token is dead")
	s.phone, err = s.m.Refresh(s.ctx, s.phone.RefreshToken)
	s.line(err == nil, "while the phone lives on", got(s.phone, err))
	return nil
}

func (s *story) changeOfPassword() (err error) {
	s.laptop, err = s.m.Start(s.ctx, "alice")
	s.line(err == nil, "log in on the laptop again", got(s.laptop, err))
	n, err := s.m.RevokeSubject(s.ctx, "alice", tokensession.Keep(s.laptop.Session.ID))
	s.line(err == nil && n == 1, "change the password there",
		fmt.Sprintf("%d other session revoked, error: %v", n, err))
	_, err = s.m.Verify(s.phone.AccessToken)
	s.refused(err, tokensession.ErrRevoked, "the phone's access token at once")
	return nil
}

func (s *story) ends() error {
	s.now = s.laptop.RefreshExpiresAt
	_, err := s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	s.refused(err, tokensession.ErrExpired, "she comes back after 7 days")
	n, err := s.store.Sweep(s.ctx, s.now, 100) // Manager.Run does this
	s.line(err == nil && n == 3, "the sweeper comes by",
		fmt.Sprintf("%d rows dropped, error: %v", n, err))
	return nil
}

// line writes what happened, and whether it is what should have.
func (s *story) line(ok bool, what, happened string) {
	mark := "ok   "
	if !ok {
		mark = "WRONG"
		s.wrong++
	}
	fmt.Fprintf(s.w, "%s %-42s %s\n", mark, what+":", happened)
}

// refused writes that a call was refused, and whether with the error that it should have been.
func (s *story) refused(err, want error, what string) {
	s.line(errors.Is(err, want), what, got(tokensession.Tokens{}, err))
}

// got says what a call returned, with the ends of the tokens, which is where they differ.
func got(t tokensession.Tokens, err error) string {
	if err != nil {
		return "refused: " + err.Error()
	}
	if t.RefreshToken == "" {
		return "accepted"
	}
	end := func(token string) string { return token[len(token)-6:] }
	return fmt.Sprintf("access …%s, refresh …%s", end(t.AccessToken), end(t.RefreshToken))
}
