package tokensession_test

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var (
	_ encoding.BinaryMarshaler   = tokensession.Record{}
	_ encoding.BinaryAppender    = tokensession.Record{}
	_ encoding.BinaryUnmarshaler = (*tokensession.Record)(nil)
)

// fullRecord has a value in every field.
func fullRecord() tokensession.Record {
	at := time.Date(2026, 3, 1, 9, 30, 0, 123_456_000, time.UTC)
	return tokensession.Record{
		ID: "id-of-22-characters-xx", Version: 300, WriteID: "write-of-22-characters",
		Issuer: "https://auth.example", Subject: "alice", ClientID: "web", Actor: "support",
		AuthMethods: []string{"pwd", "otp"}, AuthContext: "urn:example:silver", KeyThumbprint: "thumbprint",
		Epoch: 1_772_357_400_123, OutdatedAt: at.Add(30 * time.Minute), IdleTTL: 7 * 24 * time.Hour, Transient: true,
		Attributes: map[string]string{"ip": "203.0.113.7", "device": "Firefox", "": "empty name", "empty": ""},
		Key:        []byte("\x00a key of 32 bytes, never shown\xff"), Generation: math.MaxUint64, Predecessor: 127,
		AuthTime: at.Add(-time.Hour), CreatedAt: at, ConsumedAt: at.Add(time.Microsecond), RotatedAt: at.Add(2 * time.Microsecond),
		ExpiresAt: at.Add(7 * 24 * time.Hour), MaxExpiresAt: at.Add(30 * 24 * time.Hour), RevokedAt: at.Add(time.Hour),
		RevokeReason: tokensession.ReasonReuse,
	}
}

func TestRecord_comesBackFromItsBinaryForm(t *testing.T) {
	for name, change := range map[string]func(*tokensession.Record){
		"full":  func(*tokensession.Record) {},
		"empty": func(r *tokensession.Record) { *r = tokensession.Record{} },
		"zero times": func(r *tokensession.Record) {
			r.MaxExpiresAt, r.RevokedAt, r.ConsumedAt = time.Time{}, time.Time{}, time.Time{}
		},
		"first instant": func(r *tokensession.Record) { r.AuthTime = time.Time{}.Add(time.Microsecond) },
		"last instant":  func(r *tokensession.Record) { r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC) },
		"1970": func(r *tokensession.Record) {
			r.AuthTime, r.CreatedAt = time.Unix(0, 0).UTC(), time.UnixMicro(-1).UTC()
		},
		"no attributes":     func(r *tokensession.Record) { r.Attributes = nil },
		"many attributes":   func(r *tokensession.Record) { r.Attributes = manyAttributes(300) },
		"no key":            func(r *tokensession.Record) { r.Key = nil },
		"no methods":        func(r *tokensession.Record) { r.AuthMethods = nil },
		"an empty method":   func(r *tokensession.Record) { r.AuthMethods = []string{""} },
		"not transient":     func(r *tokensession.Record) { r.Transient = false },
		"greatest epoch":    func(r *tokensession.Record) { r.Epoch = math.MaxUint64 },
		"longest idle time": func(r *tokensession.Record) { r.IdleTTL = math.MaxInt64 / 1000 * 1000 },
		"zero creation":     func(r *tokensession.Record) { r.CreatedAt = time.Time{} },
		"only Transient":    func(r *tokensession.Record) { *r = tokensession.Record{Transient: true} },
		"bytes, not text":   func(r *tokensession.Record) { r.Subject, r.ClientID = "\xff\x00\xfe", "\n" },
		"long subject":      func(r *tokensession.Record) { r.Subject = strings.Repeat("x", 100_000) },
		"numbers of 7 bits": func(r *tokensession.Record) { r.Version, r.Generation, r.Predecessor = 127, 128, 16384 },
	} {
		t.Run(name, func(t *testing.T) {
			rec := fullRecord()
			change(&rec)
			var got tokensession.Record
			if err := got.UnmarshalBinary(marshal(t, rec)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, rec) { // of times, their zone as well
				t.Errorf("came back as\n%+v\nwant\n%+v", plain(got), plain(rec))
			}
		})
	}
}

