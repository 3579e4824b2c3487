//go:build browser && !linux

package browser

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
