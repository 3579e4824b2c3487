package sessionhttp

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A snapshot may be a hundred megabytes, and is not wanted again for days.
func TestPacking_doesNotKeepASnapshotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p packing
		snapshot := bytes.Repeat([]byte("q83vEjRWeJCrze8SNFZ4kA 1767322805\n"), 1000)
		packed := p.of(snapshot)
		require.Same(t, &packed[0], &p.of(snapshot)[0], "it is packed once")
		time.Sleep(keepPacked / 2)
		require.Same(t, &packed[0], &p.of(snapshot)[0])
		time.Sleep(keepPacked)
		synctest.Wait()
		require.Nil(t, p.entries)
		require.Nil(t, p.packed)
		require.Equal(t, packed, p.of(snapshot), "it is packed anew")
		time.Sleep(2 * keepPacked)
	})
}
