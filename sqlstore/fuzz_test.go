package sqlstore

import (
	"database/sql"
	"maps"
	"testing"
	"time"
)

// Whatever is in the column, decodeAttributes does not panic, and what it returns comes back when
// it is written.
func FuzzDecodeAttributes(f *testing.F) {
	for _, text := range []string{`{"ip":"::1"}`, `{}`, `null`, `{"a":1}`, `{"a":"\ud800","a":"b"}`, "{\"\xff\":\"<\u2028\"}", `[`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		attributes, err := decodeAttributes(sql.NullString{String: text, Valid: true})
		if err != nil {
			return
		}
		arg, err := encodeAttributes(attributes)
		if err != nil {
			if len(text) <= maxJSON/6 { // a byte takes at most six in JSON
				t.Errorf("%q was read and cannot be written: %v", text, err)
			}
			return
		}
		again, ok := arg.(string)
		if got, err := decodeAttributes(sql.NullString{String: again, Valid: ok}); err != nil || !maps.Equal(got, attributes) {
			t.Errorf("%v came back from %q as %v, %v", attributes, again, got, err)
		}
	})
}

// Whatever is in the column, a timeColumn does not panic, and what it scans can be written and
// scanned again. No text is the zero time, which would read as "not revoked".
func FuzzTimeColumn(f *testing.F) {
	for _, text := range []string{
		"2026-02-03 04:05:06", "1764376438.25", "2461008.51", "infinity", "2026-02-03T04:05+02:00",
		"2026-02-03 04:05:06.789012", "2026-02-03T04:05:06.789012Z", "0001-01-01 00:00:00.000000", "0000-01-01T00:00:00.000000Z", "0000-00-00 00:00:00.000000", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range dialects {
			var scanned, again time.Time
			if (timeColumn{d, &scanned}).Scan([]byte(text)) != nil {
				continue
			}
			arg, err := d.timeArg(scanned)
			if err != nil || arg == nil {
				t.Errorf("%v: %q was scanned as %v and is written as %v, %v", d, text, scanned, arg, err)
				continue
			}
			if err := (timeColumn{d, &again}).Scan(arg); err != nil || again != scanned {
				t.Errorf("%v: %q was scanned as %v and comes back as %v, %v", d, text, scanned, again, err)
			}
		}
	})
}
