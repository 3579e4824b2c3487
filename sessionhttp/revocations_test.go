package sessionhttp_test

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A told is an answer of the endpoint.
type told struct {
	Cursor    string `json:"cursor"`
	Snapshot  bool   `json:"snapshot"`
	AgeMS     int64  `json:"age_ms"`
	WaitedMS  int64  `json:"waited_ms"`
	AccessTTL int64  `json:"access_ttl_s"`
	Keep      int64  `json:"keep_s"`

	lines []string
	size  int // of the body on the wire
}

// ask asks an issuer for what is new since a cursor.
func ask(t testing.TB, authURL, cursor string, edit ...func(*http.Request)) (told, int) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		authURL+"/revocations?cursor="+url.QueryEscape(cursor), nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", secretOfFollowers)
	request.Header.Set("Accept-Encoding", "identity")
	for _, e := range edit {
		e(request)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	if response.StatusCode != http.StatusOK {
		return told{}, response.StatusCode
	}
	answer := told{size: len(body)}
	require.NoError(t, json.Unmarshal([]byte(response.Header.Get("Denials")), &answer))
	if response.Header.Get("Content-Encoding") == "gzip" {
		r, err := gzip.NewReader(strings.NewReader(string(body)))
		require.NoError(t, err)
		body, err = io.ReadAll(r)
		require.NoError(t, err)
	}
	answer.lines = strings.Split(string(body), "\n")
	require.Equal(t, []string{"end", ""}, answer.lines[len(answer.lines)-2:])
	answer.lines = answer.lines[:len(answer.lines)-2]
	return answer, http.StatusOK
}

func TestRevocations_onlyForFollowers(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	r := s.do(httptest.NewRequest(http.MethodGet, "/auth/revocations", nil))
	require.Equal(t, http.StatusNotFound, r.StatusCode, "nobody may")

	s = newSite(t, sessionhttp.Config{MayFollow: func(r *http.Request) bool {
		return r.Header.Get("X-Service") == "api"
	}})
	r = s.do(httptest.NewRequest(http.MethodGet, "/auth/revocations", nil))
	requireError(t, r, http.StatusUnauthorized, "invalid_token")
	for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodDelete} {
		request := httptest.NewRequest(method, "/auth/revocations", nil)
		request.Header.Set("X-Service", "api")
		r = s.do(request)
		require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)
		require.Equal(t, "GET", r.Header.Get("Allow"))
	}
	request := httptest.NewRequest(http.MethodGet, "/auth/revocations", nil)
	request.Header.Set("X-Service", "api")
	r = s.do(request)
	require.Equal(t, "1", r.Header.Get("Retry-After"))
	requireError(t, r, http.StatusServiceUnavailable, "temporarily_unavailable")
}

func TestRevocations_snapshotAndThenWhatIsNew(t *testing.T) {
	i := newIssuer(t)
	i.up()
	first := i.start()
	require.NoError(t, i.m.Revoke(ctx, first.Session.ID))
	all, _ := ask(t, i.url, "")
	require.True(t, all.Snapshot)
	require.Equal(t, []string{fmt.Sprintf("%s %d", first.Session.ID, ceil(time.Now()))}, all.lines)
	require.Equal(t, int64(900), all.AccessTTL)
	require.Equal(t, int64(900+10+60), all.Keep)
	require.Less(t, all.AgeMS, int64(15_000))

	second := i.start()
	began := time.Now()
	time.AfterFunc(50*time.Millisecond, func() { _ = i.m.Revoke(context.Background(), second.Session.ID) })
	news, _ := ask(t, i.url, all.Cursor)
	require.False(t, news.Snapshot)
	require.Len(t, news.lines, 1)
	require.True(t, strings.HasPrefix(news.lines[0], second.Session.ID+" "))
	require.Less(t, time.Since(began), 5*time.Second, "it waits for news, and no longer")
	require.GreaterOrEqual(t, news.WaitedMS, int64(40))
	again, _ := ask(t, i.url, all.Cursor)
	require.Equal(t, news.lines, again.lines, "an answer that was lost is given again")

	// Another instance goes by the cursor's time.
	old := i.start()
	require.NoError(t, i.m.Revoke(ctx, old.Session.ID))
	i.up()
	elsewhere, _ := ask(t, i.url, news.Cursor)
	require.False(t, elsewhere.Snapshot)
	require.Contains(t, strings.Join(elsewhere.lines, "\n"), old.Session.ID)
}

func ceil(t time.Time) int64 { return (t.UnixMilli() + 999) / 1000 }

