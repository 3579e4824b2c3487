package peers

import (
	"testing"
)

// TestRaces_endAsPromised plays each story with tokensession. What the others do is measured
// elsewhere, not asserted; and the race detector finds races in some of them.
func TestRaces_endAsPromised(t *testing.T) {
	type row map[string]outcome
	want := map[string]row{
		"tokensession-no-recovery": {
			"parallel":    {answered: 32, live: 1, honest: true},
			"retry":       {live: 1, honest: true},
			"late-retry":  {}, // the reply was dropped for longer than the grace period
			"two-back":    {},
			"fork":        {},
			"thief-first": {},
		},
		"tokensession": {
			// The consumed token works in place of its successor, never beside it: that makes two
			// when each is tried alone.
			"parallel":    {answered: 32, live: 2, honest: true},
			"retry":       {live: 2, honest: true},
			"late-retry":  {live: 2, honest: true},
			"two-back":    {},
			"fork":        {},
			"thief-first": {},
		},
		"tokensession-strict": { // says that a race and a lost reply end the session
			"parallel": {answered: 1}, "retry": {}, "late-retry": {}, "two-back": {}, "fork": {}, "thief-first": {},
		},
	}
	played := 0
	for _, c := range contenders() {
		if want[c.name] == nil {
			continue
		}
		played++
		for _, st := range stories {
			expected, ok := want[c.name][st.name]
			if !ok {
				t.Fatalf("%s, %s: nothing is expected of it", c.name, st.name)
			}
			if got := st.play(c); got != expected {
				t.Errorf("%s, %s: %+v, want %+v", c.name, st.name, got, expected)
			}
		}
	}
	if played != len(want) {
		t.Errorf("%d contenders of ours, want %d", played, len(want))
	}
}
