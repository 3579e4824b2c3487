package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

const rounds = 50

// A setting is what kind of client refreshes at what kind of host.
type setting struct {
	name         string
	authenticate bool // the host has AuthenticateClient
	id, secret   string
	style        oauth2.AuthStyle
}

func settings() []setting {
	var list []setting
	for _, style := range []struct {
		name string
		oauth2.AuthStyle
	}{{"AutoDetect", oauth2.AuthStyleAutoDetect}, {"InParams", oauth2.AuthStyleInParams}, {"InHeader", oauth2.AuthStyleInHeader}} {
		list = append(list,
			setting{"public client/" + style.name, false, publicClient, "", style.AuthStyle},
			setting{"public client where others are not/" + style.name, true, publicClient, "", style.AuthStyle},
			setting{"confidential client/" + style.name, true, confidentialClient, confidentialSecret, style.AuthStyle})
	}
	return list
}

// A site is a host on a port, behind a proxy, and the client of a setting.
type site struct {
	*host
	t     *testing.T
	proxy *lossyProxy
	url   string // of the proxy
	setting
}

func newSite(t *testing.T, s setting) *site {
	t.Helper()
	var config sessionhttp.Config
	if s.authenticate {
		config.AuthenticateClient = authenticateClient
	}
	key, err := newKey("EdDSA")
	check(t, err)
	var h *host
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	h, err = newHost(key, server.URL, "", config)
	check(t, err)
	proxy, url := newLossyProxy(t, server.URL)
	return &site{host: h, t: t, proxy: proxy, url: url, setting: s}
}

// config is the client's, as it is after its program has started: it has yet to find out how to
// authenticate.
func (s *site) config() *oauth2.Config {
	return &oauth2.Config{ClientID: s.id, ClientSecret: s.secret, Endpoint: oauth2.Endpoint{
		TokenURL: s.url + "/auth/token", AuthStyle: s.style,
	}}
}

// login returns the client's tokens after a login, of which the access token has expired.
func (s *site) login() *oauth2.Token {
	s.t.Helper()
	tokens, err := s.Start(s.t.Context(), "alice", tokensession.WithClient(s.id))
	check(s.t, err)
	return expired(&oauth2.Token{AccessToken: tokens.AccessToken, RefreshToken: tokens.RefreshToken, TokenType: "Bearer"})
}

// expired returns the token as it is later.
func expired(token *oauth2.Token) *oauth2.Token {
	later := *token
	later.Expiry = time.Now().Add(-time.Second)
	return &later
}

// requireNext requires what a client gets from a refresh.
func (s *site) requireNext(next, last *oauth2.Token) {
	s.t.Helper()
	access, err := s.Verify(next.AccessToken)
	check(s.t, err)
	left := time.Until(next.Expiry)
	switch {
	case access.Subject != "alice" || access.ClientID != s.id:
		s.t.Fatalf("the access token is %s's at %s", access.Subject, access.ClientID)
	case next.RefreshToken == last.RefreshToken || next.AccessToken == last.AccessToken:
		s.t.Fatal("a token is the same as before")
	case !next.Valid() || next.Type() != "Bearer":
		s.t.Fatalf("a token of type %q, valid: %v", next.Type(), next.Valid())
	case left < 15*time.Minute-20*time.Second || left > 15*time.Minute+time.Second || next.ExpiresIn < 890 || next.ExpiresIn > 900:
		s.t.Fatalf("it expires in %v, expires_in is %d", left, next.ExpiresIn)
	case next.Extra("scope") != "read write":
		s.t.Fatalf("scope is %v", next.Extra("scope"))
	}
}

// requireLive requires that the session was never in danger, and lives.
func (s *site) requireLive(token *oauth2.Token) {
	s.t.Helper()
	for _, kind := range s.told() {
		if !slices.Contains([]tokensession.EventKind{tokensession.EventStarted, tokensession.EventRefreshed, tokensession.EventReplayed}, kind) {
			s.t.Fatalf("the host was told of %s: %v", kind, s.told())
		}
	}
	if _, err := s.Refresh(s.t.Context(), token.RefreshToken, tokensession.WithClient(s.id)); err != nil {
		s.t.Fatalf("the session is over: %v", err)
	}
}

