package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// maxClockDifference is how far the server's clock may be from this program's. The store goes by
// the program's clock alone. People who end sessions by hand go by the server's, and instances look
// for what is new a little way back.
const maxClockDifference = 30 * time.Second

var errClock = errors.New("the clocks differ")

// Check returns an error for what would fail, or would go wrong unseen, when the store is used. It
// is for the start of a program, after [Store.Migrate], and changes nothing. It finds
//
//   - a server that is read-only: a standby, or a former primary
//   - rights that the account lacks
//   - row level security that could hide rows from the account
//   - options of a DSN that the store does not bear, where they forbid a statement
//   - a table of a later version
//   - a clock of the server that differs from Config.Now by more than half a minute
//
// It cannot find a pooler that mixes up statements, because that needs other clients: the README
// says how to set one up.
func (s *Store) Check(ctx context.Context) error {
	nobody := rand.Text()
	if rec, err := s.confirmedRecord(ctx, nobody); err == nil {
		return s.explain(ctx, "check", otherSession(rec.ID))
	} else if !errors.Is(err, tokensession.ErrNotFound) {
		return err
	}
	if _, err := s.change(ctx, "check that sessions can be added", &s.insertNothing); err != nil {
		return err
	}
	never, err := s.dialect.timeArg(firstTime)
	if err != nil {
		return err
	}
	for _, st := range []*statement{&s.dropDue, &s.moveDue} {
		_, err := s.change(ctx, "check that sessions can be dropped", st, never, 1, never)
		if err != nil {
			return err
		}
	}
	swap, err := s.dialect.recordArgs(tokensession.Record{ID: nobody, ExpiresAt: firstTime})
	if err != nil {
		return err
	}
	swap = append(append([]any{never}, swap[1:]...), nobody, int64(0), nobody)
	if _, err := s.change(ctx, "check that sessions can be changed", &s.swap, swap...); err != nil {
		return err
	}
	none := func([]tokensession.Revocation) error { return nil }
	err = s.Revocations(ctx, lastTime, none)
	if err != nil && !errors.Is(err, tokensession.ErrUnreadable) {
		return err
	}
	return s.checkClock(ctx)
}

func (s *Store) checkClock(ctx context.Context) error {
	return s.do(ctx, "check", func() error {
		before := s.now()
		server, err := s.serverNow(ctx)
		if err != nil {
			return err
		}
		after := s.now()
		if server.Before(before.Add(-maxClockDifference)) ||
			server.After(after.Add(maxClockDifference)) {
			return fmt.Errorf("%w: it is %v here and %v at the server", errClock,
				after.UTC().Format(time.RFC3339), server.Format(time.RFC3339))
		}
		return nil
	})
}

func (s *Store) serverNow(ctx context.Context) (server time.Time, err error) {
	err = s.db.QueryRowContext(ctx, s.serverTime).Scan(timeColumn{s.dialect, &server})
	return server, err
}

// ahead returns by how much this clock is ahead of the server's, or 0. It does not count what is
// less than a second, because not all servers tell more exactly. SQLite has no other clock than
// this one.
func (s *Store) ahead(ctx context.Context) (ahead time.Duration, err error) {
	if s.dialect == SQLite {
		return 0, nil
	}
	err = s.do(ctx, "sweep", func() error {
		before := s.now()
		server, err := s.serverNow(ctx)
		ahead = before.Sub(server)
		return err
	})
	if ahead < time.Second {
		ahead = 0
	}
	return ahead, err
}
