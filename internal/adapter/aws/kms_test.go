package aws_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	keyID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	keyARN = "arn:aws:kms:us-west-2:111122223333:key/" + keyID
)

// vault answers as KMS does for one key, in the members that its API reference
// has.
type vault struct {
	private    crypto.Signer
	algorithms []string
	usage      string
	// fail answers an operation in the key's stead.
	fail map[string]string
	// forge has signatures made by another key.
	forge crypto.Signer
	// arn is what it calls the key; keyARN if empty.
	arn, spec string
	// signs is how it signs instead of how it was asked to.
	signs crypto.SignerOpts
}

func (v *vault) answer(t *testing.T) func(string, object) (int, object) {
	return func(operation string, in object) (int, object) {
		if code := v.fail[operation]; code != "" {
			return http.StatusBadRequest, object{"__type": code, "message": "no"}
		}
		switch operation {
		case "GetPublicKey":
			der, err := x509.MarshalPKIXPublicKey(v.private.Public())
			if err != nil {
				t.Error(err)
			}
			return http.StatusOK, object{"KeyId": v.arn, "PublicKey": der, "KeyUsage": v.usage, "KeySpec": v.spec, "CustomerMasterKeySpec": v.spec, "SigningAlgorithms": v.algorithms}
		case "Sign":
			text, _ := in["Message"].(string)
			digest, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Error(err)
			}
			hashes := map[string]crypto.SignerOpts{
				"ECDSA_SHA_256": crypto.SHA256, "ECDSA_SHA_384": crypto.SHA384, "RSASSA_PKCS1_V1_5_SHA_256": crypto.SHA256,
				"RSASSA_PSS_SHA_512": &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512},
			}
			name, _ := in["SigningAlgorithm"].(string)
			by := v.private
			if v.forge != nil {
				by = v.forge
			}
			opts := hashes[name]
			if v.signs != nil {
				opts = v.signs
			}
			signature, err := by.Sign(rand.Reader, digest, opts)
			if err != nil {
				t.Error(err)
			}
			return http.StatusOK, object{"KeyId": keyARN, "Signature": signature, "SigningAlgorithm": name}
		}
		return http.StatusBadRequest, object{"__type": "UnknownOperationException"}
	}
}

