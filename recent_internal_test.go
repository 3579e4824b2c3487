package tokensession

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecent(t *testing.T) {
	r := newRecent(3 * 64) // three in a shard, and all IDs here fall into one
	rec := func(name string, version uint64) Record {
		return Record{ID: "A" + name, Version: version}
	}
	for i := range 4 {
		r.put(rec(fmt.Sprint(i), 1))
	}
	_, ok := r.take("A0")
	require.False(t, ok, "the one that was written first")
	got, ok := r.take("A1")
	require.True(t, ok)
	require.Equal(t, "A1", got.ID)
	_, ok = r.take("A1")
	require.False(t, ok, "taken already")

	r.put(rec("2", 7))
	r.put(rec("2", 6)) // a slow call, which another one has overtaken
	r.put(rec("4", 1))
	r.put(rec("5", 1)) // drops 3, which was written before 2 was written again
	_, ok = r.take("A3")
	require.False(t, ok)
	got, ok = r.take("A2")
	require.True(t, ok)
	require.EqualValues(t, 7, got.Version)

	none := newRecent(-1)
	none.put(rec("0", 1))
	_, ok = none.take("A0")
	require.False(t, ok)
}
