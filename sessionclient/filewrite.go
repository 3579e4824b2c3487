package sessionclient

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// How a file is written.
//
// A file is usually replaced: the new content goes into another file beside it, which is synced and
// then renamed. A program that is killed in the middle, or a full disk, leaves the old content. The
// file beside it can be made in advance, with room for what is to come. Then little is left that
// can fail once the content is known.
//
// A rename cannot replace a file that is a mount point, a file in a folder that cannot be written,
// or in a folder like /tmp a file of somebody else. Such a file is written in place, if it can be
// written. It is also written in place if a new file could not be given to the same owner.
//
// A process that is killed leaves its file beside the token file, and that may have tokens in it.
// So the next write removes such files. It must not remove those of a process that is alive. A
// process holds a lock on its file as long as it lives, and the system frees the lock when the
// process ends, however it ends. files_unix.go has the lock. On Windows no lock is needed, because
// a file that somebody has open cannot be removed.

const (
	// roomForTokens is how much room is made in advance. The longest access token that a Manager
	// makes or accepts has 8 KiB.
	roomForTokens = 16 << 10

	// The name of a file beside "tokens" is ".tokens.1234567.tmp".
	besideSuffix = ".tmp"

	// claimTries is how often a file is made anew because another process took it for a leftover,
	// which can happen only in the moment before it is locked.
	claimTries = 10
)

// A fileWrite is a write to a file that is made ready.
type fileWrite struct {
	path   string
	beside *os.File    // it will take the place of the file; nil if the file is written in place
	mode   fs.FileMode // of the file afterwards
}

// prepareWrite makes ready for one write of up to room bytes to a file, which need not exist. It
// returns an error if the write could not succeed, and leaves nothing behind then.
//
// The best is a new file that takes the place of the old one, with the same owner and mode. If none
// can be made, or it cannot be given to the owner, the old file is written in place. That needs a
// file that can be opened for writing. If its mode forbids that, a new file of another group is
// better than no write at all, and that group gets no rights.
func prepareWrite(path string, room int) (*fileWrite, error) {
	removeLeftovers(path)
	old, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return prepareBeside(path, 0o600, room)
	case err != nil:
		return nil, err
	case !old.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	// If only the file's mode forbids to open it, it can still be replaced. A file on a read-only
	// mount, or one that is marked as immutable, cannot.
	closed := opensForWriting(path)
	if closed != nil && !isForItsMode(closed) {
		return nil, closed
	}
	if renameReplaces(path, old) {
		w, err := prepareBeside(path, old.Mode().Perm(), room)
		if err != nil && !noFileCanBeMade(err) {
			return nil, err
		}
		if err == nil {
			if giveToOwner(w.beside, old) == nil {
				return w, nil
			}
			if closed != nil {
				w.mode &= 0o700 // the group is another one
				return w, nil
			}
			w.discard()
		}
	}
	if closed != nil {
		return nil, closed
	}
	if err := reserveIn(path, room); err != nil {
		return nil, err
	}
	return &fileWrite{path: path}, nil
}

// createFile makes a file that only its owner can read, unless there is one by then: that is no
// error, and nothing is changed.
//
// Two processes may do so at once, and both read the file afterwards. A rename would replace what
// the other one may have read by then. A link cannot replace a file, and like a rename it shows the
// whole file or nothing. Some file systems have no links. There the file is written where it is,
// and a process that reads it in this moment finds half of it. A kill in this moment leaves that
// half.
func createFile(path string, data []byte, link func(from, to string) error) error {
	w, err := prepareBeside(path, 0o600, 0)
	if err != nil {
		return err
	}
	defer w.discard()
	if err := writeAndSync(w.beside, data); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // it may refuse to link an open file
		if err := w.beside.Close(); err != nil {
			return err
		}
	}
	err = link(w.beside.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = createInPlace(path, data)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// If another process was faster, it may not have come as far as this.
	return syncDirectory(filepath.Dir(path))
}

