package sessionotel_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionotel"
	"github.com/seed67bc9b7f/tokensession/storetest"
)

// A program has telemetry, what Prometheus sees of it, and its spans.
type program struct {
	t         *testing.T
	telemetry *sessionotel.Telemetry
	registry  *prometheus.Registry
	spans     *tracetest.SpanRecorder
}

func newProgram(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, registry: prometheus.NewRegistry(), spans: tracetest.NewSpanRecorder()}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(p.registry))
	require.NoError(t, err)
	p.telemetry, err = sessionotel.New(sessionotel.Config{
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(exporter)),
		TracerProvider: trace.NewTracerProvider(trace.WithSpanProcessor(p.spans)),
	})
	require.NoError(t, err)
	return p
}

func (p *program) manager(store tokensession.RefreshStore, cfg tokensession.Config) *tokensession.Manager {
	p.t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(p.t, err)
	began, ticks := time.Now(), &atomic.Int64{}
	now := func() time.Time { return began.Add(time.Duration(ticks.Add(1)) * time.Millisecond) }
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"}, Now: now,
	})
	require.NoError(p.t, err)
	cfg.Now, cfg.OnEvent = now, p.telemetry.OnEvent(cfg.OnEvent)
	m, err := tokensession.New(signer, p.telemetry.Store(store), cfg)
	require.NoError(p.t, err)
	require.NoError(p.t, p.telemetry.Observe(m))
	return m
}

// scraped returns what Prometheus gets, without the labels that say whose it is.
func (p *program) scraped() string {
	p.t.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	return regexp.MustCompile(`,?otel_scope_[a-z_]+="[^"]*"`).ReplaceAllString(answer.Body.String(), "")
}

func (p *program) spanNames() []string {
	var names []string
	for _, s := range p.spans.Ended() {
		names = append(names, s.Name())
	}
	return names
}

func TestTelemetry_tellsPrometheusOfSessions(t *testing.T) {
	p := newProgram(t)
	var told []tokensession.EventKind
	m := p.manager(tokensession.NewMemoryStore(), tokensession.Config{
		OnEvent: func(_ context.Context, e tokensession.Event) { told = append(told, e.Kind) },
	})
	tokens, err := m.Start(t.Context(), "alice")
	require.NoError(t, err)
	for range 2 {
		tokens, err = m.Refresh(t.Context(), tokens.RefreshToken)
		require.NoError(t, err)
	}
	require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID, tokensession.Because("password_change")))
	require.Len(t, told, 4, "the program is told, too")

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	require.Eventually(t, func() bool { return !m.Stats().FeedReadAt.IsZero() }, 10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, <-done)

	text := p.scraped()
	for _, line := range []string{
		`tokensession_events_total{kind="started"} 1`,
		`tokensession_events_total{kind="refreshed"} 2`,
		`tokensession_events_total{kind="revoked",reason="password_change"} 1`,
		`tokensession_refresh_duration_seconds_count{kind="refreshed"} 2`,
		`tokensession_store_duration_seconds_count{operation="swap",outcome="ok"} 3`,
		`tokensession_denied{} 1`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.Regexp(t, `(?m)^tokensession_feed_age_seconds\{\} 0\.\d+`, text)
	require.NotContains(t, text, "alice")
	require.NotContains(t, text, tokens.Session.ID)
}

func TestObserve_hasNoAgeBeforeTheFeedIsRead(t *testing.T) {
	p := newProgram(t)
	p.manager(tokensession.NewMemoryStore(), tokensession.Config{})
	require.NotContains(t, p.scraped(), "feed_age")
}

func TestStore_keepsTheContract(t *testing.T) {
	p := newProgram(t)
	storetest.Run(t, func(*testing.T) tokensession.RefreshStore {
		return p.telemetry.Store(tokensession.NewMemoryStore())
	})
}

// A plain store has no abilities but the four methods.
type plain struct{ tokensession.RefreshStore }

