package strictjson_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

func reader(t *testing.T, value string) *strictjson.Reader {
	object, err := strictjson.ParseObject([]byte(`{"other":[1],"x":` + value + `}`))
	require.NoError(t, err, value)
	return strictjson.NewReader(object)
}

func TestReader_readsText(t *testing.T) {
	for value, want := range map[string]string{
		`"a"`: "a", `"\u0061\"\n"`: "a\"\n", `""`: "", `"\ud83d\ude00"`: "\U0001F600", `"ä"`: "ä",
	} {
		r := reader(t, value)
		require.Equal(t, want, r.Text("x", false), value)
		require.NoError(t, r.Err(), value)
		r.Text("x", true)
		require.Equal(t, want == "", r.Err() != nil, "%s: a required one cannot be empty", value)
	}
	for _, value := range []string{`1`, `null`, `true`, `["a"]`, `{"a":"b"}`} {
		r := reader(t, value)
		require.Empty(t, r.Text("x", false))
		require.EqualError(t, r.Err(), "x is not a string", value)
	}
	r := reader(t, `"a"`)
	require.Empty(t, r.Text("X", false), "names are exact")
	require.NoError(t, r.Err())
	require.Empty(t, r.Text("X", true))
	require.EqualError(t, r.Err(), "X is missing or empty")
}

func TestReader_readsDates(t *testing.T) {
	for value, want := range map[string]int64{`0`: 0, `1`: 1, `253402300799`: 253402300799} {
		r := reader(t, value)
		require.Equal(t, want, r.Date("x", true), value)
		require.NoError(t, r.Err(), value)
	}
	for _, value := range []string{
		`-1`, `-0`, `1.0`, `1e3`, `"1"`, `null`, `[1]`, `253402300800`, `9223372036854775807`,
		`18446744073709551616`, `true`,
	} {
		r := reader(t, value)
		r.Date("x", false)
		require.ErrorContains(t, r.Err(), "x is missing, not a whole number or out of range", value)
	}
	r := reader(t, `1`)
	require.EqualValues(t, -1, r.Date("y", false))
	require.NoError(t, r.Err())
	r.Date("y", true)
	require.ErrorContains(t, r.Err(), "y is missing")
}

func TestReader_readsOneTextOrSeveral(t *testing.T) {
	for value, want := range map[string][]string{
		`"a"`: {"a"}, `["a"]`: {"a"}, ` [ "a" , "b,]" ]`: {"a", "b,]"}, `["\u0061","",""]`: {"a", "", ""},
	} {
		r := reader(t, value)
		require.Equal(t, want, r.Texts("x"), value)
		require.NoError(t, r.Err(), value)
	}
	for value, want := range map[string]string{
		`1`: "x is neither a string nor an array", `{"a":"b"}`: "x is neither a string nor an array",
		`null`: "x is neither a string nor an array", `[]`: "x is empty", `[ ]`: "x is empty",
		`["a",1]`: "x has an element that is no string", `[["a"]]`: "x has an element that is no string",
	} {
		r := reader(t, value)
		r.Texts("x")
		require.EqualError(t, r.Err(), want, value)
	}
	r := reader(t, `"a"`)
	r.Texts("y")
	require.EqualError(t, r.Err(), "y is neither a string nor an array", "it must be there")
}

func TestReader_keepsTheFirstError(t *testing.T) {
	r := reader(t, `1`)
	r.Text("x", true)
	r.Date("y", true)
	require.EqualError(t, r.Err(), "x is not a string")
	require.EqualValues(t, 1, r.Date("x", true), "and goes on")
	require.EqualError(t, r.Err(), "x is not a string")
}

func TestObject_errorsNameTheMember(t *testing.T) {
	object, err := strictjson.ParseObject([]byte(`{"x":"a","n":1}`))
	require.NoError(t, err)
	s, err := object.Text("x")
	require.NoError(t, err)
	require.Equal(t, "a", s)
	s, err = object.Text("absent")
	require.NoError(t, err)
	require.Empty(t, s)
	_, err = object.Text("n")
	require.EqualError(t, err, "n is not a string")
	_, ok := object.Find("absent")
	require.False(t, ok)
}

func TestReader_readsListsThatNeedNotBeThere(t *testing.T) {
	for value, want := range map[string][]string{`["a"]`: {"a"}, ` [ "a" , "b,]" ]`: {"a", "b,]"}} {
		r := reader(t, value)
		require.Equal(t, want, r.List("x"), value)
		require.NoError(t, r.Err(), value)
	}
	for value, want := range map[string]string{
		`"a"`: "x is not an array", `1`: "x is not an array", `null`: "x is not an array",
		`{}`: "x is not an array", `[]`: "x is empty", `["a",1]`: "x has an element that is no string",
	} {
		r := reader(t, value)
		r.List("x")
		require.EqualError(t, r.Err(), want, value)
	}
	r := reader(t, `"a"`)
	require.Nil(t, r.List("y"))
	require.NoError(t, r.Err())
}

func TestReader_readsNumbers(t *testing.T) {
	for value, want := range map[string]uint64{
		`1`: 1, `1767323045678`: 1767323045678, `9007199254740991`: 1<<53 - 1,
	} {
		r := reader(t, value)
		require.Equal(t, want, r.Number("x"), value)
		require.NoError(t, r.Err(), value)
	}
	for _, value := range []string{
		`0`, `-1`, `1.0`, `1e3`, `"1"`, `null`, `[1]`, `9007199254740992`, `18446744073709551616`, `true`,
	} {
		r := reader(t, value)
		r.Number("x")
		require.EqualError(t, r.Err(), "x is not a whole number or out of range", value)
	}
	r := reader(t, `1`)
	require.Zero(t, r.Number("y"))
	require.NoError(t, r.Err())
}

func TestReader_readsTextInAnObject(t *testing.T) {
	for value, want := range map[string]string{
		`{"m":"a"}`: "a", ` { "other" : {"m":1} , "m" : "\u0061" }`: "a",
	} {
		r := reader(t, value)
		require.Equal(t, want, r.TextIn("x", "m"), value)
		require.NoError(t, r.Err(), value)
	}
	for value, want := range map[string]string{
		`"a"`: "x is not an object", `1`: "x is not an object", `null`: "x is not an object",
		`["m"]`: "x is not an object", `{}`: "x lacks a text that it must have", `{"m":""}`: "x lacks a text that it must have",
		`{"m":1}`: "x lacks a text that it must have", `{"M":"a"}`: "x lacks a text that it must have",
	} {
		r := reader(t, value)
		require.Empty(t, r.TextIn("x", "m"), value)
		require.EqualError(t, r.Err(), want, value)
	}
	r := reader(t, `1`)
	require.Empty(t, r.TextIn("y", "m"))
	require.NoError(t, r.Err())
}
