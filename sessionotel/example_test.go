package sessionotel_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionotel"
)

func Example() {
	audit := func(ctx context.Context, e tokensession.Event) {
		slog.InfoContext(ctx, "session", "event", e)
	}
	newSessions := func(signer *tokensession.AccessSigner, store tokensession.RefreshStore) (*tokensession.Manager, error) {
		telemetry, err := sessionotel.New(sessionotel.Config{}) // the global providers
		if err != nil {
			return nil, err
		}
		sessions, err := tokensession.New(signer, telemetry.Store(store), tokensession.Config{
			OnEvent: telemetry.OnEvent(audit), // your own function, or nil
		})
		if err != nil {
			return nil, err
		}
		return sessions, telemetry.Observe(sessions)
	}
	_ = newSessions
}

// Prometheus scrapes the exporter of OpenTelemetry.
func Example_prometheus() {
	exporter, err := otelprometheus.New(otelprometheus.WithoutScopeInfo())
	if err != nil {
		log.Fatal(err)
	}
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(exporter)))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())

	telemetry, err := sessionotel.New(sessionotel.Config{}) // the provider that was just set
	if err != nil {
		log.Fatal(err)
	}
	sessions := newSessions(telemetry)
	for range 3 {
		if _, err := sessions.Start(context.Background(), "alice"); err != nil {
			log.Fatal(err)
		}
	}

	server := httptest.NewServer(mux)
	defer server.Close()
	answer, err := http.Get(server.URL + "/metrics")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `kind="started"`) || strings.Contains(line, `kind="reused"`) {
			fmt.Print(line)
		}
	}

	// Unordered output:
	// tokensession_events_total{kind="reused",reason="reuse"} 0
	// tokensession_events_total{kind="started"} 3
}

// newSessions returns a Manager that tells OpenTelemetry what it does.
func newSessions(telemetry *sessionotel.Telemetry) *tokensession.Manager {
	key, err := tokensession.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		log.Fatal(err)
	}
	store := telemetry.Store(tokensession.NewMemoryStore())
	sessions, err := tokensession.New(signer, store, tokensession.Config{
		OnEvent: telemetry.OnEvent(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := telemetry.Observe(sessions); err != nil {
		log.Fatal(err)
	}
	return sessions
}
