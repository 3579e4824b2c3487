//go:build !unix && !windows

package sessionclient

import (
	"errors"
	"io/fs"
	"os"
)

func readFile(path string) ([]byte, error)           { return os.ReadFile(path) }
func patiently(try func() error) error               { return try() }
func noFileCanBeMade(err error) bool                 { return errors.Is(err, fs.ErrPermission) }
func isForItsMode(error) bool                        { return true }
func othersMayUse(fs.FileInfo) bool                  { return false }
func giveToOwner(*os.File, fs.FileInfo) error        { return nil }
func renameReplaces(path string, _ fs.FileInfo) bool { return true }
func syncDirectory(string) error                     { return nil }
