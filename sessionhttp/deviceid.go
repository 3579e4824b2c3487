package sessionhttp

import (
	"crypto/elliptic"
	"encoding/base64"
)

// A deviceID is what a browser calls its session by when it refreshes: which of ours that is, and
// the public key that the browser has made for it. So to register a browser stores nothing. The
// binding is stored with the first refresh that proves the key.
//
// Its form is base64url of a version, the session's id, the key as a compressed point, and a MAC:
// 88 characters. The MAC keeps key and session together until the session's record names the key.
// After that the record does. So a MAC by a secret that is no longer in use is not the end of a
// session: see [Handlers.deviceKey].
type deviceID struct {
	text    string
	session string // the session's id, as it is elsewhere
	key     *proofKey
	sealed  bool // the MAC is genuine
}

const (
	deviceIDVersion = 1
	sessionIDSize   = 16
	pointSize       = 1 + 32
	deviceMACSize   = 16
	deviceIDSize    = 1 + sessionIDSize + pointSize + deviceMACSize
)

// sealDeviceID returns the name of a session with a key.
func sealDeviceID(macs macMaker, session string, key *proofKey) (string, bool) {
	id, err := strictBase64.DecodeString(session)
	if err != nil || len(id) != sessionIDSize || len(key.point) != pointSize {
		return "", false
	}
	b := make([]byte, 0, deviceIDSize)
	b = append(b, deviceIDVersion)
	b = append(b, id...)
	b = append(b, key.point...)
	b = append(b, macs.make(b)...)
	return base64.RawURLEncoding.EncodeToString(b), true
}

// parseDeviceID reads such a name, and reports whether it has the form of one.
func parseDeviceID(macs macMaker, text string) (deviceID, bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(deviceIDSize) {
		return deviceID{}, false
	}
	b, ok := decodePart(text)
	if !ok || len(b) != deviceIDSize || b[0] != deviceIDVersion {
		return deviceID{}, false
	}
	signed, mac := b[:deviceIDSize-deviceMACSize], b[deviceIDSize-deviceMACSize:]
	id, point := signed[1:1+sessionIDSize], signed[1+sessionIDSize:]
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), point)
	if x == nil {
		return deviceID{}, false
	}
	key, err := newP256Key(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32)))
	if err != nil {
		return deviceID{}, false
	}
	return deviceID{
		text, base64.RawURLEncoding.EncodeToString(id), key, macs.check(signed, mac),
	}, true
}
