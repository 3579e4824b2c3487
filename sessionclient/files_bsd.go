//go:build unix && !linux

package sessionclient

// isMountPoint is for Linux. Other systems do not mount single files.
func isMountPoint(string) bool { return false }
