package sessionclient

import (
	"math/rand/v2"
	"time"
)

const (
	// retryWindow is how long after the first attempt the last one begins. Once the server may have
	// applied an attempt whose answer was lost, it counts from the first such attempt. It is
	// shorter than the usual grace period of 10 seconds, which began at that attempt or later: the
	// difference is the time that the last attempt has to reach the server.
	retryWindow = 8 * time.Second

	retryAttempts  = 5                       // at most, while the server has certainly applied none
	retryPause     = 200 * time.Millisecond  // before the second attempt; doubled each time
	retryPauseMost = 1600 * time.Millisecond // but no longer than this
)

// A retrySchedule says when to present a refresh token again. The caller gives it times with a
// monotonic reading. The program's own clock may stand still or be set back, and the attempts would
// go on without end.
//
// An attempt leaves a doubt if the server may have applied it and its answer did not arrive. The
// first doubt decides when the last attempt begins, because that one may have begun the grace
// period. But it can also be the latest such attempt that was applied. So the doubt itself lasts
// until retryWindow after the latest one, and the next refresh with this token inherits it.
type retrySchedule struct {
	refreshToken string
	tokensTried  int       // how many refresh tokens this flight has presented, this one included
	unkept       int       // how many results for this token gave way to what the store had by then
	attempts     int       // with this token
	attemptBegan time.Time // the latest attempt
	lastStart    time.Time // no attempt begins after this
	doubtUntil   time.Time // zero if no attempt has left a doubt
}

func (r *retrySchedule) inDoubt() bool { return !r.doubtUntil.IsZero() }

// begin counts an attempt, and reports whether to make it. A doubt that an earlier refresh of the
// same token has left is this one's, too.
func (r *retrySchedule) begin(refreshToken string, failed failure, now time.Time) bool {
	if r.refreshToken != refreshToken {
		*r = retrySchedule{
			refreshToken: refreshToken,
			tokensTried:  r.tokensTried + 1,
			lastStart:    now.Add(retryWindow),
		}
		if failed.refreshToken == refreshToken && now.Before(failed.doubtUntil) {
			r.lastStart, r.doubtUntil = failed.doubtUntil, failed.doubtUntil
		}
	}
	r.attempts++
	r.attemptBegan = now
	return r.tokensTried <= retryAttempts && r.unkept < retryAttempts
}

// pause returns how long to wait before the next attempt, and whether there is to be one. While
// there is a doubt, nothing but the time ends the attempts. Whatever the later ones met, the server
// may have applied the first one, and its answer is worth having.
func (r *retrySchedule) pause(answer endpointAnswer, now time.Time) (time.Duration, bool) {
	if answer.inDoubt {
		until := r.attemptBegan.Add(retryWindow)
		if !r.inDoubt() {
			r.lastStart = until
		}
		r.doubtUntil = until
	}
	if !r.inDoubt() && (answer.final || r.attempts >= retryAttempts) {
		return 0, false
	}
	longest := min(retryPause<<(r.attempts-1), retryPauseMost)
	pause := answer.retryAfter + longest/2 + rand.N(longest/2)
	left := r.lastStart.Sub(now)
	if pause > left && r.inDoubt() && left > 0 {
		// The server asks for more patience than there is time. The last attempt comes at the end
		// of the time nevertheless, because later the token may count as stolen.
		return left, true
	}
	return pause, pause <= left
}
