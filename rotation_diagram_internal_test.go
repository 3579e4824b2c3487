package tokensession

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDiagram_isTheRule: the arrows of the picture in docs/concepts.md are what decide and next make
// of a token in each place, presented at each time, and no others.
func TestDiagram_isTheRule(t *testing.T) {
	r := rules{refreshTTL: 24 * time.Hour, grace: 10 * time.Second, recovery: time.Hour}
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rec := Record{
		Generation: 7, Predecessor: 6, RotatedAt: began, ConsumedAt: began,
		ExpiresAt: began.Add(r.refreshTTL), IdleTTL: r.refreshTTL,
	}
	ended := rec
	ended.RevokedAt = began

	arrows := map[string]bool{"[*] --> live : login": true}
	for _, generation := range []uint64{0, 5, 6, 7, 8, 20} {
		for _, after := range []time.Duration{time.Second, 10 * time.Second, 30 * time.Minute, time.Hour, 25 * time.Hour} {
			for _, rec := range []Record{rec, ended} {
				at := began.Add(after)
				what := r.decide(rec, presentation{generation: generation, at: at, now: at})
				arrows[place(rec, generation)+" --> "+placeAfter(r, rec, generation, what, at)+" : "+outcomeNames[what]] = true
			}
		}
	}
	page, err := os.ReadFile("docs/concepts.md")
	require.NoError(t, err)
	drawn := regexp.MustCompile(`(?m)^    (\S+ --> .*)$`).FindAllStringSubmatch(string(page), -1)
	var lines []string
	for _, line := range drawn {
		lines = append(lines, strings.TrimSpace(line[1]))
	}
	require.ElementsMatch(t, slices.Sorted(maps.Keys(arrows)), lines)
}

var outcomeNames = map[outcome]string{
	rotated: "rotated", healed: "healed", replayed: "replayed", recovered: "recovered",
	reused: "reused", expired: "expired", revoked: "revoked",
}

// place says where a generation stands in a record that is not revoked.
func place(rec Record, generation uint64) string {
	switch {
	case generation == rec.Generation:
		return "live"
	case generation > rec.Generation:
		return "newer"
	case generation == rec.Predecessor:
		return "consumed"
	default:
		return "older"
	}
}

func placeAfter(r rules, rec Record, generation uint64, what outcome, at time.Time) string {
	switch what {
	case reused, expired, revoked:
		return "ended"
	}
	return place(r.next(what, rec, generation, at), generation)
}
