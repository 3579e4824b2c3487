//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sessionclient

import (
	"errors"
	"os"
	"syscall"
)

// claim locks a file that this process has just made, until the file is closed. It reports false if
// another process took the file for a leftover and is about to remove it, or has removed it.
func claim(file *os.File) bool {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false
	}
	made, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(file.Name())
	return err == nil && os.SameFile(made, there)
}

// removeIfLeft removes a file unless a process that is alive holds its lock.
func removeIfLeft(path string) {
	// O_NONBLOCK, because opening a pipe of this name would wait.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.Remove(path)
	}
}