func manyAttributes(n int) map[string]string {
	m := make(map[string]string)
	for i := range n {
		m[fmt.Sprintf("name %d", i*7919%n)] = fmt.Sprint(i)
	}
	return m
}

func TestRecord_comesBackInUTCAndMicroseconds(t *testing.T) {
	rec := fullRecord()
	rec.AuthTime = time.Date(2026, 3, 1, 15, 0, 0, 123_456_789, time.FixedZone("IST", 19800))
	rec.CreatedAt = time.Time{}.Add(999) // cut to the zero time
	rec.ExpiresAt = time.Date(10000, 1, 1, 5, 29, 59, 0, time.FixedZone("IST", 19800))
	var got tokensession.Record
	if err := got.UnmarshalBinary(marshal(t, rec)); err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 3, 1, 9, 30, 0, 123_456_000, time.UTC); got.AuthTime != want {
		t.Errorf("AuthTime %v, want %v", got.AuthTime, want)
	}
	if got.CreatedAt != (time.Time{}) {
		t.Errorf("CreatedAt %v, want the zero time", got.CreatedAt)
	}
	if want := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC); got.ExpiresAt != want {
		t.Errorf("ExpiresAt %v, want %v", got.ExpiresAt, want)
	}
}

func TestRecord_refusesTimesThatItCannotKeep(t *testing.T) {
	for _, at := range []time.Time{
		time.Time{}.Add(-1),
		time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Unix(math.MaxInt64, 0),
		time.Unix(math.MinInt64, 0),
	} {
		for i := range 8 {
			rec := fullRecord()
			*recordTimes(&rec)[i] = at
			if b, err := rec.MarshalBinary(); err == nil {
				t.Errorf("time %d, %v: marshalled as %x", i, at, b)
			} else if !strings.Contains(err.Error(), "years 1 to 9999") {
				t.Errorf("time %d, %v: %v, which does not say what is allowed", i, at, err)
			}
		}
	}
}

func recordTimes(r *tokensession.Record) []*time.Time {
	return []*time.Time{&r.AuthTime, &r.CreatedAt, &r.ConsumedAt, &r.RotatedAt, &r.ExpiresAt, &r.MaxExpiresAt, &r.RevokedAt, &r.OutdatedAt}
}

// The bytes are those of records that are stored somewhere: a later version has to read them as
// well.
func TestRecord_readsWhatEarlierVersionsWrote(t *testing.T) {
	const version1 = "011677726974652d6f662d32322d63686172616374657273ffff03ac02ffffffffffffffffff017f80c08e87cd" +
		"11c0b0aee3a1fec2711669642d6f662d32322d636861726163746572732d78781468747470733a2f2f61757468" +
		"2e6578616d706c6505616c696365200061206b6579206f662033322062797465732c206e657665722073686f77" +
		"6effff8f9de91a0480809d8e9a238080eaf3ef96010280909de91a80c8ceb40d0377656207737570706f727412" +
		"75726e3a6578616d706c653a73696c7665720a7468756d627072696e7405726575736504000a656d707479206e" +
		"616d65066465766963650746697265666f7805656d707479000269700b3230332e302e3131332e370203707764" +
		"036f7470bbeceec5ca33"
	data, err := hex.DecodeString(version1)
	if err != nil {
		t.Fatal(err)
	}
	var rec tokensession.Record
	if err := rec.UnmarshalBinary(data); err != nil {
		t.Errorf("UnmarshalBinary: %v; written today it would be\n%x", err, marshal(t, fullRecord()))
	} else if !reflect.DeepEqual(rec, fullRecord()) {
		t.Errorf("read as\n%+v\nwant\n%+v", plain(rec), plain(fullRecord()))
	}
}

