// Package vectors runs Wycheproof's test vectors through the verifier of the root module. The
// vectors are a requirement of this module and of no other. What is verified is not exported, so
// the test of it is one of the root module's, and this module gives it the files.
package vectors

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/c2sp/wycheproof"
)

func TestWycheproof(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"} {
		text, err := fs.ReadFile(wycheproof.TestVectors, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run", "^TestVectors_ofWycheproof$", ".")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "TOKENSESSION_VECTORS="+folder, "GOWORK=off")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestVectors_ofWycheproof")) {
		t.Errorf("%s: %v", cmd, err)
	}
}