// createInPlace makes a file where it is to be. What it cannot write it removes.
func createInPlace(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(writeAndSync(file, data), file.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func writeAndSync(file *os.File, data []byte) error {
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	return file.Sync()
}

// commit writes the content. The write cannot be used again.
func (w *fileWrite) commit(data []byte) error {
	if w.beside == nil {
		return writeInPlace(w.path, data)
	}
	defer w.discard()
	_, err := w.beside.WriteAt(data, 0)
	if err == nil {
		err = w.beside.Truncate(int64(len(data)))
	}
	if err == nil && runtime.GOOS != "windows" { // there it only says whether a file can be written
		err = w.beside.Chmod(w.mode)
	}
	if err == nil {
		err = w.beside.Sync()
	}
	if err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // it cannot rename an open file
		if err := w.beside.Close(); err != nil {
			return err
		}
	}
	if err := patiently(func() error { return os.Rename(w.beside.Name(), w.path) }); err != nil {
		if inPlace := writeInPlace(w.path, data); inPlace != nil {
			return errors.Join(err, inPlace)
		}
		return nil
	}
	return syncDirectory(filepath.Dir(w.path))
}

// discard removes what the preparation has made. After a commit, it finds nothing to remove.
func (w *fileWrite) discard() {
	if w.beside != nil {
		// On Windows a file has to be closed before it is removed. Elsewhere it has to be removed
		// while it is locked.
		if runtime.GOOS == "windows" {
			_ = w.beside.Close()
		}
		_ = os.Remove(w.beside.Name())
		_ = w.beside.Close()
	}
}

// prepareBeside makes a file beside another one that nobody else can read, with room for so many
// bytes on the disk. It makes it again if another process takes it for a leftover and removes it.
func prepareBeside(path string, mode fs.FileMode, room int) (*fileWrite, error) {
	dir, name := filepath.Split(path)
	for range claimTries {
		file, err := os.CreateTemp(filepath.Clean(dir), "."+name+".*"+besideSuffix) // mode 0600
		if err != nil {
			return nil, err
		}
		w := &fileWrite{path: path, beside: file, mode: mode}
		if !claim(file) {
			w.discard()
			continue
		}
		if room > 0 {
			// Spaces and not zeros, because some file systems keep no room for zeros.
			_, err = file.Write(bytes.Repeat([]byte{' '}, room))
			if err == nil {
				err = file.Sync()
			}
		}
		if err != nil {
			w.discard()
			return nil, err
		}
		return w, nil
	}
	return nil, fmt.Errorf("%s: other processes remove the files beside it", path)
}

// removeLeftovers removes the files that killed processes have left beside a file. What cannot be
// removed stays for another time.
func removeLeftovers(path string) {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		random, ok := strings.CutPrefix(entry.Name(), "."+name+".")
		random, ok2 := strings.CutSuffix(random, besideSuffix)
		if ok && ok2 && strings.Trim(random, "0123456789") == "" && entry.Type().IsRegular() {
			removeIfLeft(filepath.Join(dir, entry.Name()))
		}
	}
}

// removeTokens removes a file. If it cannot be removed, its content is removed.
func removeTokens(path string) error {
	removeLeftovers(path)
	err := patiently(func() error { return os.Remove(path) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return syncDirectory(filepath.Dir(path))
	}
	if inPlace := writeInPlace(path, []byte("{}")); inPlace != nil {
		return errors.Join(err, inPlace)
	}
	return nil
}

// opensForWriting returns why a file cannot be opened for writing.
func opensForWriting(path string) error {
	return patiently(func() error {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return file.Close()
	})
}

// reserveIn makes room on the disk for a file of so many bytes.
func reserveIn(path string, room int) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(reserve(file, room), file.Close())
}

// writeInPlace overwrites a file.
//
// It never makes the file shorter, but fills it up with spaces, which mean nothing in JSON. So
// there is no moment at which the file is empty. All writers fill up to the same length: if two
// come at once, none leaves the end of a longer text behind the text of the other.
func writeInPlace(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	length := max(len(data), roomForTokens, int(info.Size()))
	if err := reserve(file, length); err != nil {
		return err // and the old content is as it was
	}
	padded := append(bytes.Clone(data), bytes.Repeat([]byte{' '}, length-len(data))...)
	if _, err := file.WriteAt(padded, 0); err != nil {
		return err
	}
	return file.Sync()
}