func TestRecord_hasOneBinaryForm(t *testing.T) {
	rec := fullRecord()
	rec.Attributes = manyAttributes(40)
	first := marshal(t, rec)
	for range 20 { // a map is read in another order each time
		if again := marshal(t, rec); !bytes.Equal(again, first) {
			t.Fatalf("marshalled as %x, then as %x", first, again)
		}
	}
	rec.Attributes = map[string]string{}
	empty := marshal(t, rec)
	rec.Attributes = nil
	if none := marshal(t, rec); !bytes.Equal(none, empty) {
		t.Errorf("empty attributes are marshalled as %x, none as %x", empty, none)
	}
}

func TestRecord_appendsItsBinaryForm(t *testing.T) {
	b, err := fullRecord().AppendBinary([]byte("before"))
	if err != nil || string(b) != "before"+string(marshal(t, fullRecord())) {
		t.Errorf("AppendBinary: %q, %v", b, err)
	}
}

func TestRecord_refusesWhatItDidNotWrite(t *testing.T) {
	good := marshal(t, fullRecord())
	inputs := map[string][]byte{"nil": nil, "empty": {}, "extended": append(bytes.Clone(good), 0)}
	for n := range good {
		inputs[fmt.Sprintf("cut to %d bytes", n)] = good[:n]
		if n > 0 {
			inputs[fmt.Sprintf("without its first %d bytes", n)] = good[n:]
		}
	}
	for _, version := range []byte{0, 2, 3, 0x7f, 0x80, 0xff} {
		inputs[fmt.Sprintf("format %d", version)] = append([]byte{version}, good[1:]...)
	}

	// form is the empty record's, but for the bits that say which optional fields there are, and
	// the fields: format, WriteID, bits, 5 numbers, 4 strings.
	form := func(bits uint64, fields string) []byte {
		b := binary.AppendUvarint([]byte{1, 0}, bits)
		return append(append(b, make([]byte, 9)...), fields...)
	}
	if err := new(tokensession.Record).UnmarshalBinary(form(0, "")); err != nil {
		t.Fatalf("the empty record: %v", err)
	}
	const attributes, methods, epoch = 1 << 12, 1 << 13, 1 << 14
	with := func(tail string) []byte { return form(attributes, tail) }
	inputs["no attribute"] = with("\x00")
	inputs["no authentication method"] = form(methods, "\x00")
	inputs["more methods than bytes"] = form(methods, "\x03\x01a")
	inputs["epoch 0"] = form(epoch, "\x00")
	inputs["a bit that means nothing"] = form(1<<16, "")
	for bit := range 12 {
		inputs[fmt.Sprintf("optional field %d is empty", bit)] = form(1<<bit, "\x00")
		inputs[fmt.Sprintf("optional field %d is not there", bit)] = form(1<<bit, "")
	}
	inputs["a time before the zero time"] = form(1, "\x01")
	inputs["a time far before"] = form(1, string(binary.AppendVarint(nil, math.MinInt64)))
	inputs["a time far after"] = form(1, string(binary.AppendVarint(nil, math.MaxInt64)))
	inputs["attributes out of order"] = with("\x02\x01b\x00\x01a\x00")
	inputs["an attribute twice"] = with("\x02\x01a\x00\x01a\x00")
	inputs["an empty attribute twice"] = with("\x02\x00\x00\x00\x00")
	inputs["more attributes than bytes"] = with("\x03\x00\x00\x01a")
	inputs["very many attributes"] = append(with(""), binary.AppendUvarint(nil, math.MaxUint64)...)
	version := func(b ...byte) []byte { return append(append([]byte{1, 0, 0}, b...), form(0, "")[4:]...) }
	inputs["a number in two bytes that fits in one"] = version(0x80, 0)
	inputs["a number of 65 bits"] = version(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2)
	inputs["a number of 11 bytes"] = version(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 1)
	for _, us := range []uint64{315_537_897_600_000_000, math.MaxInt64, math.MaxUint64} {
		b := binary.AppendUvarint(form(0, "")[:7], us)
		inputs[fmt.Sprintf("time %d", us)] = append(b, 0, 0, 0, 0)
	}
	for _, n := range []uint64{1 << 62, math.MaxUint64} {
		b := binary.AppendUvarint(form(0, "")[:6], n)
		inputs[fmt.Sprintf("an idle time of %d", n)] = append(b, 0, 0, 0, 0, 0)
	}
	for _, n := range []uint64{1, 1 << 31, 1 << 32, 1 << 63, math.MaxUint64} {
		b := binary.AppendUvarint(form(0, "")[:11], n)
		inputs[fmt.Sprintf("a key of %d bytes that are not there", n)] = b
	}

	for name, data := range inputs {
		rec := fullRecord()
		if err := rec.UnmarshalBinary(data); err == nil {
			t.Errorf("%s: read as %+v", name, plain(rec))
		} else if !reflect.DeepEqual(rec, fullRecord()) {
			t.Errorf("%s: refused, and the record changed all the same: %+v", name, plain(rec))
		}
	}
}

