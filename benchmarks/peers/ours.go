package peers

import (
	"context"
	"crypto"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

type ours struct {
	*tokensession.Manager
	signer   *tokensession.AccessSigner
	cfg      tokensession.Config
	store    tokensession.RefreshStore
	sessions []string
	clock    *time.Duration // ahead of time.Now
}

func signerOf(a Algorithm, access tokensession.AccessConfig) *tokensession.AccessSigner {
	var key tokensession.Key
	if secret, ok := a.Private.([]byte); ok {
		key = must(tokensession.NewHMACKey(secret))
	} else {
		key = must(tokensession.NewKey(a.Private.(crypto.Signer)))
	}
	access.Issuer, access.Audience = Issuer, []string{Audience}
	return must(tokensession.NewAccessSigner(key, access))
}

// newOurs returns tokensession with a configuration of which only the periods are taken.
func newOurs(a Algorithm, cfg tokensession.Config, atLoad func()) Refresher {
	o := &ours{signer: signerOf(a, tokensession.AccessConfig{}), cfg: cfg,
		clock: new(time.Duration)}
	o.on(tokensession.NewMemoryStore(), atLoad)
	return o
}

func (o *ours) on(store tokensession.RefreshStore, atLoad func()) {
	o.cfg.Now = func() time.Time { return time.Now().Add(*o.clock) }
	if atLoad != nil {
		store = gatedStore{store, atLoad}
	}
	o.store = store
	o.Manager = must(tokensession.New(o.signer, store, o.cfg))
}

func (o *ours) Login() string {
	tokens := must(o.Start(ctx, Subject))
	o.sessions = append(o.sessions, tokens.Session.ID)
	return tokens.RefreshToken
}

func (o *ours) Refresh(token string) (string, error) {
	tokens, err := o.Manager.Refresh(ctx, token)
	return tokens.RefreshToken, err
}

func (o *ours) Copy() Refresher {
	store := tokensession.NewMemoryStore()
	for _, id := range o.sessions {
		if err := store.Create(ctx, must(o.store.Load(ctx, id))); err != nil {
			panic(err)
		}
	}
	clock := *o.clock
	c := &ours{signer: o.signer, cfg: o.cfg, sessions: o.sessions, clock: &clock}
	c.on(store, nil)
	return c
}

func (o *ours) Pass(d time.Duration) { *o.clock += d }

type gatedStore struct {
	tokensession.RefreshStore
	atLoad func()
}

func (s gatedStore) Load(ctx context.Context, id string) (tokensession.Record, error) {
	rec, err := s.RefreshStore.Load(ctx, id)
	s.atLoad()
	return rec, err
}
