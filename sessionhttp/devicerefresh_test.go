package sessionhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// newBoundBrowser returns a browser that has bound its session.
func (s *site) newBoundBrowser() *deviceBrowser {
	s.t.Helper()
	b := s.newDeviceBrowser()
	b.bind()
	return b
}

// restart serves the site by another instance, whose memory is empty.
func (s *site) restart(cfg sessionhttp.Config) {
	s.t.Helper()
	s.m = s.manager(s.signer, tokensession.Config{OnEvent: s.events.Add})
	cfg.OnError = s.noteCause
	var err error
	s.h, err = sessionhttp.New(s.m, cfg)
	require.NoError(s.t, err)
	s.mux = http.NewServeMux()
	s.h.Mount(s.mux)
}

// requireLeft requires the answer to a script's refresh where only the browser can refresh.
func (b *deviceBrowser) requireLeft(answer *http.Response) {
	b.t.Helper()
	requireError(b.t, answer, http.StatusBadRequest, "invalid_dpop_proof")
	cookies := cookiesOf(b.t, answer)
	require.Len(b.t, cookies, 1, "the cookies that the answer changes")
	require.Negative(b.t, cookies[triggerCookie].MaxAge)
}

func TestDevice_leavesAScriptsRefreshToTheBrowser(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.store.Took()
	b.requireUntouched(func() {
		s.store.Took()
		b.requireLeft(b.send(http.MethodPost, "/auth/token"))
		require.Empty(t, s.store.Took(), "the store was asked")
	})
	require.NotContains(t, b.jar, triggerCookie)

	// A browser that has lost its key, or a thief.
	before := b.stored()
	b.requireLeft(b.send(http.MethodPost, "/auth/token"))
	require.Equal(t, before, b.stored())
	require.Equal(t, []tokensession.EventKind{tokensession.EventRefused}, refusedKinds(s))
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
}

