//go:build unix

package peers

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	fositejwt "github.com/ory/fosite/token/jwt"
)

// fositeSQL keeps fosite's tokens in PostgreSQL: one row a token, in one transaction a refresh, with
// the request as JSON, as Hydra does. fosite itself has no such store. The tables have nothing but
// what a refresh needs, which is in its favour.
type fositeSQL struct {
	*storage.MemoryStore // for the clients
	db                   *sql.DB
}

func newFositeSQL(db *sql.DB) (*fositeSQL, error) {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE fosite_refresh (signature text PRIMARY KEY, request_id text NOT NULL,
			active boolean NOT NULL, request jsonb NOT NULL);
		CREATE TABLE fosite_access (signature text PRIMARY KEY, request_id text NOT NULL,
			request jsonb NOT NULL);
		CREATE INDEX ON fosite_refresh (request_id);
		CREATE INDEX ON fosite_access (request_id)`)
	s := &fositeSQL{storage.NewMemoryStore(), db}
	s.Clients["app"] = &fosite.DefaultClient{
		ID: "app", Public: true, GrantTypes: fosite.Arguments{"refresh_token"},
		Scopes: fosite.Arguments{"offline"}, Audience: []string{Audience},
	}
	return s, err
}

type txKey struct{}

func (s *fositeSQL) BeginTX(ctx context.Context) (context.Context, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	return context.WithValue(ctx, txKey{}, tx), err
}

func (s *fositeSQL) Commit(ctx context.Context) error {
	return ctx.Value(txKey{}).(*sql.Tx).Commit()
}

func (s *fositeSQL) Rollback(ctx context.Context) error {
	return ctx.Value(txKey{}).(*sql.Tx).Rollback()
}

func (s *fositeSQL) exec(ctx context.Context, query string, args ...any) error {
	var err error
	if tx, ok := ctx.Value(txKey{}).(*sql.Tx); ok {
		_, err = tx.ExecContext(ctx, query, args...)
	} else {
		_, err = s.db.ExecContext(ctx, query, args...)
	}
	return err
}

// A storedRequest is what a refresh needs of the login.
type storedRequest struct {
	ID, Subject     string
	Scope, Audience []string
	Expires         time.Time
}

func marshalRequest(r fosite.Requester) []byte {
	session := r.GetSession().(*oauth2.JWTSession)
	return must(json.Marshal(storedRequest{
		r.GetID(), session.Subject, r.GetGrantedScopes(), r.GetGrantedAudience(),
		session.GetExpiresAt(fosite.RefreshToken),
	}))
}

func (s *fositeSQL) CreateAccessTokenSession(
	ctx context.Context, signature string, r fosite.Requester,
) error {
	return s.exec(ctx, "INSERT INTO fosite_access VALUES ($1, $2, $3)",
		signature, r.GetID(), marshalRequest(r))
}

func (s *fositeSQL) CreateRefreshTokenSession(
	ctx context.Context, signature, _ string, r fosite.Requester,
) error {
	return s.exec(ctx, "INSERT INTO fosite_refresh VALUES ($1, $2, true, $3)",
		signature, r.GetID(), marshalRequest(r))
}

func (s *fositeSQL) GetRefreshTokenSession(
	ctx context.Context, signature string, _ fosite.Session,
) (fosite.Requester, error) {
	var active bool
	var text []byte
	err := s.db.QueryRowContext(ctx, "SELECT active, request FROM fosite_refresh WHERE signature = $1",
		signature).Scan(&active, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fosite.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	var stored storedRequest
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, err
	}
	r := fosite.NewRequest()
	r.ID, r.Client, r.Session = stored.ID, s.Clients["app"], fositeSession(stored.Subject)
	r.Session.SetExpiresAt(fosite.RefreshToken, stored.Expires)
	r.GrantedScope, r.GrantedAudience = stored.Scope, stored.Audience
	if !active {
		return r, fosite.ErrInactiveToken
	}
	return r, nil
}

func (s *fositeSQL) RotateRefreshToken(ctx context.Context, requestID, signature string) error {
	if err := s.exec(ctx, "UPDATE fosite_refresh SET active = false WHERE signature = $1",
		signature); err != nil {
		return err
	}
	return s.exec(ctx, "DELETE FROM fosite_access WHERE request_id = $1", requestID)
}

// fositeProvider is the whole of fosite's token endpoint.
type fositeProvider struct {
	provider fosite.OAuth2Provider
	store    *fositeSQL
	strategy oauth2.CoreStrategy
}

func newSQLFosite(a Algorithm, store *fositeSQL) *fositeProvider {
	config := &fosite.Config{GlobalSecret: make([]byte, 32), AccessTokenIssuer: Issuer}
	key := &jose.JSONWebKey{Key: a.Private, Algorithm: a.Name}
	strategy := compose.NewOAuth2JWTStrategy(
		func(context.Context) (any, error) { return key, nil },
		compose.NewOAuth2HMACStrategy(config), config)
	all := &compose.CommonStrategy{CoreStrategy: strategy}
	return &fositeProvider{
		compose.Compose(config, store, all, compose.OAuth2RefreshTokenGrantFactory), store, strategy,
	}
}

func (p *fositeProvider) login(ctx context.Context, user string) (string, error) {
	r := fosite.NewAccessRequest(fositeSession(user))
	r.GrantTypes = fosite.Arguments{"refresh_token"}
	r.Client, r.Form = p.store.Clients["app"], url.Values{}
	r.GrantScope("offline")
	r.GrantAudience(Audience)
	r.Session.SetExpiresAt(fosite.RefreshToken, time.Now().Add(24*time.Hour))
	token, signature, err := p.strategy.GenerateRefreshToken(ctx, r)
	if err != nil {
		return "", err
	}
	return token, p.store.CreateRefreshTokenSession(ctx, signature, "", r.Sanitize(nil))
}

func fositeSession(subject string) *oauth2.JWTSession {
	return &oauth2.JWTSession{
		JWTClaims: &fositejwt.JWTClaims{Subject: subject}, Subject: subject,
	}
}
