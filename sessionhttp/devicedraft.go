package sessionhttp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// This file has what the draft of Device Bound Session Credentials may still change: its names and
// its formats (https://w3c.github.io/webappsec-dbsc/). What is built with them is in the other
// files that begin with device. What Chromium does with them is written down in test/browser.

// Headers, in the form that http.Header has. Only a browser can set the one that begins with Sec:
// it is in the refreshes that the browser makes by itself.
const (
	deviceOfferHeader     = "Secure-Session-Registration" // asks a browser to make a key
	deviceChallengeHeader = "Secure-Session-Challenge"    // is what the next proof has to be of
	deviceProofHeader     = "Secure-Session-Response"     // has a proof
	deviceIDHeader        = "Sec-Secure-Session-Id"       // names the session
	deviceSkippedHeader   = "Secure-Session-Skipped"      // the browser could not refresh before
)

const (
	deviceProofType = "dbsc+jwt"
	deviceAlgorithm = "ES256"
)

// deviceOffer is the value of deviceOfferHeader. The path is the endpoint that the browser sends
// its key to.
func deviceOffer(path, challenge string) string {
	return "(" + deviceAlgorithm + `);path="` + path + `";challenge="` + challenge + `"`
}

// deviceChallenge is the value of deviceChallengeHeader.
func deviceChallenge(challenge, id string) string { return `"` + challenge + `";id="` + id + `"` }

// skippedIDs returns which sessions a request says it could not refresh. A script can set the
// header as well.
func skippedIDs(r *http.Request) []string {
	var ids []string
	for _, line := range r.Header[deviceSkippedHeader] {
		for _, part := range strings.Split(line, `session_identifier="`)[1:] {
			id, _, _ := strings.Cut(part, `"`)
			ids = append(ids, id)
		}
	}
	return ids
}

// deviceInstructions tell a browser before which requests it is to refresh: all of this origin,
// except below the paths that are excluded, that would go without the trigger cookie. For requests
// of pages of other hosts it refreshes only if these are named.
func (b binder) instructions(id string) ([]byte, error) {
	type rule struct {
		Type   string `json:"type"`
		Domain string `json:"domain"`
		Path   string `json:"path"`
	}
	type scope struct {
		IncludeSite bool   `json:"include_site"`
		Rules       []rule `json:"scope_specification"`
	}
	type credential struct {
		Type       string `json:"type"`
		Name       string `json:"name"`
		Attributes string `json:"attributes"`
	}
	rules := make([]rule, 0, len(b.exclude))
	for _, path := range b.exclude {
		rules = append(rules, rule{"exclude", "*", path})
	}
	return json.Marshal(struct {
		ID          string       `json:"session_identifier"`
		RefreshURL  string       `json:"refresh_url"`
		Scope       scope        `json:"scope"`
		Credentials []credential `json:"credentials"`
		Initiators  []string     `json:"allowed_refresh_initiators,omitempty"`
	}{
		id, b.refreshPath, scope{false, rules},
		[]credential{{"cookie", b.trigger.name, b.trigger.attributes()}}, b.initiators,
	})
}

// A deviceProof is a browser's proof that has been parsed. Nothing of it is authentic yet.
type deviceProof struct {
	key       *proofKey // nil: it brings none
	challenge string
	signed    string
	signature []byte
}

// parseDeviceProof reads the one proof of a request: a JWT. A browser registers with a proof that
// brings its key, and refreshes with proofs that do not. Names that have no meaning here are passed
// over, as aud, which browsers may send.
func parseDeviceProof(values []string) (deviceProof, error) {
	switch {
	case len(values) != 1:
		return deviceProof{}, errors.New("there is not one proof")
	case len(values[0]) > maxProof:
		return deviceProof{}, errors.New("it is too long")
	}
	header, rest, _ := strings.Cut(values[0], ".")
	payload, signature, _ := strings.Cut(rest, ".")
	headerText, ok1 := decodePart(header)
	payloadText, ok2 := decodePart(payload)
	signatureBytes, ok3 := decodePart(signature) // a fourth part would not be base64url
	if !ok1 || !ok2 || !ok3 {
		return deviceProof{}, errNotJWT
	}
	alg, key, err := parseProofHeader(headerText, deviceProofType)
	switch {
	case err != nil:
		return deviceProof{}, err
	case alg != deviceAlgorithm:
		return deviceProof{}, errors.New("alg is not " + deviceAlgorithm)
	}
	claims, err := strictjson.ParseObject(payloadText, "jti")
	if err != nil {
		return deviceProof{}, err
	}
	r := strictjson.NewReader(claims)
	challenge := r.Text("jti", true)
	signed := values[0][:len(header)+1+len(payload)]
	return deviceProof{key, challenge, signed, signatureBytes}, r.Err()
}
