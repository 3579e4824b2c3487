package app_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/examples/webapp/app"
)

// An opened is a stream of server-sent events.
type opened struct {
	t     *testing.T
	lines *bufio.Scanner
}

func (v *visitor) opensStream() *opened {
	v.t.Helper()
	request, err := http.NewRequestWithContext(within(v.t), "GET", v.server.URL+"/api/stream", nil)
	require.NoError(v.t, err)
	response, err := v.client.Do(request)
	require.NoError(v.t, err)
	v.t.Cleanup(func() { response.Body.Close() })
	require.Equal(v.t, 200, response.StatusCode)
	require.Equal(v.t, "text/event-stream", response.Header.Get("Content-Type"))
	o := &opened{v.t, bufio.NewScanner(response.Body)}
	event, _ := o.next()
	require.Equal(v.t, "open", event)
	return o
}

// next returns the next event, or "" at the stream's end.
func (o *opened) next() (event, data string) {
	o.t.Helper()
	for o.lines.Scan() && o.lines.Text() != "" {
		if name, ok := strings.CutPrefix(o.lines.Text(), "event: "); ok {
			event = name
		}
		if text, ok := strings.CutPrefix(o.lines.Text(), "data: "); ok {
			data = text
		}
	}
	return event, data
}

// ends returns why the stream has ended.
func (o *opened) ends() string {
	o.t.Helper()
	for {
		switch event, data := o.next(); event {
		case "over":
			last, _ := o.next()
			require.Empty(o.t, last, "after the end")
			return data
		case "":
			o.t.Fatal("the stream ended without a word")
		}
	}
}

func (v *visitor) dials(header http.Header) (*websocket.Conn, *http.Response, error) {
	v.t.Helper()
	conn, response, err := websocket.Dial(within(v.t), v.server.URL+"/api/socket",
		&websocket.DialOptions{HTTPClient: &v.client, HTTPHeader: header})
	if err == nil {
		v.t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, response, err
}

func (v *visitor) opensSocket() *websocket.Conn {
	v.t.Helper()
	conn, _, err := v.dials(nil)
	require.NoError(v.t, err)
	return conn
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestLive_endsWithTheSession(t *testing.T) {
	server := newApp(t)
	laptop, phone := visit(t, server).logIn(), visit(t, server).logIn()
	stays := laptop.opensSocket()
	stream, socket := phone.opensStream(), phone.opensSocket()
	for _, device := range laptop.devices() {
		if !device.Current {
			require.Equal(t, 200, laptop.do("DELETE", "/auth/sessions/"+device.ID, "", nil))
		}
	}
	require.Equal(t, "revoked", stream.ends())
	_, _, err := socket.Read(within(t))
	var closed websocket.CloseError
	require.ErrorAs(t, err, &closed)
	require.Equal(t, websocket.CloseError{Code: 4401, Reason: "revoked"}, closed)

	require.NoError(t, stays.Write(within(t), websocket.MessageText, []byte("still here")))
	_, said, err := stays.Read(within(t))
	require.NoError(t, err)
	require.Equal(t, "still here", string(said))
}

func TestLive_endsWhenItsRightsHaveChanged(t *testing.T) {
	v := visit(t, newApp(t)).logIn()
	stream, socket := v.opensStream(), v.opensSocket()
	require.Equal(t, 200, v.do("POST", "/demo/admins/alice", "", nil))
	require.Equal(t, "outdated", stream.ends())
	_, _, err := socket.Read(within(t))
	require.EqualValues(t, 4401, websocket.CloseStatus(err))
	require.Equal(t, 401, v.do("GET", "/api/stream", "", nil), "the browser has to refresh")
	require.Equal(t, 200, v.do("POST", "/auth/token", "", nil))
	v.opensStream()
	v.opensSocket()
}

func TestLive_tellsTheUsersOwnDevicesOnly(t *testing.T) {
	server := newApp(t)
	laptop, phone, bob := visit(t, server).logIn(), visit(t, server).logIn(), visit(t, server)
	require.Equal(t, 200, bob.do("POST", "/login", "name=bob&password=staple+my+stapler", nil))
	one, two, bobs := laptop.opensSocket(), phone.opensSocket(), bob.opensSocket()
	stream := phone.opensStream()
	require.NoError(t, bobs.Write(within(t), websocket.MessageText, []byte("from bob")))
	require.NoError(t, one.Write(within(t), websocket.MessageText, []byte("from alice")))
	for _, conn := range []*websocket.Conn{one, two} {
		_, said, err := conn.Read(within(t))
		require.NoError(t, err)
		require.Equal(t, "from alice", string(said))
	}
	_, said, err := bobs.Read(within(t))
	require.NoError(t, err)
	require.Equal(t, "from bob", string(said))

	require.Equal(t, 200, bob.do("POST", "/demo/phone", "", nil))
	require.Equal(t, 200, laptop.do("POST", "/demo/phone", "", nil))
	event, data := stream.next()
	require.Equal(t, "session", event)
	require.Contains(t, data, `"kind":"started"`)
	require.Equal(t, 200, laptop.do("POST", "/auth/token", "", nil))
	_, data = stream.next()
	require.Contains(t, data, `"kind":"refreshed"`, "nothing of bob's was between the two")
}

func TestLive_refusesStrangersAndOtherSites(t *testing.T) {
	server := newApp(t)
	stranger := visit(t, server)
	require.Equal(t, 401, stranger.do("GET", "/api/stream", "", nil))
	_, response, err := stranger.dials(nil)
	require.Error(t, err)
	require.Equal(t, 401, response.StatusCode)

	v := visit(t, server).logIn()
	_, response, err = v.dials(http.Header{"Origin": {"https://evil.example"}})
	require.Error(t, err)
	require.Equal(t, 403, response.StatusCode)
}

// A server that shuts down waits for answers that are under way. It would wait for these for ever.
func TestServe_endsOpenConnectionsWhenItShutsDown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	served := make(chan error, 1)
	go func() {
		key, err := tokensession.GenerateKey()
		if err == nil {
			err = app.Serve(ctx, app.Options{Addr: "localhost:0", HashRounds: 1}, app.WithKey(key),
				tokensession.NewMemoryStore(), in)
		}
		in.CloseWithError(err)
		served <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	v := visit(t, &httptest.Server{URL: strings.Fields(line)[1]}).logIn()
	stream, socket := v.opensStream(), v.opensSocket()
	cancel()
	require.NoError(t, <-served)
	event, _ := stream.next()
	require.Empty(t, event, "nothing is over, so that the browser opens another one")
	require.NoError(t, stream.lines.Err())
	_, _, err = socket.Read(within(t))
	require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(err))
}
