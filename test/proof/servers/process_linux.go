package servers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func processAttributes(spec Spec) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: spec.DeathSignal,
		Credential: spec.Folder.account}
}

// descendants returns the ids of a process's children, their children and so on.
func descendants(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, field := range bytes.Fields(text) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// freeze stops a process, and returns once it does nothing more.
func freeze(pid int) {
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return
	}
	deadline := time.After(time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for alive(pid) && state(pid) != 'T' {
		select {
		case <-deadline:
			return
		case <-tick.C:
		}
	}
}

// alive tells whether a process still runs. A zombie does not.
func alive(pid int) bool {
	s := state(pid)
	return s != 0 && s != 'Z' && s != 'X'
}

// state returns the letter that the kernel has for what a process does, or 0 if there is none.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	if _, rest, _ := bytes.Cut(stat, []byte(") ")); len(rest) > 0 {
		return rest[0]
	}
	return 0
}

// cpuTime returns how long the threads of a process have run, or zero if the kernel does not tell.
func cpuTime(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var all time.Duration
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if fields := bytes.Fields(text); len(fields) > 0 {
			nanoseconds, _ := strconv.ParseInt(string(fields[0]), 10, 64)
			all += time.Duration(nanoseconds)
		}
	}
	return all
}
