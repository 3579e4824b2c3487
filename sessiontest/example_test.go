package sessiontest_test

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessiontest"
)

func TestNewPassword_logsOutEverywhere(t *testing.T) {
	world := sessiontest.New(t, tokensession.Config{})
	world.Login("alice")
	world.Login("alice") // another device
	world.Login("bob")

	if _, err := world.Manager.RevokeSubject(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}

	world.LoggedOut("alice") // whoever has a copy of the tokens, too
	world.LoggedIn("bob")
}

func TestThief_isOutWhenAliceComesBack(t *testing.T) {
	world := sessiontest.New(t, tokensession.Config{})
	alice := world.Login("alice")
	thief := world.Thief(alice)
	if err := thief.Refresh(); err != nil {
		t.Fatal(err)
	}

	world.Clock.Advance(time.Hour)
	_, err := world.Manager.Refresh(t.Context(), alice.RefreshToken)

	if !errors.Is(err, tokensession.ErrReused) {
		t.Errorf("got %v, want ErrReused", err)
	}
	thief.Out()
}

func TestSite_keepsAliceLoggedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := sessiontest.New(t, tokensession.Config{})
		browser := world.Browser(site(t, world.Manager))
		browser.Post("/login", url.Values{"user": {"alice"}})

		for range 30 { // days
			world.Clock.Advance(24 * time.Hour)
			browser.Post("/auth/token", nil) // as session.js does when the page needs it
		}

		if answer := browser.Get("/me"); answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("after 30 days, the limit: %s", answer.Status)
		}
	})
}
