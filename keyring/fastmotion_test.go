package keyring_test

import (
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/ringtest"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/storetest"
)

func TestMemoryStore_keepsTheContract(t *testing.T) {
	storetest.RunKeys(t, func(*testing.T) keyring.Store { return keyring.NewMemoryStore() })
}

// On real servers it is TestKeyring_inFastMotion.
func TestKeyring_refusesNobodyThroughTwentyRotations(t *testing.T) {
	stores := ringtest.Stores{Keys: keyring.NewMemoryStore(), Sessions: tokensession.NewMemoryStore()}
	ringtest.FastMotion(t, [3]ringtest.Stores{stores, stores, stores})
}
