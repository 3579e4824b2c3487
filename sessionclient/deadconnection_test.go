package sessionclient_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A laptop wakes up, or a balancer has moved: nothing comes through the connection any more, and no
// error says so. With HTTP/2 all requests go through that one, until the system gives it up after a
// quarter of an hour.
func TestTransport_refreshesOverANewConnectionIfTheOldOneIsDead(t *testing.T) {
	w := newClientWorld(t)
	server := httptest.NewUnstartedServer(w)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	var dead, connections atomic.Int64 // those up to dead are
	through, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer through.Close()
	forward := func(number int64, to, from net.Conn) {
		defer to.Close()
		for data := make([]byte, 64<<10); ; {
			n, err := from.Read(data)
			if err != nil {
				return
			}
			if number > dead.Load() {
				_, _ = to.Write(data[:n])
			}
		}
	}
	go func() {
		for {
			client, err := through.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				panic(err)
			}
			number := connections.Add(1)
			go forward(number, there, client)
			go forward(number, client, there)
		}
	}()

	base := server.Client().Transport.(*http.Transport).Clone()
	base.TLSClientConfig.ServerName = "example.com"
	cfg := w.config(base)
	cfg.RefreshTimeout = time.Second
	transport, err := sessionclient.New("https://"+through.Addr().String()+"/token", w.memory, cfg)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, w.memory.Save(t.Context(), w.expired()))
		tokens, err := transport.Token(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, w.start.AccessToken, tokens.AccessToken)
		w.start = loaded(t, w.memory)
		dead.Store(connections.Load())
	}
	require.EqualValues(t, 2, connections.Load())
	require.Empty(t, w.toldErrors())
}