func elliptical(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// kms starts a KMS with one key.
func kms(t *testing.T, v *vault) *cloud {
	t.Helper()
	for text, usual := range map[*string]string{&v.usage: "SIGN_VERIFY", &v.arn: keyARN, &v.spec: "ECC_NIST_P256"} {
		if *text == "" {
			*text = usual
		}
	}
	c := newCloud(t, v.answer(t))
	t.Setenv("AWS_ENDPOINT_URL_KMS", c.URL)
	t.Setenv("AWS_REGION", "eu-central-1")
	return c
}

func logTo(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func TestKMSKeySigns(t *testing.T) {
	pair, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	sum256, sum384, sum512 := sha256.Sum256([]byte("image")), sha512.Sum384([]byte("image")), sha512.Sum512([]byte("image"))
	for _, tc := range []struct {
		name       string
		private    crypto.Signer
		algorithms []string
		digest     []byte
		opts       crypto.SignerOpts
		want       string
	}{
		{"P-256", elliptical(t, elliptic.P256()), []string{"ECDSA_SHA_256"}, sum256[:], crypto.SHA256, "ECDSA_SHA_256"},
		{"P-384", elliptical(t, elliptic.P384()), []string{"ECDSA_SHA_384"}, sum384[:], crypto.SHA384, "ECDSA_SHA_384"},
		{"RSA by PKCS #1", pair, []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_512"}, sum256[:], crypto.SHA256, "RSASSA_PKCS1_V1_5_SHA_256"},
		{"RSA by PSS", pair, []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PSS_SHA_512"}, sum512[:],
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512}, "RSASSA_PSS_SHA_512"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := kms(t, &vault{private: tc.private, algorithms: tc.algorithms})
			s, err := aws.NewKMSSigner(t.Context(), "awskms:///alias/build", logTo(t))
			if err != nil {
				t.Fatal(err)
			}
			if s.ARN() != keyARN || !tc.private.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(s.Public()) {
				t.Errorf("key %s %v", s.ARN(), s.Public())
			}
			for _, signer := range []crypto.Signer{s, s.With(t.Context())} { // its answer is checked against the public key
				if _, err := signer.Sign(rand.Reader, tc.digest, tc.opts); err != nil {
					t.Fatal(err)
				}
			}
			// What is asked is what the API reference has for these operations; and of
			// the key that was looked at, wherever the alias points now.
			want := []ask{
				{"GetPublicKey", "eu-central-1 kms", object{"KeyId": "alias/build"}},
				{"Sign", "eu-central-1 kms", object{"KeyId": keyARN, "Message": base64.StdEncoding.EncodeToString(tc.digest), "MessageType": "DIGEST", "SigningAlgorithm": tc.want}},
			}
			if diff := cmp.Diff(append(c.asks("GetPublicKey"), c.asks("Sign")[:1]...), want, cmp.AllowUnexported(ask{})); diff != "" {
				t.Errorf("asked, got, want:\n%s", diff)
			}
		})
	}
}

// A key's ARN tells its region.
func TestKMSKeyNames(t *testing.T) {
	for _, tc := range []struct{ name, id, region, failed string }{
		{keyARN, keyARN, "us-west-2", ""},
		{"awskms:///" + keyARN, keyARN, "us-west-2", ""},
		{"awskms:///" + keyID, keyID, "eu-central-1", ""},
		{"alias/build/web", "alias/build/web", "eu-central-1", ""},
		{"arn:aws-cn:kms:cn-north-1:111122223333:alias/build", "arn:aws-cn:kms:cn-north-1:111122223333:alias/build", "cn-north-1", ""},
		{"awskms://localhost:4566/" + keyID, "", "", "endpoint"},
		{"awskms://", "", "", "ends where"},
		{"awskms:///", "", "", "no key can"},
		{"awskms:///alias/a b", "", "", "no key can"},
		{"awskms:///other/a", "", "", "no key can"},
		{"arn:aws:kms:../evil:1:key/x", "", "", "no key can"},
		{"arn:aws:kms:us-west-2:111122223333:policy/x", "", "", "no ARN of a key"},
		{"arn:aws:s3:us-west-2:111122223333:key/x", "", "", "no ARN of a key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := &vault{private: elliptical(t, elliptic.P256()), algorithms: []string{"ECDSA_SHA_256"}}
			if home, isAlias := strings.CutSuffix(tc.id, "alias/build"); isAlias {
				v.arn = home + "key/" + keyID
			}
			c := kms(t, v)
			_, err := aws.NewKMSSigner(t.Context(), tc.name, logTo(t))
			asked := c.asks("GetPublicKey")
			if tc.failed != "" {
				checkFault(t, err, fault.Of(err), tc.failed)
				if len(asked) != 0 {
					t.Errorf("KMS was asked %v", asked)
				}
				return
			}
			if err != nil || len(asked) != 1 || asked[0].in["KeyId"] != tc.id || asked[0].scope != tc.region+" kms" {
				t.Errorf("asked %v, %v, want %s in %s", asked, err, tc.id, tc.region)
			}
			if !aws.IsKMSKey(tc.name) {
				t.Error("it is not taken for a key of KMS")
			}
		})
	}
	for _, path := range []string{"build.key", "/etc/keys/alias", "arn:aws:s3:::bucket", ""} {
		if aws.IsKMSKey(path) {
			t.Errorf("%q is taken for a key of KMS", path)
		}
	}
}

func TestKMSKeyRefused(t *testing.T) {
	sum := sha256.Sum256([]byte("image"))
	good := elliptical(t, elliptic.P256())
	fail := func(operation, code string) *vault {
		return &vault{private: good, algorithms: []string{"ECDSA_SHA_256"}, fail: map[string]string{operation: code}}
	}
	for _, tc := range []struct {
		name   string
		v      *vault
		opts   crypto.SignerOpts
		kind   fault.Kind
		remedy string
	}{
		{"no permission to look", fail("GetPublicKey", "AccessDeniedException"), crypto.SHA256, fault.Denied, "permit the role kms:GetPublicKey"},
		{"no permission to sign", fail("Sign", "AccessDeniedException"), crypto.SHA256, fault.Denied, "permit the role kms:Sign"},
		{"no such key", fail("GetPublicKey", "NotFoundException"), crypto.SHA256, fault.NotFound, "AWS_REGION"},
		{"disabled meanwhile", fail("Sign", "DisabledException"), crypto.SHA256, fault.Denied, "enable the key"},
		{"to be deleted", fail("GetPublicKey", "KMSInvalidStateException"), crypto.SHA256, fault.Unavailable, "pending deletion"},
		{"of another kind", fail("GetPublicKey", "UnsupportedOperationException"), crypto.SHA256, fault.Invalid, "asymmetric"},
		{"throttled", fail("Sign", "ThrottlingException"), crypto.SHA256, fault.Exhausted, "later"},
		{"down", fail("Sign", "KMSInternalException"), crypto.SHA256, fault.Unavailable, "later"},
		{"old credentials", fail("Sign", "ExpiredTokenException"), crypto.SHA256, fault.Unauthenticated, "renew"},
		{"for encryption", &vault{private: good, usage: "ENCRYPT_DECRYPT"}, crypto.SHA256, fault.Invalid, "SIGN_VERIFY"},
		{"another hash", fail("", ""), crypto.SHA384, fault.Invalid, "SHA-256"},
		{"a hash that it cannot", &vault{private: good, algorithms: []string{"ECDSA_SHA_512"}}, crypto.SHA256, fault.Invalid, "SHA-256"},
		{"no hash", fail("", ""), crypto.Hash(0), fault.Invalid, "SHA-256"},
		{"another's signature", &vault{private: good, algorithms: []string{"ECDSA_SHA_256"}, forge: elliptical(t, elliptic.P256())}, crypto.SHA256, fault.Corrupt, "not AWS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kms(t, tc.v)
			s, err := aws.NewKMSSigner(t.Context(), keyARN, logTo(t))
			if err == nil {
				_, err = s.Sign(rand.Reader, sum[:], tc.opts)
			}
			checkFault(t, err, tc.kind, "KMS key")
			if got := fault.Remedy(err); !contains(got, tc.remedy) {
				t.Errorf("remedy %q, want %q", got, tc.remedy)
			}
		})
	}
	t.Run("no region", func(t *testing.T) {
		kms(t, fail("", ""))
		t.Setenv("AWS_REGION", "")
		_, err := aws.NewKMSSigner(t.Context(), "alias/build", logTo(t))
		checkFault(t, err, fault.Invalid, "which region")
	})
	t.Run("cancelled", func(t *testing.T) {
		c := kms(t, fail("", ""))
		s, err := aws.NewKMSSigner(t.Context(), keyARN, logTo(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.With(ctx).Sign(rand.Reader, sum[:], crypto.SHA256); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that it was cancelled", err)
		}
		if n := len(c.asks("Sign")); n != 0 {
			t.Errorf("KMS was asked %d times", n)
		}
	})
}

