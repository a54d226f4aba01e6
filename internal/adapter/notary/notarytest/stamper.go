package notarytest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"github.com/notaryproject/tspclient-go"
)

var (
	oidStamping    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSignedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidContentType = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidDigest      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSignerCert  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidSHA256      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSA256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidPolicy      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
)

// maxRequest bounds what the stand-in reads.
const maxRequest = 16 << 10

// stampingOnly is the extension that RFC 3161 wants: critical, and alone.
func stampingOnly() (pkix.Extension, error) {
	der, err := asn1.Marshal([]asn1.ObjectIdentifier{oidStamping})
	return pkix.Extension{Id: oidExtKeyUsage, Critical: true, Value: der}, err
}

// TSA is a time-stamping authority. Its key is on P-256.
type TSA struct {
	By    *Holder
	Clock func() time.Time
	Edit  func(*tspclient.TSTInfo) // may change what is signed; nil: nothing
}

// Token returns a time-stamp over a message.
func (t *TSA) Token(message []byte) ([]byte, error) {
	req, err := tspclient.NewRequest(tspclient.RequestOptions{Content: message, HashAlgorithm: crypto.SHA256})
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	return t.answer(req)
}

// ServeHTTP answers requests of RFC 3161.
func (t *TSA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var req tspclient.Request
	if err == nil {
		err = req.UnmarshalBinary(body)
	}
	var token, answer []byte
	if err == nil {
		token, err = t.answer(&req)
	}
	if err == nil {
		answer, err = (&tspclient.Response{TimestampToken: asn1.RawValue{FullBytes: token}}).MarshalBinary()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", tspclient.MediaTypeTimestampReply)
	if _, err := w.Write(answer); err != nil {
		return // who asked is gone
	}
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

type signerInfo struct {
	Version   int
	Issuer    issuerAndSerial
	Digest    pkix.AlgorithmIdentifier
	Signed    asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature []byte
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type signedData struct {
	Version int
	Digests []pkix.AlgorithmIdentifier `asn1:"set"`
	Content struct {
		Type  asn1.ObjectIdentifier
		Value []byte `asn1:"explicit,tag:0"`
	}
	Certificates asn1.RawValue
	Signers      []signerInfo `asn1:"set"`
}

func (t *TSA) answer(req *tspclient.Request) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	info := tspclient.TSTInfo{
		Version: 1, Policy: oidPolicy, MessageImprint: req.MessageImprint, SerialNumber: serial,
		GenTime: t.Clock().UTC().Truncate(time.Second), Accuracy: tspclient.Accuracy{Seconds: 1}, Nonce: req.Nonce,
	}
	if t.Edit != nil {
		t.Edit(&info)
	}
	content, err := asn1.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	signer, err := t.sign(content)
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	data := signedData{Version: 3, Digests: []pkix.AlgorithmIdentifier{{Algorithm: oidSHA256}}, Signers: []signerInfo{signer}}
	data.Content.Type, data.Content.Value = oidTSTInfo, content
	var certs []byte
	for _, c := range t.By.Chain[:max(1, len(t.By.Chain)-1)] {
		certs = append(certs, c.Raw...)
	}
	data.Certificates = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: certs}
	inner, err := asn1.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("stamp: %w", err)
	}
	return asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}})
}

// sign makes the signer's part: attributes, and the signature over them.
func (t *TSA) sign(content []byte) (signerInfo, error) {
	sum, cert := sha256.Sum256(content), t.By.Chain[0]
	print := sha256.Sum256(cert.Raw)
	var attrs []attribute
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{
		{oidContentType, oidTSTInfo},
		{oidDigest, sum[:]},
		{oidSignerCert, struct{ Certs []struct{ Hash []byte } }{[]struct{ Hash []byte }{{print[:]}}}},
	} {
		der, err := asn1.Marshal(a.value)
		if err != nil {
			return signerInfo{}, err
		}
		attrs = append(attrs, attribute{a.oid, []asn1.RawValue{{FullBytes: der}}})
	}
	set, err := asn1.MarshalWithParams(attrs, "set")
	if err != nil {
		return signerInfo{}, err
	}
	hash := sha256.Sum256(set)
	sig, err := t.By.Key.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return signerInfo{}, err
	}
	implicit := append([]byte{0xa0}, set[1:]...) // [0] IMPLICIT in place of SET
	return signerInfo{
		Version: 1, Issuer: issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber},
		Digest: pkix.AlgorithmIdentifier{Algorithm: oidSHA256}, Signed: asn1.RawValue{FullBytes: implicit},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidECDSA256}, Signature: sig,
	}, nil
}
