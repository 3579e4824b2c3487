package tokensession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Deny refuses the access tokens that d names, from now on: they are an [ErrRevoked], or an
// [ErrOutdated] where d only refuses those of earlier epochs. Contexts of
// [AccessVerifier.SessionContext] end. It returns the cursor to ask [Manager.Denials] with next. If
// that is empty, d was not enough and a snapshot is needed.
//
// From the first snapshot on, this verifier accepts no token for longer than d.AccessTTL after its
// iat, because what is denied is forgotten by that. A longer AccessTTL counts only from a snapshot
// on: else some sessions would have been forgotten too early.
//
// On an error d is malformed, and nothing has changed.
func (v *AccessVerifier) Deny(d Denials) (next string, err error) {
	if err := d.check(); err != nil {
		return "", err
	}
	now := v.now()
	for line := range bytes.Lines(d.Entries) {
		k, what, at, _ := parseDenial(line)
		// The leeway of this verifier may be longer than that of the issuer, and counts twice:
		// tokens are accepted for longer, and this clock may be behind.
		until := time.Unix(at, 0).Add(d.Keep + 2*v.cfg.Leeway)
		v.denied.add(k, what, until, now)
	}
	switch ttl := v.ttl.Load(); {
	case d.Snapshot, ttl != 0 && int64(d.AccessTTL) < ttl:
		v.ttl.Store(int64(d.AccessTTL))
	case ttl == 0, int64(d.AccessTTL) > ttl:
		return "", nil
	}
	return d.Cursor, nil
}

// check refuses what no Manager makes.
func (d Denials) check() error {
	switch {
	case d.AccessTTL < minTTL || d.AccessTTL > maxAccessTTL:
		return fmt.Errorf("tokensession: Denials.AccessTTL %v: must be from %v to %v",
			d.AccessTTL, minTTL, maxAccessTTL)
	case d.Keep < d.AccessTTL || d.Keep > 3*maxAccessTTL:
		return fmt.Errorf("tokensession: Denials.Keep %v: must be from %v to %v",
			d.Keep, d.AccessTTL, 3*maxAccessTTL)
	}
	if _, err := parseCursor(d.Cursor); err != nil || d.Cursor == "" {
		return errCursor
	}
	n := 0
	for line := range bytes.Lines(d.Entries) {
		n++
		if _, _, _, ok := parseDenial(line); !ok {
			return fmt.Errorf("tokensession: Denials.Entries: line %d is malformed", n)
		}
	}
	return nil
}

// parseDenial reads a line of [Denials].
func parseDenial(line []byte) (k sessionKey, d denial, at int64, ok bool) {
	const idSize = 22
	line, ended := bytes.CutSuffix(line, []byte{'\n'})
	if !ended || len(line) < idSize+2 || len(line) > 80 || line[idSize] != ' ' {
		return k, 0, 0, false
	}
	if k = keyOf(string(line[:idSize])); k == (sessionKey{}) {
		return k, 0, 0, false
	}
	when, more, isOutdated := bytes.Cut(line[idSize+1:], []byte{' '})
	at, ok = parseNumber(when)
	if !ok || at < 0 || at > math.MaxInt32*8 { // the year 2514
		return k, 0, 0, false
	}
	if !isOutdated {
		return k, forGood, at, true
	}
	after, ok := parseNumber(more)
	epoch := uint64(at*1000 + after)
	if !ok || epoch == 0 || denial(epoch) >= refused {
		return k, 0, 0, false
	}
	return k, denial(epoch), at, true
}

// parseNumber reads a decimal number as strconv writes it, and in no other way.
func parseNumber(text []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(text)
}

// SessionContext is [Manager.SessionContext] for a connection to a service without a store. The
// context ends when the access token expires, or when [AccessVerifier.Deny] is told of its session.
// See [UntilSessionEnds] for how it can go on beyond the access token.
func (v *AccessVerifier) SessionContext(
	ctx context.Context, a Access, opts ...ContextOption,
) (context.Context, context.CancelFunc) {
	until := v.end(a.IssuedAt, a.ExpiresAt)
	goesOn := contextOptionsOf(opts).untilSessionEnds && v.now().Before(until)
	return watchSession(ctx, v, a, until, goesOn)
}

// end returns when an access token is accepted no more.
func (v *AccessVerifier) end(issued, expires time.Time) time.Time {
	if ttl := time.Duration(v.ttl.Load()); ttl != 0 {
		expires = sooner(expires, issued.Add(ttl))
	}
	return expires.Add(v.cfg.Leeway)
}

func (v *AccessVerifier) now() time.Time { return v.cfg.Now() }

func (v *AccessVerifier) denials() *denyList { return &v.denied }

// AskSessionEpoch is for what carries revocations to this verifier. It says how to ask the issuer
// about a session, so that contexts with [UntilSessionEnds] need no newer access token to go on.
// ask returns what the issuer's [Manager.SessionEpoch] does. An [ErrRevoked] or an [ErrExpired]
// says that the session is over. Any other error says that nobody could tell, and ends nothing: ask
// is called again within a minute.
//
// Most users won't need it: sessionhttp.NewRemote does that.
func (v *AccessVerifier) AskSessionEpoch(
	ask func(ctx context.Context, sessionID string) (epoch uint64, err error),
) {
	v.sessionEpoch.Store(&ask)
}

// review is asked when the newest access token that was verified has expired.
//
// The connection's client may have a newer one, which it has shown to the issuer only. So the
// issuer is asked. It is not asked earlier, because a client that shows its new token here makes
// that needless. As connections' access tokens were made at different times, they do not all ask at
// the same time, and further questions are spread.
//
// The epoch is compared, too. It is on the deny list for as long as an access token of before could
// be used, and a connection can last for longer than that. If this service could not be told
// meanwhile, it would never hear that the connection's rights are outdated.
func (v *AccessVerifier) review(w *watch, now time.Time) (time.Time, error) {
	ask := v.sessionEpoch.Load()
	if ask == nil {
		return time.Time{}, errAccessOver
	}
	period := defaultAccessTTL
	if ttl := time.Duration(v.ttl.Load()); ttl != 0 {
		period = ttl
	}
	ctx, cancel := context.WithTimeout(w.ctx, reviewTimeout)
	defer cancel()
	epoch, err := (*ask)(ctx, w.session)
	switch {
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrExpired):
		return time.Time{}, err
	case err != nil:
		return spread(w.key, now, now.Add(min(reviewRetry, period))), nil
	case w.epoch < epoch:
		return time.Time{}, denial(epoch).refusal(w.session)
	}
	return spread(w.key, now, now.Add(period)), nil
}
