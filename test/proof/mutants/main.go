// Mutants plants the faults of faults.txt in copies of the core, one in each, and shows which test
// of the root module notices it. It ends with exit code 1 if one survives, does not compile, or
// has lost its place in the code.
//
//	go run ./mutants [-tree dir] [-timeout 2m] [-p 2] [name of a fault…]
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed faults.txt
var faultsFile string

// Tests that take a while. They are run only if the others notice nothing.
const slowTests = `^(TestVerify_(refuses.*|acceptsWhatIsUnusualButRight|fetchesNoKey|concurrently)|` +
	`TestRandom_neverRepeats|TestKey_neverPrintsItsSecret|TestEventsAndErrors_neverPrintASecret|` +
	`TestStandardClaims_areJSONWhateverTheyHold|TestFoldName_agreesWithEncodingJSON|` +
	`TestRevoke_nothingLivesAfterItWhateverItRacesWith|TestMaxSessions_holdsInEveryOrderOfLogins|` +
	`TestTokenCache_isBounded|TestMemoryStore_keepsItsIndexThroughParallelUse)$`

func main() {
	tree := flag.String("tree", "../..",
		"the checkout whose root module is tested; it is copied and not changed")
	timeout := flag.Duration("timeout", 2*time.Minute,
		"after which a package's tests are taken to hang")
	workers := flag.Int("p", runtime.NumCPU(), "how many faults are tried at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	survived, err := run(ctx, *tree, max(1, *workers), *timeout, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || survived > 0 {
		os.Exit(1)
	}
}

func run(
	ctx context.Context, tree string, workers int, timeout time.Duration, names []string,
) (survived int, err error) {
	faults, err := parseFaults(faultsFile)
	if err != nil {
		return 0, err
	}
	if faults, err = choose(faults, names); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	benches := make([]*bench, min(workers, len(faults)))
	for i := range benches {
		copied := filepath.Join(dir, fmt.Sprint(i))
		if benches[i], err = newBench(copied, tree, timeout); err != nil {
			return 0, err
		}
	}
	for _, folder := range foldersOf(faults) {
		if killer, err := benches[0].test(ctx, folder); err != nil || killer != "" {
			failure := fmt.Errorf("without a fault the tests must pass: %q fails", killer)
			return 0, errors.Join(failure, err)
		}
	}
	began := time.Now()
	killed := 0
	var failed error
	for r := range tryAll(ctx, benches, faults) {
		switch {
		case ctx.Err() != nil:
			continue
		case r.err != nil:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", r.fault.name, r.err))
			r.killer = "ERROR"
		case r.killer == "":
			survived++
			r.killer = "SURVIVED"
		default:
			killed++
		}
		fmt.Printf("%-40s %-80s %5.1fs\n", r.fault.name, r.killer, r.took.Seconds())
	}
	if ctx.Err() != nil {
		return survived, ctx.Err()
	}
	fmt.Printf("%d mutants, %d killed, %d survived, in %v\n",
		len(faults), killed, survived, time.Since(began).Round(time.Second))
	return survived, failed
}

// A result says what noticed a fault; if nothing did, killer is empty.
type result struct {
	fault  fault
	killer string
	err    error
	took   time.Duration
}

// tryAll tries the faults, as many at a time as there are benches. The channel is closed after the
// last result, or when ctx ends.
func tryAll(ctx context.Context, benches []*bench, faults []fault) <-chan result {
	todo, results := make(chan fault, len(faults)), make(chan result)
	for _, f := range faults {
		todo <- f
	}
	close(todo)
	var working sync.WaitGroup
	for _, b := range benches {
		working.Go(func() {
			for f := range todo {
				if ctx.Err() != nil {
					return
				}
				began := time.Now()
				killer, err := b.try(ctx, f)
				results <- result{f, killer, err, time.Since(began)}
			}
		})
	}
	go func() {
		working.Wait()
		close(results)
	}()
	return results
}

// A fault is a mistake in one place of one file. The file is named by its path in the root module.
type fault struct {
	name, file, why string
	old, new        []string // lines without their indentation
}

var faultTitle = regexp.MustCompile(`^([a-z0-9-]+) in ((?:[a-z_]+/)*[a-z_]+\.go)$`)

// parseFaults reads faults.txt, which says how it is written.
func parseFaults(text string) ([]fault, error) {
	var faults []fault
	seen := map[string]bool{}
	for block := range strings.SplitSeq(text, "\n\n") {
		lines := slices.DeleteFunc(strings.Split(block, "\n"), func(s string) bool { return s == "" || s[0] == '#' })
		if len(lines) == 0 {
			continue
		}
		title := faultTitle.FindStringSubmatch(lines[0])
		if title == nil || len(lines) < 3 {
			return nil, fmt.Errorf("faults.txt: not a fault: %q", block)
		}
		f := fault{name: title[1], file: title[2], why: lines[1]}
		if seen[f.name] {
			return nil, fmt.Errorf("faults.txt: %s is there twice", f.name)
		}
		seen[f.name] = true
		for _, line := range lines[2:] {
			code := strings.TrimSpace(line[1:])
			switch line[0] {
			case '-':
				f.old = append(f.old, code)
			case '+':
				f.new = append(f.new, code)
			case ' ':
				f.old, f.new = append(f.old, code), append(f.new, code)
			default:
				return nil, fmt.Errorf("faults.txt: %s: neither an old nor a new line: %q", f.name,
					line)
			}
		}
		if len(f.old) == 0 || slices.Equal(f.old, f.new) {
			return nil, fmt.Errorf("faults.txt: %s changes nothing", f.name)
		}
		faults = append(faults, f)
	}
	return faults, nil
}

