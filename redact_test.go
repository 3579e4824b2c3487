package tokensession_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// secretOf returns the part of a key that nobody may see.
func secretOf(k testKey) []byte {
	switch private := k.private.(type) {
	case ed25519.PrivateKey:
		return private.Seed()
	case *ecdsa.PrivateKey:
		return mustGet(private.Bytes())
	case *rsa.PrivateKey:
		return private.D.Bytes()
	default:
		return k.secret
	}
}

// spellings are the ways in which fmt and encoding/json write bytes, of which a stretch is enough
// to give them away.
func spellings(secret []byte) []string {
	piece := secret[8:20]
	list := strings.Trim(fmt.Sprint(piece), "[]")
	return []string{
		string(piece), hex.EncodeToString(piece), strings.ToUpper(hex.EncodeToString(piece)), list, strings.ReplaceAll(list, " ", ", "),
		strings.Trim(fmt.Sprintf("%#v", piece), "[]byte{}"), b64(secret)[12:24], strings.NewReplacer("-", "+", "_", "/").Replace(b64(secret)[12:24]),
	}
}

// prints writes a value in every way that a careless line of a program does.
func prints(v any) map[string]string {
	all := map[string]string{}
	for _, verb := range "vsdqxXtTpbcoUeEfFgGwO" {
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "100.3", "+#"} {
			format := "%" + flags + string(verb)
			all[format] = fmt.Sprintf(format, v)
		}
	}
	all["Sprint"], all["Sprintln"], all["error"] = fmt.Sprint(v), fmt.Sprintln(v), fmt.Errorf("x: %v", v).Error()
	for name, handler := range map[string]func(b *bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).Info("x", "v", v, slog.Group("g", "v", v), "s", fmt.Sprint(v))
		all[name] = b.String()
	}
	return all
}

// wrapped puts a value where programs keep it. Unexported fields are the hard case: fmt cannot call
// methods on them.
func wrapped[T any](v T) map[string]any {
	type exported struct{ V T }
	type unexported struct{ v T }
	return map[string]any{
		"itself": v, "pointer": &v, "in a struct": exported{v}, "in a struct, unexported": unexported{v}, "in a pointer to a struct": &exported{v},
		"in a pointer to a struct, unexported": &unexported{v}, "in a slice": []T{v}, "in a map": map[string]T{"k": v}, "in an interface": []any{v},
		"deep inside": struct{ s []unexported }{[]unexported{{v}}},
	}
}

func requireHidden(t *testing.T, what string, forms map[string]any, secrets ...[]byte) {
	t.Helper()
	for where, v := range forms {
		for how, printed := range prints(v) {
			for _, secret := range secrets {
				for _, spelling := range spellings(secret) {
					require.NotContains(t, printed, spelling, "%s %s by %s", what, where, how)
				}
			}
		}
	}
}

func TestKey_neverPrintsItsSecret(t *testing.T) {
	for _, k := range testKeys() {
		requireHidden(t, k.alg, wrapped(k.key), secretOf(k))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
			require.Equal(t, "tokensession.Key{"+k.alg+" "+k.key.ID()+"}", fmt.Sprintf(verb, k.key), "but says what it is")
		}
		b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
		requireHidden(t, k.alg+" signer", wrapped(b.signer), secretOf(k))
		requireHidden(t, k.alg+" manager", map[string]any{"itself": b.manager}, secretOf(k))
	}
	require.NotPanics(t, func() { prints(tokensession.Key{}) }, "the zero value")
}

// fieldsShow reports whether exported fields are printed for lack of a method call: fmt makes none
// on what is in an unexported field, nor after %p and %w, which are mistakes that go vet finds;
// encoding/json writes fields.
func fieldsShow(where, how string) bool {
	return strings.Contains(where, "unexported") || strings.HasPrefix(where, "deep") || strings.HasSuffix(how, "p") || strings.HasSuffix(how, "w") ||
		how == "slog JSON" && where != "itself" && where != "pointer"
}

func TestTokens_printWithoutTokens(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	tokens := b.start(t)
	for where, v := range wrapped(tokens) {
		for how, printed := range prints(v) {
			if fieldsShow(where, how) {
				continue
			}
			for _, secret := range []string{tokens.AccessToken, tokens.RefreshToken} {
				for _, piece := range []string{secret, secret[len(secret)-20:], hex.EncodeToString([]byte(secret))[40:80], strings.ToUpper(hex.EncodeToString([]byte(secret)))[40:80]} {
					require.NotContains(t, printed, piece, "%s by %s", where, how)
				}
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		require.Equal(t, tokens.String(), fmt.Sprintf(verb, tokens), "%s says whose they are", verb)
	}
	require.Contains(t, tokens.String(), tokens.Session.ID)
}

func TestRecord_keyIsNotPrintedFromWithinOthers(t *testing.T) {
	store := tokensession.NewMemoryStore()
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	m, err := tokensession.New(b.signer, store, tokensession.Config{Now: b.clock.Now})
	require.NoError(t, err)
	tokens, err := m.Start(context.Background(), "alice")
	require.NoError(t, err)
	rec, err := store.Load(context.Background(), tokens.Session.ID)
	require.NoError(t, err)
	require.Len(t, rec.Key, 32)
	for where, v := range wrapped(rec) {
		for how, printed := range prints(v) {
			if fieldsShow(where, how) {
				continue
			}
			for _, spelling := range spellings(rec.Key) {
				require.NotContains(t, printed, spelling, "%s by %s", where, how)
			}
		}
	}
}

func TestConfig_neverPrintsItsRefreshKeys(t *testing.T) {
	secret := []byte("a-refresh-key-of-the-host-00000000")
	cfg := tokensession.Config{RefreshKeys: [][]byte{secret}}
	for where, v := range wrapped(cfg) {
		for how, printed := range prints(v) {
			if fieldsShow(where, how) {
				continue
			}
			for _, spelling := range spellings(secret) {
				require.NotContains(t, printed, spelling, "%s by %s", where, how)
			}
		}
	}
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, cfg)
	requireHidden(t, "manager", map[string]any{"itself": b.manager}, secret)
}
