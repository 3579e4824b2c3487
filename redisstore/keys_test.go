package redisstore

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

func fullKey() keyring.SealedKey {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	return keyring.SealedKey{
		ID: strings.Repeat("k", 43), Predecessor: strings.Repeat("p", 43), Algorithm: "EdDSA",
		MadeAt: at, SignFrom: at.Add(time.Hour), Sealed: []byte("\x01\x00sealed\xff"),
	}
}

func TestParseKey_readsOnlyWhatAddKeyWrites(t *testing.T) {
	const line = "1 - EdDSA 2026-02-03T04:05:06.000007Z 2026-02-03T05:05:06.000007Z AQBzZWFsZWT/"
	want := fullKey()
	want.Predecessor = ""
	if got, err := parseKey(want.ID, line); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{
		"", "1", line + " x", strings.Replace(line, "AQBz", "AQB!", 1), strings.Replace(line, "T/", "T/=", 1),
		strings.Replace(line, "2026-02-03T04", "yesterday", 1), strings.Replace(line, " EdDSA", "", 1),
	} {
		if _, err := parseKey("id", bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := parseKey("id", "1 x"); !errors.Is(err, tokensession.ErrUnreadable) {
		t.Errorf("%v, want ErrUnreadable", err)
	}
	if _, err := parseKey("id", "2"+line[1:]); err == nil || !strings.Contains(err.Error(), "later version") {
		t.Errorf("another format: %v", err)
	}
}

// Its words are told apart by spaces.
func TestKeyLine_refusesWhatIsNoWord(t *testing.T) {
	for _, change := range []func(*keyring.SealedKey){
		func(k *keyring.SealedKey) { k.ID = "" }, func(k *keyring.SealedKey) { k.ID = "-" },
		func(k *keyring.SealedKey) { k.ID = "a b" }, func(k *keyring.SealedKey) { k.Predecessor = "a\n" },
		func(k *keyring.SealedKey) { k.Algorithm = "" }, func(k *keyring.SealedKey) { k.Algorithm = "Ed DSA" },
	} {
		key := fullKey()
		change(&key)
		if line, err := keyLine(key); err == nil {
			t.Errorf("%+v became %q", key, line)
		}
	}
}

// Whatever is in the hash, parseKey does not panic, and a key that it returns is read again as it is.
func FuzzParseKey(f *testing.F) {
	f.Add("id", "1 - EdDSA 2026-02-03T04:05:06.000007Z 2026-02-03T05:05:06.000007Z AQBzZWFsZWT/")
	f.Add("id", "1 p ES256 2026-02-03T04:05:06+01:00 2026-02-03T05:05:06Z ")
	f.Add("", "2 - ")
	f.Fuzz(func(t *testing.T, id, value string) {
		key, err := parseKey(id, value)
		if err != nil {
			return
		}
		line, err := keyLine(key)
		if err != nil {
			return
		}
		_, sealed, _ := cutLast(value, " ")
		if again, err := parseKey(id, line+" "+sealed); err != nil || !reflect.DeepEqual(again, key) {
			t.Errorf("%+v came back as %+v, %v", key, again, err)
		}
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