func TestRevocations_refusesForeignCursors(t *testing.T) {
	i := newIssuer(t)
	i.up()
	require.NoError(t, i.m.Revoke(ctx, i.start().Session.ID))
	all, _ := ask(t, i.url, "")
	for _, cursor := range []string{
		"x", "AQ", all.Cursor + "A", all.Cursor[1:], all.Cursor[:len(all.Cursor)-1], "=" + all.Cursor,
		all.Cursor + "\n", strings.Repeat("A", 1<<16), "B" + all.Cursor[1:], "../../etc/passwd", "\x00",
		"AYAAAAAAAAAA", "AYAAAAAAAAAB", "Af__________", // times before 1970
	} {
		_, status := ask(t, i.url, cursor)
		require.Equal(t, http.StatusBadRequest, status, "%.40q", cursor)
	}
	// Some in the right form, with times and numbers that no instance has given.
	for _, cursor := range []string{
		"AX__________" + all.Cursor[12:], "AQAAAAAAAAAA",
		all.Cursor[:len(all.Cursor)-6] + "AAAAAA", all.Cursor[:len(all.Cursor)-8] + "_______w",
	} {
		answer, status := ask(t, i.url, cursor)
		require.Equal(t, http.StatusOK, status, cursor)
		require.True(t, answer.Snapshot || len(answer.lines) > 0, cursor)
	}
}

// The host's timeouts are for requests that are answered at once.
func TestRevocations_outlivesTheTimeoutsOfTheServer(t *testing.T) {
	i := newIssuer(t)
	i.up()
	server := httptest.NewUnstartedServer(*i.handler.Load())
	server.Config.ReadTimeout = 200 * time.Millisecond
	server.Config.WriteTimeout = 200 * time.Millisecond
	server.Start()
	defer server.Close()
	all, _ := ask(t, server.URL+"/auth", "")
	tokens := i.start()
	time.AfterFunc(time.Second, func() { _ = i.m.Revoke(context.Background(), tokens.Session.ID) })
	news, _ := ask(t, server.URL+"/auth", all.Cursor)
	require.Len(t, news.lines, 1)
	require.GreaterOrEqual(t, news.WaitedMS, int64(900))
}

func TestRevocations_isCompact(t *testing.T) {
	const n = 10_000
	i := newIssuer(t)
	for k := range n {
		require.NoError(t, i.store.Create(ctx, revokedRecord(k)))
	}
	i.up()
	plain, _ := ask(t, i.url, "")
	require.Len(t, plain.lines, n)
	require.LessOrEqual(t, plain.size, 40*n, "bytes on the wire")
	packed, _ := ask(t, i.url, "", func(r *http.Request) {
		r.Header.Set("Accept-Encoding", "br, gzip")
	})
	require.Equal(t, len(plain.lines), len(packed.lines))
	require.LessOrEqual(t, packed.size, 25*n, "bytes on the wire, compressed")
	t.Logf("%.1f bytes an entry, %.1f compressed", float64(plain.size)/n, float64(packed.size)/n)
}

func revokedRecord(k int) tokensession.Record {
	now := time.Now().Add(-time.Duration(k) * 50 * time.Millisecond).UTC()
	return tokensession.Record{
		ID: idOf(k), Version: 2, WriteID: idOf(k + 1e9), Issuer: "https://auth.example",
		Subject: "alice", Key: make([]byte, 32), AuthTime: now, CreatedAt: now, RotatedAt: now,
		IdleTTL: 24 * time.Hour, ExpiresAt: now.Add(24 * time.Hour), RevokedAt: now,
		RevokeReason: tokensession.ReasonLogout,
	}
}

// Several instances behind a load balancer that takes turns: a follower is given each revocation
// once by each, waits in between, and never gets everything again.
func TestRevocations_behindARoundRobin(t *testing.T) {
	i := newIssuer(t)
	i.up()
	var handlers [3]http.Handler
	for n := range handlers {
		_, handlers[n] = i.instance()
	}
	var turn atomic.Int64
	i.serves(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers[turn.Add(1)%3].ServeHTTP(w, r)
	}))
	for range 100 {
		require.NoError(t, i.m.Revoke(ctx, i.start().Session.ID))
	}
	time.Sleep(100 * time.Millisecond) // until all three know, for the count below
	answer, _ := ask(t, i.url, "")
	require.Len(t, answer.lines, 100)
	for range 2 { // the other two do not know what the first one has told
		answer, _ = ask(t, i.url, answer.Cursor)
		require.False(t, answer.Snapshot)
	}
	for range 10 {
		tokens := i.start()
		time.AfterFunc(20*time.Millisecond, func() {
			_ = i.m.Revoke(context.Background(), tokens.Session.ID)
		})
		seen := 0
		for range 3 {
			answer, _ = ask(t, i.url, answer.Cursor)
			require.False(t, answer.Snapshot)
			for _, line := range answer.lines {
				require.True(t, strings.HasPrefix(line, tokens.Session.ID), "%v", answer.lines)
				seen++
			}
		}
		require.Equal(t, 3, seen)
	}

	remote := newRemote(t, i.url, remoteConfig())
	eventually(t, "healthy", isHealthy(remote))
	before := i.count("revocations")
	for range 10 {
		tokens := i.start()
		require.NoError(t, i.m.Revoke(ctx, tokens.Session.ID))
		eventually(t, "refused", refuses(remote, tokens))
	}
	require.Less(t, i.count("revocations")-before, int64(60), "a follower that asks and asks")
}

// idOf returns the n-th of many session ids.
func idOf(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
