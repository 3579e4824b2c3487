package redisstore

import (
	"reflect"
	"strings"
	"testing"
)

// Whatever is in a hash, decode does not panic, and a record that it returns can be written, and is
// read again as it is.
func FuzzDecode(f *testing.F) {
	rec := fullRecord()
	whole := hashOf(f, rec)
	f.Add(whole["version"], whole["subject"], whole["revoked_at"], whole["0"], whole["1"], whole["2"])
	f.Add("1", "", "2026-02-03T04:05:06+01:00", whole["0"], whole["1"], whole["2"])
	f.Add("01", "alice", "yes", "\x00\x00\x01", "", "x")
	f.Add("1", "alice", "", "\x00\x00\x02", "", "")
	f.Fuzz(func(t *testing.T, version, subject, revokedAt, first, second, third string) {
		fields := map[string]string{"version": version, "subject": subject, "0": first, "1": second, "2": third}
		if revokedAt != "" {
			fields["revoked_at"] = revokedAt
		}
		rec, err := decode("id", fields)
		if err != nil {
			return
		}
		again := hashOf(t, rec)
		if again["version"] != version || again["subject"] != subject {
			t.Errorf("version %q of %q is written as %q of %q", version, subject, again["version"], again["subject"])
		}
		if got, err := decode("id", again); err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("%v came back as %v, %v", rec, got, err)
		}
		if strings.HasSuffix(revokedAt, "Z") && len(revokedAt) == len(timeLayout) && again["revoked_at"] != revokedAt {
			t.Errorf("revoked_at %q is written as %q", revokedAt, again["revoked_at"])
		}
	})
}
