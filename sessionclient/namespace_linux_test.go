package sessionclient_test

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests of token files mount file systems and change users. Each such test runs in a process of
// its own, which has mounts of its own, so that nothing of it reaches the machine.

const (
	// insideEnv has the name of the test that a process is started for.
	insideEnv = "TOKENSESSION_TEST_INSIDE"

	// mountsEnv, set to 1, makes it an error if the system does not let tests mount anything. Root
	// may do it, except in most containers, and others where user namespaces are allowed.
	mountsEnv = "TOKENSESSION_TEST_MOUNTS"

	somebody = 12345 // a user who has no rights
)

// withMounts runs f in a process that can mount.
func withMounts(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if inside(t) {
		require.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		f(t)
		return
	}
	attributes := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runInside(t, attributes)
}

// asRoot runs f in a process of root, which can become somebody else. It also gets a folder that
// everybody can use, with all folders above it.
func asRoot(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	const dirEnv = "TOKENSESSION_TEST_DIR"
	if inside(t) {
		f(t, os.Getenv(dirEnv))
		return
	}
	if os.Geteuid() != 0 {
		notHere(t, "needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "tokenfile")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Setenv(dirEnv, dir)
	runInside(t, nil)
}

// becomeSomebody gives up all rights of root. There is no way back.
func becomeSomebody(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Setgroups(nil))
	require.NoError(t, syscall.Setgid(somebody))
	require.NoError(t, syscall.Setuid(somebody))
}

// inside reports whether this process was started for the test.
func inside(t *testing.T) bool { return os.Getenv(insideEnv) == t.Name() }

// notHere skips the test, or fails where all tests have to run.
func notHere(t *testing.T, why string) {
	t.Helper()
	if os.Getenv(mountsEnv) == "1" {
		t.Fatalf("%s=1, but: %s", mountsEnv, why)
	}
	t.Skip(why)
}

// inChild returns a command that runs this very test in another process.
func inChild(t *testing.T) *exec.Cmd {
	t.Helper()
	var pattern []string
	for _, name := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(name)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.count=1", "-test.run="+strings.Join(pattern, "/"))
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	return cmd
}

func runInside(t *testing.T, attributes *syscall.SysProcAttr) {
	t.Helper()
	cmd := inChild(t)
	cmd.SysProcAttr = attributes
	output, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(output), "operation not permitted: mount") {
		notHere(t, "this system lets tests mount nothing: "+err.Error())
	}
	require.NoError(t, err, "%s", output)
	if strings.Contains(string(output), "--- SKIP") {
		notHere(t, string(output))
	}
	require.Contains(t, string(output), "--- PASS: "+t.Name(), "it ran: %s", output)
}
