package aws

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// signWithin is how long one request to KMS may take, with all the SDK's own
	// attempts: KMS answers in some dozens of milliseconds, or throttles.
	signWithin = 30 * time.Second
	// maxKeyName bounds what names a key: the longest ARN of an alias has some 320
	// characters.
	maxKeyName = 512

	keyScheme = "awskms://"
)

// Permissions that a key needs, as remedies name them. Its key policy must permit
// them as well as the role's.
const (
	mayLookAtKey = "kms:GetPublicKey on the key, in its key policy as well"
	maySign      = "kms:Sign on the key, in its key policy as well"
)

// IsKMSKey says whether a key's name is one of KMS: an ARN of a key or an alias,
// alias/NAME, or awskms:///ANY as cosign writes it.
func IsKMSKey(name string) bool {
	if strings.HasPrefix(name, keyScheme) || strings.HasPrefix(name, "alias/") {
		return true
	}
	parts := strings.SplitN(name, ":", 4)
	return len(parts) == 4 && parts[0] == "arn" && parts[2] == "kms"
}

// parseKMSKey returns what KMS calls a key, and the region that its ARN tells.
func parseKMSKey(name string) (id, region string, err error) {
	wrong := func(why string) error {
		return fault.New(fault.Invalid, "KMS key %.100q: %s", name, why).
			With("name it by its ARN, as alias/NAME, or as awskms:///ARN")
	}
	id = name
	if rest, ok := strings.CutPrefix(name, keyScheme); ok {
		host, path, ok := strings.Cut(rest, "/")
		if host != "" {
			return "", "", fault.New(fault.Unsupported, "KMS key %.100q names the endpoint %.60q", name, host).
				With("leave it away, with three slashes, and set AWS_ENDPOINT_URL_KMS")
		}
		if id = path; !ok {
			return "", "", wrong("it ends where the key should be")
		}
	}
	if id == "" || len(id) > maxKeyName || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/:") != "" {
		return "", "", wrong("no key can be called so")
	}
	if !strings.HasPrefix(id, "arn:") {
		if strings.Contains(id, ":") || strings.Contains(id, "/") && !strings.HasPrefix(id, "alias/") {
			return "", "", wrong("no key can be called so")
		}
		return id, "", nil
	}
	parts := strings.SplitN(id, ":", 6)
	if len(parts) != 6 || parts[2] != "kms" || !isRegion(parts[3]) || !strings.HasPrefix(parts[5], "key/") && !strings.HasPrefix(parts[5], "alias/") {
		return "", "", wrong("it is no ARN of a key or an alias of KMS")
	}
	return id, parts[3], nil
}

// KMSSigner is a private key in AWS KMS, which never leaves it. It is a
// crypto.Signer and can be used by several goroutines.
type KMSSigner struct {
	api    *kms.Client
	arn    string // of the key, whatever named it
	public crypto.PublicKey
	can    []types.SigningAlgorithmSpec
}