func TestRecord_reservesNoMoreThanItReads(t *testing.T) {
	data := binary.AppendUvarint([]byte{1, 0}, 1<<12)
	data = binary.AppendUvarint(append(data, make([]byte, 9)...), 1<<24) // attributes, of which none is there
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := new(tokensession.Record).UnmarshalBinary(data)
	runtime.ReadMemStats(&after)
	if size := after.TotalAlloc - before.TotalAlloc; err == nil || size > 1<<20 {
		t.Errorf("UnmarshalBinary of %d bytes took %d bytes of memory: %v", len(data), size, err)
	}
}

func TestRecord_doesNotShareMemoryWithItsBinaryForm(t *testing.T) {
	data := marshal(t, fullRecord())
	var rec tokensession.Record
	if err := rec.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] ^= 0xff
	}
	if !reflect.DeepEqual(rec, fullRecord()) {
		t.Errorf("changed with the bytes it was read from: %+v", plain(rec))
	}
}

func FuzzRecordUnmarshalBinary(f *testing.F) {
	for _, rec := range []tokensession.Record{{}, fullRecord(), benchRecord(1, nil), benchRecord(2, benchAttributes[1])} {
		data, err := rec.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
		f.Add(append(data, 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := fullRecord()
		rec := fullRecord()
		if err := rec.UnmarshalBinary(data); err != nil {
			if !reflect.DeepEqual(rec, before) {
				t.Fatalf("refused, and the record changed all the same: %+v", plain(rec))
			}
			return
		}
		if again := marshal(t, rec); !bytes.Equal(again, data) {
			t.Fatalf("read as %+v, which is written as\n%x, not\n%x", plain(rec), again, data)
		}
		for _, at := range recordTimes(&rec) {
			if at.Location() != time.UTC || at.Nanosecond()%1000 != 0 || at.Year() < 1 || at.Year() > 9999 {
				t.Errorf("time %v", at)
			}
		}
		if rec.Attributes != nil && len(rec.Attributes) == 0 || rec.Key != nil && len(rec.Key) == 0 {
			t.Errorf("empty where nil is meant: %+v", plain(rec))
		}
	})
}

func TestRecord_neverPrintsItsKey(t *testing.T) {
	rec := fullRecord()
	type wrapped struct {
		Name   string
		Record tokensession.Record
	}
	for what, value := range map[string]any{
		"value":    rec,
		"pointer":  &rec,
		"struct":   wrapped{"a name", rec},
		"slice":    []tokensession.Record{rec, rec},
		"map":      map[string]tokensession.Record{"a": rec},
		"any":      []any{rec, &rec},
		"session":  rec.Session(),
		"embedded": struct{ tokensession.Record }{rec},
	} {
		// Not %p: fmt shows what is no pointer field by field and asks no method. Vet refuses it.
		for _, verb := range "vTtbcdoOqxXUeEfFgGs" {
			for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "# ", "200", ".500", "-10.3"} {
				format := "%" + flags + string(verb)
				wantNoKey(t, what+" printed by "+format, fmt.Sprintf(format, value), rec.Key)
			}
		}
		wantNoKey(t, what+" in an error", fmt.Errorf("failed: %v", value).Error(), rec.Key)
		wantNoKey(t, what+" by Sprintln", fmt.Sprintln(value), rec.Key)
	}
	if text := fmt.Sprintf("%v", rec); !strings.Contains(text, rec.ID) || !strings.Contains(text, `"alice"`) {
		t.Errorf("printed as %q, which does not say which record it is", text)
	}
}

