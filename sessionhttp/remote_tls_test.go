package sessionhttp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// The issuer knows its services by their certificates. All goes over HTTP/2 here, long polls too.
func TestRemote_withACertificate(t *testing.T) {
	certificate := clientCertificate(t, "api")
	m := newManager(t, newSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
	runsFor(t, m.Run)
	isService := func(r *http.Request) bool {
		require.Equal(t, 2, r.ProtoMajor)
		return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 &&
			r.TLS.VerifiedChains[0][0].Subject.CommonName == "api"
	}
	h, err := sessionhttp.New(m, sessionhttp.Config{MayFollow: isService, MayIntrospect: isService})
	require.NoError(t, err)
	services := x509.NewCertPool()
	services.AddCert(certificate.Leaf)
	issuer := httptest.NewUnstartedServer(h)
	issuer.EnableHTTP2 = true
	issuer.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: services}
	issuer.StartTLS()
	t.Cleanup(issuer.Close)
	t.Cleanup(issuer.CloseClientConnections)

	remote := func(certificates ...tls.Certificate) *sessionhttp.Remote {
		transport := issuer.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = certificates
		cfg := remoteConfig()
		cfg.Client = &http.Client{Transport: transport}
		return newRemote(t, issuer.URL+"/auth", cfg)
	}
	stranger := remote()
	service := remote(certificate)
	eventually(t, "healthy", isHealthy(service))
	tokens, err := m.Start(ctx, "alice")
	require.NoError(t, err)
	_, err = service.VerifyLive(ctx, tokens.AccessToken)
	require.NoError(t, err)
	require.NoError(t, m.Revoke(ctx, tokens.Session.ID))
	eventually(t, "refused", refuses(service, tokens))
	eventually(t, "the stranger hears that it may not follow", func() bool {
		err := stranger.Healthy(ctx)
		return err != nil && strings.Contains(err.Error(), "status 401")
	})
}

func clientCertificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
