package tokensession

import (
	"cmp"
	"fmt"
)

// WithKeyThumbprint says that the client has proved to have the key with this thumbprint (RFC 7638:
// 43 characters), and that the caller has checked the proof. At a login, and at the first refresh
// that says so, it binds the session to the key for good. From then on, each refresh needs the
// proof of that key: without it the error is an [ErrProofRequired], and with another key's it is an
// [ErrInvalidToken]. In neither case anything is consumed.
func WithKeyThumbprint(thumbprint string) SessionOption { return keyOption(thumbprint) }

// WithConfirmation binds the access token to the key with this thumbprint: cnf.jkt (RFC 9449
// section 6.1). It is no bearer token then: [Manager.Verify] refuses it, and [Manager.VerifyBound]
// takes it. It holds for this access token only. A DPoP client gets both, this and
// [WithKeyThumbprint]. An OAuth client with a secret gets this alone, because the secret binds its
// refresh tokens.
func WithConfirmation(thumbprint string) SessionOption { return confirmationOption(thumbprint) }

type keyOption string

func (k keyOption) applyStart(o *startOptions)     { o.proven = (*string)(&k) }
func (k keyOption) applyRefresh(o *refreshOptions) { o.proven = (*string)(&k) }
func (k keyOption) applyAuth(o *authOptions)       { o.proven = (*string)(&k) }

type confirmationOption string

func (c confirmationOption) applyStart(o *startOptions)     { o.confirmation = (*string)(&c) }
func (c confirmationOption) applyRefresh(o *refreshOptions) { o.confirmation = (*string)(&c) }
func (c confirmationOption) applyAuth(o *authOptions)       { o.confirmation = (*string)(&c) }

// checkKeys refuses a thumbprint that is none. An empty one is refused, too: it would bind nothing,
// and the caller believes that it does.
func (o refreshOptions) checkKeys() error {
	return cmp.Or(
		checkThumbprint("WithKeyThumbprint", o.proven),
		checkThumbprint("WithConfirmation", o.confirmation),
	)
}

func checkThumbprint(option string, thumbprint *string) error {
	if thumbprint == nil || isThumbprint(*thumbprint) {
		return nil
	}
	return fmt.Errorf("tokensession: %s %q: must be the thumbprint of a key by RFC 7638, "+
		"43 characters of base64url", option, *thumbprint)
}

// textOf returns what an option says, or "" if it was not given.
func textOf(option *string) string {
	if option == nil {
		return ""
	}
	return *option
}

// errBearer says why a token is refused that somebody presented alone. It is both an error that a
// handler without any knowledge of keys understands, and one that says what is missing.
var errBearer = fmt.Errorf("%w: %w", ErrInvalidToken, ErrProofRequired)

// confirm refuses a token for what the client has proved: the thumbprint of a key, or nothing.
func (t *verifiedToken) confirm(thumbprint string) error {
	switch {
	case t.access.KeyThumbprint == thumbprint:
		return nil
	case thumbprint == "":
		return errBearer
	case !t.bound:
		return invalid("bound to no key")
	}
	return invalid("bound to another key")
}
