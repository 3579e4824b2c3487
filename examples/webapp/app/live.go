package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// The two routes here answer with connections that stay open for as long as the session lives. Both
// are behind Require(UntilSessionEnds()), so that the request's context is all that they watch: it
// ends when the session is signed out on another device, when it expires, when its rights have
// changed, or when the browser is gone.

const (
	sendTimeout = 10 * time.Second // for a browser that does not read
	maxSaid     = 1 << 10          // bytes of one message

	// statusSessionOver is the WebSocket's status when the session does not go on. From 4000 on,
	// they are the application's own.
	statusSessionOver = 4401
)

// stream tells what happens to the user's sessions, as server-sent events.
func (a *App) stream(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	news, leave := a.live.join(access.Subject, ofSessions)
	defer leave()

	// The server's time limits are meant for other answers. Here each event has its own.
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{})
	send := func(event, data string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		if err == nil {
			err = out.Flush()
		}
		_ = out.SetWriteDeadline(time.Time{})
		return err == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for nginx
	if !send("open", access.Subject) {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			send("over", tokensession.Kind(context.Cause(r.Context())))
			return
		case text, ok := <-news:
			if !ok || !send("session", text) {
				return
			}
		}
	}
}

// socket hands on what one of the user's devices says to all of them, by a WebSocket.
//
// A page of another site could open one, too, and the browser would send the cookies along. Require
// refuses that by the header Origin, and so does Accept.
func (a *App) socket(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	// It joins first, so that a browser whose socket is open misses nothing.
	news, leave := a.live.join(access.Subject, ofDevices)
	defer leave()
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // and it has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxSaid)

	// Read must not have the session's context: it would drop the connection when that ends,
	// without a word to the browser.
	stop := context.AfterFunc(r.Context(), func() {
		_ = conn.Close(statusSessionOver, tokensession.Kind(context.Cause(r.Context())))
	})
	defer stop()
	go func() {
		for text := range news {
			if say(conn, text) != nil {
				return
			}
		}
		_ = conn.Close(websocket.StatusGoingAway, "")
	}()
	for {
		_, text, err := conn.Read(context.WithoutCancel(r.Context()))
		if err != nil {
			return
		}
		a.live.tell(access.Subject, ofDevices, string(text))
	}
}

func say(conn *websocket.Conn, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, []byte(text))
}

// What a connection is told of.
const (
	ofSessions = "sessions"
	ofDevices  = "devices"
)

// A hub knows the connections that are open here. A host with several instances needs something
// between them for what they tell; for the end of a session it needs nothing.
type hub struct {
	mu     sync.Mutex
	ears   map[ear]bool
	closed bool
}

type ear struct {
	subject, topic string
	news           chan string
}

// join returns what a connection is told. It is closed when the server ends.
func (h *hub) join(subject, topic string) (news <-chan string, leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := ear{subject, topic, make(chan string, 16)}
	if h.closed {
		close(e.news)
		return e.news, func() {}
	}
	if h.ears == nil {
		h.ears = map[ear]bool{}
	}
	h.ears[e] = true
	return e.news, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.ears[e] {
			delete(h.ears, e)
			close(e.news)
		}
	}
}

// tell tells a user's connections. One that is slow misses what it has no room for.
func (h *hub) tell(subject, topic, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := range h.ears {
		if e.subject != subject || e.topic != topic {
			continue
		}
		select {
		case e.news <- text:
		default:
		}
	}
}

// close ends all connections. A server that shuts down waits for the others only.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for e := range h.ears {
		close(e.news)
	}
	h.ears = nil
}

func (h *hub) tellOf(e tokensession.Event) {
	text, err := json.Marshal(struct {
		Kind      tokensession.EventKind `json:"kind"`
		SessionID string                 `json:"session_id"`
	}{e.Kind, e.Session.ID})
	if err == nil {
		h.tell(e.Session.Subject, ofSessions, string(text))
	}
}
