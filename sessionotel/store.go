package sessionotel

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed67bc9b7f/tokensession"
)

// Store returns a store that does what the given one does, and measures each call and has a span
// for it. What else the given one can do, the Manager finds behind Unwrap: feed, notifications and
// sweeping go there directly.
func (t *Telemetry) Store(inner tokensession.RefreshStore) tokensession.RefreshStore {
	s := &store{RefreshStore: inner, telemetry: t}
	if revoker, ok := find[tokensession.SubjectRevoker](inner); ok {
		return &revokingStore{s, revoker}
	}
	return s
}

// find looks for an ability as a Manager does: in the store, and behind Unwrap.
func find[Ability any](s tokensession.RefreshStore) (Ability, bool) {
	for {
		if a, ok := s.(Ability); ok {
			return a, true
		}
		wrapper, ok := s.(interface {
			Unwrap() tokensession.RefreshStore
		})
		if !ok {
			var none Ability
			return none, false
		}
		s = wrapper.Unwrap()
	}
}

type store struct {
	tokensession.RefreshStore
	telemetry *Telemetry
}

// Unwrap returns the store inside.
func (s *store) Unwrap() tokensession.RefreshStore { return s.RefreshStore }

func (s *store) Create(ctx context.Context, rec tokensession.Record) (err error) {
	ctx, done := s.telemetry.begin(ctx, "create")
	defer func() { done(err) }()
	return s.RefreshStore.Create(ctx, rec)
}

func (s *store) Load(ctx context.Context, id string) (_ tokensession.Record, err error) {
	ctx, done := s.telemetry.begin(ctx, "load")
	defer func() { done(err) }()
	return s.RefreshStore.Load(ctx, id)
}

func (s *store) Swap(ctx context.Context, next tokensession.Record) (err error) {
	ctx, done := s.telemetry.begin(ctx, "swap")
	defer func() { done(err) }()
	return s.RefreshStore.Swap(ctx, next)
}

func (s *store) List(ctx context.Context, subject string) (_ []tokensession.Record, err error) {
	ctx, done := s.telemetry.begin(ctx, "list")
	defer func() { done(err) }()
	return s.RefreshStore.List(ctx, subject)
}

// A revokingStore is one whose inner store can revoke all of a subject's sessions at one stroke.
type revokingStore struct {
	*store
	revoker tokensession.SubjectRevoker
}

func (s *revokingStore) RevokeSubject(
	ctx context.Context, r tokensession.SubjectRevocation,
) (_ []tokensession.Record, err error) {
	ctx, done := s.telemetry.begin(ctx, "revoke_subject")
	defer func() { done(err) }()
	return s.revoker.RevokeSubject(ctx, r)
}

// begin begins the span of a call, and returns what to do when the call is done.
func (t *Telemetry) begin(ctx context.Context, operation string) (context.Context, func(error)) {
	began := time.Now()
	ctx, span := t.tracer.Start(ctx, "tokensession.store "+operation,
		trace.WithSpanKind(trace.SpanKindClient))
	return ctx, func(err error) {
		result := attribute.String("outcome", outcome(err))
		span.SetAttributes(result)
		if failed(err) {
			// The error's text is not told: a driver's may have what it was asked for.
			span.SetStatus(codes.Error, outcome(err))
		}
		span.End()
		t.storeTime.Record(ctx, time.Since(began).Seconds(),
			metric.WithAttributes(attribute.String("operation", operation), result))
	}
}

// outcome is a few words for what a store's call has come to.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, tokensession.ErrNotFound):
		return "not_found"
	case errors.Is(err, tokensession.ErrConflict):
		return "conflict"
	case errors.Is(err, tokensession.ErrExists):
		return "exists"
	case errors.Is(err, tokensession.ErrUnreadable):
		return "unreadable"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "error"
	}
}

// failed reports whether an error is more than an answer.
func failed(err error) bool {
	switch outcome(err) {
	case "ok", "not_found", "conflict", "exists":
		return false
	}
	return true
}