func TestRecord_neverLogsItsKey(t *testing.T) {
	rec := fullRecord()
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		for what, value := range map[string]any{
			"value":   rec,
			"pointer": &rec,
			"group":   slog.GroupValue(slog.Any("inner", rec)),
			"slice":   []tokensession.Record{rec},
			"struct":  struct{ Record tokensession.Record }{rec},
			"map":     map[string]any{"record": rec},
		} {
			var out bytes.Buffer
			slog.New(handler(&out)).With("with", value).Info("message", "record", value)
			wantNoKey(t, what+" logged as "+name, out.String(), rec.Key)
			if (what == "value" || what == "pointer" || what == "group") && !strings.Contains(out.String(), rec.ID) {
				t.Errorf("%s logged as %s does not say which record it is: %s", what, name, out.String())
			}
		}
	}
}

// wantNoKey fails if text has the key in any form that a formatter could give it.
func wantNoKey(t *testing.T, what, text string, key []byte) {
	t.Helper()
	part := key[8:16] // any part is too much
	lower := strings.ToLower(text)
	for _, form := range []string{
		string(part),
		hex.EncodeToString(part),
		fmt.Sprintf("% x", part),
		strings.Trim(fmt.Sprint(part), "[]"),
		strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"),
		strings.Trim(fmt.Sprintf("%o", part), "[]"),
		strings.Trim(fmt.Sprintf("%b", part), "[]"),
		strings.Trim(fmt.Sprintf("%U", part), "[]"),
		base64.StdEncoding.EncodeToString(key[9:18]),
		base64.URLEncoding.EncodeToString(key[9:18]),
	} {
		if strings.Contains(lower, strings.ToLower(form)) {
			t.Errorf("%s shows the key: %s", what, text)
			return
		}
	}
}

func TestRecord_hasNoJSONForm(t *testing.T) {
	rec := fullRecord()
	for what, value := range map[string]any{
		"value":   rec,
		"pointer": &rec,
		"slice":   []tokensession.Record{rec},
		"map":     map[string]tokensession.Record{"a": rec},
		"struct":  struct{ Record tokensession.Record }{rec},
	} {
		b, err := json.Marshal(value)
		if err == nil || b != nil {
			t.Errorf("%s has the JSON form %s", what, b)
		} else if !strings.Contains(err.Error(), "MarshalBinary") {
			t.Errorf("%s: error %v, which does not say what to use", what, err)
		}
	}
	if _, err := json.Marshal(rec.Session()); err != nil {
		t.Errorf("a session has no JSON form: %v", err)
	}
}

func TestRecord_givesSessionAttributesOfItsOwn(t *testing.T) {
	rec := fullRecord()
	s := rec.Session()
	s.Attributes["device"] = "another"
	if !reflect.DeepEqual(rec, fullRecord()) {
		t.Errorf("the record changed with its session: %v", rec.Attributes)
	}
}

func marshal(t *testing.T, rec tokensession.Record) []byte {
	t.Helper()
	data, err := rec.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// plain has a record's fields without its methods, so that a failing test can show them all.
func plain(rec tokensession.Record) any {
	type fields tokensession.Record
	return fields(rec)
}
