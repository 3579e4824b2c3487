//go:build browser

package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A firefox is a process of Firefox, driven by WebDriver BiDi: JSON over a WebSocket, see
// https://w3c.github.io/webdriver-bidi/. All tests share one, which the first of them starts. Each
// has its own cookies in it.
type firefox struct {
	conn io.ReadWriteCloser

	mu      sync.Mutex // of what is below, and of writing
	calls   int
	waiting map[int]chan foxReply
	gone    error                  // why it answers no more
	tabs    map[string]*firefoxTab // by the id of their context
}

type foxReply struct {
	ID      int             `json:"id"`
	Type    string          `json:"type"` // "success", "error" or "event"
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

// What Firefox is told before it starts. All names are this machine, and it calls nobody.
const firefoxPrefs = `
user_pref("network.dns.forceResolve", "127.0.0.1");
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("app.update.auto", false);
user_pref("app.normandy.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.safebrowsing.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("services.settings.server", "data:,#remote-settings-dummy/v1");
user_pref("toolkit.telemetry.server", "");
`

var (
	startFirefoxOnce = sync.OnceValues(startFirefox)
	stopFirefox      = func() {} // of TestMain
)

var listening = regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)

func startFirefox() (*firefox, error) {
	path, err := find("install-firefox.sh", "TOKENSESSION_TEST_FIREFOX", "firefox-esr", "firefox")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tokensession-firefox-")
	if err != nil {
		return nil, err
	}
	stopFirefox = func() { os.RemoveAll(dir) }
	if err := os.WriteFile(filepath.Join(dir, "user.js"), []byte(firefoxPrefs), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "--headless", "--no-remote", "--profile", dir,
		"--remote-debugging-port", "0")
	cmd.Env = append(os.Environ(), "HOME="+dir, "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.SysProcAttr = dieWithParent()
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the process dies with the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	stopFirefox = func() {
		_ = cmd.Process.Kill()
		<-exited
		os.RemoveAll(dir)
	}
	url := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if found := listening.FindStringSubmatch(lines.Text()); found != nil {
				url <- found[1]
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // it talks on
	}()
	select {
	case at := <-url:
		return dialFirefox(at + "/session")
	case <-exited:
		return nil, fmt.Errorf("%s has ended at once", path)
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("%s does not start", path)
	}
}

func dialFirefox(url string) (*firefox, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, early, _, err := ws.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	f := &firefox{conn: conn, waiting: map[int]chan foxReply{}, tabs: map[string]*firefoxTab{}}
	if early != nil { // what came with the handshake
		f.conn = struct {
			io.Reader
			io.Writer
			io.Closer
		}{early, conn, conn}
	}
	go f.listen()
	capabilities := map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}
	if _, err := f.call("session.new", map[string]any{"capabilities": capabilities}); err != nil {
		return nil, err
	}
	_, err = f.call("session.subscribe", map[string]any{"events": []string{"log.entryAdded"}})
	return f, err
}

// listen hands out what Firefox says.
func (f *firefox) listen() {
	for {
		message, err := wsutil.ReadServerText(f.conn)
		var reply foxReply
		if err == nil {
			err = json.Unmarshal(message, &reply)
		}
		f.mu.Lock()
		if err != nil {
			f.gone = fmt.Errorf("firefox is gone: %w", err)
			for id, c := range f.waiting {
				close(c)
				delete(f.waiting, id)
			}
			f.mu.Unlock()
			return
		}
		if reply.Method == "log.entryAdded" {
			f.note(reply.Params)
		} else if c := f.waiting[reply.ID]; c != nil {
			delete(f.waiting, reply.ID)
			c <- reply
		}
		f.mu.Unlock()
	}
}

// note keeps what a page has thrown, and what its security policy has refused.
func (f *firefox) note(params json.RawMessage) {
	var entry struct {
		Level, Type, Text string
		Source            struct{ Context string }
	}
	if json.Unmarshal(params, &entry) != nil || entry.Level != "error" || entry.Type != "javascript" {
		return
	}
	if isOfTheNetwork(entry.Text) {
		return
	}
	if tab := f.tabs[entry.Source.Context]; tab != nil {
		tab.problems = append(tab.problems, entry.Text)
	}
}

// call sends a command and returns its result.
func (f *firefox) call(method string, params map[string]any) (json.RawMessage, error) {
	answer := make(chan foxReply, 1)
	f.mu.Lock()
	if f.gone != nil {
		defer f.mu.Unlock()
		return nil, f.gone
	}
	f.calls++
	f.waiting[f.calls] = answer
	message, err := json.Marshal(map[string]any{"id": f.calls, "method": method, "params": params})
	if err == nil {
		err = wsutil.WriteClientText(f.conn, message)
	}
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case reply, ok := <-answer:
		switch {
		case !ok:
			return nil, f.gone
		case reply.Type == "error":
			return nil, fmt.Errorf("%s: %s: %s", method, reply.Error, reply.Message)
		}
		return reply.Result, nil
	case <-time.After(2 * time.Minute):
		return nil, fmt.Errorf("%s: firefox does not answer", method)
	}
}