func refusedKinds(s *site) []tokensession.EventKind {
	var kinds []tokensession.EventKind
	for _, e := range s.events.TakeRefused() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// A thief who has all cookies has an access token, and that runs out. The browser notices nothing.
func TestDevice_aThiefWithAllCookiesGetsNothing(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	s.mux.Handle("/api", s.h.Require()(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	b := s.newBoundBrowser()
	thief := b.steal()
	require.Equal(t, http.StatusOK, thief.send(http.MethodGet, "/api").StatusCode)
	for range 3 {
		s.clock.Advance(16 * time.Minute)
		for _, trigger := range []bool{true, false} {
			if !trigger {
				thief.forgetTrigger()
			}
			b.requireUntouched(func() {
				require.Equal(t, http.StatusUnauthorized,
					thief.send(http.MethodGet, "/api").StatusCode)
				thief.requireLeft(thief.send(http.MethodPost, "/auth/token"))
				answer := thief.send(http.MethodPost, "/auth/token", thief.proof(""))
				require.Equal(t, http.StatusForbidden, answer.StatusCode)
				thief.hear(answer)
				answer = thief.send(http.MethodPost, "/auth/token", thief.proof(thief.challenge))
				requireError(t, answer, http.StatusBadRequest, "invalid_request")
				s.events.TakeRefused()
			})
		}
		b.forgetTrigger()
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	}
	require.Empty(t, b.s.events.Count(tokensession.EventReused))
}

// The cookies were copied between the login and the refresh that binds. The copy is what one of an
// unbound session is, and nothing new is given for it.
func TestDevice_aCopyOfBeforeTheBinding(t *testing.T) {
	const grace = 10 * time.Second
	copied := func(t *testing.T) (*site, *deviceBrowser, *deviceBrowser) {
		s := newSiteOf(t, deviceConfig(sessionhttp.DeviceBoundEnforced),
			tokensession.Config{RecoveryPeriod: time.Hour})
		b := s.newDeviceBrowser()
		b.register(b.login())
		thief := b.steal()
		thief.forgetTrigger()
		return s, b, thief
	}
	refresh := func(b *deviceBrowser) *http.Response { return b.send(http.MethodPost, "/auth/token") }

	t.Run("the thief comes second", func(t *testing.T) {
		s, b, thief := copied(t)
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
		before := b.stored()
		thief.requireLeft(refresh(thief))
		require.Equal(t, before, b.stored())
		s.clock.Advance(grace + time.Second)
		requireError(t, refresh(thief), http.StatusBadRequest, "invalid_grant")
		requireError(t, b.refresh(), http.StatusBadRequest, "invalid_grant")
		require.Equal(t, 1, s.events.Count(tokensession.EventReused))
	})
	t.Run("the thief comes first", func(t *testing.T) {
		s, b, thief := copied(t)
		require.Equal(t, http.StatusOK, refresh(thief).StatusCode)
		s.clock.Advance(grace + time.Second)
		require.Equal(t, http.StatusOK, b.refresh().StatusCode) // recovered, and bound
		require.Equal(t, thumbprintOf(&b.key.PublicKey), b.stored().KeyThumbprint)
		requireError(t, refresh(thief), http.StatusBadRequest, "invalid_grant")
		require.Equal(t, 1, s.events.Count(tokensession.EventReused))
	})
	t.Run("the thief binds the session", func(t *testing.T) {
		s, b, thief := copied(t)
		thief.register(offeredChallenge(t, refresh(thief)))
		require.Equal(t, http.StatusOK, thief.refresh().StatusCode)
		require.Equal(t, thumbprintOf(&thief.key.PublicKey), b.stored().KeyThumbprint)
		s.clock.Advance(grace + time.Second)
		requireError(t, b.refresh(), http.StatusBadRequest, "invalid_grant")
		requireError(t, thief.refresh(), http.StatusBadRequest, "invalid_grant")
		require.Equal(t, 1, s.events.Count(tokensession.EventReused))
	})
}

// A second registration of the same session, as by two tabs at its beginning: the first one to
// refresh binds the session, and the browser forgets the other one.
func TestDevice_ofTwoRegistrationsOneStays(t *testing.T) {
	for _, bound := range []bool{true, false} {
		t.Run(fmt.Sprint("with the bound token ", bound), func(t *testing.T) {
			s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
			b := s.newDeviceBrowser()
			b.register(b.login())
			twin := *b
			twin.key = newDeviceKey(t)
			b.forgetTrigger()
			twin.register(offeredChallenge(t, b.send(http.MethodPost, "/auth/token")))
			twin.jar = b.steal().jar
			require.Equal(t, http.StatusOK, b.refresh().StatusCode)
			if bound {
				twin.jar = b.jar
			}
			before := b.stored()
			answer := twin.refresh()
			require.Equal(t, http.StatusBadRequest, answer.StatusCode)
			require.Empty(t, answer.Header["Set-Cookie"], "the cookies are good")
			require.Equal(t, before, b.stored())
			require.Equal(t, http.StatusOK, b.refresh().StatusCode)
		})
	}
}

// The answer gets lost, and the browser comes again with the same cookie, after any time.
func TestDevice_repeatsALostAnswerHoweverLate(t *testing.T) {
	for _, late := range []time.Duration{0, 25 * time.Second, 6 * 24 * time.Hour} {
		s := newSiteOf(t, deviceConfig(sessionhttp.DeviceBoundEnforced),
			tokensession.Config{RefreshTTL: 7 * 24 * time.Hour})
		b := s.newBoundBrowser()
		jar := b.steal().jar
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
		b.jar = jar
		s.clock.Advance(late)
		require.Equal(t, http.StatusOK, b.refresh().StatusCode, "after %v", late)
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
		require.Empty(t, s.events.Count(tokensession.EventReused))
	}
}

// lostBinding returns a browser whose first refresh has bound the session, and which never got the
// answer. It gives up after 20 seconds, when the grace period is over.
func lostBinding(t *testing.T) (*site, *deviceBrowser) {
	t.Helper()
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	s.withPages()
	b := s.newDeviceBrowser()
	b.register(b.login())
	jar := b.steal().jar
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	require.NotEmpty(t, b.stored().KeyThumbprint)
	b.jar, b.challenge = jar, ""
	s.clock.Advance(20 * time.Second)
	return s, b
}

// The browser still has the token of before the binding. With the key, it goes on. Without the key
// that token is a stolen one, so nobody in this browser presents it where the browser may refresh.
func TestDevice_whereTheAnswerThatBoundGotLost(t *testing.T) {
	refreshes := func(t *testing.T, s *site, b *deviceBrowser) {
		t.Helper()
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
		require.Zero(t, s.events.Count(tokensession.EventReused))
	}
	t.Run("another instance still reports", func(t *testing.T) {
		s, b := lostBinding(t)
		s.restart(deviceConfig(sessionhttp.DeviceBoundReported))
		refreshes(t, s, b)
	})
	t.Run("it reports, and the store is down", func(t *testing.T) {
		s, b := lostBinding(t)
		s.restart(deviceConfig(sessionhttp.DeviceBoundReported))
		b.askedFor()
		s.store.Down()
		answer := b.send(http.MethodPost, "/auth/token", b.proof(b.challenge))
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
		s.store.Clear()
		refreshes(t, s, b)
	})
	for name, policy := range map[string]sessionhttp.DeviceBoundPolicy{
		"enforced": sessionhttp.DeviceBoundEnforced, "reported": sessionhttp.DeviceBoundReported,
	} {
		t.Run("a script, and the browser cannot refresh, "+name, func(t *testing.T) {
			s, b := lostBinding(t)
			s.restart(deviceConfig(policy))
			b.forgetTrigger()
			b.requireUntouched(func() {
				b.requireLeft(b.send(http.MethodPost, "/auth/token", skips(b.id, "quota_exceeded")))
			})
			refreshes(t, s, b)
		})
		t.Run("a page, "+name, func(t *testing.T) {
			s, b := lostBinding(t)
			s.restart(deviceConfig(policy))
			s.withPages()
			s.clock.Advance(time.Hour)
			b.forgetTrigger()
			b.requireUntouched(func() {
				requireLeadsTo(t, b.send(http.MethodGet, resumePage, fromASite), "/page")
				answer := b.send(http.MethodGet, resumePage, skips(b.id, "quota_exceeded"))
				requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
			})
			refreshes(t, s, b)
			require.Equal(t, "alice", bodyOf(t, b.send(http.MethodGet, "/page")))
		})
	}
	t.Run("a page, and the store is down", func(t *testing.T) {
		s, b := lostBinding(t)
		s.clock.Advance(time.Hour)
		b.forgetTrigger()
		s.store.Down()
		answer := b.send(http.MethodGet, resumePage)
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
		require.Empty(t, answer.Header["Set-Cookie"])
		s.store.Clear()
		refreshes(t, s, b)
	})
	// The victim of a thief who has bound the session looks the same, but that its browser has
	// nothing to refresh with. Its second visit is the one that ends the session.
	t.Run("a page of a browser without keys", func(t *testing.T) {
		s, b := lostBinding(t)
		s.clock.Advance(time.Hour)
		b.forgetTrigger()
		requireGoesTo(t, b.send(http.MethodGet, resumePage), http.StatusSeeOther, "/page")
		require.True(t, b.stored().RevokedAt.IsZero())
		requireGoesTo(t, b.send(http.MethodGet, resumePage), http.StatusSeeOther, "/page")
		require.Equal(t, 1, s.events.Count(tokensession.EventReused))
		require.False(t, b.stored().RevokedAt.IsZero())
	})
}

// Somebody has seen a whole refresh of the browser's, and sends it again. Otherwise they would get
// an access token, and the browser's own refresh token would be displaced.
func TestDevice_aProofIsGoodForOneRefresh(t *testing.T) {
	for name, c := range map[string]struct {
		made, again time.Duration // when its challenge was made before, and when it comes again
		status      int
	}{
		"at once": {15 * time.Minute, 0, http.StatusForbidden},
		"after the grace period": {15 * time.Minute, 11 * time.Second,
			http.StatusForbidden},
		"when the challenge is nearly old": {15 * time.Minute, 14 * time.Minute,
			http.StatusForbidden},
		"with a challenge of a moment ago": {2 * time.Second, 11 * time.Second,
			http.StatusForbidden},
		"at once, and that was a moment":     {2 * time.Second, time.Second, http.StatusOK}, // the same answer
		"when it counts as a moment at last": {0, 10 * time.Second, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiteOf(t, deviceConfig(sessionhttp.DeviceBoundEnforced),
				tokensession.Config{GracePeriod: 11 * time.Second})
			b := s.newBoundBrowser()
			s.clock.Advance(c.made)
			seen := b.request(http.MethodPost, "/auth/token", b.proof(b.challenge))
			answer := s.do(seen)
			b.keep(answer)
			b.hear(answer)
			require.Equal(t, http.StatusOK, answer.StatusCode)
			s.clock.Advance(c.again)
			before := b.stored()
			answer = s.do(seen)
			require.Equal(t, c.status, answer.StatusCode)
			if c.status == http.StatusForbidden {
				require.Empty(t, answer.Header["Set-Cookie"])
				require.NotEmpty(t, answer.Header["Secure-Session-Challenge"])
			}
			require.Equal(t, before, b.stored())
			require.Equal(t, http.StatusOK, b.refresh().StatusCode)
			require.Equal(t, http.StatusOK, b.refresh().StatusCode)
			require.Zero(t, s.events.Count(tokensession.EventReused))
		})
	}
}

// The store does not tell whether the session was refreshed since, and then it answers again.
func TestDevice_aProofIsGoodForOneRefreshAlsoInAnOutage(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.clock.Advance(15 * time.Minute)
	seen := b.request(http.MethodPost, "/auth/token", b.proof(b.challenge))
	b.keep(s.do(seen))
	s.clock.Advance(11 * time.Second)
	s.store.On(testkit.Load, testkit.Refuse(tokensession.ErrUnavailable))
	answer := s.do(seen)
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	require.Empty(t, answer.Header["Set-Cookie"])
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
}

// The instance that has refreshed has a clock that is ahead. The browser does not sign one
// challenge after another.
func TestDevice_challengesOfAnInstanceWhoseClockIsBehind(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	now := s.clock.Now()
	s.clock.Advance(2 * time.Minute)
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	s.clock.Set(now)
	challenge := b.askedFor()
	s.clock.Advance(10 * time.Second)
	answer := b.send(http.MethodPost, "/auth/token", b.proof(challenge))
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// A script has refreshed at the same time as the browser did for the first time, and came first.
// The session is not bound then, and the next request tries again.
func TestDevice_triesAgainWhereAScriptWasFirst(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	b.register(b.login())
	challenge := b.askedFor()
	r := b.request(http.MethodPost, "/auth/token", b.proof(challenge))
	b.forgetTrigger()
	script := b.send(http.MethodPost, "/auth/token")
	require.Equal(t, http.StatusOK, script.StatusCode)
	answer := s.do(r)
	b.keep(answer)
	b.hear(answer)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, 60, cookiesOf(t, answer)[triggerCookie].MaxAge)
	require.Empty(t, b.stored().KeyThumbprint)
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	require.NotEmpty(t, b.stored().KeyThumbprint)
}

func TestDevice_clearsTheCookiesOnAVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(s *site, b *deviceBrowser)
		clears bool
	}{
		"revoked": {func(s *site, b *deviceBrowser) {
			require.NoError(t, s.m.Revoke(ctx, b.session.ID))
		}, true},
		"expired": {func(s *site, _ *deviceBrowser) { s.clock.Advance(8 * 24 * time.Hour) }, true},
		"ended by the login that follows": {func(s *site, b *deviceBrowser) {
			_, err := s.m.Start(ctx, "alice", tokensession.Replacing(b.session.ID))
			require.NoError(t, err)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
			b := s.newBoundBrowser()
			c.end(s, b)
			answer := b.refresh()
			requireError(t, answer, http.StatusBadRequest, "invalid_grant")
			cookies := cookiesOf(t, answer)
			if !c.clears {
				require.Empty(t, cookies)
				return
			}
			require.Len(t, cookies, 3)
			for name, c := range cookies {
				require.Negative(t, c.MaxAge, name)
			}
		})
	}
}

