//go:build browser && !linux

package browsertest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
