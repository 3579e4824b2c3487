//go:build unix

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// A Binary is a program that comes with a server.
type Binary struct {
	Name    string // as on PATH: "postgres"
	Env     string // environment variable that holds its folder, and goes first: "TOKENSESSION_TEST_POSTGRES_BIN"
	Dirs    string // glob of the folders it is in on Debian and not on PATH: "/usr/lib/postgresql/*/bin"
	Package string // Debian's package: "postgresql"
}

// Find returns the path of a binary: in the folder its environment variable names, else on PATH,
// else the newest in Dirs.
func Find(b Binary) (string, error) {
	if dir := os.Getenv(b.Env); dir != "" {
		path, err := exec.LookPath(filepath.Join(dir, b.Name))
		if err != nil {
			return "", fmt.Errorf("servers: %s=%s: %w", b.Env, dir, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath(b.Name); err == nil {
		return path, nil
	}
	dirs := []string{"/usr/sbin", "/usr/local/sbin"}
	if b.Dirs != "" {
		found, err := filepath.Glob(b.Dirs)
		if err != nil {
			return "", fmt.Errorf("servers: %s: %w", b.Dirs, err)
		}
		slices.Sort(found)
		slices.Reverse(found)
		dirs = append(found, dirs...)
	}
	for _, dir := range dirs {
		if path, err := exec.LookPath(filepath.Join(dir, b.Name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("servers: %s is not installed: run scripts/install-servers.sh, or apt-get install %s, or set %s to its folder",
		b.Name, b.Package, b.Env)
}
