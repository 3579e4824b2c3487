package main

import (
	"os"
	"path/filepath"
	"slices"
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
