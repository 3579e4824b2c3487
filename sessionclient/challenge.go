package sessionclient

import (
	"net/http"
	"regexp"
	"strings"
)

// A challenge is one challenge of a response (RFC 9110 section 11.6.1). It says what is wrong with
// the token or the proof that came with the request.
type challenge struct {
	scheme string            // in lower case
	params map[string]string // by their names in lower case
}

// challengesOf returns the challenges of a 401. A field can have several of them, and there can be
// several fields. What cannot be read ends the field.
func challengesOf(resp *http.Response) []challenge {
	if resp.StatusCode != http.StatusUnauthorized {
		return nil
	}
	var all []challenge
	for _, field := range resp.Header.Values("WWW-Authenticate") {
		all = append(all, parseChallenges(field)...)
	}
	return all
}

const tokenChar = "[!#$%&'*+.^_`|~0-9A-Za-z-]" // RFC 9110 section 5.6.2

var (
	challengeName = regexp.MustCompile(`^[ \t,]*(` + tokenChar + `+)`)

	// challengeValue is what makes a name that of a parameter. Without it, the name is a scheme.
	challengeValue = regexp.MustCompile(
		`^[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|(` + tokenChar + `+))`)

	// challengeToken68 is what a scheme such as Negotiate has in place of parameters.
	challengeToken68 = regexp.MustCompile(`^[ ]+[0-9A-Za-z._~+/-]+=*[ \t]*(?:,|$)`)

	quotedPair = regexp.MustCompile(`\\(.)`)
)

func parseChallenges(field string) []challenge {
	var all []challenge
	for {
		name := challengeName.FindStringSubmatch(field)
		if name == nil {
			return all
		}
		field = field[len(name[0]):]
		value := challengeValue.FindStringSubmatch(field)
		switch {
		case value == nil:
			all = append(all, challenge{strings.ToLower(name[1]), map[string]string{}})
			field = field[len(challengeToken68.FindString(field)):]
		case len(all) == 0:
			return nil // a parameter of nothing
		default:
			field = field[len(value[0]):]
			params, key := all[len(all)-1].params, strings.ToLower(name[1])
			if _, twice := params[key]; !twice {
				params[key] = quotedPair.ReplaceAllString(value[1], "$1") + value[2]
			}
		}
	}
}

// challenged reports whether a 401 has a challenge with one of these errors.
func challenged(resp *http.Response, errorCodes ...string) bool {
	for _, c := range challengesOf(resp) {
		for _, code := range errorCodes {
			if c.params["error"] == code {
				return true
			}
		}
	}
	return false
}
