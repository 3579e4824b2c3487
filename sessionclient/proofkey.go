package sessionclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// scalarSize is the length of each half of an ES256 signature (RFC 7518 section 3.4).
const scalarSize = 32

// A proofKey signs proofs (RFC 9449 section 4.2). The private half may be in hardware.
type proofKey struct {
	signer     crypto.Signer
	ecdsa      bool   // P-256; otherwise Ed25519
	header     string // the first part of every proof, encoded
	thumbprint string
}

func newProofKey(signer crypto.Signer) (*proofKey, error) {
	if signer == nil {
		return nil, errors.New("the key is nil")
	}
	k := &proofKey{signer: signer}
	var alg, jwk string
	switch public := signer.Public().(type) {
	case ed25519.PublicKey:
		if len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an Ed25519 key of %d bytes", len(public))
		}
		// RFC 9864 has the new name Ed25519, but most servers know only this one yet.
		alg = "EdDSA"
		jwk = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, encode(public))
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, errors.New("an ECDSA key must be of the curve P-256")
		}
		point, err := public.Bytes() // 4, x, y (SEC 1 section 2.3.3)
		if err != nil {
			return nil, err
		}
		k.ecdsa, alg = true, "ES256"
		jwk = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`,
			encode(point[1:1+scalarSize]), encode(point[1+scalarSize:]))
	default:
		return nil, fmt.Errorf("a key must be of P-256 or Ed25519, and not a %T", public)
	}
	k.header = encode(fmt.Appendf(nil, `{"typ":"dpop+jwt","alg":"%s","jwk":%s}`, alg, jwk))
	// The JWK has the required members only, in alphabetical order, and nothing between them. So it
	// is also what a thumbprint is made of (RFC 7638 section 3).
	hash := sha256.Sum256([]byte(jwk))
	k.thumbprint = encode(hash[:])
	return k, nil
}

// proofClaims are the claims of a proof (RFC 9449 section 4.2).
type proofClaims struct {
	ID        string `json:"jti"`
	Method    string `json:"htm"`
	Target    string `json:"htu"`
	IssuedAt  int64  `json:"iat"`
	TokenHash string `json:"ath,omitempty"`
	Nonce     string `json:"nonce,omitempty"`
}

// prove makes a proof. Each has another ID.
func (k *proofKey) prove(claims proofClaims) (string, error) {
	claims.ID = rand.Text()
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := k.header + "." + encode(payload)
	signature, err := k.sign([]byte(signed))
	if err != nil {
		return "", err
	}
	return signed + "." + encode(signature), nil
}

// sign makes the signature of a JWS. A key in hardware comes with a driver, and drivers differ in
// what they return. So what is not of the right form is an error here, where it can be told, and
// not only at the server.
func (k *proofKey) sign(message []byte) ([]byte, error) {
	if k.ecdsa {
		hash := sha256.Sum256(message)
		der, err := k.signer.Sign(rand.Reader, hash[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return rawECDSA(der)
	}
	signature, err := k.signer.Sign(rand.Reader, message, crypto.Hash(0))
	if err == nil && len(signature) != ed25519.SignatureSize {
		err = fmt.Errorf("the key made an Ed25519 signature of %d bytes, and not of %d",
			len(signature), ed25519.SignatureSize)
	}
	return signature, err
}

// rawECDSA makes the form of a JWS, r and s one after the other (RFC 7518 section 3.4), of the
// ASN.1 that a crypto.Signer returns.
func rawECDSA(der []byte) ([]byte, error) {
	var halves struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &halves)
	if err != nil || len(rest) > 0 {
		return nil, errors.New("the key made an ECDSA signature that is not in ASN.1")
	}
	raw := make([]byte, 2*scalarSize)
	for i, half := range []*big.Int{halves.R, halves.S} {
		if half.Sign() <= 0 || half.BitLen() > 8*scalarSize {
			return nil, errors.New("the key made an ECDSA signature that is not of P-256")
		}
		half.FillBytes(raw[i*scalarSize : (i+1)*scalarSize])
	}
	return raw, nil
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }
