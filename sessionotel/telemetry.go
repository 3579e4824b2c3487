package sessionotel

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed67bc9b7f/tokensession"
)

const scope = "github.com/seed67bc9b7f/tokensession/sessionotel"

// Config says where measurements and spans go. A nil field is the global provider.
type Config struct {
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider
}

// Telemetry has the instruments. It is safe for concurrent use, and one is enough for a program.
type Telemetry struct {
	meter  metric.Meter
	tracer trace.Tracer

	events                 metric.Int64Counter
	refreshTime, storeTime metric.Float64Histogram
	feedAge                metric.Float64ObservableGauge
	denied                 metric.Int64ObservableGauge
}

// New makes the instruments. An error is the meter provider's. Global providers have to be set
// before, or the counters begin with their first events.
func New(cfg Config) (*Telemetry, error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	t := &Telemetry{meter: cfg.MeterProvider.Meter(scope), tracer: cfg.TracerProvider.Tracer(scope)}
	var errs [5]error
	t.events, errs[0] = t.meter.Int64Counter("tokensession.events",
		metric.WithUnit("{event}"), metric.WithDescription("What happened to sessions, and to Run."))
	t.refreshTime, errs[1] = t.meter.Float64Histogram("tokensession.refresh.duration",
		metric.WithUnit("s"), seconds, metric.WithDescription("How long refreshes took that came to a result."))
	t.storeTime, errs[2] = t.meter.Float64Histogram("tokensession.store.duration",
		metric.WithUnit("s"), seconds, metric.WithDescription("How long calls of the store took."))
	t.feedAge, errs[3] = t.meter.Float64ObservableGauge("tokensession.feed.age",
		metric.WithUnit("s"), metric.WithDescription("How long ago the revocation feed was last read."))
	t.denied, errs[4] = t.meter.Int64ObservableGauge("tokensession.denied",
		metric.WithUnit("{session}"), metric.WithDescription("Sessions whose access tokens are refused."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("sessionotel: %w", err)
	}
	t.countFromZero()
	return t, nil
}

// countFromZero makes the counters that alarms look at. Prometheus sees a rise only between two
// values. So if a counter came into being with its first event, that event would raise no alarm,
// and a stolen token or a store that has lost writes is often the first one.
func (t *Telemetry) countFromZero() {
	for _, kind := range []tokensession.EventKind{
		tokensession.EventStarted, tokensession.EventRefreshed, tokensession.EventReplayed,
		tokensession.EventRecovered, tokensession.EventHealed, tokensession.EventRefused,
		tokensession.EventFeedStale, tokensession.EventFeedFresh, tokensession.EventFeedPolled,
		tokensession.EventUnreadable, tokensession.EventSweepFailed,
	} {
		t.count(context.Background(), 0, tokensession.Event{Kind: kind})
	}
	for kind, reason := range map[tokensession.EventKind]tokensession.Reason{
		tokensession.EventReused: tokensession.ReasonReuse,
		tokensession.EventDenied: tokensession.ReasonDenied,
	} {
		ended := tokensession.Session{RevokeReason: reason}
		t.count(context.Background(), 0, tokensession.Event{Kind: kind, Session: ended})
	}
}

func (t *Telemetry) count(ctx context.Context, n int64, e tokensession.Event) {
	attributes := []attribute.KeyValue{attribute.String("kind", string(e.Kind))}
	if reason := e.Session.RevokeReason; reason != "" {
		attributes = append(attributes, attribute.String("reason", string(reason)))
	}
	t.events.Add(ctx, n, metric.WithAttributes(attributes...))
}

// seconds are the bounds of the histograms: from a look into memory to the time-out of a store.
var seconds = metric.WithExplicitBucketBoundaries(
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)

// OnEvent returns a function for [tokensession.Config.OnEvent]. It counts the event, and then hands
// it to next, which may be nil.
//
// A reason that the host has given with [tokensession.Because] becomes a value of the attribute, so
// these should be few.
func (t *Telemetry) OnEvent(
	next func(context.Context, tokensession.Event),
) func(context.Context, tokensession.Event) {
	return func(ctx context.Context, e tokensession.Event) {
		t.count(ctx, 1, e)
		if e.Took > 0 {
			kind := attribute.String("kind", string(e.Kind))
			t.refreshTime.Record(ctx, e.Took.Seconds(), metric.WithAttributes(kind))
		}
		if next != nil {
			next(ctx, e)
		}
	}
}

// Observe reports the age of the revocation feed and the size of the deny list of a Manager, each
// time that measurements are collected. Before Run has read the feed for the first time, there is
// no age. A program that has several Managers observes one of them, because the figures have no
// attribute that would tell them apart.
func (t *Telemetry) Observe(m *tokensession.Manager) error {
	_, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := m.Stats()
		o.ObserveInt64(t.denied, int64(stats.Denied))
		if !stats.FeedReadAt.IsZero() {
			o.ObserveFloat64(t.feedAge, m.Now().Sub(stats.FeedReadAt).Seconds())
		}
		return nil
	}, t.feedAge, t.denied)
	if err != nil {
		return fmt.Errorf("sessionotel: Observe: %w", err)
	}
	return nil
}
