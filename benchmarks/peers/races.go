package peers

import (
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A contender is a library with a configuration. The function that it is made with is called in
// each read of a token.
type contender struct {
	name string
	make func(atLoad func()) Refresher
}

func contenders() []contender {
	hmac := algorithm("HS256")
	configured := func(cfg tokensession.Config) func(func()) Refresher {
		return func(atLoad func()) Refresher { return newOurs(hmac, cfg, atLoad) }
	}
	return []contender{
		{"tokensession", configured(tokensession.Config{})},
		{"tokensession-no-recovery",
			configured(tokensession.Config{RecoveryPeriod: tokensession.Strict})},
		{"tokensession-strict", configured(tokensession.Config{GracePeriod: tokensession.Strict})},
		{"fosite", func(atLoad func()) Refresher { return newFosite(nil, atLoad) }},
		{"gin-jwt", func(atLoad func()) Refresher { return newGinJWT(hmac, atLoad) }},
	}
}

// An outcome is what a story comes to.
type outcome struct {
	answered int  // of the refreshes in parallel
	live     int  // tokens of the session that work, each tried alone
	honest   bool // the client's token works, whichever of several answers it keeps
	thief    bool // the thief's works
}

// A story is one session and what happens to it.
type story struct {
	name     string
	parallel int64 // refreshes that read the store before any of them writes
	stolen   bool
	tell     func(s *scene)
}

var stories = []story{
	{name: "parallel", parallel: 32, tell: func(s *scene) { s.refreshInParallel(32) }},
	{name: "retry", tell: func(s *scene) { // the reply is dropped, and the client tries again at once
		_, _ = s.refresh(s.honest)
		s.honestRefreshes()
	}},
	{name: "late-retry", tell: func(s *scene) { // … and the client is offline for half an hour
		_, _ = s.refresh(s.honest)
		s.Pass(30 * time.Minute)
		s.honestRefreshes()
	}},
	{name: "two-back", stolen: true, tell: func(s *scene) { // a token two generations old comes up, at once
		s.thief = s.honest
		s.honestRefreshes()
		s.honestRefreshes()
		s.thiefRefreshes()
	}},
	{name: "fork", stolen: true, tell: func(s *scene) { // a copy is used right behind the client, then both go on
		s.thief = s.honest
		s.honestRefreshes()
		s.thiefRefreshes()
		s.takeTurns()
	}},
	{name: "thief-first", stolen: true, tell: func(s *scene) { // a copy is used before the client comes, then both go on
		s.thief = s.honest
		s.thiefRefreshes()
		s.takeTurns()
	}},
}

func (st story) play(c contender) outcome {
	var atLoad func()
	if st.parallel > 0 {
		atLoad = newGate(st.parallel)
	}
	s := &scene{Refresher: c.make(atLoad), seen: map[string]bool{}}
	s.honest = s.Login()
	s.seen[s.honest] = true
	st.tell(s)
	s.Pass(time.Minute) // what is live then is live without a grace period
	o := outcome{answered: len(s.answers), honest: s.works(s.honest),
		thief: st.stolen && s.works(s.thief)}
	for _, token := range s.answers {
		o.honest = o.honest && s.works(token)
	}
	for token := range s.seen {
		if s.works(token) {
			o.live++
		}
	}
	return o
}

// A scene is a session with the tokens that its client and a thief have, and all that were ever
// given out.
type scene struct {
	Refresher
	honest, thief string
	seen          map[string]bool
	answers       []string // to refreshes in parallel
}

func (s *scene) works(token string) bool {
	_, err := s.Copy().Refresh(token)
	return err == nil
}

// refresh returns the next token, or the same one after an error, for whoever has it tries it
// again.
func (s *scene) refresh(token string) (string, error) {
	next, err := s.Refresh(token)
	if err != nil {
		return token, err
	}
	s.seen[next] = true
	return next, nil
}

func (s *scene) honestRefreshes() { s.honest, _ = s.refresh(s.honest) }
func (s *scene) thiefRefreshes()  { s.thief, _ = s.refresh(s.thief) }

// takeTurns has both refresh every 15 minutes for a day.
func (s *scene) takeTurns() {
	for range 96 {
		s.Pass(15 * time.Minute)
		s.honestRefreshes()
		s.Pass(time.Minute)
		s.thiefRefreshes()
	}
}

// refreshInParallel has the client refresh in n tabs at once.
func (s *scene) refreshInParallel(n int) {
	token := s.honest
	var mu sync.Mutex
	var tabs sync.WaitGroup
	for range n {
		tabs.Go(func() {
			next, err := s.Refresh(token)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				s.honest = next
				s.seen[next] = true
				s.answers = append(s.answers, next)
			}
		})
	}
	tabs.Wait()
}
