// Package sessiontest is for the tests of programs that use tokensession. A [World] has a Manager
// on a store in memory, and its time moves only when the test says so: fifteen minutes, or seven
// days, pass in no time.
//
//	world := sessiontest.New(t, tokensession.Config{})
//	tokens := world.Login("alice")
//	world.Clock.Advance(16 * time.Minute) // the access token has expired
//	tokens = world.Refresh(tokens)
//
// A [Browser] talks to the program's own handlers, without a network, and keeps cookies as browsers
// do. A [Thief] has a copy of somebody's tokens. LoggedIn and LoggedOut say what a test most often
// wants to know, and look everywhere.
//
// It all works inside [testing/synctest] and outside. Inside, the clock is the bubble's, so that
// Run and the program's own timers follow it. Outside, only the Manager follows it.
package sessiontest