// Whoever answers in KMS's stead, or an alias that is moved between the two
// questions, must not have us sign with a key that was not meant.
func TestKMSAnswersOfAnotherKey(t *testing.T) {
	const (
		account = "arn:aws:kms:us-west-2:111122223333:"
		other   = "arn:aws:kms:us-west-2:999999999999:key/" + keyID
		region  = "arn:aws:kms:eu-west-1:111122223333:key/" + keyID
	)
	for _, tc := range []struct {
		name, asked string
		v           vault
		kind        fault.Kind
		words       string
	}{
		{"another key", keyARN, vault{arn: account + "key/ffff"}, fault.Corrupt, "another was asked for"},
		{"another key for an id", keyID, vault{arn: account + "key/ffff"}, fault.Corrupt, "another was asked for"},
		{"the same id in another account", keyARN, vault{arn: other}, fault.Corrupt, "another was asked for"},
		{"an alias into another account", account + "alias/build", vault{arn: other}, fault.Corrupt, "another account or region"},
		{"an alias into another region", account + "alias/build", vault{arn: region}, fault.Corrupt, "another account or region"},
		{"an alias for a key, which could be moved", account + "alias/build", vault{arn: account + "alias/build"}, fault.Corrupt, "no ARN of a key"},
		{"a key of another service", "alias/build", vault{arn: "arn:aws:s3:us-west-2:111122223333:key/x"}, fault.Corrupt, "no ARN of a key"},
		{"no ARN", "alias/build", vault{arn: keyID}, fault.Corrupt, "no ARN of a key"},
		{"a curve of coins", keyARN, vault{spec: "ECC_SECG_P256K1"}, fault.Unsupported, "ECC_SECG_P256K1"},
		{"an alias", account + "alias/build", vault{}, fault.Unknown, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.v.private, tc.v.algorithms = elliptical(t, elliptic.P256()), []string{"ECDSA_SHA_256"}
			c := kms(t, &tc.v)
			s, err := aws.NewKMSSigner(t.Context(), tc.asked, logTo(t))
			if tc.words == "" {
				if err != nil || s.ARN() != keyARN {
					t.Errorf("NewKMSSigner() = %v, %v, want key %s", s, err, keyARN)
				}
				return
			}
			checkFault(t, err, tc.kind, tc.words)
			if n := len(c.asks("Sign")); n != 0 {
				t.Errorf("it was asked to sign %d times", n)
			}
		})
	}
}

// A signature by the right key and another algorithm is not what was asked for: who
// reads it would refuse it, and the same bytes could mean something elsewhere.
func TestKMSSignsByAnotherAlgorithm(t *testing.T) {
	pair, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte("image"))
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512}
	for _, tc := range []struct {
		name  string
		signs crypto.SignerOpts
		want  fault.Kind
	}{
		{"as asked", pss, fault.Unknown},
		{"PKCS #1 instead of PSS", crypto.SHA512, fault.Corrupt},
		{"PSS with a shorter salt", &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA512}, fault.Corrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			kms(t, &vault{private: pair, algorithms: []string{"RSASSA_PSS_SHA_512"}, signs: tc.signs, spec: "RSA_3072"})
			s, err := aws.NewKMSSigner(t.Context(), keyARN, logTo(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = s.Sign(rand.Reader, sum[:], pss); fault.Of(err) != tc.want {
				t.Errorf("Sign() = %v, want an error of kind %v", err, tc.want)
			}
		})
	}
}
