package sessionclient

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// On Windows, a file that somebody has open can often be neither replaced nor removed, and while it
// is being replaced it can often not be opened. Another process of the program may have it open for
// a moment, or a virus scanner or a backup for longer. So everything here is tried for some time.

const (
	patience      = 3 * time.Second
	patiencePause = 5 * time.Millisecond

	// A file that is being replaced can be absent for a moment. To be told that there are no tokens
	// would log the user out.
	absencePatience = 50 * time.Millisecond

	errorSharingViolation = syscall.Errno(32)
	errorLockViolation    = syscall.Errno(33)
	errorUserMappedFile   = syscall.Errno(1224)
)

// patiently tries again while it looks as if somebody had the file open.
func patiently(try func() error) error {
	for began := time.Now(); ; time.Sleep(patiencePause) {
		err := try()
		if !isOpenElsewhere(err) || time.Since(began) > patience {
			return err
		}
	}
}

func isOpenElsewhere(err error) bool {
	return errors.Is(err, errorSharingViolation) || errors.Is(err, errorLockViolation) ||
		errors.Is(err, errorUserMappedFile) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}

func readFile(path string) (data []byte, err error) {
	for began := time.Now(); ; time.Sleep(patiencePause) {
		err = patiently(func() error {
			data, err = os.ReadFile(path)
			return err
		})
		if !errors.Is(err, fs.ErrNotExist) || time.Since(began) > absencePatience {
			return data, err
		}
	}
}

func noFileCanBeMade(err error) bool { return errors.Is(err, fs.ErrPermission) }

// isForItsMode reports false, because a file that is marked as read-only cannot be replaced.
func isForItsMode(error) bool { return false }

// othersMayUse knows nothing of access control lists. A new file inherits that of its folder, and
// folders of a user's profile are closed to others.
func othersMayUse(fs.FileInfo) bool { return false }

// giveToOwner does nothing, because a file that takes the place of another one inherits the access
// control list of the same folder.
func giveToOwner(*os.File, fs.FileInfo) error { return nil }

// renameReplaces reports true: what could be in the way was found when the file was opened.
func renameReplaces(string, fs.FileInfo) bool { return true }

// syncDirectory does nothing: Windows cannot sync a folder, and need not.
func syncDirectory(string) error { return nil }
