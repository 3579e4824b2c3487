package examples

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A tpmKey is a key that never leaves the TPM of this machine. Nothing of it is in a file, so there
// is nothing to copy: the TPM makes the key from a secret of its own and from the name, and makes
// the same one each time. It takes a second, and a signature takes a tenth of one, or more.
//
// Whoever may use the TPM of this machine can sign with the key here. To keep out other users of
// the machine, give the key a password (InSensitive).
type tpmKey struct {
	mu     sync.Mutex // a TPM does one thing at a time
	tpm    transport.TPM
	key    tpm2.NamedHandle
	public crypto.PublicKey
}

var _ crypto.Signer = (*tpmKey)(nil)

// newTPMKey makes a program's key. The TPM is linuxtpm.Open("/dev/tpmrm0") on Linux, and
// windowstpm.Open() on Windows. Close frees its memory of the key.
func newTPMKey(tpm transport.TPM, program string) (*tpmKey, error) {
	name := sha256.Sum256([]byte(program))
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type:    tpm2.TPMAlgECC,
			NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{
				FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, // it cannot leave
				UserWithAuth: true, NoDA: true, SignEncrypt: true,
			},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				CurveID: tpm2.TPMECCNistP256,
				Scheme: tpm2.TPMTECCScheme{
					Scheme: tpm2.TPMAlgECDSA,
					Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA,
						&tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
				},
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: name[:]},
				Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)},
			}),
		}),
	}.Execute(tpm)
	if err != nil {
		return nil, err
	}
	k := &tpmKey{tpm: tpm, key: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}}
	public, err := made.OutPublic.Contents()
	if err == nil {
		k.public, err = tpm2.Pub(*public)
	}
	if err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

func (k *tpmKey) Public() crypto.PublicKey { return k.public }

func (k *tpmKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, fmt.Errorf("a digest of %v, and not of SHA-256", opts.HashFunc())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	made, err := tpm2.Sign{
		KeyHandle:  k.key,
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
	}.Execute(k.tpm)
	if err != nil {
		return nil, err
	}
	signature, err := made.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(signature.SignatureR.Buffer),
		new(big.Int).SetBytes(signature.SignatureS.Buffer),
	})
}

func (k *tpmKey) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := tpm2.FlushContext{FlushHandle: k.key.Handle}.Execute(k.tpm)
	return err
}

// The tokens of alice are bound to the TPM of her machine. The next refresh does that.
func Example_tpm() {
	w := newWorld()
	defer w.close()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	tpm, err := startTPM(dir) // linuxtpm.Open("/dev/tpmrm0")
	if err != nil {
		panic(err)
	}
	defer tpm.stop()

	key, err := newTPMKey(tpm, "tool")
	if err != nil {
		panic(err)
	}
	defer key.Close()
	transport, err := sessionclient.New(w.url+"/auth/token", &w.tokens, sessionclient.Config{
		Key: key, Base: w.base(),
	})
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: transport}
	for range 2 {
		resp, err := client.Get(w.url + "/me")
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, string(body), err)
		w.expire()
	}
	tokens := must(w.tokens.Load(context.Background()))
	_, err = w.sessions.Refresh(context.Background(), tokens.RefreshToken)
	fmt.Println("without the TPM:", errors.Is(err, tokensession.ErrProofRequired))
	// Output:
	// 200 alice, with refresh 1 <nil>
	// 200 alice, with refresh 2 <nil>
	// without the TPM: true
}