// The store has dropped the record. Whether the token or the key is meant, the browser cannot know.
func TestDevice_leavesTheCookiesWhereItCannotTell(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.restart(deviceConfig(sessionhttp.DeviceBoundEnforced)) // it remembers nothing
	s.store.Always(testkit.Load, testkit.Refuse(tokensession.ErrNotFound))
	answer := b.refresh()
	requireError(t, answer, http.StatusBadRequest, "invalid_grant")
	require.Empty(t, answer.Header["Set-Cookie"])
	b.forgetTrigger()
	answer = b.send(http.MethodPost, "/auth/token")
	requireError(t, answer, http.StatusBadRequest, "invalid_grant")
	require.Len(t, cookiesOf(t, answer), 3)
}

func TestDevice_logoutClearsTheTrigger(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	answer := b.send(http.MethodPost, "/auth/logout")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Len(t, cookiesOf(t, answer), 3)
	require.Empty(t, b.jar)
	answer = b.send(http.MethodPost, "/auth/token", b.proof(""))
	requireError(t, answer, http.StatusBadRequest, "invalid_request")
	require.False(t, b.stored().RevokedAt.IsZero())
}

// A logout without the key, as where the browser has lost it.
func TestDevice_logoutNeedsNoKey(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.clock.Advance(time.Hour)
	thief := b.steal()
	require.Equal(t, http.StatusOK, thief.send(http.MethodPost, "/auth/logout").StatusCode)
	require.False(t, b.stored().RevokedAt.IsZero())
}

