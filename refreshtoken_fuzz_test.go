package tokensession

import (
	"strings"
	"testing"
)

// What is parsed has one form only, and what is authentic was made by us.
func FuzzParseRefreshToken(f *testing.F) {
	key, h := []byte("a key of thirty-two bytes or more"), handle{1, 2, 3}
	thumbprint := strings.Repeat("A", 43)
	for _, generation := range []uint64{0, 1, 1 << 40, 1<<64 - 1} {
		token := newRefreshToken(key, h, generation, "")
		f.Add(token)
		f.Add(newRefreshToken(key, h, generation, thumbprint))
		f.Add(token[:len(token)-1])
		f.Add(token + "=")
		f.Add(strings.ToLower(token))
		f.Add(token[:20] + "\n" + token[21:])
	}
	f.Add("")
	f.Add(refreshPrefix)
	f.Fuzz(func(t *testing.T, s string) {
		token, ok := parseRefreshToken(s)
		if !ok {
			return
		}
		if again := formatRefreshToken(token); again != s {
			t.Errorf("%q is read as %q", s, again)
		}
		for _, holder := range []string{"", thumbprint} {
			madeFor, ok := token.madeFor([][]byte{key}, holder)
			made := newRefreshToken(key, token.handle, token.generation, holder)
			if ok != (s == made) || madeFor != "" && madeFor != holder {
				t.Errorf("%q is taken for a token of the key %q: %t, and that is %q", s, holder, ok, made)
			}
		}
	})
}

// formatRefreshToken writes a token's parts in base64url, bit by bit: not with what parses it.
func formatRefreshToken(token refreshToken) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var parts []byte
	parts = append(parts, token.handle[:]...)
	for shift := 56; shift >= 0; shift -= 8 {
		parts = append(parts, byte(token.generation>>shift))
	}
	parts = append(parts, token.mac[:]...)
	var s strings.Builder
	s.WriteString("tsr_")
	for bit := 0; bit < len(parts)*8; bit += 6 {
		var six byte
		for i := bit; i < bit+6; i++ {
			six = six<<1 | parts[i/8]>>(7-i%8)&1
		}
		s.WriteByte(alphabet[six])
	}
	return s.String()
}

// R6: RFC 6749 section 10.10 asks for 128 bits at least and for 160.
func TestRandom_neverRepeats(t *testing.T) {
	const samples = 1_000_000
	seen := make(map[handle]struct{}, samples)
	for range samples {
		h := newHandle()
		if _, twice := seen[h]; twice {
			t.Fatalf("handle %x came twice", h)
		}
		seen[h] = struct{}{}
	}
	const guessed = 8 * (handleSize + macSize) // who guesses has to find a handle and its MAC
	if guessed < 160 || len(newRefreshToken(nil, handle{}, 0, "")) != refreshSize || refreshSize != 68 {
		t.Errorf("%d bits in %d characters", guessed, refreshSize)
	}
	if len(randomID()) != 22 || len(randomBytes(32)) != 32 {
		t.Error("a random id or key is too short")
	}
}

// A byte that is the same in a thousand handles is no random one.
func TestRandom_fillsEveryByte(t *testing.T) {
	for name, next := range map[string]func() []byte{
		"handle":   func() []byte { h := newHandle(); return h[:] },
		"key":      func() []byte { return randomBytes(32) },
		"randomID": func() []byte { return []byte(randomID()) },
	} {
		first, differs := next(), map[int]bool{}
		for range 1000 {
			for i, b := range next() {
				if b != first[i] {
					differs[i] = true
				}
			}
		}
		if len(differs) != len(first) {
			t.Errorf("%s: %d of %d bytes are random", name, len(differs), len(first))
		}
	}
}
