package tokensession

import "errors"

// kinds are the labels of errors. Of two that an error can have, the one that says more is first.
var kinds = []struct {
	err  error
	kind string
}{
	{ErrUnavailable, "unavailable"},
	{ErrReused, "reused"},
	{ErrRevoked, "revoked"},
	{ErrOutdated, "outdated"},
	{ErrExpired, "expired"},
	{ErrUnknownKey, "unknown_key"},
	{ErrProofRequired, "proof_required"},
	{ErrInvalidToken, "invalid_token"},
	{ErrDenied, "denied"},
	{ErrInvalidScope, "invalid_scope"},
	{ErrAttributes, "attributes"},
	{ErrNotFound, "not_found"},
	{ErrNoClaim, "no_claim"},
	{ErrExists, "exists"},
	{ErrConflict, "conflict"},
	{ErrUnreadable, "unreadable"},
}

// Kind returns a label for an error, for a log or a metric. It stays the same in later versions. It
// is "" for nil and "other" for an error that is none of this package's:
//
//	invalid_token unknown_key expired outdated revoked reused denied proof_required invalid_scope
//	attributes unavailable not_found no_claim exists conflict unreadable other
func Kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return "other"
}
