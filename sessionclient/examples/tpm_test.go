package examples

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// A softTPM is a TPM in software, which does what one in hardware does: swtpm, as in virtual
// machines.
type softTPM struct {
	transport.TPMCloser
	cmd *exec.Cmd
}

// startTPM starts a TPM whose secrets are in a folder.
func startTPM(dir string) (*softTPM, error) {
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the example needs swtpm: apt-get install swtpm: %w", err)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		tpm, err := linuxudstpm.Open(socket)
		if err == nil {
			_, err = tpm2.GetRandom{BytesRequested: 8}.Execute(tpm)
		}
		if err == nil {
			return &softTPM{tpm, cmd}, nil
		}
		if time.Since(began) > 20*time.Second {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return nil, fmt.Errorf("swtpm does not answer: %w\n%s", err, said.String())
		}
	}
}

// stop ends it as if the machine was switched off.
func (s *softTPM) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// tempDir is a folder with a short name, because the name of a socket must not be long.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startTestTPM(t *testing.T, dir string) *softTPM {
	t.Helper()
	tpm, err := startTPM(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tpm.stop)
	return tpm
}

func testKey(t *testing.T, tpm transport.TPM, program string) *tpmKey {
	t.Helper()
	key, err := newTPMKey(tpm, program)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The key is the same after a restart of the machine, and another one for another program and on
// another machine.
func TestTPMKey_isOfThisMachine(t *testing.T) {
	dir := tempDir(t)
	tpm := startTestTPM(t, dir)
	first := testKey(t, tpm, "tool").Public().(*ecdsa.PublicKey)
	if first.Equal(testKey(t, tpm, "another tool").Public()) {
		t.Error("two programs have one key")
	}
	tpm.stop()
	again := startTestTPM(t, dir)
	if !first.Equal(testKey(t, again, "tool").Public()) {
		t.Error("the key is another one after a restart")
	}
	other := startTestTPM(t, tempDir(t))
	if first.Equal(testKey(t, other, "tool").Public()) {
		t.Error("two machines have one key")
	}
}

// A TPM signs one thing at a time, and requests come at once.
func TestTPMKey_signsForManyGoroutines(t *testing.T) {
	key := testKey(t, startTestTPM(t, tempDir(t)), "tool")
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 10 {
				digest := sha256.Sum256(fmt.Append(nil, n, i))
				signature, err := key.Sign(nil, digest[:], crypto.SHA256)
				if err != nil {
					t.Error(err)
				} else if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
					t.Error("the signature is wrong")
				}
			}
		})
	}
	all.Wait()
	if _, err := key.Sign(nil, make([]byte, 48), crypto.SHA384); err == nil {
		t.Error("it signs another digest")
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("the TPM still has a key that was closed")
	}
}

// The TPM says of the key that it has made it by itself, and that it never gives it away.
func TestTPMKey_cannotLeaveTheTPM(t *testing.T) {
	tpm := startTestTPM(t, tempDir(t))
	key := testKey(t, tpm, "tool")
	told, err := tpm2.ReadPublic{ObjectHandle: key.key.Handle}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	public, err := told.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	is := public.ObjectAttributes
	if !is.FixedTPM || !is.FixedParent || !is.SensitiveDataOrigin || is.Decrypt {
		t.Errorf("%+v", is)
	}
}
