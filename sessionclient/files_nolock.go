//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sessionclient

import (
	"os"
	"time"
)

// leftAfter is how old a file must be to count as left by a process that is no more. A refresh
// takes less than half a minute.
const leftAfter = time.Minute

// claim is for systems where files can be locked.
func claim(*os.File) bool { return true }

// removeIfLeft removes a file that is old. On Windows, a file that a process has open stays.
func removeIfLeft(path string) {
	info, err := os.Lstat(path)
	if err == nil && time.Since(info.ModTime()) > leftAfter {
		_ = os.Remove(path)
	}
}
