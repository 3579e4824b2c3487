package tokensession

import (
	"context"
	"log/slog"
	"time"
)

// An EventKind says what happened. Its values are stable and fit for a log or a metric's label.
type EventKind string

// The kinds of events. A call emits one for each session it changed or refused, and none for a
// token that is invalid. Where it returns [ErrUnavailable], the write that it could not tell of may
// turn out to have been applied, and there is no event of that.
const (
	EventStarted   EventKind = "started"   // a login
	EventRefreshed EventKind = "refreshed" // a refresh with the live token
	EventReplayed  EventKind = "replayed"  // in the grace period: a race, a retry, a lost reply
	EventRecovered EventKind = "recovered" // later, or after an outage: the successor is displaced
	EventHealed    EventKind = "healed"    // a token newer than the record: the store lost writes
	EventReused    EventKind = "reused"    // two parties held the session: revoked. Tell the user.
	EventDenied    EventKind = "denied"    // the authorizer refused a refresh: revoked
	EventRevoked   EventKind = "revoked"   // ended for Session.RevokeReason

	// EventReauthenticated: the user has proved again who they are ([Manager.Reauthenticate]).
	EventReauthenticated EventKind = "reauthenticated"

	// EventOutdated: the access tokens that the session had are refused ([Manager.Reauthorize]).
	EventOutdated EventKind = "outdated"

	// EventRefused: somebody presented a genuine refresh token that is of no use any more, because
	// the session has expired or was ended before, or because another client presented it, or one
	// without the key that the token is bound to ([ErrProofRequired]). Err says why. It is how a
	// host learns that a session has expired. Anybody who has an old token can cause it, so count
	// such events, and do not wake anybody up for one. A refused access token is no event: its
	// client refreshes, and that is one.
	EventRefused EventKind = "refused"

	// EventFeedStale: Run cannot read the revocation feed, or there is none. The deny list is as of
	// Since.
	EventFeedStale EventKind = "feed_stale"

	// EventFeedFresh: it can again. Or it can for the first time, with a zero Since: from now on
	// the deny list is complete.
	EventFeedFresh EventKind = "feed_fresh"

	// EventFeedPolled: the store's notifications fail. Until they work again, Run looks at the feed
	// as often as without them.
	EventFeedPolled EventKind = "feed_polled"

	EventUnreadable  EventKind = "unreadable"   // a record that cannot be read was passed over
	EventSweepFailed EventKind = "sweep_failed" // Run could not drop expired records
)

// An Event reports to [Config.OnEvent] what happened to a session, or to [Manager.Run].
type Event struct {
	Kind    EventKind
	At      time.Time
	Session Session // as it is now; zero for events of Run

	// Presented and Live are the generations of the token presented and of the one that was live
	// then. They are equal for a plain refresh. Only events of a refresh token have them.
	Presented, Live uint64

	// Delay is how long after the rotation a replayed token came, and InARow how many generations
	// in a row were replayed, as far as this Manager has seen. Only replayed events have them. A
	// long row is no accident: somebody with a copy of the tokens may be keeping up.
	Delay  time.Duration
	InARow int

	// Took is how long the call of Refresh has taken, by Config.Now. Only its events have it.
	Took time.Duration

	Since time.Time // feed_stale, feed_fresh: when the feed was last read; zero if never
	Err   error     // refused, feed_stale, feed_polled, unreadable, sweep_failed
}

// LogValue is a group of the fields that the event has. It contains no secret.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("kind", string(e.Kind))}
	if s := e.Session; s.ID != "" {
		attrs = append(attrs, slog.String("session", s.ID), slog.String("subject", s.Subject))
		if s.ClientID != "" {
			attrs = append(attrs, slog.String("client", s.ClientID))
		}
		if s.Actor != "" {
			attrs = append(attrs, slog.String("actor", s.Actor))
		}
		if s.RevokeReason != "" {
			attrs = append(attrs, slog.String("reason", string(s.RevokeReason)))
		}
	}
	switch e.Kind {
	case EventRefreshed, EventReplayed, EventRecovered, EventHealed, EventReused, EventDenied,
		EventRefused:
		attrs = append(attrs, slog.Uint64("presented", e.Presented), slog.Uint64("live", e.Live))
		if e.Kind == EventReplayed {
			attrs = append(attrs, slog.Duration("delay", e.Delay), slog.Int("in_a_row", e.InARow))
		}
	case EventFeedStale, EventFeedFresh:
		attrs = append(attrs, slog.Time("since", e.Since))
	}
	if e.Kind == EventRefused {
		attrs = append(attrs, slog.String("error_kind", Kind(e.Err)))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

func (m *Manager) emit(ctx context.Context, e Event) {
	e.At = m.now()
	m.cfg.OnEvent(ctx, e)
}
