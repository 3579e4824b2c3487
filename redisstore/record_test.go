package redisstore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var created = time.Date(2026, 2, 3, 4, 5, 6, 789_012_000, time.UTC)

func fullRecord() tokensession.Record {
	return tokensession.Record{
		ID: "AAAAAAAAAAAAAAAAAAAAAA", Version: math.MaxUint64, WriteID: "BBBBBBBBBBBBBBBBBBBBBB",
		Issuer: "https://auth.example", Subject: "user:1 {x} \xff\x00", ClientID: "web", Actor: "admin",
		Attributes: map[string]string{"": "no name", "ip": "::1", "agent\n": "\xfe\x00"},
		Key:        []byte{0, 1, 2, '\r', '\n', 0xff}, KeyThumbprint: "thumb",
		Generation: math.MaxUint64 - 1, Predecessor: 1<<53 + 1,
		AuthTime: created.Add(-time.Hour), AuthMethods: []string{"pwd", ""}, AuthContext: "2",
		Epoch: 3, OutdatedAt: created.Add(30 * time.Second), IdleTTL: time.Hour, Transient: true,
		CreatedAt: created, ConsumedAt: created.Add(time.Microsecond),
		RotatedAt: created.Add(time.Second), ExpiresAt: created.Add(time.Hour),
		MaxExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		RevokedAt:    created.Add(time.Minute), RevokeReason: tokensession.ReasonReuse,
	}
}

// hashOf does what Redis does with the arguments of HSET.
func hashOf(t testing.TB, rec tokensession.Record) map[string]string {
	t.Helper()
	r, err := encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{fieldSubject: rec.Subject}
	for args := r.fields; len(args) > 0; args = args[2:] {
		if _, ok := fields[args[0].(string)]; ok {
			t.Fatalf("field %s twice", args[0])
		}
		fields[args[0].(string)] = fmt.Sprint(args[1])
	}
	return fields
}

func TestDecode_returnsWhatWasStored(t *testing.T) {
	long := fullRecord()
	for i := range 100 {
		long.Attributes[strconv.Itoa(i)] = strings.Repeat("x", i)
	}
	large := fullRecord()
	large.Attributes["large"] = strings.Repeat("x", 100_000)
	for name, rec := range map[string]tokensession.Record{
		"every field": fullRecord(),
		"zero values": {ID: "AAAAAAAAAAAAAAAAAAAAAA"},
		"many pieces": long, "one large piece": large,
	} {
		hash := hashOf(t, rec)
		got, err := decode(rec.ID, hash)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, rec) {
			t.Errorf("%s:\n got %#v\nwant %#v", name, got.Session(), rec.Session())
		}
		if !bytes.Equal(got.Key, rec.Key) {
			t.Errorf("%s: key is %x, not %x", name, got.Key, rec.Key)
		}
		if len(hash) > 24 {
			t.Errorf("%s: %d fields", name, len(hash))
		}
	}
}

