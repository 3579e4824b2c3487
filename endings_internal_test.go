package tokensession

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEndings_areTakenOnce(t *testing.T) {
	var e endings
	logout := ending{Event{Kind: EventRevoked}, ReasonLogout, at(time.Hour), 0, 0, time.Time{}}
	theft := ending{Event{Kind: EventReused, Presented: 4, Live: 5}, ReasonReuse, at(time.Hour), 0,
		0, time.Time{}}
	requireNone := func(ending, ok any) {
		t.Helper()
		require.Zero(t, ending)
		require.Equal(t, false, ok)
	}
	require.False(t, e.some.Load())
	requireNone(e.of(Record{ID: "s"}))
	requireNone(e.take("s"))
	e.add("s", logout, decisionTime)
	e.add("s2", theft, decisionTime)

	requireNone(e.of(Record{ID: "another"}))
	requireNone(e.take("another"))
	for range 2 {
		got, ok := e.of(Record{ID: "s"})
		require.True(t, ok)
		require.Equal(t, logout, got)
	}
	got, ok := e.take("s")
	require.True(t, ok)
	require.Equal(t, logout, got)
	requireNone(e.take("s"))
	requireNone(e.of(Record{ID: "s"}))
	require.True(t, e.some.Load())

	got, ok = e.take("s2")
	require.True(t, ok)
	require.Equal(t, theft, got)
	require.False(t, e.some.Load(), "there are none, so nothing takes a lock")
}

// What a refresh decided is void once another write has come first. What the host decided is not.
func TestEndings_ofARefreshAreVoidOnceTheRecordIsAnother(t *testing.T) {
	var e endings
	e.add("s", ending{reason: ReasonReuse, until: at(time.Hour), version: 5}, decisionTime)
	e.add("s2", ending{reason: ReasonLogout, until: at(time.Hour)}, decisionTime)
	_, ok := e.of(Record{ID: "s", Version: 4})
	require.True(t, ok, "the record is as it was then")
	_, ok = e.of(Record{ID: "s", Version: 5, Generation: 1})
	require.False(t, ok)
	_, ok = e.of(Record{ID: "s", Version: 4})
	require.False(t, ok, "void for good")
	_, ok = e.of(Record{ID: "s2", Version: 100})
	require.True(t, ok)
}

// A refresh that finds a theft may be under way when the host's Revoke, or a newer refresh, is left
// in doubt.
func TestEndings_keepsTheOneThatIsVoidLast(t *testing.T) {
	host := ending{reason: ReasonRevoked, until: at(time.Hour)}
	older := ending{reason: ReasonReuse, until: at(time.Hour), version: 5}
	newer := ending{reason: ReasonReuse, until: at(time.Hour), version: 6}
	for name, tt := range map[string]struct{ first, second, want ending }{
		"a refresh's after the host's": {host, newer, host},
		"the host's after a refresh's": {newer, host, host},
		"the host's again":             {host, host, host},
		"the older after the newer":    {newer, older, newer},
		"the newer after the older":    {older, newer, newer},
	} {
		t.Run(name, func(t *testing.T) {
			var e endings
			e.add("s", tt.first, decisionTime)
			e.add("s", tt.second, decisionTime)
			got, ok := e.of(Record{ID: "s", Version: 5})
			require.True(t, ok,
				"another write has made version 5, and the session still has to be ended")
			require.Equal(t, tt.want, got)
		})
	}
}

// All of them are looked through once a minute. In an outage each logout leaves one.
func TestEndings_arePurgedOnceAMinute(t *testing.T) {
	for name, before := range map[string]time.Duration{
		"": 0, "after a clock was put back": 365 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			var e endings
			add := func(session string, since, lasts time.Duration) int {
				e.add(session, ending{until: at(since + lasts)}, at(since))
				return len(e.sessions)
			}
			if before > 0 {
				add("by the wrong clock", before, -before) // it is over when the clock is right
			}
			require.Equal(t, 1, add("short", 0, time.Second))
			require.Equal(t, 2, add("long", time.Minute-us, time.Hour), "it is not time to look")
			require.Equal(t, 2, add("last", time.Minute, time.Hour))
			require.NotContains(t, e.sessions, "short")
		})
	}
}

// Reauthorize writes the session once more and leaves its generation alone. A theft is a theft
// still. What the authorizer has refused, it is to be asked again.
func TestEndings_ofATheftOutliveAWriteThatLeavesTheGenerationAlone(t *testing.T) {
	theft := ending{reason: ReasonReuse, until: at(time.Hour), version: 5, generation: 3,
		rotatedAt: decisionTime}
	denied := theft
	denied.reason = ReasonDenied
	rec := Record{ID: "s", Version: 6, Generation: 3, RotatedAt: decisionTime}
	rotatedSince, renewedSince, ended := rec, rec, rec
	ended.RevokedAt = at(time.Second) // by the write whose reply was lost: the host has to hear of it
	rotatedSince.Generation, renewedSince.RotatedAt = 4, at(time.Second)
	for _, c := range []struct {
		what ending
		rec  Record
		want bool
	}{{theft, rec, true}, {denied, rec, false}, {denied, ended, true}, {theft, ended, true}, {theft, rotatedSince, false}, {theft, renewedSince, false}} {
		var e endings
		e.add("s", c.what, decisionTime)
		_, ok := e.of(c.rec)
		require.Equal(t, c.want, ok, "%+v", c)
	}
}

// The store has lost the epoch that this process knows of. The access tokens of that one are
// refused as well.
func TestEndLater_refusesAccessTokensOfEachEpochUntilNow(t *testing.T) {
	key, err := GenerateKey()
	require.NoError(t, err)
	signer, err := NewAccessSigner(key, AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}})
	require.NoError(t, err)
	m, err := New(signer, NewMemoryStore(), Config{Now: func() time.Time { return decisionTime }})
	require.NoError(t, err)
	rec := Record{ID: encodeID(randomBytes(16)), Version: 2, RotatedAt: decisionTime}
	known := rec
	known.Epoch = nextEpoch(0, decisionTime)
	m.outdate(known, decisionTime)
	m.endLater(rec, ending{version: 2, reason: ReasonDenied})
	require.Greater(t, m.knownEpoch(rec.ID, decisionTime), known.Epoch)
}
