package notary

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
)

// thumbprints names, in a manifest, the certificates of the envelope it holds.
const thumbprints = "io.cncf.notary.x509chain.thumbprint#S256"

// agent is what envelopes say they were made by. It is not signed, and has no
// version, so that the same signature has the same bytes.
const agent = "castellan"

// SignOptions say how to sign.
type SignOptions struct {
	MediaType   string            // JWS or COSE; "" is JWS
	Annotations map[string]string // to be signed too
	At          time.Time         // of signing, as the signer says; zero: now
	Expiry      time.Time         // zero: never
	TSA         *TSA              // nil: no time-stamp
}

// Sign makes the signature of a subject, whose digest, media type and size must be
// given. The key may be anywhere, and must be that of the first certificate of the
// chain, which must end with its root.
//
// What it returns is to be kept as an image manifest whose configuration is {} with
// the envelope's artifact type as media type, whose only layer is the payload, whose
// annotations are the envelope's and whose subject is the subject. Its Digest is the
// payload's.
func Sign(ctx context.Context, key crypto.Signer, chain []*x509.Certificate, s signature.Subject, opts SignOptions) (signature.Envelope, error) {
	if opts.At.IsZero() {
		opts.At = time.Now()
	}
	opts.At, opts.Expiry = opts.At.UTC().Truncate(time.Second), opts.Expiry.UTC().Truncate(time.Second)
	a, err := ready(ctx, key, chain, opts)
	if err != nil {
		return signature.Envelope{}, err
	}
	payload, err := payloadOf(s, opts.Annotations)
	if err != nil {
		return signature.Envelope{}, err
	}
	in := sealed{payload: payload, header: header{algorithm: a.name, contentType: typePayload, scheme: schemeX509, signed: opts.At, expiry: opts.Expiry}}
	for _, c := range chain {
		in.chain = append(in.chain, c.Raw)
	}
	write := in.writeJWS
	if opts.MediaType == COSE {
		write = in.writeCOSE
	}
	finish, err := write(a)
	if err != nil {
		return signature.Envelope{}, err
	}
	if in.value, err = a.sign(key, in.covered); err != nil {
		return signature.Envelope{}, err
	}
	if err := a.verify(chain[0].PublicKey, in.covered, in.value); err != nil {
		return signature.Envelope{}, fmt.Errorf("sign: what the key made is not its signature: %w", err)
	}
	if opts.TSA != nil {
		if in.token, err = opts.TSA.stamp(ctx, a, in.value, validityOf(chain)); err != nil {
			return signature.Envelope{}, err
		}
	}
	e := signature.Envelope{ArtifactType: ArtifactType, MediaType: opts.MediaType, Annotations: map[string]string{thumbprints: thumbprintsOf(chain)}}
	if e.MediaType == "" {
		e.MediaType = JWS
	}
	if e.Payload, err = finish(); err != nil {
		return signature.Envelope{}, err
	}
	e.Digest = digest(e.Payload)
	return e, nil
}

// ready checks, before anything is signed, that others would accept it.
func ready(ctx context.Context, key crypto.Signer, chain []*x509.Certificate, opts SignOptions) (algorithm, error) {
	if err := ctx.Err(); err != nil {
		return algorithm{}, fmt.Errorf("sign: %w", err)
	}
	if opts.MediaType != "" && opts.MediaType != JWS && opts.MediaType != COSE {
		return algorithm{}, fault.New(fault.Invalid, "sign: %q is no form of an envelope, want %s or %s", opts.MediaType, JWS, COSE)
	}
	if len(chain) == 0 || len(chain) > maxChain {
		return algorithm{}, fault.New(fault.Invalid, "sign: the chain has %d certificates, want 1 to %d", len(chain), maxChain)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return algorithm{}, fault.New(fault.Invalid, "sign: the key is not that of the first certificate").With("put the signer's own certificate first, then its issuer's, the root last")
	}
	if err := verifyChain(chain, signing, false); err != nil {
		return algorithm{}, fault.New(fault.Invalid, "sign: %w", err).With("the chain must be complete, the signer's certificate first and the root last, and be made for signing code")
	}
	if err := validityOf(chain).contains("the image would be signed", opts.At, opts.At); err != nil {
		return algorithm{}, fault.New(fault.Invalid, "sign: %w", err)
	}
	if !opts.Expiry.IsZero() && !opts.Expiry.After(opts.At) {
		return algorithm{}, fault.New(fault.Invalid, "sign: the signature would expire on %s, before it is made", stamp(opts.Expiry))
	}
	for name := range opts.Annotations {
		if strings.HasPrefix(name, "io.cncf.notary") {
			return algorithm{}, fault.New(fault.Invalid, "sign: the annotation %s is the Notary Project's own", shown(name))
		}
	}
	return algorithmOf(chain[0].PublicKey)
}