// choose returns the faults of these names, or all if there are none.
func choose(faults []fault, names []string) ([]fault, error) {
	if len(names) == 0 {
		return faults, nil
	}
	var chosen []fault
	for _, name := range names {
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no fault is named %q", name)
		}
		chosen = append(chosen, faults[i])
	}
	return chosen, nil
}

// foldersOf returns the folders that the faults are in.
func foldersOf(faults []fault) []string {
	var folders []string
	for _, f := range faults {
		folders = append(folders, filepath.Dir(f.file))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// plant returns the source with the fault in it. The old lines must be there exactly once, or the
// fault has rotted.
func (f fault) plant(source string) (string, error) {
	lines := strings.Split(source, "\n")
	var places []int
	for i := range len(lines) - len(f.old) + 1 {
		if slices.EqualFunc(lines[i:i+len(f.old)], f.old, func(line, old string) bool { return strings.TrimSpace(line) == old }) {
			places = append(places, i)
		}
	}
	if len(places) != 1 {
		return "", fmt.Errorf("its old lines are %d times in %s, want once", len(places), f.file)
	}
	return strings.Join(slices.Replace(lines, places[0], places[0]+len(f.old), f.new...), "\n"), nil
}

// copyTree copies what is not hidden.
func copyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dst, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dst, rel), data, 0o600)
	})
}

// A bench is a copy of the tree that faults are planted in, one at a time.
type bench struct {
	dir     string
	timeout time.Duration
	overlay string // a file that hides the external tests of the root package from go build
}

func newBench(dir, tree string, timeout time.Duration) (*bench, error) {
	if err := copyTree(dir, tree); err != nil {
		return nil, err
	}
	b := &bench{dir: dir, timeout: timeout, overlay: filepath.Join(dir, "overlay.json")}
	hidden := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if externalTests.Match(source) {
			hidden[file] = ""
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": hidden})
	if err != nil {
		return nil, err
	}
	return b, os.WriteFile(b.overlay, overlay, 0o600)
}

var externalTests = regexp.MustCompile(`(?m)^package \w+_test$`)

// try plants a fault, runs the tests and takes it out again. It returns the test that noticed the
// fault, or "".
func (b *bench) try(ctx context.Context, f fault) (killer string, err error) {
	path := filepath.Join(b.dir, f.file)
	sound, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	planted, err := f.plant(string(sound))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, []byte(planted), 0o600); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, sound, 0o600)) }()
	return b.test(ctx, filepath.Dir(f.file))
}

// test runs tests until one fails: those of the folder, then those of the root package, the slow
// ones last, once more with records remembered (Config.Remember), which most tests turn off, and
// then those of storetest. The internal tests of the root package come first, in a
// program without the external ones, because compiling the external ones takes longest of all.
func (b *bench) test(ctx context.Context, folder string) (killer string, err error) {
	quick, slow := []string{"-test.skip", slowTests}, []string{"-test.run", slowTests}
	portions := []struct {
		dir   string
		build []string
		args  []string
		env   []string
	}{
		{folder, nil, nil, nil},
		{".", []string{"-overlay", b.overlay}, quick, nil}, {".", nil, quick, nil},
		{".", nil, slow, nil}, {".", nil, quick, []string{"TOKENSESSION_TEST_REMEMBER=1"}},
		{"storetest", nil, nil, nil},
	}
	if folder == "." {
		portions = portions[1:]
	}
	for _, portion := range portions {
		dir := filepath.Join(b.dir, portion.dir)
		build := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-c", "-vet=off",
			"-ldflags=-s -w", "-o", "mutant.test"}, portion.build)...)
		build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("it does not compile: %w\n%s", err, out)
		}
		args := []string{"-test.v", "-test.failfast", "-test.timeout", b.timeout.String()}
		tests := exec.CommandContext(ctx, "./mutant.test", append(args, portion.args...)...)
		tests.Dir, tests.Env = dir, append(os.Environ(), portion.env...)
		out, err := tests.CombinedOutput()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return killerIn(out), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

var (
	failLine = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	runLine  = regexp.MustCompile(`(?m)^=== (?:RUN|CONT|NAME) +([^/\s]+)`)
	hangLine = regexp.MustCompile(`(?m)^panic: test timed out after .*\n(?:\s+running tests:\n\s+(\S+))?`)
)

// killerIn finds in the output of tests the one that failed.
func killerIn(out []byte) string {
	if hang := hangLine.FindSubmatch(out); hang != nil {
		return string(hang[1]) + " (time-out)"
	}
	if fail := failLine.FindSubmatch(out); fail != nil {
		return string(fail[1])
	}
	if run := runLine.FindAllSubmatch(out, -1); run != nil { // another goroutine's panic
		return string(run[len(run)-1][1]) + " (crash)"
	}
	return "(crash)"
}
