package draft_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/draft"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// anyFile is Files in which every file is there: another key for each name that
// ends in .pub, a trusted root for .json, else a certificate.
type anyFile struct {
	t    testing.TB
	have map[string][]byte
}

func (f anyFile) Read(name string, _ int64) ([]byte, error) {
	if b := f.have[name]; b != nil {
		return b, nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	der, typ := []byte(nil), "CERTIFICATE"
	switch {
	case strings.HasSuffix(name, ".json"):
		return []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`), nil
	case strings.HasSuffix(name, ".pub"):
		typ = "PUBLIC KEY"
		der, err = x509.MarshalPKIXPublicKey(&k.PublicKey)
	case strings.HasSuffix(name, ".crt"):
		c := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err = x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	default:
		return nil, fs.ErrNotExist
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.have[name] = pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	return f.have[name], nil
}

func (f anyFile) List(folder string, _ int) ([]string, error) {
	return []string{folder + "/root.crt"}, nil
}

func load(t *testing.T, b []byte) *policy.Policy {
	t.Helper()
	p, err := policy.Read(b, "draft.yaml", anyFile{t, map[string][]byte{}})
	if err != nil {
		t.Fatalf("the draft can't be used: %v\n%s", err, b)
	}
	return p
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func withRemarks(i draft.Imported) string {
	var b strings.Builder
	b.Write(i.Policy)
	b.WriteString("---\n")
	for _, r := range i.Remarks {
		mark := " "
		if r.Wanted {
			mark = "!"
		}
		b.WriteString(mark + " " + r.Text + "\n")
	}
	return b.String()
}

func TestFirst(t *testing.T) {
	b, err := draft.First(draft.Options{
		Images: []string{"123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**", "nginx"},
		Keys: []draft.Key{
			{File: "keys/build 2026.pub"},
			{Name: "kms", File: "kms.pub", KMS: "arn:aws:kms:eu-central-1:123456789012:key/abc"},
		},
		Keyless:      []draft.Keyless{{Issuer: "https://token.actions.githubusercontent.com", Subject: "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/*"}},
		Certificates: []draft.Certificate{{File: "acme.crt", Subject: "O=Acme,CN=ops: #1"}},
		TrustedRoot:  "trusted_root.json",
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "first.yaml", string(b))
	p := load(t, b)
	if rule, _ := p.For("docker.io/library/nginx"); rule == nil || len(rule.Require) != 1 || rule.Require[0].Threshold != 4 {
		t.Errorf("got %+v", rule)
	}
}

func TestFirstRefuses(t *testing.T) {
	keys := []draft.Key{{File: "k.pub"}}
	for name, o := range map[string]draft.Options{
		"nobody":    {Images: []string{"**"}},
		"no images": {Keys: keys},
		"odd image": {Images: []string{"a:latest"}, Keys: keys},
		"no root":   {Images: []string{"**"}, Keyless: []draft.Keyless{{Issuer: "https://x.example", Subject: "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := draft.First(o); !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestFromNotation(t *testing.T) {
	b, err := os.ReadFile("testdata/trustpolicy.json")
	if err != nil {
		t.Fatal(err)
	}
	i, err := draft.FromNotation(b, "truststore")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "trustpolicy.yaml", withRemarks(i))
	p := load(t, i.Policy)
	for repository, want := range map[policy.Repository]string{
		"registry.example/strict": "", "registry.example/skipped": "skip signatures", "registry.example/anybody": "any certificate",
	} {
		rule, _ := p.For(repository)
		if rule == nil || !strings.Contains(rule.Deny, want) || (want == "") != (rule.Deny == "") {
			t.Errorf("%s: got %+v", repository, rule)
		}
	}
}

func TestFromClusterImagePolicy(t *testing.T) {
	b, err := os.ReadFile("testdata/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	i, err := draft.FromClusterImagePolicy(b)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "cluster.golden.yaml", withRemarks(i))
	p := load(t, i.Policy)
	// What two policies match must satisfy both.
	rule, _ := p.For("ghcr.io/acme/shop/web")
	if rule == nil || rule.Deny != "" || len(rule.Require) != 3 {
		t.Errorf("got %+v", rule)
	}
	for repository, want := range map[policy.Repository]string{"quay.io/pass/x": "none of the authorities", "quay.io/fail/x": "not this one", "quay.io/rego/x": "another language"} {
		if rule, _ := p.For(repository); rule == nil || !strings.Contains(rule.Deny, want) {
			t.Errorf("%s: got %+v", repository, rule)
		}
	}
	if rule, _ := p.For("quay.io/cue/x"); rule == nil || len(rule.Require) != 1 || len(rule.Require[0].Conditions) != 1 {
		t.Errorf("a condition that was not carried over is gone: %+v", rule)
	}
}

// TestIdentityInTwoWays is the kind of CVE-2025-29778 of Kyverno, which did not look
// at the expressions for issuer and subject.
func TestIdentityInTwoWays(t *testing.T) {
	const head = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: x}\nspec:\n  images: [{glob: \"ghcr.io/acme/**\"}]\n  authorities:\n    - keyless:\n        identities:\n          - "
	for name, tc := range map[string]struct{ identity, want string }{
		"expressions":         {`{issuerRegExp: "https://issuer\\.example", subjectRegExp: "https://acme\\.example/.+"}`, `- keyless: {issuer: {regexp: "https://issuer\\.example"}, subject: {regexp: "https://acme\\.example/.+"}}`},
		"issuer in two ways":  {`{issuer: "https://evil.example", issuerRegExp: "https://issuer\\.example", subject: "https://acme.example/x"}`, `deny:`},
		"subject in two ways": {`{issuer: "https://issuer.example", subject: "https://evil.example/x", subjectRegExp: "https://acme\\.example/.+"}`, `deny:`},
		"an issuer alone":     {`{issuer: "https://issuer.example"}`, `deny:`},
		"an empty expression": {`{issuer: "https://issuer.example", subjectRegExp: ""}`, `deny:`},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := draft.FromClusterImagePolicy([]byte(head + tc.identity + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(i.Policy), tc.want) || tc.want == "deny:" && strings.Contains(string(i.Policy), "keyless: {") {
				t.Errorf("want %s in\n%s", tc.want, i.Policy)
			}
		})
	}
}

// TestHostsWithMoreDots has a glob that matched more there than a pattern can here:
// what it asked for must not be lost where another rule matches the rest.
func TestHostsWithMoreDots(t *testing.T) {
	policyOf := func(name, glob string) string {
		return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  images: [{glob: \"" + glob + "\"}]\n" +
			"  authorities: [{name: " + name + ", key: {secretRef: {name: " + name + "}}}]\n---\n"
	}
	i, err := draft.FromClusterImagePolicy([]byte(policyOf("strict", "*.example.com/shop/**") + policyOf("rest", "**") + policyOf("deep", "a.b.example.com/shop/x/**") +
		policyOf("path", "a.b.example.com/other/**") + policyOf("elsewhere", "ghcr.io/shop/**")))
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, i.Policy)
	for repository, want := range map[policy.Repository]string{
		"a.example.com/shop/y":        "rest strict",
		"a.b.example.com/shop/y":      "rest strict",
		"a.b.example.com:5000/shop/y": "rest strict",
		"a.b.example.com/shop/x/y":    "deep rest strict",
		"a.b.example.com/other/y":     "path rest",
		"ghcr.io/shop/y":              "elsewhere rest",
	} {
		rule, _ := p.For(repository)
		if rule == nil {
			t.Errorf("%s: no rule", repository)
			continue
		}
		var got []string
		for _, q := range rule.Require {
			for _, s := range q.Signers {
				got = append(got, s.Name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: signers %v are needed, want %s", repository, got, want)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	bomb := "a: &a [1,2]\nb: [*a,*a]\n"
	for _, text := range []string{"", "[", "{}", bomb, `{"version":"2.0","trustPolicies":[]}`, `{"version":"1.0","trustPolicies":[{"name":"x"}]}`, strings.Repeat("[", 60)} {
		if _, err := draft.FromNotation([]byte(text), "x"); !fault.Is(err, fault.Invalid) {
			t.Errorf("notation %.20q: got %v", text, err)
		}
		if _, err := draft.FromClusterImagePolicy([]byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("cluster %.20q: got %v", text, err)
		}
	}
}

// What is imported, whatever it is, is a policy or is refused as one; it never
// accepts anybody.
func FuzzImport(f *testing.F) {
	for _, name := range []string{"trustpolicy.json", "cluster.yaml"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("{\"version\":\"1.0\",\"trustPolicies\":[{\"name\":\"\\n- x\",\"registryScopes\":[\"*\"],\"signatureVerification\":{\"level\":\"\\nskip\"}}]}"))
	files := anyFile{f, map[string][]byte{}}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, from := range []func() (draft.Imported, error){
			func() (draft.Imported, error) { return draft.FromNotation(b, "x") },
			func() (draft.Imported, error) { return draft.FromClusterImagePolicy(b) },
		} {
			i, err := from()
			if err != nil {
				continue
			}
			_, err = policy.Read(i.Policy, "draft.yaml", files)
			for _, p := range policy.ProblemsOf(err) {
				if p.Line == 0 || strings.Contains(p.Text, "has no field") {
					t.Fatalf("the draft is not what it was meant to be: %v\n%s", p, i.Policy)
				}
			}
		}
	})
}
