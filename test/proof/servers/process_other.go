//go:build unix && !linux

package servers

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processAttributes cannot tie the server's life to the test process's here: a test binary that is
// killed leaves it behind.
func processAttributes(spec Spec) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: spec.Folder.account}
}

// descendants returns the ids of a process's children, their children and so on.
func descendants(pid int) []int {
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	var all []int
	for field := range strings.FieldsSeq(string(out)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(append(all, child), descendants(child)...)
		}
	}
	return all
}

// alive tells whether a process still runs.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// cpuTime is not known here.
func cpuTime(int) time.Duration { return 0 }

func freeze(pid int) { _ = syscall.Kill(pid, syscall.SIGSTOP) }
