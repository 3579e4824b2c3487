package tokensession_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every piece of Go in the documents is a part of a checked example, but for how deep it is
// indented.
func TestDocuments_snippetsAreExamples(t *testing.T) {
	code := filesNamed(t, "example_test.go") + filesNamed(t, "main.go") +
		read(t, "examples/routers/gin.go")
	examples := unindent(code)
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(documents(t), -1)
	require.NotEmpty(t, snippets)
	for _, s := range snippets {
		require.True(t, strings.Contains(examples, unindent(s[1])), "no example has\n%s", s[1])
	}
}

// Every test and make target that the documents name exists.
func TestDocuments_namesExist(t *testing.T) {
	text := documents(t)
	tests := filesNamed(t, "_test.go")
	for _, name := range regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*(_[A-Za-z0-9]+)*`).FindAllString(text, -1) {
		require.True(t, strings.Contains(tests, "func "+name+"("), "there is no %s", name)
	}
	for _, target := range regexp.MustCompile("(?m)(?:`|^    )make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
		require.Contains(t, read(t, "Makefile"), "\n"+target[1]+":")
	}
}

// Every link to a file leads to one, and if it names a heading, the file has it.
func TestDocuments_linksLeadSomewhere(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s has a link to %s", page, link[1])
			if heading != "" {
				require.Contains(t, headings(read(t, target)), heading, "%s has a link to %s", page, link[1])
			}
		}
	}
}

// filesNamed returns the text of all files of the repository whose names end so.
func filesNamed(t *testing.T, ending string) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ending) {
			all.WriteString(read(t, path))
		}
		return err
	}))
	return all.String()
}

// headings returns the names by which a link finds the headings of a page.
func headings(page string) []string {
	var names []string
	for _, id := range regexp.MustCompile(`<a id="([^"]+)">`).FindAllStringSubmatch(page, -1) {
		names = append(names, id[1])
	}
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(h[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// pages are the documents of the root module.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	return append(docs, "README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md")
}

func documents(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, page := range pages(t) {
		all.WriteString(read(t, page))
	}
	return all.String()
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

// The table of the API names all that the root package exports.
func TestDocuments_apiIsWhole(t *testing.T) {
	page := read(t, "docs/api.md")
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, name := range exported(parsed) {
			require.True(t, strings.Contains(page, "`"+name+"`"), "docs/api.md does not name %s", name)
		}
	}
}

// printing are the methods by which package fmt and slog ask for a value's form, and those of
// errors.
var printing = []string{"String", "Format", "LogValue", "Error", "Is", "Unwrap"}

// exported returns what a file exports. A method is Type.Method, and only those of what a program
// calls count: stores have the methods of their interfaces.
func exported(file *ast.File) (names []string) {
	add := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				names = append(names, id.Name)
			}
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name)
				continue
			}
			of := strings.TrimPrefix(types.ExprString(d.Recv.List[0].Type), "*")
			counts := slices.Contains([]string{"Manager", "AccessVerifier", "AccessSigner", "Access", "Key"}, of)
			if counts && d.Name.IsExported() && !slices.Contains(printing, d.Name.Name) {
				names = append(names, of+"."+d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add(s.Name)
				case *ast.ValueSpec:
					add(s.Names...)
				}
			}
		}
	}
	return names
}
