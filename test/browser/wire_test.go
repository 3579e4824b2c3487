//go:build browser

package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A wire is a WebSocket of commands and events in JSON: Chromium's DevTools protocol, or WebDriver
// BiDi.
type wire struct {
	conn net.Conn

	mu      sync.Mutex
	last    int
	waiting map[int]chan wireMessage
	hearers []func(wireMessage)
	broken  error
}

type wireParams map[string]any

// A wireMessage has what the two protocols have in theirs.
type wireMessage struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"` // of DevTools
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`   // an object, or BiDi's code
	Message   string          `json:"message,omitempty"` // of BiDi
}

func dial(url string) (*wire, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, early, _, err := ws.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	if early != nil {
		return nil, errors.New("the server speaks first")
	}
	w := &wire{conn: conn, waiting: map[int]chan wireMessage{}}
	go w.read()
	return w, nil
}

func (w *wire) close() { _ = w.conn.Close() }

func (w *wire) read() {
	for {
		text, err := wsutil.ReadServerText(w.conn)
		var m wireMessage
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		w.mu.Lock()
		if err != nil {
			w.broken = err
			for _, c := range w.waiting {
				close(c)
			}
			w.mu.Unlock()
			return
		}
		answer, hearers := w.waiting[m.ID], w.hearers
		delete(w.waiting, m.ID)
		w.mu.Unlock()
		if answer != nil {
			answer <- m
			continue
		}
		for _, hear := range hearers {
			hear(m)
		}
	}
}

// hear has a function called for each event.
func (w *wire) hear(f func(wireMessage)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hearers = append(w.hearers[:len(w.hearers):len(w.hearers)], f)
}

// call sends a command and decodes its result. The session is DevTools'.
func (w *wire) call(session, method string, params, result any) error {
	sent := wireMessage{SessionID: session, Method: method}
	var err error
	if sent.Params, err = json.Marshal(params); err != nil {
		return err
	}
	answer := make(chan wireMessage, 1)
	w.mu.Lock()
	if err = w.broken; err == nil {
		w.last++
		sent.ID = w.last
		w.waiting[sent.ID] = answer
		var text []byte
		if text, err = json.Marshal(sent); err == nil {
			err = wsutil.WriteClientText(w.conn, text)
		}
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%s: the connection is broken", method)
		case m.Error != nil:
			return fmt.Errorf("%s: %s %s", method, m.Error, m.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-time.After(time.Minute):
		return fmt.Errorf("%s: no answer for a minute", method)
	}
}
