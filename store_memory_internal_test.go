package tokensession

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A record is dropped from its shard first and from the index of subjects then, and somebody may
// look in between.
func TestMemoryStore_listsTheOthersWhileOneIsBeingDropped(t *testing.T) {
	store := NewMemoryStore()
	for _, id := range []string{"going", "staying"} {
		rec := Record{ID: id, Version: 1, Issuer: "us", Subject: "alice", CreatedAt: decisionTime, ExpiresAt: decisionTime.Add(time.Hour)}
		require.NoError(t, store.Create(t.Context(), rec))
	}
	delete(store.shard("going").byID, "going")
	records, err := store.List(t.Context(), "alice")
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, "staying", records[0].ID)
	revoked, err := store.RevokeSubject(t.Context(), SubjectRevocation{
		Subject: "alice", Issuers: []string{"us"}, At: decisionTime, Reason: ReasonRevoked, WriteID: "write",
	})
	require.NoError(t, err)
	require.Len(t, revoked, 1)
}