// NewKMSSigner looks at a key: one that cannot sign is refused now. It asks KMS
// once. Errors have a kind and a remedy.
func NewKMSSigner(ctx context.Context, name string, log *slog.Logger) (*KMSSigner, error) {
	id, region, err := parseKMSKey(name)
	if err != nil {
		return nil, err
	}
	what := "look at KMS key " + id
	ctx, cancel := context.WithTimeout(ctx, signWithin)
	defer cancel()
	config, err := load(ctx, registry{region: region}, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if config.Region == "" {
		return nil, fault.New(fault.Invalid, "%s: in which region?", what).With("name it by its ARN, or set AWS_REGION")
	}
	if err := identified(ctx, config); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	s := &KMSSigner{api: kms.NewFromConfig(config)}
	out, err := s.api.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: sdk.String(id)})
	if err != nil {
		return nil, refusedKey(what, err, mayLookAtKey)
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify {
		return nil, fault.New(fault.Invalid, "%s: its usage is %s", what, out.KeyUsage).With("take a key whose usage is SIGN_VERIFY: a key's usage cannot be changed")
	}
	s.arn, s.can = sdk.ToString(out.KeyId), out.SigningAlgorithms
	if why := otherKey(id, s.arn); why != "" {
		return nil, fault.New(fault.Corrupt, "%s: the answer is about %.300q, %s", what, s.arn, why).
			With("is AWS_ENDPOINT_URL set to something that is not AWS? if not, tell AWS")
	}
	if slices.Contains([]types.KeySpec{types.KeySpecEccSecgP256k1, types.KeySpecSm2}, out.KeySpec) {
		return nil, unfit(what, out.KeySpec) // whose public keys the standard library cannot read
	}
	if s.public, err = x509.ParsePKIXPublicKey(out.PublicKey); err != nil {
		return nil, fault.New(fault.Unavailable, "%s: read its public key: %w", what, err).With("is AWS_ENDPOINT_URL set to something that is not AWS?")
	}
	switch s.public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return nil, unfit(what, out.KeySpec)
	}
	return s, nil
}

func unfit(what string, spec types.KeySpec) error {
	return fault.New(fault.Unsupported, "%s: it is of the kind %s", what, spec).With("take one of the kinds ECC_NIST_P256, ECC_NIST_P384, RSA_3072 or RSA_4096")
}

// otherKey says why the key that KMS has told of can't be the one that was asked
// for; "" if it can. From here on it is asked for by what KMS called it, so that an
// alias that is moved meanwhile changes nothing; and an alias is always of the
// account and region of its key.
func otherKey(asked, answered string) string {
	got := strings.SplitN(answered, ":", 6)
	if len(got) != 6 || got[0] != "arn" || got[2] != "kms" || !strings.HasPrefix(got[5], "key/") {
		return "which is no ARN of a key"
	}
	want := strings.SplitN(asked, ":", 6)
	switch {
	case len(want) != 6: // without an account; the region is that of the endpoint
		if !strings.HasPrefix(asked, "alias/") && got[5] != "key/"+asked {
			return "and another was asked for"
		}
	case strings.HasPrefix(want[5], "key/") && asked != answered:
		return "and another was asked for"
	case !slices.Equal(want[:5], got[:5]):
		return "which is of another account or region than was asked for"
	}
	return ""
}

// ARN is the key's. An alias that is moved to another key meanwhile changes
// nothing.
func (s *KMSSigner) ARN() string { return s.arn }

// Public returns the public key.
func (s *KMSSigner) Public() crypto.PublicKey { return s.public }

// Sign signs a digest; see SignContext. It takes at most signWithin.
func (s *KMSSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.SignContext(context.Background(), digest, opts)
}

// SignContext has KMS sign a digest, with the algorithm that opts name: RSA by PSS
// with *rsa.PSSOptions, else by PKCS #1. The answer is checked against the public
// key before it is returned.
func (s *KMSSigner) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm, err := s.algorithm(digest, opts)
	if err != nil {
		return nil, err
	}
	what := "sign with KMS key " + s.arn
	ctx, cancel := context.WithTimeout(ctx, signWithin)
	defer cancel()
	out, err := s.api.Sign(ctx, &kms.SignInput{
		KeyId: sdk.String(s.arn), Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithm,
	})
	if err != nil {
		return nil, refusedKey(what, err, maySign)
	}
	if !s.verifies(digest, out.Signature, opts) {
		return nil, fault.New(fault.Corrupt, "%s: the answer is no signature by that key", what).
			With("is AWS_ENDPOINT_URL set to something that is not AWS? if not, tell AWS")
	}
	return out.Signature, nil
}

// With returns a signer whose requests end with ctx.
func (s *KMSSigner) With(ctx context.Context) crypto.Signer { return boundSigner{s, ctx} }

// boundSigner signs within a context, which crypto.Signer has no place for.
type boundSigner struct {
	*KMSSigner
	ctx context.Context
}

