package app

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const logSize = 200

// An eventLog keeps the latest events for the page, of all users: in the demo, everybody may look
// at it.
type eventLog struct {
	mu      sync.Mutex
	last    int64 // number of the newest entry
	entries []entry
}

// An entry is an event as the page shows it. It contains no secret.
type entry struct {
	Number    int64     `json:"number"`
	At        time.Time `json:"at"`
	Kind      string    `json:"kind"`
	Subject   string    `json:"subject"`
	SessionID string    `json:"session_id"`
	Device    string    `json:"device"`
	Reason    string    `json:"reason,omitempty"`
	Unproved  bool      `json:"unproved,omitempty"` // without the key of the device
	Presented uint64    `json:"presented"`
	Live      uint64    `json:"live"`
}

// onEvent is told of everything that happens to a session. A host writes it to its log, and acts on
// reused.
func (a *App) onEvent(ctx context.Context, e tokensession.Event) {
	switch e.Kind {
	case tokensession.EventRefreshed:
		a.thief.remember(ctx, e.Session.ID)
	case tokensession.EventReused, tokensession.EventDenied, tokensession.EventRevoked:
		a.thief.forget(e.Session.ID)
	}
	if e.Session.ID != "" {
		a.log.add(e)
		a.live.tellOf(e)
	}
}

func (l *eventLog) add(e tokensession.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last+1, e.At.UnixMilli()) // greater than those from before a restart
	l.entries = append(l.entries, entry{
		Number: l.last, At: e.At, Kind: string(e.Kind), Subject: e.Session.Subject,
		SessionID: e.Session.ID,
		Device:    e.Session.Attributes["device"], Reason: string(e.Session.RevokeReason),
		Presented: e.Presented, Live: e.Live,
		Unproved: errors.Is(e.Err, tokensession.ErrProofRequired),
	})
	if len(l.entries) > logSize {
		l.entries = append([]entry(nil), l.entries[len(l.entries)-logSize:]...)
	}
}

// after returns the entries with a greater number.
func (l *eventLog) after(number int64) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	newer := []entry{}
	for _, e := range l.entries {
		if e.Number > number {
			newer = append(newer, e)
		}
	}
	return newer
}

// events is what the page asks every second, because here it may look before anybody has logged in.
// What happens to the user's own sessions comes by server-sent events: see stream.
func (a *App) events(w http.ResponseWriter, r *http.Request) {
	number, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	answer(w, http.StatusOK, a.log.after(number))
}
