package tokensession_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every piece of Go in the README is a part of a checked example, but for how deep it is indented.
func TestREADME_snippetsAreExamples(t *testing.T) {
	examples := unindent(read(t, "example_test.go") + read(t, "sessionhttp/example_test.go"))
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	require.NotEmpty(t, snippets)
	for _, s := range snippets {
		require.Contains(t, examples, unindent(s[1]))
	}
}

// Every test and make target that the README and SECURITY.md name exists.
func TestREADME_namesExist(t *testing.T) {
	readme := read(t, "README.md") + read(t, "SECURITY.md")
	var tests strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			tests.WriteString(read(t, path))
		}
		return err
	}))
	for _, name := range regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Za-z0-9]+(_[A-Za-z0-9]+)*`).FindAllString(readme, -1) {
		require.Contains(t, tests.String(), "func "+name+"(", "the README names a test that does not exist")
	}
	for _, target := range regexp.MustCompile("(?m)(?:`|^    )make ([a-z-]+)").FindAllStringSubmatch(readme, -1) {
		require.Contains(t, read(t, "Makefile"), "\n"+target[1]+":")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

func unindent(s string) string {
	return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(s, "")
}
