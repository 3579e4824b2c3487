package redisstore

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var created = time.Date(2026, 2, 3, 4, 5, 6, 789_012_000, time.UTC)

func fullRecord() tokensession.Record {
	return tokensession.Record{
		ID: "AAAAAAAAAAAAAAAAAAAAAA", Version: math.MaxUint64, WriteID: "BBBBBBBBBBBBBBBBBBBBBB",
		Subject: "user:1 {x} \xff\x00", ClientID: "web",
		Attributes: map[string]string{"": "no name", "ip": "::1", "agent\n": "\xfe\x00"},
		Key:        []byte{0, 1, 2, '\r', '\n', 0xff}, Generation: math.MaxUint64 - 1, Predecessor: 1<<53 + 1,
		AuthTime: created.Add(-time.Hour), CreatedAt: created, ConsumedAt: created.Add(time.Microsecond),
		RotatedAt: created.Add(time.Second), ExpiresAt: created.Add(time.Hour),
		MaxExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		RevokedAt:    created.Add(time.Minute), RevokeReason: tokensession.ReasonReuse,
	}
}

// stored does what Redis does with the arguments of HSET.
func stored(t *testing.T, rec tokensession.Record) map[string]string {
	t.Helper()
	fields := make(map[string]string)
	for args := everything(rec, entry{}); len(args) > 0; args = args[2:] {
		if _, ok := fields[args[0].(string)]; ok {
			t.Fatalf("field %s twice", args[0])
		}
		fields[args[0].(string)] = fmt.Sprint(args[1])
	}
	return fields
}

func TestDecode_returnsWhatWasStored(t *testing.T) {
	for name, rec := range map[string]tokensession.Record{
		"every field": fullRecord(),
		"zero values": {ID: "AAAAAAAAAAAAAAAAAAAAAA"},
	} {
		got, err := decode(rec.ID, stored(t, rec))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, rec) {
			t.Errorf("%s:\n got %#v\nwant %#v", name, got.Session(), rec.Session())
		}
		if !bytes.Equal(got.Key, rec.Key) {
			t.Errorf("%s: key is %x, not %x", name, got.Key, rec.Key)
		}
	}
}

func TestDecode_refusesDamagedHashes(t *testing.T) {
	set := func(name, value string) func(map[string]string) {
		return func(f map[string]string) { f[name] = value }
	}
	tests := map[string]func(map[string]string){
		"later format":      set(fieldFormat, "2"),
		"version of 65 bit": set(fieldWrite, "18446744073709551616 w"),
		"version +1":        set(fieldWrite, "+1 w"),
		"version 01":        set(fieldWrite, "01 w"),
		"no write ID":       set(fieldWrite, "1"),
		"generation 1.0":    set(fieldChain, "1.0 0 - 1 1"),
		"empty predecessor": set(fieldChain, "1  - 1 1"),
		"a time too few":    set(fieldChain, "1 0 1 1"),
		"a time too many":   set(fieldChain, "1 0 1 1 1 1"),
		"time +1":           set(fieldChain, "1 0 1 1 +1"),
		"time in words":     set(fieldChain, "1 0 1 1 soon"),
		"the zero time":     set(fieldChain, "1 0 -62135596800000000 1 1"),
		"the year 10000":    set(fieldChain, "1 0 1 1 253402300800000000"),
		"time with offset":  set(fieldMaxExpiresAt, "2026-02-03T04:05:06.789012+01:00"),
		"time in seconds":   set(fieldCreatedAt, "2026-02-03T04:05:06Z"),
		"revoked in words":  set(fieldRevokedAt, "yes"),
		"the year zero":     set(fieldAuthTime, "0001-01-01T00:00:00.000000Z"),
		"another's hash":    func(f map[string]string) { clear(f); f["name"] = "value" },
	}
	for name := range stored(t, tokensession.Record{}) {
		if name == fieldDigest || name == fieldIndexed {
			continue // for the scripts to miss
		}
		tests["no "+name] = func(f map[string]string) { delete(f, name) }
	}
	for name, damage := range tests {
		fields := stored(t, fullRecord())
		damage(fields)
		if rec, err := decode("AAAAAAAAAAAAAAAAAAAAAA", fields); err == nil {
			t.Errorf("%s: decoded as %v", name, rec)
		} else if !reflect.DeepEqual(rec, tokensession.Record{}) {
			t.Errorf("%s: a record beside the error %v", name, err)
		}
	}
}

