package tokensession_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// requireInvalid presents strings that are no tokens of ours in every way there is. Nothing may
// come of it.
func (w *world) requireInvalid(id string, tokens ...string) {
	w.t.Helper()
	ctx := context.Background()
	w.unchanged(id, func() {
		for _, token := range tokens {
			got, err := w.m.Refresh(ctx, token)
			require.ErrorIs(w.t, err, tokensession.ErrInvalidToken, "Refresh(%q)", token)
			require.NotErrorIs(w.t, err, tokensession.ErrRevoked)
			require.Zero(w.t, got)
			if len(token) > 8 {
				require.NotContains(w.t, err.Error(), token, "the error quotes the token")
			}
			require.ErrorIs(w.t, w.m.RevokeToken(ctx, token), tokensession.ErrInvalidToken,
				"RevokeToken(%q)", token)
		}
	})
}

// tokenBytes and tokenOf take a token apart and put one together.
func tokenBytes(t testing.TB, token string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "tsr_"))
	require.NoError(t, err)
	require.Len(t, b, 48)
	return b
}

func tokenOf(b []byte) string { return "tsr_" + base64.RawURLEncoding.EncodeToString(b) }

// forge makes the token of a generation as one does who has another token of the session and its
// record.
func forge(t testing.TB, token string, key []byte, generation uint64) string {
	t.Helper()
	body := binary.BigEndian.AppendUint64(tokenBytes(t, token)[:16:16], generation)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tokensession refresh v1"))
	mac.Write(body)
	return tokenOf(append(body, mac.Sum(nil)[:24]...))
}

// R8: the session's id inside the token is authenticated, and so is the generation.
func TestRefresh_refusesATokenWithAnyBitFlipped(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	other := w.start()
	first := w.start()
	tokens := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
	raw := tokenBytes(t, tokens.RefreshToken)
	require.Equal(t, tokens.RefreshToken, tokenOf(raw))
	for bit := range len(raw) * 8 {
		flipped := bytes.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		w.requireInvalid(first.Session.ID, tokenOf(flipped))
	}
	for bit := range len(tokens.RefreshToken) * 8 { // of the text
		flipped := []byte(tokens.RefreshToken)
		flipped[bit/8] ^= 1 << (bit % 8)
		w.requireInvalid(first.Session.ID, string(flipped))
	}
	w.requireLive(tokens)
	w.requireLive(other)
}

// A token of one session with the handle, the generation or the MAC of another.
func TestRefresh_refusesATokenPutTogetherFromOthers(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	other := w.start()
	a, b, c := tokenBytes(t, first.RefreshToken), tokenBytes(t, second.RefreshToken),
		tokenBytes(t, other.RefreshToken)
	join := func(parts ...[]byte) string { return tokenOf(bytes.Join(parts, nil)) }
	w.requireInvalid(first.Session.ID,
		join(a[:16], b[16:24], a[24:]), join(b[:16], a[16:24], b[24:]), // the other's generation
		join(a[:16], a[16:24], c[24:]), join(c[:16], c[16:24], a[24:]), join(c[:16], a[16:]))
	w.requireLive(second)
	w.requireLive(other)
}

