package sessionclient_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_outagesKeepTheTokens(t *testing.T) {
	status := func(status int, header ...string) func(w *clientWorld) {
		return func(w *clientWorld) { w.setStatus(status, header...) }
	}
	busyFor := func(retryAfter string) func(w *clientWorld) {
		return func(w *clientWorld) { w.setBusy(retryAfter) }
	}
	for name, c := range map[string]struct {
		begin func(w *clientWorld)
		most  int // refreshes in ten minutes of a request each second
	}{
		"503":                                  {busyFor(""), 5 * 600},
		"503 for half a minute":                {busyFor("30"), 22},
		"503 for a day, which is too long":     {busyFor("86400"), 4},
		"a proxy's 503":                        {status(503), 5 * 600},
		"a proxy's 503 for half a minute":      {status(503, "Retry-After", "30"), 2 * 18},
		"429":                                  {status(429, "Retry-After", "60"), 12},
		"500":                                  {status(500), 5 * 600},
		"404":                                  {status(404), 600},
		"a redirect":                           {status(307, "Location", "https://elsewhere.example/token"), 600},
		"400 without a word":                   {status(400), 600},
		"offline":                              {func(w *clientWorld) { w.setFault(abort) }, 5 * 600},
		"a hotel's page":                       {func(w *clientWorld) { w.setFault(answer(200, "<html>log in")) }, 5 * 600},
		"a hotel's refusal":                    {func(w *clientWorld) { w.setFault(answer(400, "<html>invalid_grant")) }, 600},
		"invalid_client":                       {func(w *clientWorld) { w.setFault(answer(401, `{"error":"invalid_client"}`)) }, 600},
		"invalid_grant with another status":    {func(w *clientWorld) { w.setFault(answer(401, `{"error":"invalid_grant"}`)) }, 600},
		"invalid_grant with a gateway's":       {func(w *clientWorld) { w.setFault(answer(502, `{"error":"invalid_grant"}`)) }, 5 * 600},
		"invalid_grant with 200":               {func(w *clientWorld) { w.setFault(answer(200, `{"error":"invalid_grant"}`)) }, 5 * 600},
		"something that only sounds like it":   {func(w *clientWorld) { w.setFault(answer(400, `{"error":"invalid_grants"}`)) }, 600},
		"a token that is none":                 {func(w *clientWorld) { w.setFault(answer(200, `{"access_token":"a b","token_type":"Bearer"}`)) }, 5 * 600},
		"a token of another type":              {func(w *clientWorld) { w.setFault(answer(200, `{"access_token":"ab","token_type":"DPoP"}`)) }, 5 * 600},
		"hanging":                              {func(w *clientWorld) { w.setFault(hang) }, 600},
		"hanging in the middle of its answers": {func(w *clientWorld) { w.setFault(hang) }, 600},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				requireGet(t, transport)
				c.begin(w)
				pass(14 * time.Minute) // due, and still good for a minute

				began := time.Now()
				for time.Since(began) < 10*time.Minute {
					good := time.Now().Before(w.start.AccessExpiresAt.Add(-13 * time.Second)) // as long as a refresh may take
					_, _, err := clientGet(t.Context(), transport, clientAPIURL)
					if good {
						require.NoError(t, err, "the token is still good")
					} else if time.Now().After(w.start.AccessExpiresAt.Add(13 * time.Second)) {
						require.ErrorIs(t, err, tokensession.ErrUnavailable)
						require.NotErrorIs(t, err, sessionclient.ErrSessionEnded)
					}
					pass(time.Second)
				}
				require.LessOrEqual(t, w.refreshes(), c.most)
				require.NotZero(t, w.refreshes())
				require.NotEmpty(t, w.toldErrors())
				require.Equal(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken)

				w.setFault(nil)
				pass(5*time.Minute + time.Second) // what a server may ask for at most
				requireGet(t, transport)
				w.requireAlive(w.memory)
			})
		})
	}
}

func TestTransport_honoursRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		header func(now time.Time) string
		least  time.Duration
		most   time.Duration
		fails  bool // the request that waits for it
	}{
		"soon":        {func(time.Time) string { return "3" }, 3 * time.Second, 3200 * time.Millisecond, false},
		"a date":      {func(now time.Time) string { return now.Add(3 * time.Second).UTC().Format(http.TimeFormat) }, 3 * time.Second, 3200 * time.Millisecond, false},
		"later":       {func(time.Time) string { return "30" }, 30 * time.Second, 31 * time.Second, true},
		"none":        {func(time.Time) string { return "" }, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"garbage":     {func(time.Time) string { return "-3" }, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"past":        {func(now time.Time) string { return now.Add(-time.Hour).UTC().Format(http.TimeFormat) }, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"for ever":    {func(time.Time) string { return "2147483647" }, 5 * time.Minute, 5*time.Minute + time.Second, true},
		"even longer": {func(time.Time) string { return "99999999999999999999" }, 100 * time.Millisecond, 200 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				pass(time.Hour)
				w.setFault(func(n int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
					if n == 1 {
						busy(rw, c.header(time.Now()))
						return
					}
					serve(rw)
				})
				began := time.Now()
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				if c.fails {
					require.ErrorIs(t, err, tokensession.ErrUnavailable)
					require.Zero(t, time.Since(began), "who has to wait for long is told so at once")
				} else {
					require.NoError(t, err)
				}
				for c.fails && err != nil {
					pass(100 * time.Millisecond)
					_, _, err = clientGet(t.Context(), transport, clientAPIURL)
				}
				require.GreaterOrEqual(t, w.at[1].Sub(w.at[0]), c.least)
				require.LessOrEqual(t, w.at[1].Sub(w.at[0]), c.most)
				w.requireAlive(w.memory)
			})
		})
	}
}

// While the access token is good, there is no hurry.
func TestTransport_pausesAfterAnEarlyRefreshThatFailed(t *testing.T) {
	for _, c := range []struct {
		header   string
		pause    time.Duration
		attempts int
	}{
		{"", 14 * time.Second, 5},
		{"40", 40 * time.Second, 1},
	} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			transport := w.transport(w.memory)
			w.setBusy(c.header)
			pass(14 * time.Minute)
			requireGet(t, transport)
			require.NoError(t, transport.Wait(t.Context()))
			for end := time.Now().Add(c.pause); time.Now().Before(end); pass(time.Second) {
				requireGet(t, transport)
				require.Equal(t, c.attempts, w.refreshes())
			}
			w.setStatus(0)
			pass(2 * time.Second)
			requireGet(t, transport)
			require.Equal(t, c.attempts+1, w.refreshes())
			w.requireAlive(w.memory)
		})
	}
}
