// Package sessionotel tells OpenTelemetry what a [tokensession.Manager] does. It needs the API of
// OpenTelemetry only. Which SDK and which exporter there are is the program's to say.
//
//	telemetry, err := sessionotel.New(sessionotel.Config{})
//	…
//	sessions, err := tokensession.New(signer, telemetry.Store(store), tokensession.Config{
//		OnEvent: telemetry.OnEvent(nil),
//	})
//	…
//	err = telemetry.Observe(sessions)
//
// These names are stable:
//
//	tokensession.events            counter    {event}    kind, reason
//	tokensession.refresh.duration  histogram  s          kind
//	tokensession.store.duration    histogram  s          operation, outcome
//	tokensession.feed.age          gauge      s
//	tokensession.denied            gauge      {session}
//
// Each call of the store has a span, "tokensession.store " and the operation. No subject, session
// or token is in any of it.
package sessionotel