// Redis keeps a hash compactly as long as no value is longer than 64 bytes.
func TestEncode_hasNoLongValue(t *testing.T) {
	rec := fullRecord()
	rec.Attributes = map[string]string{"device": "Firefox on Linux", "ip": "198.51.100.7"}
	for name, value := range hashOf(t, rec) {
		if len(value) > 64 {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
}

func TestEncode_refusesAWriteIDThatTheScriptsWouldNotFind(t *testing.T) {
	rec := fullRecord()
	rec.WriteID = strings.Repeat("w", 60)
	if _, err := encode(rec); err == nil || !strings.Contains(err.Error(), "60 bytes") {
		t.Errorf("%v, want an error that names the length", err)
	}
}

func TestDecode_refusesDamagedHashes(t *testing.T) {
	set := func(name, value string) func(map[string]string) {
		return func(f map[string]string) { f[name] = value }
	}
	data := func(i int, b byte) func(map[string]string) {
		return func(f map[string]string) { f["0"] = f["0"][:i] + string([]byte{b}) + f["0"][i+1:] }
	}
	tests := map[string]func(map[string]string){
		"later format":           data(2, 2),
		"later form of a record": data(3, 2),
		"version of 65 bit":      set(fieldVersion, "18446744073709551616"),
		"version +1":             set(fieldVersion, "+1"),
		"version 01":             set(fieldVersion, "01"),
		"version 1.0":            set(fieldVersion, "1.0"),
		"no version at all":      set(fieldVersion, ""),
		"revoked in words":       set(fieldRevokedAt, "yes"),
		"revoked in seconds":     set(fieldRevokedAt, "1770091506"),
		"revoked empty":          set(fieldRevokedAt, ""),
		"the zero time":          set(fieldRevokedAt, "0001-01-01T00:00:00.000000Z"),
		"a year of five digits":  set(fieldRevokedAt, "10000-01-01T00:00:00.000000Z"),
		"a short piece":          set("1", "x"),
		"a piece too many":       set("9", "x"),
		"another's hash":         func(f map[string]string) { clear(f); f["name"] = "value" },
		"nothing":                func(f map[string]string) { clear(f) },
		"only the format":        func(f map[string]string) { clear(f); f["0"] = "\x00\x00\x01" },
	}
	whole := hashOf(t, fullRecord())
	for name := range whole {
		if name == fieldOutdated {
			continue // for the feed to miss
		}
		tests["no "+name] = func(f map[string]string) { delete(f, name) }
	}
	tests["a piece too many"] = set(strconv.Itoa(len(whole)-4), "x")
	for name, damage := range tests {
		fields := hashOf(t, fullRecord())
		damage(fields)
		rec, err := decode("AAAAAAAAAAAAAAAAAAAAAA", fields)
		switch {
		case err == nil:
			t.Errorf("%s: decoded as %v", name, rec)
		case !errors.Is(err, tokensession.ErrUnreadable):
			t.Errorf("%s: %v, want ErrUnreadable", name, err)
		case !reflect.DeepEqual(rec, tokensession.Record{}):
			t.Errorf("%s: a record beside the error %v", name, err)
		}
	}
}

// An operator may write a time as other programs do.
func TestDecode_readsARevocationByHand(t *testing.T) {
	rec := fullRecord()
	rec.RevokedAt, rec.RevokeReason = time.Time{}, ""
	for _, text := range []string{
		"2026-02-03T04:05:07Z", "2026-02-03T04:05:07.000000Z", "2026-02-03T05:05:07+01:00", "2026-02-03T04:05:07.000000999Z",
	} {
		fields := hashOf(t, rec)
		fields[fieldRevokedAt] = text
		got, err := decode(rec.ID, fields)
		want := time.Date(2026, 2, 3, 4, 5, 7, 0, time.UTC)
		if err != nil || !got.RevokedAt.Equal(want) || got.RevokedAt.Location() != time.UTC || got.RevokeReason != tokensession.ReasonRevoked {
			t.Errorf("%s: %v for %q, %v", text, got.RevokedAt, got.RevokeReason, err)
		}
	}
}

// A session costs nothing more for what it does not have.
func TestEncode_namesOnlyWhatIsThere(t *testing.T) {
	rec := fullRecord()
	rec.RevokedAt, rec.Epoch, rec.OutdatedAt = time.Time{}, 0, time.Time{}
	var names []string
	for name := range hashOf(t, rec) {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"0", "1", "2", "subject", "version"}
	if !slices.Equal(names, want) {
		t.Errorf("fields %v, want %v", names, want)
	}
}

func TestStore_refusesTimesOutsideTheYears1To9999(t *testing.T) {
	rec := fullRecord()
	rec.ExpiresAt = rec.MaxExpiresAt.Add(time.Microsecond)
	err := newStore(t, Config{}).Create(t.Context(), rec)
	if err == nil || !strings.Contains(err.Error(), rec.ID) || !strings.Contains(err.Error(), "10000-01-01") {
		t.Errorf("Create: %v, want an error that names the session and the time", err)
	}
}
