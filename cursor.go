package tokensession

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"
)

// A cursor is what a follower knows. It has two parts.
//
// One is how far it has read the logs of instances: the number of the change that it needs next. A
// follower behind a load balancer is answered now by one instance and now by another. Because it
// knows its place in the log of each, each can wait until there is something new.
//
// The other part is a time up to which its knowledge is complete: it knows all that was written to
// the store before. An instance whose log it has never read goes by that. It tells all that it has
// heard since then, and in the minute before, because its clock may be another one.
type cursor struct {
	complete  time.Time // zero: it knows nothing
	positions positions // the newest one first
}

type positions []position

type position struct{ log, next uint64 }

const (
	maxPositions  = 32
	cursorVersion = 1
)

// of returns the place in a log.
func (p positions) of(log uint64) (next uint64, there bool) {
	for _, each := range p {
		if each.log == log {
			return each.next, true
		}
	}
	return 0, false
}

// moved returns the cursor of a follower that has been told what an instance knows, up to that
// number of its log, and whose knowledge is complete up to a time.
func (c cursor) moved(log, next uint64, complete time.Time) cursor {
	moved := cursor{later(c.complete, complete), positions{{log, next}}}
	for _, each := range c.positions {
		if each.log != log && len(moved.positions) < maxPositions {
			moved.positions = append(moved.positions, each)
		}
	}
	return moved
}

// String is empty if the follower knows nothing.
func (c cursor) String() string {
	if c.complete.IsZero() {
		return ""
	}
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, uint64(c.complete.UnixMicro()))
	for _, each := range c.positions {
		b = binary.BigEndian.AppendUint64(b, each.log)
		b = binary.BigEndian.AppendUint64(b, each.next)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var errCursor = errors.New("tokensession: malformed cursor")

func parseCursor(text string) (cursor, error) {
	if text == "" {
		return cursor{}, nil
	}
	if len(text) > 1024 || !isBase64URL(text) {
		return cursor{}, errCursor
	}
	b, err := strictBase64.DecodeString(text)
	if err != nil || len(b) < 9 || len(b) > 9+16*maxPositions || len(b)%16 != 9 || b[0] != cursorVersion {
		return cursor{}, errCursor
	}
	complete := int64(binary.BigEndian.Uint64(b[1:]))
	if complete < 0 { // a minute before the first one of these would be far in the future
		return cursor{}, errCursor
	}
	c := cursor{complete: time.UnixMicro(complete).UTC()}
	for b = b[9:]; len(b) > 0; b = b[16:] {
		at := position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
		c.positions = append(c.positions, at)
	}
	return c, nil
}
