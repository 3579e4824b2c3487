package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// results are the numbers of each benchmark, by its name without prefix and GOMAXPROCS, and unit:
// one for each run.
type results struct {
	byName map[string]map[string][]float64
	cpu    string
	golang string
	cores  string
	err    error // what was asked for and is not there
}

func readResults(r io.Reader, file string) (*results, error) {
	res := &results{byName: map[string]map[string][]float64{}}
	for reader := benchfmt.NewReader(r, file); ; {
		if !reader.Scan() {
			return res, reader.Err()
		}
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, record
		case *benchfmt.Result:
			name := record.Name.String()
			if i := strings.LastIndexByte(name, '-'); i > 0 {
				name, res.cores = name[:i], name[i+1:]
			}
			res.cpu, res.golang = record.GetConfig("cpu"), record.GetConfig("go")
			units := res.byName[name]
			if units == nil {
				units = map[string][]float64{}
				res.byName[name] = units
			}
			for _, v := range record.Values {
				value, unit := v.Value, v.Unit
				if v.OrigUnit != "" {
					value, unit = v.OrigValue, v.OrigUnit
				}
				units[unit] = append(units[unit], value)
			}
		}
	}
}

// values returns a benchmark's numbers. Where there are none, there is an error in the end.
func (r *results) values(name, unit string) []float64 {
	values := r.byName[name][unit]
	if len(values) == 0 {
		r.err = errors.Join(r.err,
			fmt.Errorf("no %s of Benchmark%s: run make bench-peers", unit, name))
		return []float64{1}
	}
	return values
}

func (r *results) has(name, unit string) bool { return len(r.byName[name][unit]) > 0 }

func (r *results) median(name, unit string) float64 { return summary(r.values(name, unit)).Center }

// names returns the benchmarks whose names begin so.
func (r *results) names(prefix string) []string {
	names := slices.Sorted(maps.Keys(r.byName))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// runs returns how often a benchmark was run.
func (r *results) runs(name, unit string) int { return len(r.values(name, unit)) }

// ratios returns the quotient of two rivals' numbers in each run.
func (r *results) ratios(name, dividend, divisor string) []float64 {
	a, b := r.values(name, dividend), r.values(name, divisor)
	quotients := make([]float64, min(len(a), len(b)))
	for i := range quotients {
		quotients[i] = a[i] / b[i]
	}
	return quotients
}

// summary is what benchstat shows: the median and its 95 % confidence interval.
func summary(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
}

// spread writes the confidence interval as benchstat does.
func spread(s benchmath.Summary) string { return "±" + strings.TrimSpace(s.PctRangeString()) }

func (r *results) duration(name, unit string) string {
	s := summary(r.values(name, unit))
	return formatDuration(s.Center) + " " + spread(s)
}

// formatDuration writes nanoseconds with three digits at most.
func formatDuration(ns float64) string {
	switch {
	case ns < 1e3:
		return significant(ns) + " ns"
	case ns < 1e6:
		return significant(ns/1e3) + " µs"
	default:
		return significant(ns/1e6) + " ms"
	}
}

func significant(x float64) string {
	switch {
	case x >= 99.95:
		return thousands(math.Round(x))
	case x >= 9.995:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func thousands(x float64) string {
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