// The browser keeps its session's name for as long as the session lives. Secrets change meanwhile.
func TestDevice_secretsChangeWhileSessionsLive(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b, unbound := s.newBoundBrowser(), s.newDeviceBrowser()
	unbound.register(unbound.login())
	next := make([]byte, 32)
	for _, keys := range [][][]byte{{deviceSecret, next}, {next, deviceSecret}, {next}} {
		cfg := deviceConfig(sessionhttp.DeviceBoundEnforced)
		cfg.ProofKeys = keys
		s.restart(cfg)
		s.clock.Advance(time.Hour)
		answer := b.send(http.MethodGet, "/auth/session", skips(b.id, "unreachable"))
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
		require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	}
	forged := *unbound
	unbound.requireUntouched(func() {
		requireError(t, forged.send(http.MethodPost, "/auth/token", forged.proof("")),
			http.StatusBadRequest, "invalid_request")
	})
	s.store.Down()
	requireError(t, b.send(http.MethodPost, "/auth/token", b.proof("")),
		http.StatusServiceUnavailable, "temporarily_unavailable")
}

func TestDevice_instancesAcceptEachOthersChallenges(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	challenge := b.login()
	switchInstance := func() { s.restart(deviceConfig(sessionhttp.DeviceBoundEnforced)) }
	switchInstance()
	b.register(challenge)
	switchInstance()
	b.askedFor()
	for range 2 {
		switchInstance()
		answer := b.send(http.MethodPost, "/auth/token", b.proof(b.challenge))
		require.Equal(t, http.StatusOK, answer.StatusCode)
		b.hear(answer)
	}
}

