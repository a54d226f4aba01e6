package policy_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/signature"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// memory is Files in memory.
type memory map[string]string

func (m memory) Read(name string, most int64) ([]byte, error) {
	s, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if int64(len(s)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return []byte(s), nil
}

func (m memory) List(folder string, most int) ([]string, error) {
	var out []string
	for name := range m {
		if strings.HasPrefix(name, folder+"/") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

const trustedRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// trustedRootOf is a trusted root with one authority, whose certificates these are.
func trustedRootOf(chain ...string) string {
	return `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","certificateAuthorities":[{"certChain":{"certificates":[{"rawBytes":"` +
		strings.Join(chain, `"},{"rawBytes":"`) + `"}]}}]}`
}

func keyPEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func newKey(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM(t, &k.PublicKey)
}

func newCertificate(t testing.TB) (certificate, list string) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, pub, priv)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), NextUpdate: time.Now().Add(time.Hour)}, ca, priv)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}))
}

// world returns the files that policies of these tests name.
func world(t testing.TB) memory {
	certificate, list := newCertificate(t)
	other, _ := newCertificate(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	a := newKey(t)
	block, _ := pem.Decode([]byte(newKey(t)))
	return memory{
		"a.pub": a, "b.pub": newKey(t), "c.pub": newKey(t), "same.pub": a, "kms.txt": base64.StdEncoding.EncodeToString(block.Bytes),
		"small.pub": keyPEM(t, &small.PublicKey), "private.pem": "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
		"ca.pem": certificate, "folder/1.crt": certificate, "folder/2.crt": other, "ca.crl": list, "root.json": trustedRoot,
		"public.json": trustedRootOf("AAAA", "AAAB"), "private.json": trustedRootOf("AAAC"), "odd.json": `{"mediaType":"x"}`,
	}
}

// whole is a policy in which everything is used.
const whole = `# who may vouch
version: 1
roots:
  keys:
    build: a.pub
    build-old: {file: b.pub, notBefore: 2025-01-01, notAfter: 2026-06-30, lost: 2026-05-01T10:00:00Z}
    kms: {file: kms.txt, kms: "arn:aws:kms:eu-central-1:123456789012:key/abc"}
  stores:
    acme: {kind: ca, folder: folder}
    aws: {kind: [signingAuthority, tsa], file: ca.pem}
  sigstore: [root.json]
  revoked:
    - file: ca.crl
predicates:
  review: https://acme.example/review/v1
signers:
  build:
    key: [build, build-old]
  quality:
    kms: arn:aws:kms:eu-central-1:123456789012:key/abc
  release:
    keyless:
      issuer: https://token.actions.githubusercontent.com
      subject: https://github.com/acme/*/.github/workflows/release.yml@refs/tags/*
      claims: {trigger: push}
  staff:
    team: true
    keyless:
      issuer: {exact: "https://accounts.google.com"}
      subject: {regexp: '[a-z]+@acme\.example'}
  ops:
    certificate: {store: acme, subject: "CN=ops, O=Acme\\, Inc.", names: ["*@acme.example"]}
  lambda:
    identities:
      - awsSigner: {profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/lambda", store: aws}
  alias: {awsSigner: {profile: "arn:aws:signer:::/aliases/ecr", store: aws}}
  aliased: {awsSigner: {profile: "arn:aws:signer:eu-central-1:123456789012:/aliased-signing-profiles/ecr", store: aws}}
  pinned: {awsSigner: {profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/lambda/v1", store: aws}}
images:
  - name: shop
    match: [123456789012.dkr.ecr.*.amazonaws.com/shop/**, ghcr.io/acme/shop]
    require:
      - {signers: [build, quality], kinds: sigstore, log: true}
      - {signers: [staff], threshold: 2, time: true, revocation: soft, allowOld: true, sameRepository: true}
    attestations:
      - type: vuln
        signers: quality
        maxAge: 7d
        condition: |
          predicate.scanner.result.size() == 0 &&
            signer.name == "quality"
      - {type: review, signers: [ops, lambda], threshold: 1}
  - match: docker.io/**
    deny: mirror it first
exceptions:
  - {digest: "sha256:` + zeros + `", match: "**", reason: "until the build signs", expires: 2026-12-31}
`

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestRead(t *testing.T) {
	p, err := policy.Read([]byte(whole), "p.yaml", world(t))
	if err != nil {
		t.Fatal(err)
	}
	r := p.Roots()
	if len(r.Keys) != 3 || len(r.Stores) != 3 || len(r.Sigstore) != 1 || len(r.Revoked) != 1 {
		t.Errorf("got %d keys, %d stores, %d trusted roots, %d lists", len(r.Keys), len(r.Stores), len(r.Sigstore), len(r.Revoked))
	}
	if len(r.Stores[0].Certificates) != 2 {
		t.Errorf("the folder's store has %d certificates, want 2", len(r.Stores[0].Certificates))
	}
	old := r.Keys[1]
	if want := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC); old.Name != "build-old" || !old.Lost.Equal(want) {
		t.Errorf("got key %s, lost %s", old.Name, old.Lost)
	}
	rule, pattern := p.For("123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/web/api")
	if rule == nil || rule.Name != "shop" || pattern.At.Line != 41 || len(rule.Require) != 4 {
		t.Fatalf("got rule %+v by %+v", rule, pattern)
	}
	if q := rule.Require[0]; q.Threshold != 2 || !q.Each || !q.Log || q.Revocation != policy.Strict || q.Allows(signature.Notary) {
		t.Errorf("got %+v", q)
	}
	if q := rule.Require[1]; q.Threshold != 2 || q.Each || !q.Time || q.Revocation != policy.Soft || !q.AllowOld || !q.SameRepository {
		t.Errorf("got %+v", q)
	}
	if q := rule.Require[2]; q.MaxAge != 7*24*time.Hour || len(q.Conditions) != 1 || len(q.Types) != 3 {
		t.Errorf("got %+v", q)
	}
	if e := p.Excepted("ghcr.io/x/y", []string{"sha256:" + zeros}, old.Lost); e == nil || e.Reason != "until the build signs" {
		t.Errorf("got exception %+v", e)
	}
	if e := p.Excepted("ghcr.io/x/y", []string{"sha256:" + zeros}, old.Lost.AddDate(1, 0, 0)); e != nil {
		t.Errorf("an exception that is over holds: %+v", e)
	}
}