// ZITADEL CVE-2026-27840: truncated tokens were valid.
func TestRefresh_refusesEveryOtherFormOfAToken(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	token := tokens.RefreshToken
	var bad []string
	for i := range len(token) {
		bad = append(bad, token[:i], token[i+1:], token[:i]+token[i+1:], token[:i]+"A"+token[i:],
			token[:i]+"\n"+token[i:], token[:i]+"\x00"+token[i:])
		for _, changed := range []string{strings.ToUpper(token[i : i+1]), strings.ToLower(token[i : i+1]), "+", "/", "=", "é", " ", "\r", "\xff"} {
			if other := token[:i] + changed + token[i+1:]; other != token {
				bad = append(bad, other)
			}
		}
	}
	for _, stray := range []string{"=", "==", "\n", "\r\n", " ", ".", "A", "AA", "AAAA", "\x00", token} {
		bad = append(bad, token+stray, stray+token)
	}
	std := strings.NewReplacer("-", "+", "_", "/").Replace(token)
	bad = append(bad, strings.ToUpper(token), strings.ToLower(token), std,
		strings.TrimPrefix(token, "tsr_"), "Bearer "+token,
		"tsr_"+hex.EncodeToString(tokenBytes(t, token)),
		strings.Repeat("A", 68), "tsr_"+strings.Repeat("A", 64), "tsr_"+strings.Repeat("_", 64),
		strings.Repeat("tsr_", 17), strings.Repeat(token, 1000), "tsr_", "tsr", "", "null",
		"undefined", tokens.Session.ID)
	w.requireInvalid(tokens.Session.ID, bad...)
	require.ErrorIs(t, w.refreshError(tokens.AccessToken), tokensession.ErrInvalidToken)
	w.requireLive(tokens)
}

func TestRefresh_refusesTokensOfAnotherStore(t *testing.T) {
	w, foreign := newWorld(t, tokensession.Config{}), newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.requireInvalid(tokens.Session.ID, foreign.start().RefreshToken)
	w.requireLive(tokens)
}

func TestRefresh_asksTheStoreOnlyForWhatCanBeASession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	w.store.Always(testkit.Any, func(*testkit.Request) { t.Error("the store was asked") })
	for _, token := range []string{"", "tsr_", strings.Repeat("A", 68), "tsr_" + strings.Repeat("A", 63) + "="} {
		require.ErrorIs(t, w.refreshError(token), tokensession.ErrInvalidToken)
	}
	for _, id := range []string{"", "x", strings.Repeat("A", 21), strings.Repeat("A", 23), "AAAAAAAAAA\x00AAAAAAAAAAA", "AAAAAAAAAA\xffAAAAAAAAAAA", strings.Repeat("A", 1e6)} {
		require.ErrorIs(t, w.m.Revoke(context.Background(), id), tokensession.ErrNotFound, "%.30q",
			id)
	}
}

// R7: RFC 6749 section 10.4. Somebody has the whole store.
func TestRefreshToken_cannotBeMadeFromTheStore(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(tokensession.WithClient("app"),
		tokensession.WithAttributes(map[string]string{"device": "phone"}))
	tokens := w.refresh(first.RefreshToken, tokensession.WithClient("app"))
	rec := w.record(tokens.Session.ID)
	dump, err := rec.MarshalBinary()
	require.NoError(t, err)

	handle, mac := tokenBytes(t, tokens.RefreshToken)[:16], tokenBytes(t, tokens.RefreshToken)[24:]
	for what, secret := range map[string][]byte{"the token": []byte(tokens.RefreshToken),
		"its handle": handle, "its MAC": mac,
		"the consumed one's MAC": tokenBytes(t, first.RefreshToken)[24:], "the access token": []byte(tokens.AccessToken)} {
		for form, stored := range map[string][]byte{"as it is": secret,
			"hex":    []byte(hex.EncodeToString(secret)),
			"base64": []byte(base64.StdEncoding.EncodeToString(secret)), "base64url": []byte(base64.RawURLEncoding.EncodeToString(secret))} {
			require.False(t, bytes.Contains(dump, stored), "the store holds %s, %s", what, form)
		}
	}

	// What there is in the dump, in the place of what there is not.
	sessionID, err := base64.RawURLEncoding.DecodeString(rec.ID)
	require.NoError(t, err)
	writeID, err := base64.RawURLEncoding.DecodeString(rec.WriteID)
	require.NoError(t, err)
	token := tokenBytes(t, tokens.RefreshToken)
	for _, fakeHandle := range [][]byte{sessionID, writeID, rec.Key[:16], rec.Key[16:]} {
		for _, fakeMAC := range [][]byte{rec.Key[:24], rec.Key[8:], mac} {
			w.requireInvalid(rec.ID,
				tokenOf(bytes.Join([][]byte{fakeHandle, token[16:24], fakeMAC}, nil)))
		}
	}
	w.requireInvalid(rec.ID, rec.ID, rec.WriteID, string(rec.Key),
		"tsr_"+base64.RawURLEncoding.EncodeToString(dump[:48]))
	w.refresh(tokens.RefreshToken, tokensession.WithClient("app"))
}

func keyOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// Somebody has taken the key out of a session's record. Its tokens would all look forged, which
// ends a login. But that is no verdict: the record cannot be read.
func TestRefresh_ofARecordWithoutAKeyIsNoVerdict(t *testing.T) {
	w := newWorld(t, tokensession.Config{Remember: -1})
	tokens := w.start()
	rec := w.record(tokens.Session.ID)
	rec.Key = nil
	w.restore(rec)
	requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), tokensession.ErrUnreadable)
	err := w.m.RevokeToken(context.Background(), tokens.RefreshToken)
	requireUnavailableFor(t, err, tokensession.ErrUnreadable)
}

func TestRefreshKeys_changeInTwoSteps(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	instance := func(keys ...[]byte) *tokensession.Manager {
		return w.manager(w.memory, tokensession.Config{RefreshKeys: keys,
			MaxLifetime: tokensession.Unlimited}, w.events)
	}
	ctx := context.Background()
	steps := []*tokensession.Manager{instance(), instance(nil, keyOf(1)), instance(keyOf(1), nil), // to begin with
		instance(keyOf(1), keyOf(2), nil), instance(keyOf(2), keyOf(1), nil), instance(keyOf(2))}
	last := steps[len(steps)-1]
	tokens := w.start()
	var err error
	// neighbours run side by side, and each takes the other's tokens
	for i := range len(steps) - 1 {
		for _, m := range []*tokensession.Manager{steps[i], steps[i+1], steps[i], steps[i+1]} {
			tokens, err = m.Refresh(ctx, tokens.RefreshToken)
			require.NoError(t, err, "step %d", i)
		}
	}
	fresh, err := last.Start(ctx, "alice")
	require.NoError(t, err)
	for i, m := range []*tokensession.Manager{instance(keyOf(1)), instance(keyOf(3)), instance(keyOf(3), keyOf(1)), w.m} {
		_, err := m.Refresh(ctx, tokens.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken,
			"without the key it was made with: %d", i)
		require.ErrorIs(t, m.RevokeToken(ctx, fresh.RefreshToken), tokensession.ErrInvalidToken)
	}
	_, err = last.Refresh(ctx, tokens.RefreshToken)
	require.NoError(t, err)
	old := w.start()
	_, err = last.Refresh(ctx, old.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken,
		"made with the record's key alone, after that has ended")
}