// For a week the host looks at what proxies do to all this.
func TestDevice_reportedBindsNothing(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundReported))
	b := s.newDeviceBrowser()
	b.register(b.login())
	for range 3 {
		answer := b.refresh()
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Equal(t, 15*60, cookiesOf(t, answer)[triggerCookie].MaxAge)
		require.Empty(t, b.stored().KeyThumbprint)
		require.Equal(t, http.StatusOK, b.send(http.MethodPost, "/auth/token").StatusCode)
		s.clock.Advance(15 * time.Minute)
	}
	thief := b.steal()
	thief.forgetTrigger()
	require.Equal(t, http.StatusOK, thief.send(http.MethodPost, "/auth/token").StatusCode)

	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	s.causes = nil
	b.send(http.MethodGet, "/auth/session", skips(b.id, "unreachable"))
	require.Len(t, s.causes, 1)
	require.ErrorContains(t, s.causes[0], "unreachable")
	b.send(http.MethodPost, "/auth/token", b.proof("x"))
	require.Len(t, s.causes, 2)
}

// Back from enforcing, bound sessions go on.
func TestDevice_reportedRefreshesBoundSessions(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.restart(deviceConfig(sessionhttp.DeviceBoundReported))
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	b.requireLeft(b.send(http.MethodPost, "/auth/token"))
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
}

