package main

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/seed67bc9b7f/tokensession" // its files are read below: a change of them must have the test run again
)

// The list cannot rot: what a change of the core moves away is missed by the next run of the tests.
func TestFaults_haveTheirPlaceInTheCode(t *testing.T) {
	faults, err := parseFaults(faultsFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(faults) < 40 {
		t.Errorf("only %d faults", len(faults))
	}
	for _, f := range faults {
		source, err := os.ReadFile(filepath.Join("..", "..", "..", f.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.plant(string(source)); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
}

// A fault that does not compile shows nothing. So each is type-checked, which is quicker than to
// build it.
func TestFaults_compile(t *testing.T) {
	faults, err := parseFaults(faultsFile)
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]*checked{}
	for _, folder := range foldersOf(faults) {
		if packages[folder], err = newChecked(filepath.Join("..", "..", "..", folder)); err != nil {
			t.Fatal(err)
		}
		if err := packages[folder].check("", ""); err != nil {
			t.Fatalf("without a fault: %v", err)
		}
	}
	for _, f := range faults {
		source, err := os.ReadFile(filepath.Join("..", "..", "..", f.file))
		if err != nil {
			t.Fatal(err)
		}
		planted, err := f.plant(string(source))
		if err == nil {
			err = packages[filepath.Dir(f.file)].check(filepath.Base(f.file), planted)
		}
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	if packages["."].check("rotation.go", "package tokensession\n\nfunc f() { x := 1 }\n") == nil {
		t.Error("what does not compile was not noticed")
	}
}

// A checked package is one whose files are parsed, to be type-checked with another text of one of
// them.
type checked struct {
	path     string
	fset     *token.FileSet
	files    map[string]*ast.File
	importer types.Importer
}

func newChecked(dir string) (*checked, error) {
	list := exec.Command("go", "list", "-export", "-deps", "-f",
		"{{.ImportPath}} {{.Export}} {{if not .DepOnly}}{{join .GoFiles \",\"}}{{end}}", ".")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	p := &checked{fset: token.NewFileSet(), files: map[string]*ast.File{}}
	exports, names := map[string]string{}, ""
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		exports[fields[0]] = fields[1]
		p.path, names = fields[0], fields[2] // the package itself is the last one
	}
	for name := range strings.SplitSeq(names, ",") {
		file, err := parser.ParseFile(p.fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files[name] = file
	}
	p.importer = importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	return p, nil
}

// check type-checks the package, with a text in place of one of its files, if it is given one.
func (p *checked) check(name, text string) error {
	var files []*ast.File
	for each, file := range p.files {
		if each != name {
			files = append(files, file)
		}
	}
	if name != "" {
		file, err := parser.ParseFile(p.fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	_, err := (&types.Config{Importer: p.importer}).Check(p.path, p.fset, files, nil)
	return err
}

func TestPlant_wantsItsPlaceOnce(t *testing.T) {
	f := fault{file: "a.go", old: []string{"if a {", "b()"}, new: []string{"if a {", "c()"}}
	for source, want := range map[string]string{
		"x\n\tif a {\n\t\tb()\n\t}\n":        "x\nif a {\nc()\n\t}\n",
		"if a {\n\n\tb()\n}":                 "",
		"if a {\n\tb()\n}\nif a {\n\tb()\n}": "",
		"if ab {\n\tb()\n}":                  "",
	} {
		got, err := f.plant(source)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v", source, got, err)
		}
	}
}

func TestParseFaults_takesFilesInFolders(t *testing.T) {
	faults, err := parseFaults("a in x/y/b.go\nwhy\n-x\n+y\n\nb in c.go\nwhy\n-x\n+y\n\nc in x/y/d.go\nwhy\n-x\n+y")
	if err != nil || faults[0].file != "x/y/b.go" {
		t.Fatal(faults, err)
	}
	if folders := foldersOf(faults); !slices.Equal(folders, []string{".", "x/y"}) {
		t.Error(folders)
	}
}

func TestParseFaults_refusesWhatSaysNothing(t *testing.T) {
	for _, text := range []string{
		"a fault in a.go\nwhy\n-x\n+y",
		"a in ../a.go\nwhy\n-x\n+y",
		"a in /a.go\nwhy\n-x\n+y",
		"a in a.go\n-x",
		"a in a.go\nwhy\n x",
		"a in a.go\nwhy\n-x\n+x",
		"a in a.go\nwhy\n+x",
		"a in a.go\nwhy\n*x",
		"a in a.go\nwhy\n-x\n+y\n\na in b.go\nwhy\n-x\n+y",
	} {
		if faults, err := parseFaults(text); err == nil {
			t.Errorf("%q was read as %+v", text, faults)
		}
	}
}

func TestKillerIn_findsTheTest(t *testing.T) {
	for out, want := range map[string]string{
		"=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n=== RUN   TestB/x\n--- FAIL: TestB (0.00s)\n    --- FAIL: TestB/x (0.00s)\nFAIL\n": "TestB",
		"=== RUN   TestA\n=== RUN   TestA/x\npanic: oh\n\ngoroutine 7 [running]:\n":                                                                    "TestA (crash)",
		"=== RUN   TestA\npanic: test timed out after 1m0s\n\trunning tests:\n\t\tTestA (1m0s)\n\ngoroutine 1 [running]:\n":                            "TestA (time-out)",
		"fatal error: all is lost\n": "(crash)",
	} {
		if got := killerIn([]byte(out)); got != want {
			t.Errorf("%q, want %q in %q", got, want, out)
		}
	}
}
