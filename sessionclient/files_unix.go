//go:build unix

package sessionclient

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func readFile(path string) ([]byte, error) { return os.ReadFile(path) }

// patiently is for Windows.
func patiently(try func() error) error { return try() }

// noFileCanBeMade reports whether the folder is the reason why no file could be made in it.
func noFileCanBeMade(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// isForItsMode reports whether the reason why a file could not be opened is its mode or its owner.
func isForItsMode(err error) bool { return errors.Is(err, syscall.EACCES) }

// othersMayUse reports whether a file's mode lets others than its owner read or change it.
func othersMayUse(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// giveToOwner gives a new file to the owner and the group of an old one.
func giveToOwner(file *os.File, old fs.FileInfo) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	should, ok2 := old.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || is.Uid == should.Uid && is.Gid == should.Gid {
		return nil
	}
	return file.Chown(int(should.Uid), int(should.Gid))
}

// renameReplaces reports whether a rename can replace a file. In a folder like /tmp, only the owner
// of the file or of the folder can do that. A mount point cannot be replaced at all.
func renameReplaces(path string, old fs.FileInfo) bool {
	if isMountPoint(path) {
		return false
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil || dir.Mode()&fs.ModeSticky == 0 {
		return err == nil
	}
	me := uint32(os.Geteuid())
	file, ok := old.Sys().(*syscall.Stat_t)
	folder, ok2 := dir.Sys().(*syscall.Stat_t)
	return !ok || !ok2 || me == 0 || file.Uid == me || folder.Uid == me
}

// syncDirectory makes a rename survive a power failure. Without it the old file could come back,
// and its refresh token is consumed. Some folders cannot be opened for reading, and some file
// systems cannot sync a folder. The rename has been done by then, and so this is no error.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}
