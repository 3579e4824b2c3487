package sessionhttp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	// denialsHeader has what there is to say about an answer, as JSON. The body has the entries.
	denialsHeader = "Denials"

	// denialsEnd is the last line of the body. A body without it was cut off on its way.
	denialsEnd = "end\n"

	// longPoll is how long an answer is held back while there is nothing new. It is less than the
	// 30 seconds after which the strictest proxies give up.
	longPoll = 20 * time.Second

	// denialsTimeout is how long an answer may take to be sent. A follower that reads slower holds
	// a snapshot in memory, and loses its connection.
	denialsTimeout = 30 * time.Second

	maxFollowers = 1 << 15 // at one time; each costs some 20 kB while it waits
	worthPacking = 1 << 10 // bytes
)

// A denialsInfo is the header of an answer. Times are in whole milliseconds or seconds, as their
// names say.
type denialsInfo struct {
	Cursor    string `json:"cursor"`
	Snapshot  bool   `json:"snapshot"`
	AgeMS     int64  `json:"age_ms"`
	WaitedMS  int64  `json:"waited_ms"`
	AccessTTL int64  `json:"access_ttl_s"`
	Keep      int64  `json:"keep_s"`
}

// Revocations tells services without a store which access tokens are refused, if Config.MayFollow
// lets them: GET, with the cursor of the answer before as ?cursor=. [NewRemote] follows it, and
// docs/revocations.md describes it for programs in other languages. It is answered from memory: at
// once without a cursor, else when there is something new, or after 20 seconds.
//
// The answer is 503 until the Manager has read the store's feed, 400 for a cursor that is none, and
// 401 for who may not follow.
func (h *Handlers) Revocations(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	if h.cfg.MayFollow == nil || !h.cfg.MayFollow(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		h.refuse(w, r, unauthorized, fmt.Errorf("%w: revocations for somebody who may not",
			errClient))
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		h.refuse(w, r, notAllowed, ErrBadRequest)
		return
	}
	if h.followers.Add(1) > maxFollowers {
		h.followers.Add(-1)
		err := fmt.Errorf("%w: more than %d followers", tokensession.ErrUnavailable, maxFollowers)
		h.refuse(w, r, unavailable, err)
		return
	}
	defer h.followers.Add(-1)

	// The host's timeouts are for requests that are answered at once.
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Time{})
	_ = connection.SetWriteDeadline(time.Now().Add(longPoll + denialsTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), longPoll)
	defer cancel()
	d, err := h.m.Denials(ctx, r.URL.Query().Get("cursor"))
	switch {
	case errors.Is(err, tokensession.ErrUnavailable):
		h.refuse(w, r, unavailable, err)
	case err != nil:
		h.refuse(w, r, badRequest, fmt.Errorf("%w: %w", ErrBadRequest, err))
	default:
		_ = connection.SetWriteDeadline(time.Now().Add(denialsTimeout))
		h.writeDenials(w, r, d)
	}
}

func (h *Handlers) writeDenials(w http.ResponseWriter, r *http.Request, d tokensession.Denials) {
	info, err := json.Marshal(denialsInfo{
		Cursor: d.Cursor, Snapshot: d.Snapshot,
		AgeMS: d.Age.Milliseconds(), WaitedMS: d.Waited.Milliseconds(),
		AccessTTL: int64(d.AccessTTL / time.Second), Keep: int64(d.Keep / time.Second),
	})
	if err != nil {
		h.refuse(w, r, answer{http.StatusInternalServerError, "server_error"}, err)
		return
	}
	header := w.Header()
	header.Set(denialsHeader, string(info))
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Vary", "Accept-Encoding")
	parts := [][]byte{d.Entries, []byte(denialsEnd)}
	if len(d.Entries) >= worthPacking && acceptsGzip(r) {
		header.Set("Content-Encoding", "gzip")
		parts = [][]byte{h.packed.of(d.Entries)}
	}
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	header.Set("Content-Length", strconv.Itoa(size))
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return // the follower asks again
		}
	}
}

// acceptsGzip reports whether a request says that it can read gzip. One that says it in an unusual
// way gets the plain answer.
func acceptsGzip(r *http.Request) bool {
	for _, value := range r.Header["Accept-Encoding"] {
		for coding := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(coding) == "gzip" {
				return true
			}
		}
	}
	return false
}

// keepPacked is as long as a Manager keeps the snapshot itself.
const keepPacked = 10 * time.Second

// A packing keeps the last body that was compressed, for a moment. Followers that wait for the same
// get the same.
type packing struct {
	mu      sync.Mutex
	entries []byte
	packed  []byte
	over    *time.Timer
}

func (p *packing) of(entries []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.entries) != len(entries) || &p.entries[0] != &entries[0] {
		var b bytes.Buffer
		w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is one that there is
		_, _ = w.Write(entries)                         // a Buffer has no error
		_, _ = w.Write([]byte(denialsEnd))
		_ = w.Close()
		p.entries, p.packed = entries, b.Bytes()
		if p.over != nil {
			p.over.Stop()
		}
		p.over = time.AfterFunc(keepPacked, p.forget)
	}
	return p.packed
}

// forget drops what is kept, be it newer than it was meant for.
func (p *packing) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries, p.packed = nil, nil
}
