package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestTell_isTrue(t *testing.T) {
	var out bytes.Buffer
	if err := tell(&out, filepath.Join(t.TempDir(), "sessions.db")); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if n := strings.Count(out.String(), "ok   "); n != 17 {
		t.Errorf("%d lines, want 17:\n%s", n, &out)
	}
}

func TestTell_needsItsFile(t *testing.T) {
	var out bytes.Buffer
	if err := tell(&out, filepath.Join(t.TempDir(), "no", "such", "folder", "sessions.db")); err == nil {
		t.Errorf("no error:\n%s", &out)
	}
}