func TestReadJSON(t *testing.T) {
	const text = "{\n\t\"version\": 1,\n\t\"roots\": {\"keys\": {\"k\": \"a.pub\"}},\n\t\"signers\": {\"s\": {\"key\": \"k\"}},\n\t\"images\": [{\"match\": \"**\", \"require\": [{\"signers\": [\"s\"]}]}]\n}"
	if _, err := policy.Read([]byte(text), "p.json", world(t)); err != nil {
		t.Error(err)
	}
}

func TestDigests(t *testing.T) {
	files := world(t)
	digests := func() (string, string) {
		p, err := policy.Read([]byte(whole), "p.yaml", files)
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest, p.RootsDigest
	}
	policy1, roots1 := digests()
	files["a.pub"] = newKey(t)
	policy2, roots2 := digests()
	if policy1 != policy2 || roots1 == roots2 {
		t.Error("another key in a file must change the digest of the roots, and only that")
	}
}

// TestRootsDigestOfFolders moves a certificate from one store to another: what
// is read stays the same, in the same order, and what is trusted doesn't.
func TestRootsDigestOfFolders(t *testing.T) {
	files := world(t)
	one, other := files["folder/1.crt"], files["folder/2.crt"]
	const text = "version: 1\nroots: {stores: {a: {kind: ca, folder: a}, b: {kind: ca, folder: b}}}\n"
	digest := func(m memory) string {
		p, err := policy.Read([]byte(text), "p.yaml", m)
		if err != nil {
			t.Fatal(err)
		}
		return p.RootsDigest
	}
	third, _ := newCertificate(t)
	before := digest(memory{"a/1": one, "a/2": other, "b/3": third})
	if after := digest(memory{"a/1": one, "b/2": other, "b/3": third}); after == before {
		t.Error("a certificate is in another store, and the digest of the roots is the same")
	}
}

// base is what most policies of the tests below begin with.
const base = `version: 1
roots:
  keys: {a: a.pub, b: b.pub}
  stores: {acme: {kind: ca, file: ca.pem}, aws: {kind: signingAuthority, file: ca.pem}}
  sigstore: root.json
`

