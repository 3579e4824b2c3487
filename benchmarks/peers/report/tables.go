package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// tables returns what stands in docs/benchmarks.md between the markers.
func tables(r *results) string {
	runs := r.runs("Check/workers=1", "verify-ns/op")
	return strings.Join([]string{
		fmt.Sprintf("On %s cores of an %s with %s, all in one run, taking turns of half a millisecond. A time\n"+
			"is the median of %d runs with benchstat's 95 %% interval; × is how many times longer the\n"+
			"other takes, the median of the runs' ratios, and below 1 we are not first. `make\n"+
			"bench-peers` writes these tables and the figure.", r.cores, cpuName(r.cpu), r.golang, runs),
		verifyTable(r), checkTable(r), refreshTable(r), racesTable(r), growthText(r),
	}, "\n\n") + "\n"
}

func cpuName(cpu string) string {
	words := strings.Fields(cpu)
	return strings.Join(words[:min(3, len(words))], " ")
}

// markdown returns a table.
func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// times writes by how much others take longer.
func times(ratios []float64) string {
	s := summary(ratios)
	cell := fmt.Sprintf("%s× %s", significant(s.Center), spread(s))
	if s.Center < 1 {
		return "**" + cell + "**"
	}
	return cell
}

// workers returns the numbers of workers that a benchmark ran with, one of them first.
func (r *results) workers(benchmark string) []string {
	var counts []string
	for _, name := range r.names(benchmark + "/workers=") {
		counts = append(counts, name[strings.LastIndexByte(name, '=')+1:])
	}
	slices.SortFunc(counts, func(a, b string) int {
		return len(a)*100 + int(a[0]) - len(b)*100 - int(b[0])
	})
	return counts
}

func onCores(workers string) string {
	if workers == "1" {
		return ""
	}
	return ", " + workers + " cores"
}

func verifyTable(r *results) string {
	peers := []string{"golang-jwt", "go-jose", "jwx-v3", "jwx-v2"}
	rows := [][]string{{
		"`Verify`", "token seen before, ×", "new token, ×", "seen before", "new",
		"golang-jwt v5", "go-jose v4", "jwx v3", "jwx v2", "signature alone",
	}}
	for _, alg := range []string{"EdDSA", "ES256", "RS256", "HS256"} {
		for _, workers := range r.workers("Verify/alg=" + alg) {
			name := "Verify/alg=" + alg + "/workers=" + workers
			fastest := slices.MinFunc(peers, func(a, b string) int {
				return int(r.median(name, a+"-ns/op") - r.median(name, b+"-ns/op"))
			}) + "-ns/op"
			row := []string{
				alg + onCores(workers),
				times(r.ratios(name, fastest, "hit-ns/op")), times(r.ratios(name, fastest, "miss-ns/op")),
			}
			for _, who := range append(append([]string{"hit", "miss"}, peers...), "raw") {
				row = append(row, r.duration(name, who+"-ns/op"))
			}
			rows = append(rows, row)
		}
	}
	row := []string{"allocations, EdDSA", "", ""}
	for _, who := range append(append([]string{"hit", "miss"}, peers...), "raw") {
		row = append(row, thousands(r.median("Verify/alg=EdDSA/workers=1", who+"-allocs/op")))
	}
	return "**Verify.** A thousand tokens in turn; all check signature, issuer, audience, `exp` and\n" +
		"`iat`, but parse headers and claims only as strictly as they do. × is against the fastest\n" +
		"of the four libraries.\n\n" + markdown(append(rows, row))
}

func checkTable(r *results) string {
	rows := [][]string{{"a request's session check", "×"}}
	counts := r.workers("Check")
	for _, workers := range counts {
		rows[0] = append(rows[0], workers+" core"+map[bool]string{true: "s"}[workers != "1"])
	}
	rows[0] = append(rows[0], "allocations", "bytes")
	for _, who := range [][2]string{
		{"verify", "`Verify`"}, {"live-memory", "`VerifyLive`, `MemoryStore`"}, {"scs-memory", "scs v2, memstore"},
		{"live-redis", "`VerifyLive`, `redisstore`"}, {"scs-redis", "scs v2, goredisstore"},
	} {
		row := []string{who[1], times(r.ratios("Check/workers=1", who[0]+"-ns/op", "verify-ns/op"))}
		if who[0] == "verify" {
			row[1] = ""
		}
		for _, workers := range counts {
			row = append(row, r.duration("Check/workers="+workers, who[0]+"-ns/op"))
		}
		for _, unit := range []string{"-allocs/op", "-B/op"} {
			row = append(row, thousands(r.median("Check/workers=1", who[0]+unit)))
		}
		rows = append(rows, row)
	}
	return "**A request's session check**, from the token to the user: `Verify`, and for those that\n" +
		"look into a store each time `VerifyLive` and a session of scs with one value. Redis is on\n" +
		"the same machine.\n\n" + markdown(rows)
}