// Whatever changes between two records that have one digest is in what a Swap sends, but for a revocation undone, which
// the script refuses before it writes.
func TestMoving_hasWhatTheDigestLeavesOut(t *testing.T) {
	before, after := fullRecord(), fullRecord()
	before.RevokedAt, before.RevokeReason = time.Time{}, ""
	after.Version, after.WriteID, after.Generation, after.Predecessor = 7, "C C", 5, 4
	after.ConsumedAt, after.RotatedAt, after.ExpiresAt = created.Add(2*time.Microsecond), created.Add(time.Hour), time.Time{}
	for name, revoked := range map[string]bool{"a refresh": false, "a revocation": true} {
		want := after
		if !revoked {
			want.RevokedAt, want.RevokeReason = time.Time{}, ""
		}
		if digest(before) != digest(want) {
			t.Fatalf("%s: the digests differ", name)
		}
		fields := stored(t, before)
		for args := moving(want); len(args) > 0; args = args[2:] {
			fields[args[0].(string)] = args[1].(string)
		}
		got, err := decode(want.ID, fields)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v\n got %#v\nwant %#v", name, got, err, got.Session(), want.Session())
		}
	}
}

// Two records that differ in what a refresh leaves must not have one digest: a Swap would lose the difference.
func TestDigest_tellsFixedFieldsApart(t *testing.T) {
	base := digest(fullRecord())
	for name, test := range map[string]struct {
		differs bool
		change  func(*tokensession.Record)
	}{
		"subject":            {true, func(r *tokensession.Record) { r.Subject += "x" }},
		"subject and client": {true, func(r *tokensession.Record) { r.Subject, r.ClientID = r.Subject+"w", "eb" }},
		"client":             {true, func(r *tokensession.Record) { r.ClientID = "" }},
		"key":                {true, func(r *tokensession.Record) { r.Key = append(r.Key, 0) }},
		"auth_time":          {true, func(r *tokensession.Record) { r.AuthTime = r.AuthTime.Add(time.Microsecond) }},
		"created_at":         {true, func(r *tokensession.Record) { r.CreatedAt = r.CreatedAt.Add(time.Microsecond) }},
		"max_expires_at":     {true, func(r *tokensession.Record) { r.MaxExpiresAt = time.Time{} }},
		"no attributes":      {true, func(r *tokensession.Record) { r.Attributes = nil }},
		"an attribute":       {true, func(r *tokensession.Record) { r.Attributes["ip"] = "::2" }},
		"one more":           {true, func(r *tokensession.Record) { r.Attributes["a"] = "" }},
		"one less":           {true, func(r *tokensession.Record) { delete(r.Attributes, "") }},
		"name and value":     {true, func(r *tokensession.Record) { delete(r.Attributes, "ip"); r.Attributes["ip:"] = ":1" }},
		"nothing":            {false, func(*tokensession.Record) {}},
		"version":            {false, func(r *tokensession.Record) { r.Version--; r.WriteID = "" }},
		"a refresh": {false, func(r *tokensession.Record) {
			r.Generation, r.Predecessor = r.Generation+1, r.Generation
			r.ExpiresAt, r.RotatedAt, r.ConsumedAt = created, created, created
		}},
		"a revocation": {false, func(r *tokensession.Record) { r.RevokedAt, r.RevokeReason = created, "" }},
	} {
		rec := fullRecord()
		test.change(&rec)
		if got := digest(rec); (got != base) != test.differs {
			t.Errorf("%s: digests %s and %s, want them to differ: %t", name, base, got, test.differs)
		}
	}
}

func TestStore_refusesTimesOutsideTheYears1To9999(t *testing.T) {
	rec := fullRecord()
	rec.ExpiresAt = rec.MaxExpiresAt.Add(time.Microsecond)
	if err := newStore(t, Config{}).Create(t.Context(), rec); err == nil || !strings.Contains(err.Error(), "ExpiresAt") {
		t.Errorf("Create: %v, want an error that names ExpiresAt", err)
	}
}