const end = `
images:
  - {match: "**", require: [{signers: [s]}]}
`

// two has two trusted roots of Sigstore, as who runs a Fulcio of his own does.
const two = `version: 1
roots:
  sigstore: [{name: public, file: public.json}, {name: acme, file: private.json}]
`

func TestProblems(t *testing.T) {
	signer := func(s string) string { return base + "signers: {s: {" + s + "}}" + end }
	rule := func(s string) string { return base + "signers: {s: {key: a}, t: {key: b}}\nimages:\n  - " + s }
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "the policy is empty"},
		{"no YAML", "version: [", "did not find"},
		{"a bracket that is not closed", "version: [\n", "1:1: did not find"},
		{"brackets closed by others", "version: 1\nroots:\n  keys: {\n  images: ]\n", "3:3: did not find"},
		{"brackets over lines, then no YAML", "version: 1\nroots: {\n  keys: {\n  }}\nimages: x: y\n", "5:1: mapping values are not allowed"},
		{"a line that is not where it should be", "version: 1\nimages:\n  - match: a\n    deny: x\n   odd: y\n", "5:4: did not find"},
		{"a tab", "version: 1\nimages:\n\t- match: a\n", "3:1: found character that cannot start any token"},
		{"a quote that is not closed", "version: 1\nimages: 'a\nroots: {}\n", "2:1: found unexpected end of stream"},
		{"broken, and too large to be looked at closely", "version: 1\n#" + strings.Repeat("x", 1<<19) + "\nimages: [\n" + strings.Repeat("\n", 1000), "did not find"},
		{"two documents", "version: 1\n---\nversion: 1", "more than one document"},
		{"a list", "- 1", "1:1: the policy is no map"},
		{"another version", "version: 2", `is not 1`},
		{"no version", "images: []", `is not 1`},
		{"unknown field", "version: 1\nimage: x", `2:1: the policy has no field "image"`},
		{"field twice", "version: 1\nsigners: {}\nsigners: {}", "3:1: the policy has signers twice: line 2"},
		{"name twice", base + "signers:\n  s: {key: a}\n  s: {key: b}", `8:3: signers has "s" twice`},
		{"alias", "version: 1\nsigners: &x {}\nroots: *x", "2:10: anchors and aliases"},
		{"merge", "version: 1\nsigners:\n  <<: {}", "anchors and aliases"},
		{"tag", "version: !!binary MQ==", "tags (!!binary)"},
		{"deep", "version: 1\nroots: " + strings.Repeat("[", 30) + strings.Repeat("]", 30), "deep"},
		{"too large", "version: 1 #" + strings.Repeat("x", policy.MaxBytes), "at most 1048576 are read"},

		{"missing file", "version: 1\nroots: {keys: {k: none.pub}}", "2:19: read none.pub"},
		{"weak key", "version: 1\nroots: {keys: {k: small.pub}}", "RSA key of 1024 bits"},
		{"private key", "version: 1\nroots: {keys: {k: private.pem}}", "a private key"},
		{"certificate as key", "version: 1\nroots: {keys: {k: ca.pem}}", "PEM of a CERTIFICATE"},
		{"same key twice", "version: 1\nroots: {keys: {k: a.pub, l: same.pub}}", "keys k and l are the same key"},
		{"no source", "version: 1\nroots: {keys: {k: {notAfter: 2026-01-01}}}", "0 sources"},
		{"ends before", "version: 1\nroots: {keys: {k: {file: a.pub, notBefore: 2026-02-01, notAfter: 2026-01-01}}}", "ends before it begins"},
		{"no date", "version: 1\nroots: {keys: {k: {file: a.pub, lost: yesterday}}}", "lost is no date"},
		{"no ARN", "version: 1\nroots: {keys: {k: {file: a.pub, kms: alias/x}}}", "is no ARN"},
		{"store without kind", "version: 1\nroots: {stores: {k: {file: ca.pem}}}", "store k has no kind"},
		{"store without certificates", "version: 1\nroots: {stores: {k: {kind: ca}}}", "store k has no certificates"},
		{"odd store", "version: 1\nroots: {stores: {k: {kind: root, file: ca.pem}}}", `kind "root" is not known`},
		{"no trusted root", "version: 1\nroots: {sigstore: odd.json}", "no trusted root"},
		{"no list", "version: 1\nroots: {revoked: ca.pem}", "a X509 CRL is wanted"},

		{"nobody", signer(""), "signer s is nobody"},
		{"unknown key", signer("key: c"), "there is no key c"},
		{"unknown ARN", signer(`kms: "arn:aws:kms:eu-central-1:123456789012:key/abc"`), "no key has the ARN"},
		{"two signers of one key", base + "signers: {s: {key: a}, t: {key: a}}" + end, "are both the key a"},
		{"keyless without subject", signer("keyless: {issuer: 'https://x.example'}"), "without issuer or subject"},
		{"keyless of any of several trusted roots", two + "signers: {s: {keyless: {issuer: 'https://x.example', subject: me@acme.example}}}", "must name its own"},
		{"keyless of an unknown trusted root", two + "signers: {s: {keyless: {root: third, issuer: 'https://x.example', subject: me@acme.example}}}", "no trusted root of roots.sigstore is called third"},
		{"keyless of a trusted root without authorities", "version: 1\nroots: {sigstore: {name: logs, file: root.json}}\nsigners: {s: {keyless: {root: logs, issuer: 'https://x.example', subject: x}}}", "logs has no certificate authority"},
		{"two trusted roots of one name", "version: 1\nroots: {sigstore: [{name: a, file: root.json}, {name: a, file: public.json}]}", "two trusted roots are called a"},
		{"a trusted root with an odd name", "version: 1\nroots: {sigstore: {name: 'a b', file: root.json}}", "can't be a name"},
		{"a trusted root of two sources", "version: 1\nroots: {sigstore: {file: root.json, pem: '{}'}}", "two sources"},
		{"keyless without roots", "version: 1\nsigners: {s: {keyless: {issuer: 'https://x.example', subject: x}}}", "need a trusted root"},
		{"any subject", signer("keyless: {issuer: 'https://x.example', subject: '**'}"), "that is any signer"},
		{"any subject by expression", signer("keyless: {issuer: 'https://x.example', subject: {regexp: '.*'}}"), "that is any signer"},
		{"any repository", signer("keyless: {issuer: 'https://x.example', subject: 'https://github.com/**'}"), "that is any signer"},
		{"any release", signer("keyless: {issuer: 'https://x.example', subject: 'https://github.com/*/*/.github/workflows/release.yml@refs/tags/*'}"), "that is any signer"},
		{"any mailbox", signer("keyless: {issuer: 'https://x.example', subject: '*@gmail.com'}"), "that is any signer"},
		{"any issuer", signer("keyless: {issuer: '**', subject: me@acme.example}"), "anybody who runs an issuer"},
		{"a claim that binds nobody", signer("keyless: {issuer: 'https://x.example', subject: '**', claims: {trigger: push}}"), "that is any signer"},
		{"unknown claim", signer("keyless: {issuer: 'https://x.example', subject: me@acme.example, claims: {source-repo: x}}"), "no claim source-repo"},
		{"bad expression", signer("keyless: {issuer: 'https://x.example', subject: {regexp: 'a)|(b'}}"), "unexpected )"},
		{"certificate without store", signer("certificate: {subject: CN=x}"), "needs the store"},
		{"any certificate", signer("certificate: {store: acme}"), "every certificate of store acme"},
		{"any name", signer("certificate: {store: acme, names: ['**']}"), "that is any signer"},
		{"country", signer("certificate: {store: acme, subject: C=DE}"), "names nobody"},
		{"star in a name", signer("certificate: {store: acme, subject: CN=*}"), "no meaning"},
		{"several attributes", signer("certificate: {store: acme, subject: CN=a+O=b}"), "several attributes"},
		{"attribute twice", signer("certificate: {store: acme, subject: 'CN=a,CN=b'}"), "CN twice"},
		{"unknown store", signer("certificate: {store: x, subject: CN=x}"), "there is no store x"},
		{"profile without store", signer(`awsSigner: {profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/x"}`), "needs a profile and a store"},
		{"no profile", signer(`awsSigner: {store: aws, profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/x/v1/y"}`), "no signing profile"},
		{"a profile without its slash", signer(`awsSigner: {store: aws, profile: "arn:aws:signer:eu-central-1:123456789012:signing-profiles/x"}`), "lacks the slash"},
		{"a name for a profile", signer(`awsSigner: {store: aws, profile: x}`), "is no ARN"},
		{"profile of a CA", signer(`awsSigner: {store: acme, profile: "arn:aws:signer:eu-central-1:123456789012:/signing-profiles/x"}`), "store acme is for [ca]"},

		{"asks for nothing", rule(`{match: "**"}`), "there is no any-signer mode"},
		{"no signers", rule(`{match: "**", require: [{log: true}]}`), "there is no any-signer mode"},
		{"any signer", rule(`{match: "**", require: [{signers: ["*"]}]}`), "there is no any-signer mode"},
		{"nobody of that name", rule(`{match: "**", require: [{signers: [u]}]}`), "there is no signer u"},
		{"too many", rule(`{match: "**", require: [{signers: [s], threshold: 2}]}`), "2 of 1 signers can never be"},
		{"none of them", rule(`{match: "**", require: [{signers: [s], threshold: 0}]}`), "no number of 1 or more"},
		{"twice", rule(`{match: "**", require: [{signers: [s, s]}]}`), "signer s twice"},
		{"both", rule(`{match: "**", deny: true, require: [{signers: [s]}]}`), "deny needs a reason"},
		{"denies and asks", rule(`{match: "**", deny: "no", require: [{signers: [s]}]}`), "the rule denies, and has requirements"},
		{"matches nothing", rule(`{require: [{signers: [s]}]}`), "matches no images"},
		{"odd kind", rule(`{match: "**", require: [{signers: [s], kinds: [gpg]}]}`), `kind "gpg" is not known`},
		{"odd level", rule(`{match: "**", require: [{signers: [s], revocation: none}]}`), `revocation "none" is not known`},
		{"not true", rule(`{match: "**", require: [{signers: [s], log: 1}]}`), "neither true nor false"},
		{"attestation without type", rule(`{match: "**", attestations: [{signers: [s]}]}`), "the attestation has no type"},
		{"attestation of an odd type", rule(`{match: "**", attestations: [{signers: [s], type: sbom}]}`), `type "sbom" is not known`},
		{"odd age", rule(`{match: "**", attestations: [{signers: [s], type: vuln, maxAge: old}]}`), "no length of time"},
		{"same pattern twice", rule(`{match: [nginx, docker.io/library/nginx], deny: "x"}`), "is the same as nginx in line 8"},
		{"ambiguous", rule(`{match: ghcr.io/*/shop, deny: "x"}`) + "\n  - {match: ghcr.io/acme/*, deny: \"y\"}", "both match ghcr.io/acme/shop"},
		{"name of two rules", rule(`{name: x, match: a/b, deny: "x"}`) + "\n  - {name: x, match: a/c, deny: \"y\"}", `two rules have the name "x"`},

		{"no CEL", rule(`{match: "**", attestations: [{signers: [s], type: vuln, condition: "predicate."}]}`), "condition:"},
		{"unknown variable", base + "signers: {s: {key: a}}\nimages:\n  - match: '**'\n    attestations:\n      - type: vuln\n        signers: s\n        condition: |\n          true &&\n            predicat.x == 1\n", "14:13: condition: undeclared reference to 'predicat'"},
		{"no truth", rule(`{match: "**", attestations: [{signers: [s], type: vuln, condition: "now"}]}`), "must be true or false"},
		{"types", rule(`{match: "**", attestations: [{signers: [s], type: vuln, condition: "now > 3"}]}`), "no matching overload"},

		{"exception of a tag", base + "exceptions: [{digest: latest, reason: x, expires: 2026-01-01}]", "has no digest"},
		{"exception for ever", base + "exceptions: [{digest: 'sha256:" + zeros + "', reason: x}]", "never ends"},
		{"exception for nothing", base + "exceptions: [{digest: 'sha256:" + zeros + "', expires: 2026-01-01}]", "has no reason"},
		{"own predicate with a taken name", base + "predicates: {vuln: 'https://x.example'}", "vuln has a meaning already"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := policy.Read([]byte(tc.text), "p.yaml", world(t))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if !fault.Is(err, fault.Invalid) || len(policy.ProblemsOf(err)) == 0 {
				t.Errorf("%v is no list of problems", err)
			}
		})
	}
}

