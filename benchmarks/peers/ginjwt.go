package peers

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"time"

	ginjwt "github.com/appleboy/gin-jwt/v3"
	"github.com/appleboy/gin-jwt/v3/store"
	"github.com/golang-jwt/jwt/v5"
)

// ginPeer is what the refresh handler of appleboy/gin-jwt does on its store in memory, without the
// HTTP around it: look the token up, make a new pair, delete the old token. Defaults: HS256, access
// tokens live an hour, refresh tokens 30 days from the last refresh.
type ginPeer struct {
	middleware *ginjwt.GinJWTMiddleware
	memory     *store.InMemoryRefreshTokenStore
	atLoad     func()
}

func newGinJWT(a Algorithm, atLoad func()) Refresher {
	mw := &ginjwt.GinJWTMiddleware{
		SigningAlgorithm: a.Name,
		PayloadFunc: func(subject any) jwt.MapClaims {
			return jwt.MapClaims{"iss": Issuer, "aud": Audience, "sub": subject}
		},
	}
	switch key := a.Private.(type) {
	case []byte:
		mw.Key = key
	case *rsa.PrivateKey:
		mw.PrivKeyBytes = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY",
			Bytes: x509.MarshalPKCS1PrivateKey(key)})
		mw.PubKeyBytes = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY",
			Bytes: must(x509.MarshalPKIXPublicKey(&key.PublicKey))})
	}
	memory := store.NewInMemoryRefreshTokenStore()
	mw.RefreshTokenStore = memory
	if err := mw.MiddlewareInit(); err != nil {
		panic(err)
	}
	return &ginPeer{middleware: mw, memory: memory, atLoad: atLoad}
}

func (p *ginPeer) Login() string {
	return must(p.middleware.TokenGenerator(ctx, Subject)).RefreshToken
}

func (p *ginPeer) Refresh(token string) (string, error) {
	subject, err := p.memory.Get(ctx, token)
	if p.atLoad != nil {
		p.atLoad()
	}
	if err != nil {
		return "", err
	}
	pair, err := p.middleware.TokenGeneratorWithRevocation(ctx, subject, token)
	if err != nil {
		return "", err
	}
	return pair.RefreshToken, nil
}

func (p *ginPeer) Copy() Refresher {
	c := &ginPeer{memory: store.NewInMemoryRefreshTokenStore()}
	for token, data := range p.memory.GetAll() {
		if err := c.memory.Set(ctx, token, data.UserData, data.Expiry); err != nil {
			panic(err)
		}
	}
	mw := *p.middleware
	mw.RefreshTokenStore = c.memory
	c.middleware = &mw
	return c
}

func (p *ginPeer) Pass(time.Duration) {}
