package sessionhttp

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// requestURLs returns the URLs by which a client can have made this request, without query. There
// are two where TLS may end at a proxy in front: there, a request looks the same for both.
//
// The path is that of the request line. [http.StripPrefix] and routers change the one in r.URL.
// X-Forwarded-Host and the like are never read: who sends the request can send those, too. A proxy
// that changes the path or the host is what RequestURL is for.
func (p *Proofs) requestURLs(r *http.Request) []string {
	if p.requestURL != nil {
		return []string{p.requestURL(r)}
	}
	path, ok := requestPath(r)
	if !ok || strings.ContainsAny(r.Host, "/?#@\\") {
		return nil
	}
	urls := []string{"https://" + r.Host + path, "http://" + r.Host + path}
	if r.TLS != nil {
		return urls[:1]
	}
	return urls
}

// requestPath returns the path of the request line, as it was sent. A "#" would be a part of it,
// because a request line has no fragment: but in a URL it would not.
func requestPath(r *http.Request) (path string, ok bool) {
	path = r.RequestURI
	if path == "" { // a request that no server has read
		path = r.URL.EscapedPath()
	}
	path, _, _ = strings.Cut(path, "?")
	if _, rest, ok := strings.Cut(path, "://"); ok && path[0] != '/' { // as sent to a proxy
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			return "/", true
		}
		path = rest[slash:]
	}
	if path == "" {
		path = "/"
	}
	return path, path[0] == '/' && strings.IndexByte(path, '#') < 0
}

// isURLOf reports whether an htu is one of these URLs.
func isURLOf(htu string, urls []string) bool {
	htu, ok := normalURL(htu)
	return ok && slices.ContainsFunc(urls, func(u string) bool {
		normal, ok := normalURL(u)
		return ok && normal == htu
	})
}

// normalURL brings an http or https URL into its normal form without query and fragment (RFC 9449
// section 4.3 asks for RFC 3986 section 6.2.2 and 6.2.3). It does not resolve "..": no client of an
// API sends that, and servers differ in what they make of it. So the path is compared as it is
// routed. ok is false where it is no such URL, or has a user in it.
func normalURL(s string) (normal string, ok bool) {
	scheme, rest, ok := strings.Cut(withoutQuery(s), "://")
	scheme = asciiLower(scheme)
	if !ok || scheme != "https" && scheme != "http" {
		return "", false
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	authority = withoutDefaultPort(scheme, asciiLower(authority))
	if authority == "" || strings.ContainsAny(authority, "@\\") {
		return "", false
	}
	if path == "" {
		path = "/"
	}
	path, ok = normalEscapes(path)
	return scheme + "://" + authority + path, ok
}

// urlForLog quotes an htu without what may be a secret: the query, and the password of a user.
// Where it is no URL at all, nobody knows what is in it.
func urlForLog(htu string) string {
	if _, ok := normalURL(htu); !ok {
		return "no http URL, or one with a user"
	}
	return strconv.Quote(withoutQuery(htu))
}

// withoutQuery returns a URL without its query and its fragment, which may have secrets in them.
func withoutQuery(url string) string {
	if i := strings.IndexAny(url, "?#"); i >= 0 {
		return url[:i]
	}
	return url
}

func withoutDefaultPort(scheme, authority string) string {
	authority = strings.TrimSuffix(authority, ":") // an empty port is no port
	if scheme == "https" {
		return strings.TrimSuffix(authority, ":443")
	}
	return strings.TrimSuffix(authority, ":80")
}

// normalEscapes decodes what need not be escaped, and writes the other escapes in upper case. ok is
// false if there is a percent sign without two hexadecimal digits behind it.
func normalEscapes(path string) (normal string, ok bool) {
	if strings.IndexByte(path, '%') < 0 {
		return path, true
	}
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b = append(b, path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", false
		}
		high, low := unhex(path[i+1]), unhex(path[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		if c := byte(high<<4 | low); isUnreserved(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[high], "0123456789ABCDEF"[low])
		}
		i += 2
	}
	return string(b), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// isUnreserved reports characters that mean the same with and without an escape (RFC 3986 section
// 2.3).
func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// asciiLower leaves all but ASCII alone: U+212A, the Kelvin sign, is no k in the name of a host.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}