func TestAllProblemsAreTold(t *testing.T) {
	_, err := policy.Read([]byte("version: 1\nsigners:\n  a: {key: x}\n  b: {key: y}\nimage: z\n"), "p.yaml", nil)
	got := policy.ProblemsOf(err)
	if len(got) != 5 {
		t.Fatalf("got %v", err)
	}
	for i := 1; i < len(got); i++ {
		if got[i].Line < got[i-1].Line {
			t.Errorf("problems are not in order: %v", err)
		}
	}
}

func TestFilesAreRefusedWhereThereAreNone(t *testing.T) {
	for _, text := range []string{"keys: {k: /etc/passwd}", "stores: {s: {kind: ca, folder: /etc}}", "sigstore: {file: x}"} {
		_, err := policy.Read([]byte("version: 1\nroots: {"+text+"}"), "posted", nil)
		if err == nil || !strings.Contains(err.Error(), "not read here") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, content := range world(t) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "castellan-trust.yaml")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if p.File != file || len(p.Roots().Stores[0].Certificates) != 2 {
		t.Errorf("got %s with %d certificates", p.File, len(p.Roots().Stores[0].Certificates))
	}
	if _, err := policy.Load(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder as policy: got %v", err)
	}
}

func TestRulesThatAreChosen(t *testing.T) {
	const text = base + `signers: {s: {key: a}}
images:
  - {name: all, match: "**", require: [{signers: [s]}]}
  - {name: hub, match: "docker.io/**", deny: "x"}
  - {name: official, match: "docker.io/library/*", require: [{signers: [s]}]}
  - {name: nginx, match: nginx, require: [{signers: [s]}]}
  - {name: acme, match: "ghcr.io/acme/**", require: [{signers: [s]}]}
  - {name: acme shop, match: "ghcr.io/acme/**/shop", require: [{signers: [s]}]}
`
	p, err := policy.Read([]byte(text), "p.yaml", world(t))
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		"nginx": "nginx", "docker.io/nginx": "nginx", "index.docker.io/library/nginx": "nginx", "redis": "official", "evil/nginx": "hub",
		"ghcr.io/acme/a": "acme", "ghcr.io/acme/a/shop": "acme shop", "GHCR.io:443/acme/a": "acme", "ghcr.io/acme-evil/a": "all", "ghcr.io/acme": "all",
		"ghcr.io.evil.example/acme/a": "all", "": "all",
	} {
		r, err := policy.ParseRepository(image)
		if err != nil {
			t.Fatal(err)
		}
		if rule, _ := p.For(r); rule == nil || rule.Name != want {
			t.Errorf("%q: got %+v, want %s", image, rule, want)
		}
	}
}

func TestEmptyPolicyDenies(t *testing.T) {
	var zero policy.Policy
	if rule, _ := zero.For("docker.io/library/nginx"); rule != nil {
		t.Errorf("got %+v", rule)
	}
}

func FuzzRead(f *testing.F) {
	files := world(f)
	for _, s := range []string{whole, "version: 1", base + end, "a: &a [*a]", "{\"version\": 1}", base + "signers: {s: {key: a}}" + end,
		"x: &a [1,1]\ny: &b [*a,*a]\nz: [*b,*b]", strings.Repeat("- ", 200), "version: 1\nimages: [{match: '" + strings.Repeat("*a", 100) + "'}]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := policy.Read([]byte(s), "p.yaml", files)
		if (p == nil) == (err == nil) {
			t.Fatalf("got %v, %v", p, err)
		}
		if err != nil {
			return
		}
		for _, r := range p.Rules {
			if r.Deny == "" && len(r.Require) == 0 {
				t.Fatalf("a rule that asks for nothing: %q", s)
			}
			for _, q := range r.Require {
				if q.Threshold < 1 || len(q.Signers) == 0 {
					t.Fatalf("a requirement that anybody meets: %q", s)
				}
			}
		}
	})
}