func skips(id, reason string) func(*http.Request) {
	return header("Secure-Session-Skipped", reason+`;session_identifier="`+id+`"`)
}

// The browser says that it has tried and could not. That is no verdict.
func TestDevice_aRefreshThatTheBrowserSkipsIsNoVerdict(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b, other := s.newBoundBrowser(), s.newBoundBrowser()
	s.clock.Advance(20 * time.Minute)
	answer := b.send(http.MethodGet, "/auth/session", skips(b.id, "unreachable"))
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	require.Equal(t, "1", answer.Header.Get("Retry-After"))
	for _, edit := range []func(*http.Request){
		func(*http.Request) {},
		skips(other.id, "unreachable"),
		skips("another application's", "unreachable"),
		header("Secure-Session-Skipped", "unreachable"),
	} {
		answer := b.send(http.MethodGet, "/auth/session", edit)
		requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	}
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	answer = b.send(http.MethodGet, "/auth/session", skips(b.id, "unreachable"))
	require.Equal(t, http.StatusOK, answer.StatusCode)

	// So it is while a host that has enforced only reports again. But not where there is nothing to
	// wait for.
	s.restart(deviceConfig(sessionhttp.DeviceBoundReported))
	s.clock.Advance(20 * time.Minute)
	answer = b.send(http.MethodGet, "/auth/session", skips(b.id, "unreachable"))
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	s.restart(deviceConfig(sessionhttp.DeviceBoundEnforced))
	require.NoError(t, s.other().Revoke(ctx, b.session.ID))
	answer = b.send(http.MethodGet, "/auth/session", skips(b.id, "unreachable"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	s.clock.Advance(30 * 24 * time.Hour)
	answer = other.send(http.MethodGet, "/auth/session", skips(other.id, "unreachable"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")

	// A script can refresh a session that is not bound yet.
	b = s.newDeviceBrowser()
	b.register(b.login())
	s.clock.Advance(20 * time.Minute)
	answer = b.send(http.MethodGet, "/auth/session", skips(b.id, "quota_exceeded"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	s.store.Down()
	answer = b.send(http.MethodGet, "/auth/session", skips(b.id, "quota_exceeded"))
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
}

func TestDevice_tellsThePageWhetherTheBrowserRefreshes(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	bound := func() any { return jsonOf(t, b.send(http.MethodGet, "/auth/session"))["bound"] }
	require.Nil(t, bound())
	require.Nil(t, jsonOf(t, b.send(http.MethodPost, "/auth/token"))["bound"])
	b.register(b.login())
	require.Equal(t, true, bound(), "the browser has registered")
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	b.forgetTrigger()
	require.Equal(t, true, bound(), "the session is bound")
	program := s.session(bearer(b.jar[accessCookie]))
	require.Nil(t, jsonOf(t, program)["bound"], "it is no browser")
}

// With less than two minutes, the browser would refresh before each request.
func TestDevice_needsNoRefreshForFiveMinutes(t *testing.T) {
	s := newSiteOf(t, deviceConfig(sessionhttp.DeviceBoundEnforced),
		tokensession.Config{AccessTTL: time.Minute})
	b := s.newBoundBrowser()
	require.Equal(t, 300, cookiesOf(t, b.refresh())[triggerCookie].MaxAge)
}

// A browser is asked for a key where the session has none, unless it has just made one.
func TestDevice_asksForAKey(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundReported))
	b := s.newDeviceBrowser()
	b.send(http.MethodPost, "/auth/token") // nothing came of the login's
	b.register(offeredChallenge(t, b.send(http.MethodPost, "/auth/token")))
	require.Contains(t, b.jar, triggerCookie)
	require.Empty(t, b.send(http.MethodPost, "/auth/token").Header["Secure-Session-Registration"])

	off := newSite(t, sessionhttp.Config{Cookies: true})
	w := httptest.NewRecorder()
	_, err := off.h.Login(w, httptest.NewRequest(http.MethodPost, "/login", nil), "alice")
	require.NoError(t, err)
	require.Empty(t, w.Result().Header["Secure-Session-Registration"])
	require.Equal(t, http.StatusNotFound, off.post("/auth/device", nil).StatusCode)
}

// The password proves that it is the user, and the refresh token stays as it is.
func TestDevice_stepsUpWithoutItsKey(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.mux.HandleFunc("POST /auth/step-up", func(w http.ResponseWriter, r *http.Request) {
		if err := s.h.Reauthenticated(w, r, tokensession.WithAuthMethods("pwd")); err != nil {
			s.h.Refuse(w, r, err)
		}
	})
	answer := b.send(http.MethodPost, "/auth/step-up")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Len(t, cookiesOf(t, answer), 1)
	require.Equal(t, []string{"pwd"}, b.stored().AuthMethods)
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
}

func TestDevice_offEndsBoundSessionsWithoutAVerdict(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newBoundBrowser()
	s.restart(sessionhttp.Config{Cookies: true})
	before := b.stored()
	for _, edit := range []func(*http.Request){func(*http.Request) {}, b.proof("")} {
		answer := b.send(http.MethodPost, "/auth/token", edit)
		requireError(t, answer, http.StatusBadRequest, "invalid_dpop_proof")
		require.Empty(t, answer.Header["Set-Cookie"])
	}
	require.Equal(t, before, b.stored())
}

func TestNew_refusesWhatBrowsersCannotBeBoundWith(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	good := deviceConfig(sessionhttp.DeviceBoundEnforced)
	refused := func(want string, edit func(c *sessionhttp.Config)) {
		t.Helper()
		cfg := good
		edit(&cfg)
		_, err := sessionhttp.New(s.m, cfg)
		require.EqualError(t, err, "sessionhttp: Config."+want)
	}
	refused("DeviceBound is set, and Cookies is not", func(c *sessionhttp.Config) { c.Cookies = false })
	refused("DeviceBound and InsecureCookies are set: browsers bind sessions over TLS only",
		func(c *sessionhttp.Config) { c.InsecureCookies = true })
	refused("DeviceBound is set, and ProofKeys is empty: challenges need a secret that all instances "+
		"share", func(c *sessionhttp.Config) { c.ProofKeys = nil })
	refused("DeviceBound 3: must be one of the constants",
		func(c *sessionhttp.Config) { c.DeviceBound = 3 })
	refused("DeviceExclude is set, and DeviceBound is not", func(c *sessionhttp.Config) {
		c.DeviceBound, c.DeviceExclude = sessionhttp.DeviceBoundOff, []string{"/static/"}
	})
	for _, path := range []string{"", "/", "static", "/a//b", "/a/../b", "/a?b", "/\"a"} {
		refused(fmt.Sprintf("DeviceExclude %q: must be a clean path like \"/static/\", of letters, "+
			"digits and -._~/", path), func(c *sessionhttp.Config) { c.DeviceExclude = []string{path} })
	}
	good.DeviceExclude = []string{"/static/", "/a"}
	_, err := sessionhttp.New(s.m, good)
	require.NoError(t, err)
}
