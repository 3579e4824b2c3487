// Quickstart tells the story of a few sessions with real tokens: two devices, two tabs, a thief, a
// change of password. The clock is moved by hand. It exits with an error if anything comes out
// differently from what it should.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

func main() {
	if err := tell(os.Stdout, tokensession.NewMemoryStore()); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// tell runs the story on a store and writes what happened. It returns an error if a line was not as
// it should be.
func tell(w io.Writer, store tokensession.RefreshStore) error {
	s := &story{w: w, ctx: context.Background(), now: time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)}
	key, err := tokensession.GenerateKey()
	if err != nil {
		return err
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		return err
	}
	s.m, err = tokensession.New(signer, store, tokensession.Config{
		Now: func() time.Time { return s.now },
	})
	if err != nil {
		return err
	}
	s.twoDevices()
	s.twoTabs()
	s.thief()
	s.changeOfPassword()
	s.ends()
	if s.wrong > 0 {
		return fmt.Errorf("%d lines came out differently", s.wrong)
	}
	return nil
}

// A story is a Manager, the time, and how many lines were not as they should be.
type story struct {
	w     io.Writer
	ctx   context.Context
	now   time.Time
	m     *tokensession.Manager
	wrong int

	laptop, phone tokensession.Tokens
	stolen        tokensession.Tokens // what the laptop had before it refreshed
}

func (s *story) twoDevices() {
	var err error
	s.laptop, err = s.m.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "laptop"}))
	s.line(err == nil, "log in on the laptop", "%s", s.got(s.laptop, err))
	s.phone, err = s.m.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "phone"}))
	s.line(err == nil, "log in on the phone", "%s", s.got(s.phone, err))

	access, err := s.m.Verify(s.laptop.AccessToken)
	s.line(err == nil && access.Subject == "alice" && access.ExpiresAt.Sub(s.now) == 15*time.Minute,
		"verify the laptop's access token", "%s", s.verified(access, err))
}

func (s *story) twoTabs() {
	s.wait(10 * time.Minute)
	first, err1 := s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	second, err2 := s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(err1 == nil && first.RefreshToken != s.laptop.RefreshToken,
		"the laptop's first tab refreshes", "%s", s.got(first, err1))
	same := second.RefreshToken == first.RefreshToken
	s.line(err2 == nil && same, "its second tab, with the same token",
		"%s; same refresh token as the first tab: %t", s.got(second, err2), same)
	s.stolen, s.laptop = s.laptop, first
}

func (s *story) thief() {
	s.wait(10 * time.Minute)
	next, err := s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(err == nil, "the laptop refreshes once more", "%s", s.got(next, err))
	s.laptop = next
	s.wait(time.Minute)
	_, err = s.m.Refresh(s.ctx, s.stolen.RefreshToken)
	var reuse *tokensession.ReuseError
	caught := errors.As(err, &reuse) && reuse.Session.ID == s.laptop.Session.ID
	s.line(caught && reuse.Presented < reuse.Live,
		"a thief replays the laptop's first token", "%s", s.refused(err))
	_, err = s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(errors.Is(err, tokensession.ErrRevoked),
		"so the laptop's live token is dead", "%s", s.refused(err))
	_, err = s.m.Verify(s.laptop.AccessToken)
	s.line(errors.Is(err, tokensession.ErrRevoked),
		"and its access token at once", "%s", s.refused(err))
	s.phone, err = s.m.Refresh(s.ctx, s.phone.RefreshToken)
	s.line(err == nil, "while the phone lives on", "%s", s.got(s.phone, err))
}

func (s *story) changeOfPassword() {
	laptop, err := s.m.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "laptop"}))
	s.line(err == nil, "log in on the laptop again", "%s", s.got(laptop, err))
	n, err := s.m.RevokeSubject(s.ctx, "alice", tokensession.Keep(laptop.Session.ID))
	s.line(err == nil && n == 1, "change the password there",
		"%d other session revoked, error: %v", n, err)
	_, err = s.m.Verify(s.phone.AccessToken)
	s.line(errors.Is(err, tokensession.ErrRevoked),
		"the phone's access token at once", "%s", s.refused(err))
	sessions, err := s.m.Sessions(s.ctx, "alice")
	s.line(err == nil && len(sessions) == 1 && sessions[0].ID == laptop.Session.ID,
		"who is logged in", "%s", devices(sessions))
	s.laptop = laptop
}

// ends shows that a session slides by 7 days and ends after 30, and that an unused one ends after
// 7.
func (s *story) ends() {
	login := s.laptop.Session.CreatedAt
	refreshes := 0
	var err error
	for tokens := s.laptop; err == nil && refreshes < 100; refreshes++ {
		s.laptop = tokens
		s.now = s.now.Add(6 * 24 * time.Hour)
		tokens, err = s.m.Refresh(s.ctx, s.laptop.RefreshToken)
	}
	s.line(errors.Is(err, tokensession.ErrExpired) && refreshes == 5, "she refreshes every 6 days",
		"%d times, until %s after login: %s", refreshes-1, days(s.now.Sub(login)), s.refused(err))
	end := s.laptop.RefreshExpiresAt
	s.line(end.Equal(s.laptop.Session.MaxExpiresAt) && end.Sub(login) == 30*24*time.Hour,
		"her last refresh could not go beyond", "%s after login", days(end.Sub(login)))

	unused, err := s.m.Start(s.ctx, "bob")
	s.line(err == nil && unused.RefreshExpiresAt.Sub(s.now) == 7*24*time.Hour,
		"bob logs in and goes away", "%s", s.got(unused, err))
	s.now = unused.RefreshExpiresAt
	_, err = s.m.Refresh(s.ctx, unused.RefreshToken)
	s.line(errors.Is(err, tokensession.ErrExpired),
		"he comes back after 7 days", "%s", s.refused(err))
}

func (s *story) wait(d time.Duration) {
	s.now = s.now.Add(d)
	fmt.Fprintf(s.w, "   … %s later\n", d)
}

// line writes what happened, and whether it is what should have.
func (s *story) line(ok bool, what, format string, args ...any) {
	mark := "ok   "
	if !ok {
		mark = "WRONG"
		s.wrong++
	}
	fmt.Fprintf(s.w, "%s %-42s %s\n", mark, what+":", fmt.Sprintf(format, args...))
}

func (s *story) got(t tokensession.Tokens, err error) string {
	if err != nil {
		return s.refused(err)
	}
	return fmt.Sprintf("access %s for %s, refresh %s for %s",
		short(t.AccessToken), t.AccessExpiresAt.Sub(s.now),
		short(t.RefreshToken), days(t.RefreshExpiresAt.Sub(s.now)))
}

func (s *story) verified(a tokensession.Access, err error) string {
	if err != nil {
		return s.refused(err)
	}
	return fmt.Sprintf("subject %s, session %s, expires in %s",
		a.Subject, short(a.SessionID), a.ExpiresAt.Sub(s.now))
}

func (s *story) refused(err error) string {
	if err == nil {
		return "accepted"
	}
	return "refused: " + strings.TrimPrefix(err.Error(), "tokensession: ")
}

func devices(sessions []tokensession.Session) string {
	names := make([]string, len(sessions))
	for i, s := range sessions {
		names[i] = s.Attributes["device"]
	}
	return strings.Join(names, ", ")
}

// short shows the end of a token, which is where tokens differ.
func short(token string) string {
	if len(token) < 12 {
		return token
	}
	return token[:4] + "…" + token[len(token)-6:]
}

func days(d time.Duration) string { return fmt.Sprintf("%g days", d.Hours()/24) }
