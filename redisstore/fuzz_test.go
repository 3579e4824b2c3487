package redisstore

import (
	"reflect"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// Whatever is in a hash, decode does not panic, and a record that it returns can be written, and is read again as it is.
func FuzzDecode(f *testing.F) {
	f.Add("1 w", "0 0 - 1 1", "2026-02-03T04:05:06.789012Z", "", "ip", "::1")
	f.Add("18446744073709551615 a b", "9007199254740993 2 -1 1770091506789012 253402300799999999", "", "9999-12-31T23:59:59.999999Z", "", "\xff")
	f.Add("1 ", "0 0 - - -", "2026-02-03T04:05:06,789012Z", "", "attr:", "")
	f.Add("1 w", "0 0 1 1 1", "0000-01-01T00:00:00.000000Z", "", "", "")
	f.Add("01 w", "1 0 - 1", "", "yes", "", "")
	f.Fuzz(func(t *testing.T, write, chain, createdAt, revokedAt, name, value string) {
		fields := stored(t, tokensession.Record{})
		fields[fieldWrite], fields[fieldChain] = write, chain
		fields[fieldCreatedAt], fields[fieldRevokedAt] = createdAt, revokedAt
		fields[attributePrefix+name] = value
		rec, err := decode("id", fields)
		if err != nil {
			return
		}
		if err := checkTimes(rec); err != nil {
			t.Fatal(err)
		}
		again := stored(t, rec)
		for _, field := range []string{fieldWrite, fieldChain, fieldCreatedAt, fieldRevokedAt} {
			if again[field] != fields[field] {
				t.Errorf("%s was %q and is written as %q", field, fields[field], again[field])
			}
		}
		if got, err := decode("id", again); err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("%v came back as %v, %v", rec, got, err)
		}
	})
}
