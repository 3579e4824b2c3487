// Package testkit has what tests of sessions need in every package: a clock that stands still, a
// store that a test can disturb, a log of the events, and races that are played in every order.
//
// The hooked store is for stories about time. A test says beforehand what will become of a call of
// the store, as a list of steps, and then lets the Manager run into it. This is a write that takes
// twelve seconds and whose reply is lost:
//
//	clock := testkit.NewClock()
//	store := testkit.Hook(t, tokensession.NewMemoryStore())
//	m, err := tokensession.New(signer, store.Store(), tokensession.Config{Now: clock.Now})
//	…
//	store.On(testkit.Swap, // the first attempt to write
//		clock.Passes(12*time.Second),
//		testkit.Apply,
//		testkit.LoseReply,
//	)
//	store.On(testkit.Swap, // the second
//		testkit.LoseRequest,
//	)
//	tokens, err := m.Refresh(ctx, first.RefreshToken) // finds its first write at the third attempt
//
// A step may be any function of a [Request]. [Do] makes a step of a plain function, for example of
// a second refresh that comes while the first one's write is on its way.
//
// The package needs no more than the standard library and tokensession itself, so that the tests of
// every module of this repository can use it.
package testkit
