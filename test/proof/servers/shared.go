//go:build unix

package servers

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
)

// Run runs a package's tests and stops the servers they shared. Call it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }
func Run(m *testing.M) int {
	shared.Lock()
	shared.running = true
	shared.Unlock()
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// shared holds the servers that all tests of the package use, each started by the first test that
// asks for it.
var shared struct {
	sync.Mutex
	running  bool
	postgres *sharedServer
	mysql    *sharedServer
}

type sharedServer struct {
	dsn     string // of a database that is there, by an account that may create others
	process *Process
	folder  *Folder
	err     error // the start failed: every test that needs the server says so
}

// sharedDSN returns the DSN of the shared server kept in *slot: what the environment variable says,
// or that of a server started now.
func sharedDSN(tb testing.TB, slot **sharedServer, env string, start func() (*sharedServer, error)) string {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.running {
		tb.Fatal("servers: the package's TestMain does not call servers.Run")
	}
	if *slot == nil {
		if dsn := os.Getenv(env); dsn != "" {
			*slot = &sharedServer{dsn: dsn}
		} else if server, err := start(); err != nil {
			*slot = &sharedServer{err: err}
		} else {
			*slot = server
		}
	}
	if err := (*slot).err; err != nil {
		tb.Fatalf("%v", err)
	}
	return (*slot).dsn
}

// databaseName returns a name that no other test uses, on this server or one shared by several test
// processes.
func databaseName() string { return fmt.Sprintf("tokensession_%016x", rand.Uint64()) }

func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	for _, s := range []*sharedServer{shared.postgres, shared.mysql} {
		if s == nil || s.process == nil {
			continue
		}
		if err := s.process.end(); err != nil {
			return err
		}
		if err := s.folder.remove(); err != nil {
			return err
		}
	}
	return nil
}
