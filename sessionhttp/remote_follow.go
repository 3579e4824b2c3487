package sessionhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	// pollTimeout is how long a long poll may take. A proxy that stalls is given up then.
	pollTimeout = longPoll + 15*time.Second

	minPollPause = 10 * time.Millisecond // an issuer that answers at once each time
	minPollRetry = 100 * time.Millisecond
	maxPollRetry = 10 * time.Second

	// raisePause is how often a snapshot is fetched because the issuer's AccessTTL has become
	// longer. While instances with the old and the new one answer in turn, it is no use to hurry.
	raisePause = time.Minute

	maxDenials = 1 << 28 // bytes of an answer: seven million entries
)

// A following is how far a Remote has followed.
type following struct {
	cursor string
	raised time.Time // when a snapshot was last asked for because of a longer AccessTTL
}

// follow asks the issuer again and again until ctx ends.
func (r *Remote) follow(ctx context.Context) {
	var f following
	retry := minPollRetry
	for ctx.Err() == nil {
		pause := time.After(minPollPause)
		err := r.poll(ctx, &f)
		if ctx.Err() != nil {
			return
		}
		r.tell(ctx, err)
		if err != nil {
			pause = time.After(jittered(retry))
			retry = min(2*retry, maxPollRetry)
		} else {
			retry = minPollRetry
		}
		select {
		case <-pause:
		case <-ctx.Done():
		}
		if errors.Is(err, context.DeadlineExceeded) {
			// The connection may be dead, after a balancer has moved for instance, and HTTP/2 would
			// use it again. By now no poll is on it.
			r.client.CloseIdleConnections()
		}
	}
}

// jittered is a time between a half and the whole of d. When an issuer is back, not all of its
// followers must come in the same moment.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

var errCursorRefused = errors.New("the issuer does not know the cursor")

// poll asks once, and applies the answer.
//
// An answer is applied as a whole or not at all, and the cursor moves only with it. So it does no
// harm if one is lost, or comes twice: the next one has what the follower lacks, because it goes by
// the cursor that the follower sends.
func (r *Remote) poll(ctx context.Context, f *following) error {
	sent := r.Now()
	d, err := r.fetchDenials(ctx, f.cursor)
	if errors.Is(err, errCursorRefused) {
		f.cursor = "" // it is started anew with a snapshot
		return err
	}
	if err != nil {
		return err
	}
	if f.cursor == "" && !d.Snapshot {
		return errors.New("the answer to no cursor is no snapshot")
	}
	next, err := r.local.Deny(d)
	if err != nil {
		f.cursor = ""
		return err
	}
	f.cursor = d.Cursor
	// The issuer's AccessTTL has become longer. By the shorter one, this verifier may have
	// forgotten what still matters by the longer one, so it needs everything once more.
	if next == "" {
		if since := r.Now().Sub(f.raised); since < 0 || since >= raisePause {
			f.cursor, f.raised = "", r.Now()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// The issuer wrote the answer at least so long after the request was sent as it waited. How
	// long the answer was on its way does not count. It cannot have waited for longer than this
	// took, even if its clock was set forward meanwhile.
	waited := min(d.Waited, max(r.Now().Sub(sent), 0))
	r.asOf = sent.Add(waited - d.Age)
	return nil
}

// tell notes whether the issuer can be followed, and tells the host when that changes.
func (r *Remote) tell(ctx context.Context, err error) {
	r.mu.Lock()
	begins := err != nil && r.stale == nil
	ends := err == nil && (r.stale != nil || !r.followed)
	if begins {
		r.since = r.asOf
	}
	since := r.since
	r.stale, r.followed = err, r.followed || err == nil
	r.mu.Unlock()
	switch {
	case begins:
		r.emit(ctx, tokensession.EventFeedStale, since, err)
	case ends:
		r.emit(ctx, tokensession.EventFeedFresh, since, nil)
	}
}

// follows reports whether the issuer could be followed when it was asked last.
func (r *Remote) follows() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.followed && r.stale == nil
}

// fetchDenials asks the issuer for what is new since a cursor.
func (r *Remote) fetchDenials(ctx context.Context, cursor string) (tokensession.Denials, error) {
	var none tokensession.Denials
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	address := r.url + "/revocations"
	if cursor != "" {
		address += "?cursor=" + url.QueryEscape(cursor)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return none, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return none, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusBadRequest && cursor != "":
		return none, errCursorRefused
	case response.StatusCode != http.StatusOK:
		return none, fmt.Errorf("GET %s/revocations: status %d", r.url, response.StatusCode)
	}
	d, err := readDenials(response)
	if err != nil {
		return none, fmt.Errorf("GET %s/revocations: %w", r.url, err)
	}
	return d, nil
}

func readDenials(response *http.Response) (tokensession.Denials, error) {
	var none tokensession.Denials
	var info denialsInfo
	if err := json.Unmarshal([]byte(response.Header.Get(denialsHeader)), &info); err != nil {
		return none, fmt.Errorf("the header %s is malformed", denialsHeader)
	}
	const most = 1 << 30 // milliseconds or seconds, so that nothing overflows
	for _, n := range []int64{info.AgeMS, info.WaitedMS, info.AccessTTL, info.Keep} {
		if n < 0 || n > most {
			return none, fmt.Errorf("the header %s is out of range", denialsHeader)
		}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDenials+1))
	if err != nil {
		return none, err
	}
	if len(body) > maxDenials {
		return none, fmt.Errorf("more than %d bytes", maxDenials)
	}
	entries, whole := bytes.CutSuffix(body, []byte(denialsEnd))
	if !whole {
		return none, errors.New("the answer was cut off")
	}
	return tokensession.Denials{
		Snapshot: info.Snapshot, Cursor: info.Cursor,
		Age:       time.Duration(info.AgeMS) * time.Millisecond,
		Waited:    time.Duration(info.WaitedMS) * time.Millisecond,
		AccessTTL: time.Duration(info.AccessTTL) * time.Second,
		Keep:      time.Duration(info.Keep) * time.Second,
		Entries:   entries,
	}, nil
}