// Sign signs a digest.
func (b boundSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return b.SignContext(b.ctx, digest, opts)
}

// algorithm returns what KMS calls a way to sign.
func (s *KMSSigner) algorithm(digest []byte, opts crypto.SignerOpts) (types.SigningAlgorithmSpec, error) {
	wrong := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "sign with KMS key "+s.arn+": "+format, args...).With("sign with SHA-256, SHA-384 or SHA-512, by an algorithm that the key can")
	}
	hash := opts.HashFunc()
	at := slices.Index([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}, hash)
	if at < 0 {
		return "", wrong("by the hash %v", hash)
	}
	if len(digest) != hash.Size() {
		return "", wrong("a digest of %d bytes, and %v has %d", len(digest), hash, hash.Size())
	}
	algorithms := []types.SigningAlgorithmSpec{types.SigningAlgorithmSpecEcdsaSha256, types.SigningAlgorithmSpecEcdsaSha384, types.SigningAlgorithmSpecEcdsaSha512}
	if _, isRSA := s.public.(*rsa.PublicKey); isRSA {
		algorithms = []types.SigningAlgorithmSpec{types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, types.SigningAlgorithmSpecRsassaPkcs1V15Sha384, types.SigningAlgorithmSpecRsassaPkcs1V15Sha512}
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			algorithms = []types.SigningAlgorithmSpec{types.SigningAlgorithmSpecRsassaPssSha256, types.SigningAlgorithmSpecRsassaPssSha384, types.SigningAlgorithmSpecRsassaPssSha512}
			// KMS takes a salt as long as the hash.
			if n := pss.SaltLength; n != rsa.PSSSaltLengthAuto && n != rsa.PSSSaltLengthEqualsHash && n != hash.Size() {
				return "", wrong("a salt of %d bytes", n)
			}
		}
	}
	if !slices.Contains(s.can, algorithms[at]) {
		return "", wrong("it cannot %s, but %v", algorithms[at], s.can)
	}
	return algorithms[at], nil
}

// verifies says whether a signature is the key's.
func (s *KMSSigner) verifies(digest, signature []byte, opts crypto.SignerOpts) bool {
	switch public := s.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		if _, ok := opts.(*rsa.PSSOptions); ok {
			// Readers of the Notary Project take no other salt than KMS's own.
			return rsa.VerifyPSS(public, opts.HashFunc(), digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, opts.HashFunc(), digest, signature) == nil
	}
	return false
}

// refusedKey gives an error of KMS its kind and remedy.
func refusedKey(what string, err error, permissions string) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return refused(what, err, permissions, "kms")
	}
	said := oneLine(fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()))
	switch code := api.ErrorCode(); code {
	case "NotFoundException":
		return fault.New(fault.NotFound, "%s: %w", what, said).With("is the key in that account and region (AWS_REGION)? a key of another account is named by its ARN")
	case "DisabledException":
		return fault.New(fault.Denied, "%s: %w", what, said).With("enable the key, or sign with another")
	case "KMSInvalidStateException", "KeyUnavailableException", "KMSInvalidStateError":
		return fault.New(fault.Unavailable, "%s: %w", what, said).With("is the key pending deletion or import? cancel that, or sign with another")
	case "InvalidKeyUsageException", "UnsupportedOperationException", "InvalidArnException":
		return fault.New(fault.Invalid, "%s: %w", what, said).With("take an asymmetric key whose usage is SIGN_VERIFY")
	case "DependencyTimeoutException", "KMSInternalException":
		return fault.New(fault.Unavailable, "%s: %w", what, said).With("try again later")
	case "InvalidGrantTokenException", "IncorrectKeyException":
		return fault.New(fault.Denied, "%s: %w", what, said).With("permit the role " + permissions)
	}
	return refusedByName(what, err, permissions, "kms", "is the key's ARN, id or alias right? an alias is written as alias/NAME")
}