func TestStore_keepsTheAbilities(t *testing.T) {
	p := newProgram(t)
	m := p.manager(tokensession.NewMemoryStore(), tokensession.Config{})
	for range 3 {
		_, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
	}
	n, err := m.RevokeSubject(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Contains(t, p.spanNames(), "tokensession.store revoke_subject")

	p = newProgram(t)
	m = p.manager(plain{tokensession.NewMemoryStore()}, tokensession.Config{})
	_, err = m.Start(t.Context(), "alice")
	require.NoError(t, err)
	n, err = m.RevokeSubject(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NotContains(t, p.spanNames(), "tokensession.store revoke_subject")
	require.Error(t, m.Run(t.Context()), "a store without a feed and a sweeper has not got them by being wrapped")
}

// A broken store fails, with an error that has a secret in it.
type broken struct{ tokensession.RefreshStore }

func (broken) Load(context.Context, string) (tokensession.Record, error) {
	return tokensession.Record{}, errors.New("dial postgres://app:hunter2@db: refused")
}

func TestStore_spansTellOutcomesAndNoSecrets(t *testing.T) {
	p := newProgram(t)
	m := p.manager(broken{tokensession.NewMemoryStore()}, tokensession.Config{Remember: -1})
	tokens, err := m.Start(t.Context(), "alice")
	require.NoError(t, err)
	_, err = m.Refresh(t.Context(), tokens.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)

	spans := p.spans.Ended()
	i := slices.IndexFunc(spans, func(s trace.ReadOnlySpan) bool { return s.Name() == "tokensession.store load" })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, trace.Status{Code: codes.Error, Description: "error"}, spans[i].Status())
	for _, s := range spans {
		for _, a := range s.Attributes() {
			require.NotContains(t, a.Value.Emit(), "alice")
			require.NotContains(t, a.Value.Emit(), "hunter2")
		}
		require.Empty(t, s.Events())
	}
	require.Contains(t, p.scraped(), `tokensession_store_duration_seconds_count{operation="load",outcome="error"} 1`)
}

// Each metric in the rules of the documentation is one that is there.
func TestRules_nameWhatThereIs(t *testing.T) {
	page, err := os.ReadFile("../docs/telemetry.md")
	require.NoError(t, err)
	_, rules, found := strings.Cut(string(page), "```yaml\n")
	require.True(t, found)
	rules, _, _ = strings.Cut(rules, "```")

	p := newProgram(t)
	m := p.manager(tokensession.NewMemoryStore(), tokensession.Config{})
	tokens, err := m.Start(t.Context(), "alice")
	require.NoError(t, err)
	_, err = m.Refresh(t.Context(), tokens.RefreshToken)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	require.Eventually(t, func() bool { return !m.Stats().FeedReadAt.IsZero() }, 10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, <-done)
	text := p.scraped()
	names := regexp.MustCompile(`tokensession_\w+`).FindAllString(rules, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.Contains(t, text, "\n"+name+"{")
	}
	for _, kind := range regexp.MustCompile(`kind="(\w+)"`).FindAllString(rules, -1) {
		require.Regexp(t, `(?m)^tokensession_events_total{`+kind+`[,}]`, newProgram(t).scraped())
	}
}

// A counter that comes into being with its first event shows Prometheus no rise. So the first token
// that is reused, or the first session that is healed, would raise no alarm.
func TestTelemetry_countsFromZero(t *testing.T) {
	p := newProgram(t)
	m := p.manager(tokensession.NewMemoryStore(), tokensession.Config{})
	reused, denied := `tokensession_events_total{kind="reused",reason="reuse"} `,
		`tokensession_events_total{kind="denied",reason="denied"} `
	text := p.scraped()
	for _, line := range []string{
		reused + "0", denied + "0", `tokensession_events_total{kind="healed"} 0`,
		`tokensession_events_total{kind="feed_stale"} 0`, `tokensession_events_total{kind="replayed"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
	first, err := m.Start(t.Context(), "alice")
	require.NoError(t, err)
	next := first
	for range 2 {
		next, err = m.Refresh(t.Context(), next.RefreshToken)
		require.NoError(t, err)
	}
	_, err = m.Refresh(t.Context(), first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
	require.Contains(t, p.scraped(), reused+"1\n")
	require.Equal(t, 1, strings.Count(p.scraped(), `events_total{kind="reused"`), "the same series")
}
