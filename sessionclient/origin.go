package sessionclient

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
)

// originOf returns a URL's scheme, host and port in one form, whether or not the URL names the
// port. It returns "" for a scheme other than http and https.
func originOf(u *url.URL) string {
	if u == nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return ""
	case port == "" && u.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	return u.Scheme + "://" + asciiLower(u.Hostname()) + " " + port
}

// asciiLower lowers only A to Z. strings.ToLower would make a k of the Kelvin sign, and a host of
// another name would look like ours.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// parseURL refuses URLs to which no token may be sent. Its errors show no user information, because
// that may contain a password.
func (c Config) parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.User != nil:
		return nil, errors.New("has user information")
	case originOf(u) == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q: must begin with https:// and a host", text)
	case u.Fragment != "":
		return nil, fmt.Errorf("%q: has a fragment", text)
	case u.Scheme == "http" && !c.InsecureAllowPlainHTTP && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf(
			"%q: plain http needs InsecureAllowPlainHTTP, except to a loopback address", text)
	}
	return u, nil
}

func isLoopback(host string) bool {
	if asciiLower(host) == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
