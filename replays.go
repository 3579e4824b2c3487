package tokensession

import (
	"sync"
	"time"
)

// A replayLog counts how many generations of a session in a row were replayed, as far as this
// process has seen.
//
// Somebody who holds a copy of the cookies, and presents the token just consumed within the grace
// period of each rotation, gets the same answers as the owner and is never caught by reuse. But
// then each generation is replayed, one after the other. Tabs that refresh at the same moment, and
// replies that got lost, do not make such long rows.
//
// Only replays write here, and each into its session's shard, so that refreshes of different
// sessions do not wait for each other.
type replayLog struct{ shards [replayShards]replayShard }

type replayShard struct {
	mu       sync.Mutex
	sessions map[sessionKey]replayRow
}

// A replayRow is one session's.
type replayRow struct {
	generation uint64 // the last one that was replayed
	length     int
	at         time.Time
}

const (
	replayShards  = 64
	maxReplayRows = 160            // of a shard
	replayRowTime = 24 * time.Hour // after so long without a replay, a row is over
)

// add notes that a generation was replayed, and returns how many were in a row. Where a shard is
// full, rows of other sessions are forgotten, so that it never grows beyond its limit.
func (l *replayLog) add(k sessionKey, generation uint64, now time.Time) int {
	return l.shards[k.hi%replayShards].add(k, generation, now)
}

func (l *replayShard) add(k sessionKey, generation uint64, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions == nil {
		l.sessions = make(map[sessionKey]replayRow)
	}
	row, known := l.sessions[k]
	switch {
	case known && generation == row.generation: // by a third tab
	case known && generation == row.generation+1 && now.Sub(row.at) < replayRowTime:
		row.length++
	default:
		row.length = 1
	}
	row.generation, row.at = generation, now
	if !known && len(l.sessions) >= maxReplayRows {
		l.makeRoom(now)
	}
	l.sessions[k] = row
	return row.length
}

// makeRoom forgets the rows that are over, and those of one generation. If more than half of the
// shard is left, it forgets others, too: so that there is room for a while, and this is done
// rarely.
func (l *replayShard) makeRoom(now time.Time) {
	for k, row := range l.sessions {
		if now.Sub(row.at) >= replayRowTime || row.length == 1 {
			delete(l.sessions, k)
		}
	}
	for k := range l.sessions {
		if len(l.sessions) <= maxReplayRows/2 {
			return
		}
		delete(l.sessions, k)
	}
}
