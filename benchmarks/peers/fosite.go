package peers

import (
	"context"
	"maps"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	fositejwt "github.com/ory/fosite/token/jwt"
)

// fositePeer is the handler of ory/fosite's refresh grant on its MemoryStore, which rotates and
// revokes the family of a token that comes twice. The HTTP request is taken as read and the client
// as authenticated. Defaults: access tokens live an hour, refresh tokens 30 days from the last
// refresh.
type fositePeer struct {
	handler  *oauth2.RefreshTokenGrantHandler
	strategy oauth2.CoreStrategy
	store    *lockedFosite
	client   *fosite.DefaultClient
}

// newFosite returns one whose access tokens are JWTs or, without an algorithm, opaque, which is the
// default.
func newFosite(a *Algorithm, atLoad func()) Refresher {
	config := &fosite.Config{GlobalSecret: make([]byte, 32), AccessTokenIssuer: Issuer}
	var strategy oauth2.CoreStrategy = compose.NewOAuth2HMACStrategy(config)
	if a != nil {
		key := &jose.JSONWebKey{Key: a.Private, Algorithm: a.Name}
		strategy = compose.NewOAuth2JWTStrategy(func(context.Context) (any, error) { return key, nil }, strategy, config)
	}
	p := &fositePeer{
		strategy: strategy,
		store:    &lockedFosite{MemoryStore: storage.NewMemoryStore(), atLoad: atLoad},
		client: &fosite.DefaultClient{ID: "app", GrantTypes: fosite.Arguments{"refresh_token"},
			Scopes: fosite.Arguments{"offline"}, Audience: []string{Audience}},
	}
	p.handler = &oauth2.RefreshTokenGrantHandler{
		AccessTokenStrategy: strategy, RefreshTokenStrategy: strategy,
		TokenRevocationStorage: p.store, Config: config,
	}
	return p
}

func (p *fositePeer) request(form url.Values) *fosite.AccessRequest {
	r := fosite.NewAccessRequest(&oauth2.JWTSession{JWTClaims: &fositejwt.JWTClaims{Subject: Subject}, Subject: Subject})
	r.GrantTypes = fosite.Arguments{"refresh_token"}
	r.Client = p.client
	r.Form = form
	return r
}

func (p *fositePeer) Login() string {
	r := p.request(url.Values{})
	r.GrantScope("offline")
	r.GrantAudience(Audience)
	token, signature, err := p.strategy.GenerateRefreshToken(ctx, r)
	must(token, err)
	if err := p.store.CreateRefreshTokenSession(ctx, signature, "", r.Sanitize(nil)); err != nil {
		panic(err)
	}
	return token
}

func (p *fositePeer) Refresh(token string) (string, error) {
	r := p.request(url.Values{"refresh_token": {token}})
	if err := p.handler.HandleTokenEndpointRequest(ctx, r); err != nil {
		return "", err
	}
	answer := fosite.NewAccessResponse()
	if err := p.handler.PopulateTokenEndpointResponse(ctx, r, answer); err != nil {
		return "", err
	}
	return answer.GetExtra("refresh_token").(string), nil
}

func (p *fositePeer) Copy() Refresher {
	from, to := p.store.MemoryStore, storage.NewMemoryStore()
	maps.Copy(to.RefreshTokens, from.RefreshTokens)
	maps.Copy(to.RefreshTokenRequestIDs, from.RefreshTokenRequestIDs)
	maps.Copy(to.AccessTokens, from.AccessTokens)
	maps.Copy(to.AccessTokenRequestIDs, from.AccessTokenRequestIDs)
	c := *p
	c.store = &lockedFosite{MemoryStore: to}
	handler := *p.handler
	handler.TokenRevocationStorage = c.store
	c.handler = &handler
	return &c
}

func (p *fositePeer) Pass(time.Duration) {}

// lockedFosite has one lock for each call that a refresh makes: by itself, the MemoryStore writes
// to a map that others read, which ends the process.
type lockedFosite struct {
	*storage.MemoryStore
	mu     sync.Mutex
	atLoad func()
}

func (s *lockedFosite) GetRefreshTokenSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	s.mu.Lock()
	r, err := s.MemoryStore.GetRefreshTokenSession(ctx, signature, session)
	s.mu.Unlock()
	if s.atLoad != nil {
		s.atLoad()
	}
	return r, err
}

func (s *lockedFosite) CreateRefreshTokenSession(ctx context.Context, signature, access string, r fosite.Requester) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.MemoryStore.CreateRefreshTokenSession(ctx, signature, access, r)
}

func (s *lockedFosite) DeleteRefreshTokenSession(ctx context.Context, signature string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.MemoryStore.DeleteRefreshTokenSession(ctx, signature)
}

func (s *lockedFosite) RevokeRefreshToken(ctx context.Context, requestID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.MemoryStore.RevokeRefreshToken(ctx, requestID)
}

func (s *lockedFosite) RotateRefreshToken(ctx context.Context, requestID, signature string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.MemoryStore.RotateRefreshToken(ctx, requestID, signature)
}
