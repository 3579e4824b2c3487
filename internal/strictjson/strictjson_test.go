package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// known are the names with a meaning in these tests.
var known = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "sid", "auth_time", "scope",
}

func TestParseObject_splitsWhatIsStrict(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                               ``,
		`{ }`:                              ``,
		`{"a":1}`:                          `a=1`,
		`{"a":1,"b":[1,2],"c":{"d":2}}`:    `a=1 b=[1,2] c={"d":2}`,
		"{ \"a\" :\t1 ,\r\n\"b\" : \"\" }": `a=1 b=""`,
		`{"\u0061":"\"}{,"}`:               `a="\"}{,"`,
		`{"":null}`:                        `=null`,
		`{"a\\":1,"b":2}`:                  `a\=1 b=2`,
		`{"a":"\\","b":"\\\""}`:            `a="\\" b="\\\""`,
		`{"a":[{"x":1},{"x":1}]}`:          `a=[{"x":1},{"x":1}]`,
		`{"a":{"b":1},"b":1}`:              `a={"b":1} b=1`,
		`{"a":{"A":1,"a":1}}`:              `a={"A":1,"a":1}`,
	} {
		members, err := strictjson.ParseObject([]byte(in), known...)
		require.NoError(t, err, in)
		var got []string
		for _, m := range members {
			got = append(got, m.Name+"="+m.Value)
		}
		require.Equal(t, want, strings.Join(got, " "), in)
	}
}

func TestParseObject_isAsDeepAsJSONGets(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(`{"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`)
	}
	_, err := strictjson.ParseObject(nested(9000))
	require.NoError(t, err)
	_, err = strictjson.ParseObject(nested(100000))
	require.Error(t, err)
}

func TestFoldName_agreesWithEncodingJSON(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) || r == '"' || r == '\\' || r < ' ' {
			continue
		}
		folded := strictjson.FoldName(string(r))
		require.Equal(t, folded, strictjson.FoldName(folded), "%U: folding is done at once", r)
		if r < utf8.RuneSelf {
			require.Equal(t, strings.ToLower(string(r)), folded)
		}
	}
	type target struct {
		Sub string `json:"sub"`
		K   string `json:"kid"`
	}
	for _, name := range []string{"sub", "SUB", "\u017Fub", "Sub", "kid", "KID", "\u212Aid", "suB", "k\u0130d"} {
		var got target
		require.NoError(t, json.Unmarshal([]byte(`{"`+name+`":"x"}`), &got))
		require.Equal(t, got.Sub == "x", strictjson.FoldName(name) == "sub", name)
		require.Equal(t, got.K == "x", strictjson.FoldName(name) == "kid", name)
	}
}

// FuzzParseObject compares with encoding/json, and with a check of names that walks its tokens:
// what one refuses the other must, and what is accepted must be the same.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":1,"A":2}`, `{"x":{"a":1,"a":2}}`, `{"x":[{"a":1,"a":2}]}`, `{"iss":"x"}`,
		`{"ISS":"x"}`, `{"iſs":"x"}`, `{"k":1,"K":2}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud800"}`, `{"a":"\udc00\ud800"}`, `{"a":"\ud800\ud800"}`,
		`{"a":0}`, `{"a":00}`, `{"a":01}`, `{"a":-01}`, `{"a":01.5}`, `{"a":"\\ud800"}`,
		"{\"a\":\"\x01\"}", "{\"a\":\"\n\"}", "{\"a\":\"\x1f\"}", "{\"\t\":1}", "{\"a\":\x00}", "{\"a\":\"\x7f\"}",
		"{\"a\":\"\xff\"}", ` {}`, `{} `, `{}{}`, `{"a":[],"b":{},"c":"","d":null,"e":true,"f":-1.5e3}`, `{"a":"},{\"b\":"}`, "\uFEFF{}", `{"a":"\"\\"}`,
		`{ "a" : [ { "b" : [ ] } , 1 ] , "c" : { "d" : { } } }`, `{"a\"b":1}`, `{"":1,"":2}`, `{"a":[[[[{"b":1,"c":{"d":1,"d":2}}]]]]}`, `{"\ud800":1}`, `{"a":"\u"}`,
		`{"00":0,"01":0,"02":0,"03":0,"04":0,"05":0,"06":0,"07":0,"08":0,"09":0,"10":0,"11":0,"12":0,"13":0,"14":0,"15":0,"16":0,"17":0,"18":0,"19":0,"20":0,"21":0,"22":0,"23":0,"24":0,"25":0,"26":0,"27":0,"28":0,"29":0,"30":0,"31":0,"32":0,"00":0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		members, err := strictjson.ParseObject(data, known...)
		if reason := whyNotStrict(data); (reason == "") != (err == nil) {
			t.Fatalf("%q: ParseObject says %v, and encoding/json and the names say %q", data, err, reason)
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q was accepted: %v", data, err)
		}
		if len(members) != len(want) {
			t.Fatalf("%q: %d members, want %d", data, len(members), len(want))
		}
		for _, m := range members {
			if !bytes.Equal(want[m.Name], []byte(m.Value)) {
				t.Fatalf("%q: %q is %q, want %q", data, m.Name, m.Value, want[m.Name])
			}
		}
	})
}

var (
	escapedPair = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	escapedHalf = regexp.MustCompile(`\\u[dD][89a-fA-F]`)
)

// whyNotStrict says what is wrong with data by other means than ParseObject.
func whyNotStrict(data []byte) string {
	switch {
	case !utf8.Valid(data):
		return "not UTF-8"
	case !json.Valid(data) || data[0] != '{' || data[len(data)-1] != '}':
		return "not an object"
	case escapedHalf.Match(escapedPair.ReplaceAll(data, []byte("-"))):
		return "half a surrogate pair"
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := uniqueNames(d, 0); err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	return ""
}

// uniqueNames reads one value, and compares the names of each object in it: those of the outermost
// also with another case, for which it takes what encoding/json does not tell apart.
func uniqueNames(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	var names []string
	for d.More() {
		if open == '{' {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name := token.(string)
			for _, other := range names {
				if name == other || depth == 0 && strings.EqualFold(name, other) {
					return errors.New("a name twice")
				}
			}
			for _, reserved := range known {
				if depth == 0 && name != reserved && strings.EqualFold(name, reserved) {
					return errors.New("a reserved name")
				}
			}
			names = append(names, name)
		}
		if err := uniqueNames(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
