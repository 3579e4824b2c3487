package tokensession

import "sync"

// underWay are the writes of refreshes that have not returned. If one is in the store, somebody is about to get its
// successor, however long ago it was written: the store may have taken long to do that, or to say so.
type underWay [64]writesUnderWay

type writesUnderWay struct {
	mu     sync.Mutex
	writes []writeUnderWay
}

type writeUnderWay struct {
	id    string
	given bool // another refresh has got the successor
}

// lock returns the part where a write is, locked, and its index there, or -1.
func (u *underWay) lock(writeID string) (part *writesUnderWay, i int) {
	part = &u[0]
	if writeID != "" { // as of a record that no Manager wrote
		part = &u[writeID[0]%64]
	}
	part.mu.Lock()
	for i := range part.writes {
		if part.writes[i].id == writeID {
			return part, i
		}
	}
	return part, -1
}

func (u *underWay) add(writeID string) {
	part, _ := u.lock(writeID)
	part.writes = append(part.writes, writeUnderWay{id: writeID})
	part.mu.Unlock()
}

func (u *underWay) has(writeID string) bool {
	part, i := u.lock(writeID)
	part.mu.Unlock()
	return i >= 0
}

// give notes that another refresh has got the successor that a write made.
func (u *underWay) give(writeID string) {
	part, i := u.lock(writeID)
	if i >= 0 {
		part.writes[i].given = true
	}
	part.mu.Unlock()
}

// remove reports whether another refresh has got the successor.
func (u *underWay) remove(writeID string) (given bool) {
	part, i := u.lock(writeID)
	if i >= 0 {
		given = part.writes[i].given
		last := len(part.writes) - 1
		part.writes[i], part.writes[last] = part.writes[last], writeUnderWay{}
		part.writes = part.writes[:last]
	}
	part.mu.Unlock()
	return given
}