// Who can write to the store and has a token knows the handle and the record's key, and cannot make
// another token.
func TestRefreshKeys_areNeededToMakeAToken(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	m := w.manager(w.memory, tokensession.Config{RefreshKeys: [][]byte{keyOf(1)}}, w.events)
	tokens, err := m.Start(context.Background(), "alice")
	require.NoError(t, err)
	forged, err := w.m.Refresh(context.Background(),
		forge(t, tokens.RefreshToken, w.record(tokens.Session.ID).Key, 5))
	require.NoError(t, err, "the forgery is right where there is no host key: %v", forged)
	_, err = m.Refresh(context.Background(),
		forge(t, tokens.RefreshToken, w.record(tokens.Session.ID).Key, 7))
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

// A host's key binds what no code changes of a record. Somebody who can write to the store and
// changes one of these has no token of the session any more, and ends nothing.
func TestRefreshKeys_bindWhoseSessionItIs(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(*tokensession.Record){
		"subject":           func(r *tokensession.Record) { r.Subject = "admin" },
		"client":            func(r *tokensession.Record) { r.ClientID = "" },
		"actor":             func(r *tokensession.Record) { r.Actor = "support" },
		"absolute end":      func(r *tokensession.Record) { r.MaxExpiresAt = r.MaxExpiresAt.Add(time.Hour) },
		"no absolute end":   func(r *tokensession.Record) { r.MaxExpiresAt = time.Time{} },
		"key":               func(r *tokensession.Record) { r.Key = append([]byte{1}, r.Key[1:]...) },
		"subject to client": func(r *tokensession.Record) { r.Subject, r.ClientID = r.Subject+"w", "eb" },
	} {
		for _, keys := range [][][]byte{nil, {keyOf(1)}} {
			w := newWorld(t, tokensession.Config{RefreshKeys: keys, Remember: -1})
			tokens := w.start(tokensession.WithClient("web"))
			rec := w.record(tokens.Session.ID)
			change(&rec)
			w.restore(rec)
			_, err := w.m.Refresh(ctx, tokens.RefreshToken, tokensession.WithClient(rec.ClientID))
			if keys == nil && name != "key" {
				require.NoError(t, err,
					"%s: without a key of the host's, whoever can write decides", name)
				continue
			}
			require.ErrorIs(t, err, tokensession.ErrInvalidToken, name)
			require.Equal(t, rec, w.record(rec.ID), "%s: a forgery changes nothing", name)
		}
	}
}

// Two applications have one store and, by mistake, one host's key. Somebody who can write to the
// store cannot move a session from one to the other.
func TestRefreshKeys_bindTheIssuer(t *testing.T) {
	access := accessConfig
	access.Issuer = "https://other.example"
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, access)
	require.NoError(t, err)
	for _, keys := range [][][]byte{nil, {keyOf(1)}} {
		w := newWorld(t, tokensession.Config{RefreshKeys: keys})
		tokens := w.start()
		rec := w.record(tokens.Session.ID)
		rec.Issuer = access.Issuer
		w.restore(rec)
		other := newManager(t, signer, w.memory,
			tokensession.Config{RefreshKeys: keys, Now: w.clock.Now})
		if _, err = other.Refresh(ctx, tokens.RefreshToken); keys == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		}
	}
}

// What a refresh or a step-up may change is not bound.
func TestRefreshKeys_bindNothingThatChanges(t *testing.T) {
	w := newWorld(t, tokensession.Config{RefreshKeys: [][]byte{keyOf(1)}})
	tokens := w.start()
	rec := w.record(tokens.Session.ID)
	rec.AuthTime, rec.AuthMethods, rec.AuthContext = rec.AuthTime.Add(time.Second), []string{"otp"}, "high"
	rec.Attributes = map[string]string{"device": "phone"}
	rec.Epoch, rec.OutdatedAt, rec.IdleTTL = 5, rec.CreatedAt, time.Hour
	w.restore(rec)
	w.refresh(tokens.RefreshToken)
}

// It needs neither a store nor a key, so it takes a forged token, too, and any token of the
// session.
func TestRefreshSessionID_readsWhatTheTokenSays(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	plain, bound := w.start(), w.start(withKey)
	next := w.refresh(plain.RefreshToken)
	forged := tokenBytes(t, plain.RefreshToken)
	forged[47] ^= 1
	for token, want := range map[string]string{
		plain.RefreshToken: plain.Session.ID,
		next.RefreshToken:  plain.Session.ID,
		bound.RefreshToken: bound.Session.ID,
		tokenOf(forged):    plain.Session.ID,
	} {
		id, err := tokensession.RefreshSessionID(token)
		require.NoError(t, err)
		require.Equal(t, want, id)
	}
	token := plain.RefreshToken
	for _, other := range []string{
		"", "tsr_", token[:67], token + "A", token[4:], token[:67] + "=", "TSR_" + token[4:],
		plain.AccessToken,
		token[:30] + "\n" + token[31:],
	} {
		id, err := tokensession.RefreshSessionID(other)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken, "%q", other)
		require.Empty(t, id)
		if len(other) > 8 {
			require.NotContains(t, err.Error(), other)
		}
	}
}
