//go:build browser

package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A browser keeps some 180 cookies of a site, whose hosts may set them for each other. So a sibling
// domain can push our cookies out, and set a refresh cookie of its own. That is a logout. It must
// not be a login as somebody else, neither then nor beside the user's next login.
func TestSiblingDomain_swapsNoSession(t *testing.T) {
	t.Parallel()
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := sessionhttp.New(m, sessionhttp.Config{Cookies: true})
	if err != nil {
		t.Fatal(err)
	}
	app := http.NewServeMux()
	h.Mount(app)
	blank := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<link rel="icon" href="data:,">`)
	}
	app.HandleFunc("GET /{$}", blank)
	app.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.Login(w, r, "alice"); err != nil {
			http.Error(w, err.Error(), sessionhttp.Status(err))
		}
	})
	mallory, err := m.Start(t.Context(), "mallory")
	if err != nil {
		t.Fatal(err)
	}
	// Names below localhost are this machine. The last two labels are the site.
	const site, ours, theirs = "site.localhost", "app.site.localhost", "evil.site.localhost"
	sets := func(w http.ResponseWriter, name, value, path string) {
		w.Header().Add("Set-Cookie", name+"="+value+"; Domain="+site+"; Path="+path+"; Secure; Max-Age=86400")
	}
	evil := http.NewServeMux()
	evil.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		for n := range 178 {
			sets(w, fmt.Sprint("n", n), "x", "/")
		}
		sets(w, "__Secure-refresh", mallory.RefreshToken, "/auth")
		blank(w, r)
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, theirs) {
			evil.ServeHTTP(w, r)
			return
		}
		app.ServeHTTP(w, r)
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	at := func(host string) string { return "http://" + host + ":" + port + "/" }

	b := newBrowser(t)
	page := b.open(at(ours))
	if status, _ := page.post("/login"); status != http.StatusOK {
		t.Fatalf("the login: %d", status)
	}
	if status, who := page.post("/auth/token"); status != http.StatusOK || who != "alice" {
		t.Fatalf("a refresh before all that: %d, %q", status, who)
	}
	page.run(chromedp.Navigate(at(theirs)))
	if n := b.kept("__Host-access"); n != 0 {
		t.Fatal("this browser keeps more cookies of a site: set more")
	}
	if n := b.kept("__Secure-refresh"); n != 1 {
		t.Fatalf("there are %d refresh cookies, want the sibling's", n)
	}
	page.run(chromedp.Navigate(at(ours)))
	if status, who := page.post("/auth/token"); status != http.StatusBadRequest || who != "" {
		t.Errorf("with the sibling's cookie alone: %d, %q", status, who)
	}
	if status, _ := page.post("/login"); status != http.StatusOK {
		t.Errorf("the login after that: %d", status)
	}
	if n := b.kept("__Secure-refresh"); n != 2 {
		t.Fatalf("there are %d refresh cookies, want the sibling's and alice's", n)
	}
	if status, who := page.post("/auth/token"); status != http.StatusOK || who != "alice" {
		t.Errorf("with both: %d, %q", status, who)
	}
	if status, _ := page.post("/auth/logout"); status != http.StatusOK {
		t.Errorf("the logout: %d", status)
	}
	if sessions, err := m.Sessions(t.Context(), "alice"); err != nil || len(sessions) != 1 {
		t.Errorf("alice has %d sessions (%v), want the one that was pushed out", len(sessions), err)
	}
}

// post sends an empty POST, and returns the status and the subject that the answer names.
func (tab *tab) post(path string) (status int, subject string) {
	tab.t.Helper()
	answer, err := tab.tryJS(fmt.Sprintf(`fetch(%q, { method: "POST" }).then(async (response) =>
		({ status: response.status, subject: (await response.json().catch(() => ({}))).subject ?? "" }))`, path))
	if err != nil {
		tab.t.Fatalf("POST %s: %v", path, err)
	}
	members := answer.(map[string]any)
	return int(members["status"].(float64)), members["subject"].(string)
}

// kept returns how many cookies of the name the browser has, of whatever host.
func (b *browser) kept(name string) int {
	b.t.Helper()
	list, err := storage.GetCookies().WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
	n := 0
	for _, c := range list {
		if c.Name == name {
			n++
		}
	}
	return n
}