func TestOAuth2_refreshesFiftyTimes(t *testing.T) {
	for _, setting := range settings() {
		t.Run(setting.name, func(t *testing.T) {
			s := newSite(t, setting)
			config, token := s.config(), s.login()
			for range rounds {
				next, err := config.TokenSource(t.Context(), expired(token)).Token()
				check(t, err)
				s.requireNext(next, token)
				token = next
			}
			if n := count(s.told(), tokensession.EventRefreshed); n != rounds {
				t.Fatalf("%d refreshes: %v", n, s.told())
			}
			s.requireLive(token)
		})
	}
}

// Every answer is lost once, in three ways. A program that was started a moment ago sends the same
// refresh token twice by itself with AutoDetect; later, and with the other styles, its user tries
// again.
func TestOAuth2_refreshesThroughDroppedReplies(t *testing.T) {
	for _, setting := range settings() {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restarts=%v", setting.name, restarts), func(t *testing.T) {
				s := newSite(t, setting)
				config, token := s.config(), s.login()
				for i := range rounds {
					if restarts {
						config = s.config()
					}
					s.proxy.lose(losses[i%len(losses)])
					next := s.refreshUntilAnswered(config, token)
					s.requireNext(next, token)
					token = next

					lost, requests := s.proxy.took()
					if lost != 1 || len(requests) != 2 || requests[0].refreshToken != requests[1].refreshToken {
						t.Fatalf("%d answers lost of %d requests", lost, len(requests))
					}
					if probes := setting.style == oauth2.AuthStyleAutoDetect && (restarts || i == 0); probes &&
						(requests[0].basic != url.QueryEscape(s.id) || requests[1].basic != "") {
						t.Fatalf("the clients in the Basic headers: %q, then %q", requests[0].basic, requests[1].basic)
					}
				}
				if told := s.told(); count(told, tokensession.EventRefreshed) != rounds || count(told, tokensession.EventReplayed) != rounds {
					t.Fatalf("not a refresh and a replay in each round: %v", told)
				}
				s.requireLive(token)
			})
		}
	}
}

// refreshUntilAnswered is what a program does whose refresh failed for no reason that it can see.
func (s *site) refreshUntilAnswered(config *oauth2.Config, token *oauth2.Token) *oauth2.Token {
	s.t.Helper()
	var err error
	for range 3 {
		var next *oauth2.Token
		if next, err = config.TokenSource(s.t.Context(), expired(token)).Token(); err == nil {
			return next
		}
		if retrieve := new(oauth2.RetrieveError); errors.As(err, &retrieve) {
			s.t.Fatalf("a lost answer became %v", err)
		}
	}
	s.t.Fatalf("three times in vain: %v", err)
	return nil
}

// The parts of a program that do not share a TokenSource refresh at once.
func TestOAuth2_sourcesInParallelGetOneSuccessor(t *testing.T) {
	for _, setting := range settings() {
		t.Run(setting.name, func(t *testing.T) {
			s := newSite(t, setting)
			config, token := s.config(), s.login()
			const sources = 16
			type result struct {
				token *oauth2.Token
				err   error
			}
			results := make(chan result, sources)
			for range sources {
				go func() {
					next, err := config.TokenSource(t.Context(), token).Token()
					results <- result{next, err}
				}()
			}
			successors := map[string]*oauth2.Token{}
			for range sources {
				r := <-results
				check(t, r.err)
				s.requireNext(r.token, token)
				successors[r.token.RefreshToken] = r.token
			}
			if len(successors) != 1 {
				t.Fatalf("%d successors", len(successors))
			}
			for _, next := range successors {
				s.requireLive(next)
			}
		})
	}
}

// The http.Client of x/oauth2 refreshes by itself and is let in.
func TestOAuth2_clientIsLetIn(t *testing.T) {
	s := newSite(t, settings()[0])
	token := s.login()
	client := s.config().Client(t.Context(), token)
	for range 3 {
		answer, err := client.Get(s.url + "/me")
		check(t, err)
		body, err := io.ReadAll(answer.Body)
		check(t, err)
		check(t, answer.Body.Close())
		if want := `{"client":"native app","subject":"alice"}` + "\n"; answer.StatusCode != http.StatusOK || string(body) != want {
			t.Fatalf("%s: %s", answer.Status, body)
		}
	}
	if n := count(s.told(), tokensession.EventRefreshed); n != 1 {
		t.Fatalf("%d refreshes for three requests", n)
	}
}

