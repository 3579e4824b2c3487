package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const revokingSubject = "revoke a subject's sessions"

// RevokeSubject implements [tokensession.SubjectRevoker]: in one statement, one more that reads
// what it did, and a third one where it did nothing, because an account whose sessions are all
// ended is told from one whose sessions cannot be seen.
func (s *Store) RevokeSubject(
	ctx context.Context, r tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	if err := checkRevocation(r); err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", revokingSubject, err)
	}
	// No record has what could not be written.
	r.Issuers = storable(r.Issuers, maxIssuer)
	r.Keep = storable(r.Keep, maxID)
	if checkText(r.Subject, maxText) != nil || len(r.Issuers) == 0 {
		return nil, nil
	}
	// A login between the statements looks like a session that was not ended. So does one that the
	// statement did not see, which must not pass.
	for range 3 {
		rows, done, err := s.revokeSubjectOnce(ctx, r)
		if err != nil {
			return nil, err
		}
		if done {
			recs, err := records(rows)
			if err != nil {
				err = fmt.Errorf("sqlstore: %s: %w", revokingSubject, err)
			}
			return recs, err
		}
	}
	return nil, s.explain(ctx, revokingSubject, errNotSeen)
}

var errNotSeen = errors.New("sessions are there that the statement did not change")

// revokeSubjectOnce returns the sessions that were ended, by now, and whether that is all.
func (s *Store) revokeSubjectOnce(
	ctx context.Context, r tokensession.SubjectRevocation,
) (rows []row, done bool, err error) {
	at, err := s.dialect.timeArg(r.At)
	if err != nil {
		return nil, false, fmt.Errorf("sqlstore: %s: %w", revokingSubject, err)
	}
	if r.KeepUntil.IsZero() {
		r.KeepUntil = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	}
	keepUntil, err := s.dialect.timeArg(r.KeepUntil)
	if err != nil {
		return nil, false, fmt.Errorf("sqlstore: %s: %w", revokingSubject, err)
	}
	text, args := s.revokeSubjectQuery(r, at, keepUntil)
	var changed int
	err = s.do(ctx, revokingSubject, func() (err error) {
		changed, err = s.execMany(ctx, text, args)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	rows, err = s.rows(ctx, revokingSubject, &s.revokedBy, r.Subject, r.WriteID)
	if err != nil || len(rows) > 0 {
		return rows, len(rows) >= changed, err
	}
	live, err := s.bySubject.rows(ctx, r.Subject)
	if err != nil {
		return nil, false, err
	}
	left := slices.ContainsFunc(live, func(l row) bool {
		return slices.Contains(r.Issuers, l.rec.Issuer) && !slices.Contains(r.Keep, l.rec.ID) &&
			l.rec.ExpiresAt.After(r.At)
	})
	return nil, !left && changed == 0, nil
}

// revokeSubjectQuery returns the statement and its arguments.
func (s *Store) revokeSubjectQuery(
	r tokensession.SubjectRevocation, at, keepUntil any,
) (text string, args []any) {
	text = s.revokeSubject
	args = []any{at, at, optional(string(r.Reason)), r.WriteID, keepUntil, keepUntil, r.Subject, at}
	in := func(condition string, values []string) {
		text += " AND " + condition + " (" + placeholders(len(values)) + ")"
		for _, v := range values {
			args = append(args, v)
		}
	}
	in("issuer IN", r.Issuers)
	if len(r.Keep) > 0 {
		in("id NOT IN", r.Keep)
	}
	return s.dialect.rebind(text), args
}

// storable returns those of the values that a column of this size can have.
func storable(values []string, limit int) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool {
		return checkText(v, limit) != nil
	})
}
