package sessionhttp

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// A challenge is what a browser has to sign. It shows that the key was used now, and not some time
// before by somebody who had the device for a while. Nothing of it is stored: it is the time and a
// MAC, over what the challenge is for.
//
// A registration's is for a session, which it names: the browser may come without cookies that
// would say which one that is. A refresh's is for the browser's name of the session, and for the
// one refresh token that it has. It is used up when that token is: see [Handlers.checkUnused].
const (
	registrationLife = 5 * time.Minute
	// A challenge that comes with a refresh is for the next one. Most access tokens live for less.
	refreshChallengeLife = 30 * time.Minute
	// How long a challenge counts as just made. A browser that is sent one signs it at once.
	challengeJustMade = 10 * time.Second

	challengeTimeSize = 4
	challengeSize     = challengeTimeSize + deviceMACSize
)

// A challenger makes challenges of one kind and checks them.
type challenger struct {
	macs macMaker
	life time.Duration
}

// make returns a challenge that is for what the text says.
func (c challenger) make(of string, now time.Time) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, challengeSize), uint32(now.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, c.mac(b, of)...))
}

func (c challenger) mac(at []byte, of string) []byte { return c.macs.make(challengeData(at, of)) }

// challengeData is unambiguous, because the time is always of the same size.
func challengeData(at []byte, of string) []byte {
	return append(append(make([]byte, 0, len(at)+len(of)), at...), of...)
}

var (
	errForeignChallenge = errors.New("the challenge is not one of ours for this")
	errOldChallenge     = errors.New("the challenge is too old")
	errUsedChallenge    = errors.New("the session was refreshed since the challenge was made")
)

// check returns when the challenge was made, in whole seconds, or an error unless that was for what
// the text says, and not too long ago. One that seems to be of later than now is of an instance
// whose clock is ahead.
func (c challenger) check(challenge, of string, now time.Time) (made time.Time, err error) {
	b, ok := decodePart(challenge)
	if !ok || len(b) != challengeSize {
		return time.Time{}, errForeignChallenge
	}
	at, mac := b[:challengeTimeSize], b[challengeTimeSize:]
	if !c.macs.check(challengeData(at, of), mac) {
		return time.Time{}, errForeignChallenge
	}
	made = time.Unix(int64(binary.BigEndian.Uint32(at)), 0)
	if now.Sub(made) > c.life {
		return time.Time{}, errOldChallenge
	}
	return made, nil
}

// registrationChallenge returns a challenge that names the session which it is for.
func (c challenger) registrationChallenge(session string, now time.Time) string {
	return session + "." + c.make(session, now)
}

// registrationSession returns the session that such a challenge is for.
func (c challenger) registrationSession(challenge string, now time.Time) (string, error) {
	session, rest, _ := strings.Cut(challenge, ".")
	_, err := c.check(rest, session, now)
	return session, err
}

// A refresh's challenge is for these two. The name has always the same length.
func refreshChallengeOf(id deviceID, refreshToken string) string { return id.text + refreshToken }