// Whatever ended the session, the client is told so in the way that it understands. With AutoDetect
// it asks twice.
func TestOAuth2_decodesTheEndOfASession(t *testing.T) {
	endings := []struct {
		name string
		end  func(s *site, token *oauth2.Token) *oauth2.Token // returns the token to refresh with
	}{
		{"unknown", func(s *site, token *oauth2.Token) *oauth2.Token {
			return &oauth2.Token{RefreshToken: "tsr_" + token.RefreshToken[5:] + "A"}
		}},
		{"revoked", func(s *site, token *oauth2.Token) *oauth2.Token {
			check(s.t, s.RevokeToken(s.t.Context(), token.RefreshToken))
			return token
		}},
		{"reused", func(s *site, token *oauth2.Token) *oauth2.Token {
			next := token.RefreshToken
			for range 2 {
				tokens, err := s.Refresh(s.t.Context(), next, tokensession.WithClient(s.id))
				check(s.t, err)
				next = tokens.RefreshToken
			}
			return token
		}},
		{"another client's", func(s *site, token *oauth2.Token) *oauth2.Token {
			tokens, err := s.Start(s.t.Context(), "alice", tokensession.WithClient("another"))
			check(s.t, err)
			return &oauth2.Token{RefreshToken: tokens.RefreshToken}
		}},
	}
	for _, setting := range settings() {
		for _, ending := range endings {
			t.Run(setting.name+"/"+ending.name, func(t *testing.T) {
				s := newSite(t, setting)
				token := ending.end(s, s.login())
				_, err := s.config().TokenSource(t.Context(), token).Token()
				requireRetrieveError(t, err, http.StatusBadRequest, "invalid_grant")
			})
		}
	}
}

func TestOAuth2_decodesAWrongSecretWhichConsumesNothing(t *testing.T) {
	for _, setting := range settings() {
		t.Run(setting.name, func(t *testing.T) {
			s := newSite(t, setting)
			token, config := s.login(), s.config()
			config.ClientSecret = "wrong"
			_, err := config.TokenSource(t.Context(), token).Token()
			requireRetrieveError(t, err, http.StatusUnauthorized, "invalid_client")
			if n := count(s.told(), tokensession.EventRefreshed); n != 0 {
				t.Fatalf("consumed all the same: %v", s.told())
			}
			s.requireLive(token)
		})
	}
}

func TestOAuth2_decodesAnOutageWhichConsumesNothing(t *testing.T) {
	for _, setting := range settings() {
		t.Run(setting.name, func(t *testing.T) {
			s := newSite(t, setting)
			token, config := s.login(), s.config()
			s.store.down.Store(true)
			for range 3 {
				_, err := config.TokenSource(t.Context(), token).Token()
				retrieve := requireRetrieveError(t, err, http.StatusServiceUnavailable, "temporarily_unavailable")
				if retrieve.Response.Header.Get("Retry-After") == "" {
					t.Fatal("no Retry-After")
				}
			}
			s.store.down.Store(false)
			next, err := config.TokenSource(t.Context(), token).Token()
			check(t, err)
			s.requireNext(next, token)
			s.requireLive(next)
		})
	}
}

func requireRetrieveError(t *testing.T, err error, status int, code string) *oauth2.RetrieveError {
	t.Helper()
	var retrieve *oauth2.RetrieveError
	if !errors.As(err, &retrieve) {
		t.Fatalf("%T: %v", err, err)
	}
	if retrieve.ErrorCode != code || retrieve.Response.StatusCode != status {
		t.Fatalf("%s and %q: %s", retrieve.Response.Status, retrieve.ErrorCode, retrieve.Body)
	}
	return retrieve
}

func count(kinds []tokensession.EventKind, kind tokensession.EventKind) (n int) {
	for _, k := range kinds {
		if k == kind {
			n++
		}
	}
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
