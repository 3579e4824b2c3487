package sessionclient

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// reserve takes the room that a file needs to have so many bytes, without a change of its content
// or length. Where the file system cannot do that, it does nothing.
func reserve(file *os.File, length int) error {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE of linux/falloc.h
	if length == 0 {
		return nil
	}
	for {
		err := syscall.Fallocate(int(file.Fd()), keepSize, 0, int64(length))
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, errors.ErrUnsupported): // ENOSYS and EOPNOTSUPP
			return nil
		case err != nil:
			return &os.PathError{Op: "fallocate", Path: file.Name(), Err: err}
		}
		return nil
	}
}

// isMountPoint reports whether a file is mounted by itself, as containers do with single files.
func isMountPoint(path string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false
	}
	// The fifth word of each line is a mount point: proc_pid_mountinfo(5).
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 4 && unescape.Replace(words[4]) == path {
			return true
		}
	}
	return false
}