func payloadOf(s signature.Subject, annotations map[string]string) ([]byte, error) {
	if s.Digest == "" || s.MediaType == "" || s.Size <= 0 {
		return nil, fault.New(fault.Invalid, "sign: digest, media type and size of the manifest must be known, got %q, %q and %d", s.Digest, s.MediaType, s.Size)
	}
	data, err := json.Marshal(map[string]target{"targetArtifact": {s.MediaType, s.Digest, s.Size, annotations}})
	if err != nil {
		return nil, fmt.Errorf("sign: write the payload: %w", err)
	}
	read, err := readPayload(data)
	if err != nil {
		return nil, fault.New(fault.Invalid, "sign: %w", err)
	}
	if !maps.Equal(read.Annotations, annotations) {
		return nil, fault.New(fault.Invalid, "sign: the annotations are not all UTF-8")
	}
	return data, nil
}

// writeJWS writes what is to be signed into covered, and returns what makes the
// envelope of it when it is.
func (s *sealed) writeJWS(algorithm) (finish func() ([]byte, error), err error) {
	h := s.header
	head := struct {
		Alg    string   `json:"alg"`
		Cty    string   `json:"cty"`
		Crit   []string `json:"crit"`
		Scheme string   `json:"io.cncf.notary.signingScheme"`
		Signed string   `json:"io.cncf.notary.signingTime"`
		Expiry string   `json:"io.cncf.notary.expiry,omitempty"`
	}{h.algorithm, h.contentType, []string{nameScheme}, h.scheme, stamp(h.signed), ""}
	if !h.expiry.IsZero() {
		head.Expiry, head.Crit = stamp(h.expiry), append(head.Crit, nameExpiry)
	}
	protected, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("sign: write the header: %w", err)
	}
	enc := base64.RawURLEncoding
	s.covered = []byte(enc.EncodeToString(protected) + "." + enc.EncodeToString(s.payload))
	return func() ([]byte, error) {
		type beside struct {
			Chain [][]byte `json:"x5c"`
			Token []byte   `json:"io.cncf.notary.timestampSignature,omitempty"`
			Agent string   `json:"io.cncf.notary.signingAgent"`
		}
		data, err := json.Marshal(struct {
			Payload   string `json:"payload"`
			Protected string `json:"protected"`
			Header    beside `json:"header"`
			Signature string `json:"signature"`
		}{enc.EncodeToString(s.payload), enc.EncodeToString(protected), beside{s.chain, s.token, agent}, enc.EncodeToString(s.value)})
		if err != nil {
			return nil, fmt.Errorf("sign: write the envelope: %w", err)
		}
		return data, nil
	}, nil
}

// writeCOSE is writeJWS for the other form.
func (s *sealed) writeCOSE(a algorithm) (finish func() ([]byte, error), err error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("sign: prepare to write CBOR: %w", err)
	}
	h := s.header
	crit := []any{nameScheme}
	head := map[any]any{
		labelAlg: a.cose, labelCty: h.contentType, nameScheme: h.scheme,
		nameSigned: cbor.Tag{Number: tagTime, Content: h.signed.Unix()},
	}
	if !h.expiry.IsZero() {
		crit = append(crit, nameExpiry)
		head[nameExpiry] = cbor.Tag{Number: tagTime, Content: h.expiry.Unix()}
	}
	head[labelCrit] = crit
	protected, err := mode.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("sign: write the header: %w", err)
	}
	s.covered = sigStructure(protected, s.payload)
	return func() ([]byte, error) {
		beside := map[any]any{labelX5Chain: s.chain, nameAgent: agent}
		if len(s.token) > 0 {
			beside[nameToken] = s.token
		}
		data, err := mode.Marshal(cbor.Tag{Number: tagSign1, Content: []any{protected, beside, s.payload, s.value}})
		if err != nil {
			return nil, fmt.Errorf("sign: write the envelope: %w", err)
		}
		return data, nil
	}, nil
}

func thumbprintsOf(chain []*x509.Certificate) string {
	prints := make([]string, len(chain))
	for i, c := range chain {
		sum := sha256.Sum256(c.Raw)
		prints[i] = `"` + hex.EncodeToString(sum[:]) + `"`
	}
	return "[" + strings.Join(prints, ",") + "]"
}
