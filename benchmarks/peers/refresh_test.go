package peers

import (
	"runtime"
	"slices"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// TestRefreshers_refresh shows that what is measured is refreshes.
func TestRefreshers_refresh(t *testing.T) {
	for _, c := range contenders() {
		r := c.make(nil)
		token := r.Login()
		for range 3 {
			next, err := r.Refresh(token)
			if err != nil {
				t.Fatalf("%s: %+v", c.name, err)
			}
			if next == token {
				t.Fatalf("%s: does not rotate", c.name)
			}
			token = next
		}
		if _, err := r.Copy().Refresh(token); err != nil {
			t.Fatalf("%s: a copy: %v", c.name, err)
		}
		if _, err := r.Refresh(token); err != nil {
			t.Fatalf("%s: after its copy: %v", c.name, err)
		}
	}
}

// BenchmarkRefresh refreshes one session a worker over and over.
func BenchmarkRefresh(b *testing.B) {
	for _, a := range Algorithms() {
		message := make([]byte, 400) // about what is signed of an access token
		rivals := []rival{
			{"tokensession", refreshes(newOurs(a, tokensession.Config{}, nil))},
		}
		if a.Name == "HS256" {
			rivals = append(rivals, rival{"fosite-opaque", refreshes(newFosite(nil, nil))})
		} else {
			rivals = append(rivals, rival{"fosite", refreshes(newFosite(&a, nil))})
		}
		if a.Name == "HS256" || a.Name == "RS256" { // and no other
			rivals = append(rivals, rival{"gin-jwt", refreshes(newGinJWT(a, nil))})
		}
		rivals = append(rivals, rival{"raw", func(int, int) { a.Sign(message) }})
		b.Run("alg="+a.Name, func(b *testing.B) { takeTurns(b, rivals) })
	}
}

func refreshes(r Refresher) func(worker, i int) {
	tokens := make([]struct {
		string
		_ [64]byte // workers do not write to one line of the processor's cache
	}, runtime.GOMAXPROCS(0))
	for i := range tokens {
		tokens[i].string = r.Login()
	}
	return func(worker, _ int) { tokens[worker].string = must(r.Refresh(tokens[worker].string)) }
}

// BenchmarkRaces plays each story several times and reports between which numbers they end.
func BenchmarkRaces(b *testing.B) {
	const plays = 20
	for _, c := range contenders() {
		for _, st := range stories {
			b.Run("who="+c.name+"/story="+st.name, func(b *testing.B) {
				var answered, live []int
				var honest, thief float64
				for b.Loop() {
					for range plays {
						o := st.play(c)
						answered, live = append(answered, o.answered), append(live, o.live)
						if o.honest {
							honest++
						}
						if o.thief {
							thief++
						}
					}
				}
				b.ReportMetric(0, "ns/op")
				if st.parallel > 0 {
					b.ReportMetric(float64(slices.Min(answered)), "answered-min")
					b.ReportMetric(float64(slices.Max(answered)), "answered-max")
				}
				b.ReportMetric(float64(slices.Min(live)), "live-min")
				b.ReportMetric(float64(slices.Max(live)), "live-max")
				b.ReportMetric(honest/float64(len(live)), "honest-in")
				if st.stolen {
					b.ReportMetric(thief/float64(len(live)), "thief-in")
				}
			})
		}
	}
}
