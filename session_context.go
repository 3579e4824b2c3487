package tokensession

import (
	"context"
	"errors"
	"time"
)

// A ContextOption is an option of [Manager.SessionContext] and [AccessVerifier.SessionContext].
type ContextOption interface{ applyContext(*contextOptions) }

type contextOptions struct{ untilSessionEnds bool }

type contextFunc func(*contextOptions)

func (f contextFunc) applyContext(o *contextOptions) { f(o) }

// UntilSessionEnds lets a context go on when its access token expires, for as long as the session
// lives. It is for a connection that stays open for hours, and whose client refreshes meanwhile.
//
// A Manager reads the store when the access token would have expired, and again after each
// AccessTTL. An [AccessVerifier] has no store. It lets the context go on for as long as the newest
// access token of the session lives that it has verified: a client proves that its session goes on
// with each request that it makes, or sends its new access token over the connection. If none does,
// it asks the issuer, where it can ([AccessVerifier.AskSessionEpoch], as a sessionhttp.Remote
// does), and again after each AccessTTL. Else the context ends.
func UntilSessionEnds() ContextOption {
	return contextFunc(func(o *contextOptions) { o.untilSessionEnds = true })
}

func contextOptionsOf(opts []ContextOption) contextOptions {
	var o contextOptions
	for _, opt := range opts {
		opt.applyContext(&o)
	}
	return o
}

// SessionContext returns a context for a connection that was opened with an access token, such as a
// WebSocket, a stream of events or a gRPC stream. Verify only says whether a connection may begin.
// This context ends when it should not go on: when the access token expires, or this Manager hears
// that its session was revoked, or has changed so that the access token is outdated.
// [context.Cause] is an [ErrExpired], an [ErrRevoked] or an [ErrOutdated] then.
//
// With [UntilSessionEnds] it ends with the session, and not already with the access token. It also
// ends if the access token is outdated, because the connection was opened with rights that the
// session may not have any more: the client refreshes, and opens another one. An outage of the
// store ends nothing.
//
// Call the function that is returned when the connection has ended, as with [context.WithCancel].
func (m *Manager) SessionContext(
	ctx context.Context, a Access, opts ...ContextOption,
) (context.Context, context.CancelFunc) {
	o := contextOptionsOf(opts)
	until := sooner(a.ExpiresAt.Add(m.signer.cfg.Leeway), a.IssuedAt.Add(m.acceptancePeriod()))
	if o.untilSessionEnds {
		// An access token that has expired begins no connection. One that has not is reviewed a
		// little earlier than it would expire.
		if now := m.now(); now.Before(until) {
			until = spread(keyOf(a.SessionID), now, until)
		} else {
			o.untilSessionEnds = false
		}
	}
	return watchSession(ctx, m, a, until, o.untilSessionEnds)
}

// spread returns a time in the last eighth before until. Many connections begin at the same time,
// as after a restart, and must not all read the store at the same time. A session's key is part of
// a hash, so that its bits are as good as random ones.
func spread(k sessionKey, now, until time.Time) time.Time {
	eighth := until.Sub(now) / 8
	return until.Add(-time.Duration(float64(eighth) * float64(k.lo>>11) / (1 << 53)))
}

const (
	reviewTimeout = 5 * time.Second
	reviewRetry   = time.Minute // while the store cannot tell
)

func (m *Manager) denials() *denyList { return &m.denied }

func (m *Manager) review(w *watch, now time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(w.ctx, reviewTimeout)
	defer cancel()
	rec, err := m.liveRecord(ctx, w.session)
	switch {
	case errors.Is(err, ErrUnavailable):
		return spread(w.key, now, now.Add(min(reviewRetry, m.acceptancePeriod()))), nil
	case err != nil:
		return time.Time{}, err
	case w.epoch < rec.Epoch:
		m.outdate(rec, rec.OutdatedAt)
		return time.Time{}, denial(rec.Epoch).refusal(rec.ID)
	}
	return sooner(spread(w.key, now, now.Add(m.acceptancePeriod())), m.rules.end(rec)), nil
}
