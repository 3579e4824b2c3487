// Package keyring makes, keeps and rotates the keys that sign access tokens. It keeps them in the
// store that has the sessions, so that all instances of a server have the same ones:
//
//	ring, err := keyring.Open(ctx, store, keyring.Config{
//		Secret: []byte(os.Getenv("TOKENSESSION_SECRET")),
//		Access: tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}},
//	})
//	…
//	go ring.Run(ctx)
//	m, err := tokensession.New(ring.Signer(), store, tokensession.Config{})
//
// The first instance makes the first key, and all others find it. Every 90 days Run makes the next
// one, publishes it in time before it signs, and drops the old one when no token of it can be
// accepted any more. Nobody has to do anything for that, and no request fails because of it.
//
// The stores of sqlstore and redisstore are a [Store], and so is [MemoryStore], for tests and for a
// single process.
//
// # What is kept, and how
//
// A private key is sealed before it goes to the store: with AES-256-GCM, and a key that is derived
// from [Config].Secret. So a copy of the store is of no use without the secret, which is kept
// elsewhere: in the environment, or in a KMS with [Config].Seal and Unseal. There is no way to keep
// keys unsealed.
//
// # How instances agree
//
// They talk to each other through the store only. The keys form a chain: each one but the first is
// the successor of another. The store lets only one instance make the successor of a key, so fifty
// instances that wake up at the same second make one key. The record of a key says from when on it
// signs, and every instance goes by that.
//
// Clocks may differ by as much as [Config].Ahead. A key is made twice Ahead before it signs: one
// half is for verifiers that fetch the JWKS only now and then, and the other half is for clocks.
//
// # What is not for a ring
//
// A key in an HSM or a KMS never leaves it, so there is nothing to keep: make it with
// [tokensession.NewKey], and rotate it with [tokensession.AccessSigner.Rotate]. And a ring is not
// for [tokensession.Config].RefreshKeys, which are read once, by tokensession.New.
package keyring
