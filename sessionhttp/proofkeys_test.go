package sessionhttp_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestNew_refusesShortProofKeys(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	long, short := make([]byte, 32), make([]byte, 31)
	_, err := sessionhttp.New(s.m, sessionhttp.Config{ProofKeys: [][]byte{long, make([]byte, 64)}})
	require.NoError(t, err)
	_, err = sessionhttp.New(s.m, sessionhttp.Config{ProofKeys: [][]byte{long, short}})
	require.EqualError(t, err, "sessionhttp: Config.ProofKeys[1] of 31 bytes: cannot be shorter than 32")
	_, err = sessionhttp.New(s.m, sessionhttp.Config{ProofKeys: [][]byte{nil}})
	require.EqualError(t, err, "sessionhttp: Config.ProofKeys[0] of 0 bytes: cannot be shorter than 32")
}

// requireUnprinted requires that no careless line of a program prints a secret.
func requireUnprinted(t *testing.T, v any, secret []byte) {
	t.Helper()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o"} {
		fmt.Fprintf(&log, verb+"\n", v)
	}
	piece := secret[:8]
	for _, spelling := range []string{
		string(piece), hex.EncodeToString(piece), strings.ToUpper(hex.EncodeToString(piece)),
		strings.Trim(fmt.Sprint(piece), "[]"), strings.Trim(fmt.Sprintf("%#v", piece), "[]byte{}"),
	} {
		require.NotContains(t, log.String(), spelling)
	}
}

func TestProofKeys_areNeverPrinted(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	secret := []byte("a secret of more than 32 bytes, which nobody may see")
	cfg := sessionhttp.Config{Cookies: true, ProofKeys: [][]byte{secret}}
	requireUnprinted(t, cfg, secret)
	requireUnprinted(t, &cfg, secret)
	requireUnprinted(t, []sessionhttp.Config{cfg}, secret)
	require.Contains(t, fmt.Sprint(cfg), "ProofKeys:1 REDACTED")

	h, err := sessionhttp.New(s.m, cfg)
	require.NoError(t, err)
	var all strings.Builder
	fmt.Fprintf(&all, "%v %+v %#v", h, h, h)
	for _, spelling := range []string{"a secret", strings.Trim(fmt.Sprint(secret[:8]), "[]")} {
		require.NotContains(t, all.String(), spelling)
	}
}
