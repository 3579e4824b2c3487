package sessionclient_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// childEnv says what TestMain does if it was started as another process.
const childEnv = "TOKENSESSION_TEST_CHILD"

func TestMain(m *testing.M) {
	what, args, _ := strings.Cut(os.Getenv(childEnv), " ")
	switch what {
	case "":
		os.Exit(m.Run())
	case "load-keys":
		loadKeys(args)
	case "program":
		runProgram(strings.Fields(args))
	}
}

// loadKeys loads the keys whose names it reads, and writes which they are.
func loadKeys(dir string) {
	for names := bufio.NewScanner(os.Stdin); names.Scan(); {
		key, err := sessionclient.LoadKey(filepath.Join(dir, names.Text()))
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%x\n", key.Public())
	}
}

// runProgram is a program that is told what to do: to log in, to get a page, to log out. Its
// arguments are the server, the file of its tokens and that of its key.
func runProgram(args []string) {
	url := args[0]
	var cfg sessionclient.Config
	if len(args) > 2 {
		key, err := sessionclient.LoadKey(args[2])
		if err != nil {
			panic(err)
		}
		cfg.Key = key
	}
	transport, err := sessionclient.New(url+"/auth/token", sessionclient.NewTokenFile(args[1]), cfg)
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: transport}
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		var said string
		var err error
		switch command, arg, _ := strings.Cut(commands.Text(), " "); command {
		case "login":
			var req *http.Request
			if req, err = http.NewRequest("POST", url+"/login", strings.NewReader(arg)); err == nil {
				err = transport.Login(req)
			}
		case "get":
			said, err = get(client, url+"/me")
		case "logout":
			err = transport.Logout(context.Background())
		}
		if err != nil {
			said = err.Error()
		}
		fmt.Println(strings.ReplaceAll(said, "\n", " "))
	}
}

func get(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.Status + " " + string(body), err
}

// A child is another process of the test program.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     io.Writer
	out    *bufio.Scanner
	ending sync.Once
}

func startChild(t testing.TB, what ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(what, " "))
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.in, c.out = in, bufio.NewScanner(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	c.ending.Do(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
}

func (c *child) ask(what string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, what)
	require.NoError(c.t, err)
}

func (c *child) answer() string {
	c.t.Helper()
	require.True(c.t, c.out.Scan(), "it has ended")
	return c.out.Text()
}

func (c *child) do(what string) string {
	c.t.Helper()
	c.ask(what)
	return c.answer()
}