func refreshTable(r *results) string {
	rows := [][]string{{
		"`Refresh`", "fosite, ×", "gin-jwt, ×", "tokensession", "fosite", "gin-jwt v3",
		"signature alone", "allocations: ours, fosite, gin-jwt",
	}}
	for _, alg := range []string{"EdDSA", "ES256", "RS256", "HS256"} {
		fosite := "fosite"
		if alg == "HS256" {
			fosite = "fosite-opaque"
		}
		allocations := ""
		for _, workers := range r.workers("Refresh/alg=" + alg) {
			name := "Refresh/alg=" + alg + "/workers=" + workers
			row, cells := []string{alg + onCores(workers)}, []string{r.duration(name, "tokensession-ns/op")}
			var counts []string
			for _, who := range []string{"tokensession", fosite, "gin-jwt"} {
				if workers == "1" {
					counts = append(counts, r.count(name, who+"-allocs/op"))
					allocations = strings.Join(counts, ", ")
				}
				switch {
				case who == "tokensession":
				case r.has(name, who+"-ns/op"):
					row = append(row, times(r.ratios(name, who+"-ns/op", "tokensession-ns/op")))
					cells = append(cells, r.duration(name, who+"-ns/op"))
				default:
					row, cells = append(row, "–"), append(cells, "–")
				}
			}
			cells = append(cells, r.duration(name, "raw-ns/op"))
			rows = append(rows, append(append(row, cells...), allocations))
		}
	}
	return "**Refresh in process**, each on its store in memory, without HTTP. tokensession: access\n" +
		"tokens of 15 minutes with nine claims, 10 seconds of grace. fosite v0.49, its refresh\n" +
		"grant on `MemoryStore`: an hour, rotation, no grace; in the row of HS256 its default, an\n" +
		"opaque HMAC token. gin-jwt v3: an hour, five claims, HS256 by default and RSA; it keeps no\n" +
		"family. With RS256 nearly all of it is the signature, and none is ahead by more than the\n" +
		"signature varies.\n\n" + markdown(rows)
}

func (r *results) count(name, unit string) string {
	if !r.has(name, unit) {
		return "–"
	}
	return thousands(r.median(name, unit))
}

func racesTable(r *results) string {
	stories := [][2]string{
		{"parallel", "32 tabs at once"},
		{"retry", "reply lost, retry at once"}, {"late-retry", "… retry half an hour later"},
		{"two-back", "a token two generations old"},
		{"fork", "thief right behind the client"}, {"thief-first", "thief before the client"},
	}
	rows := [][]string{{""}}
	for _, story := range stories {
		rows[0] = append(rows[0], story[1])
	}
	for _, who := range [][2]string{
		{"tokensession", "tokensession"},
		{"tokensession-no-recovery", "… without `RecoveryPeriod`"},
		{"tokensession-strict", "… with `Strict`"},
		{"fosite", "fosite"}, {"gin-jwt", "gin-jwt v3"},
	} {
		row := []string{who[1]}
		for _, story := range stories {
			row = append(row, raceCell(r, "Races/who="+who[0]+"/story="+story[0]))
		}
		rows = append(rows, row)
	}
	return "**What they do under race and theft**, played by code: how many tokens of the session live\n" +
		"afterwards, each tried alone (with `RecoveryPeriod`, an hour by default, the consumed\n" +
		"token works in place of its successor, never beside it), and who is logged in. The 32 tabs\n" +
		"have all read the store before the first one writes, and the client is in if it is\n" +
		"whichever answer it keeps. After a theft both go on refreshing for a day; a thief who is\n" +
		"out was caught, or never got in. scs has no refresh tokens.\n\n" + markdown(rows)
}

func raceCell(r *results, name string) string {
	span := func(what string) string {
		least := slices.Min(r.values(name, what+"-min"))
		most := slices.Max(r.values(name, what+"-max"))
		if least == most {
			return thousands(least)
		}
		return thousands(least) + "–" + thousands(most)
	}
	who := func(name string, share float64) string {
		switch share {
		case 0:
			return name + " out"
		case 1:
			return name + " in"
		default:
			return name + " in " + strconv.Itoa(int(share*100+0.5)) + " %"
		}
	}
	parts := []string{span("live") + " live", who("client", r.median(name, "honest-in"))}
	if r.has(name, "answered-min") {
		parts = append([]string{span("answered") + " answered"}, parts...)
	}
	if r.has(name, "thief-in") {
		parts = append(parts, who("thief", r.median(name, "thief-in")))
	}
	return strings.Join(parts, ", ")
}

func growthText(r *results) string {
	first := "Growth/sessions=" + strconv.Itoa(sessionCounts[0])
	last := "Growth/sessions=" + strconv.Itoa(sessionCounts[len(sessionCounts)-1])
	grows := func(unit string) string {
		return fmt.Sprintf("from %s to %s",
			formatDuration(r.median(first, unit)), formatDuration(r.median(last, unit)))
	}
	return fmt.Sprintf("**Growth**, from a thousand to a million sessions in `MemoryStore`, signed with HS256:\n"+
		"`Verify` of one token %s, of any of 20,000, more than the cache of 8,192 holds, %s;\n"+
		"`Refresh` %s, `Sessions` %s, `Revoke` %s; %s bytes a session.\n\n"+
		"![Cost of each call by the number of sessions and of revoked sessions](growth.svg)",
		grows("verify-one-ns"), grows("verify-any-ns"), grows("refresh-ns"), grows("sessions-ns"), grows("revoke-ns"),
		thousands(r.median(last, "B/session")))
}
