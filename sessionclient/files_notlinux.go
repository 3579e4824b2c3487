//go:build !linux

package sessionclient

import "os"

// reserve is for Linux.
func reserve(*os.File, int) error { return nil }

// isMountPoint is for Linux. Other systems do not mount single files.
func isMountPoint(string) bool { return false }
