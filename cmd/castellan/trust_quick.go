package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust"
)

// ruleFlags say who must have signed: by a policy, or for people without one by
// flags of which a policy with one rule is made.
type ruleFlags struct {
	policy string

	keys        []string
	ring        string
	identity    string
	issuer      string
	trustedRoot string
	stores      []string
	subject     string
	profile     string
	revocation  string
	attested    []string
	old         bool
}

func (r *ruleFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.policy, "policy", env("CASTELLAN_TRUST_POLICY", ""), "trust policy (CASTELLAN_TRUST_POLICY; else "+trust.File+" here)")
	f.StringArrayVar(&r.keys, "key", nil, "without a policy: public key that must have signed: a file, a key of AWS KMS, or the name of a key of the ring; may be repeated")
	f.StringVar(&r.ring, "keys", env("CASTELLAN_KEYS", ""), "folder of keys (CASTELLAN_KEYS; else the folder keys in --data-dir)")
	f.StringVar(&r.identity, "certificate-identity", "", "without a policy: who must have signed keyless, with --certificate-oidc-issuer and --trusted-root")
	f.StringVar(&r.issuer, "certificate-oidc-issuer", "", "without a policy: by whose OIDC tokens")
	f.StringVar(&r.trustedRoot, "trusted-root", "", "without a policy: trusted root of Sigstore (trusted_root.json)")
	f.StringArrayVar(&r.stores, "trust-store", nil, "without a policy: [KIND:]NAME=FILE, certificates of authorities; KIND is ca, signingAuthority or tsa; may be repeated")
	f.StringVar(&r.subject, "certificate-subject", "", "without a policy: subject of the certificate that must have signed, as CN=build,O=Acme, with --trust-store")
	f.StringVar(&r.profile, "signer-profile", "", "without a policy: ARN of the signing profile of AWS Signer that must have signed, with --trust-store signingAuthority:NAME=FILE")
	f.StringVar(&r.revocation, "revocation", "soft", "without a policy: soft, or strict for certificates that somebody must say are not revoked")
	f.BoolVar(&r.old, "allow-old", false, "without a policy: signatures in cosign's form of before bundles count too")
	f.StringArrayVar(&r.attested, "attestation", nil, "without a policy: type of attestation that must be there too, as cyclonedx; may be repeated")
}

// quick says whether a policy is made of the flags.
func (r *ruleFlags) quick() bool {
	return len(r.keys)+len(r.stores)+len(r.attested) > 0 || r.identity+r.issuer+r.trustedRoot+r.subject+r.profile != ""
}

// load reads the policy, or makes it of the flags.
func (r *ruleFlags) load(ctx context.Context, g *globals, explicit bool, log *slog.Logger) (*trust.Policy, error) {
	if r.quick() {
		if explicit {
			return nil, usagef("say either --policy or who must have signed: a policy is not widened by flags")
		}
		b, err := r.write(ctx, g, log)
		if err != nil {
			return nil, err
		}
		p, err := trust.Read(b, "the command line", trust.Folder("."))
		return p, ofFlags(err)
	}
	p, err := loadPolicy(cmp.Or(r.policy, trust.File))
	return p, g.tellProblems(err)
}

// loadPolicy reads a policy from a file, and says how to come to one.
func loadPolicy(name string) (*trust.Policy, error) {
	p, err := trust.Load(name)
	if errors.Is(err, fs.ErrNotExist) && len(trust.Problems(err)) == 0 {
		return nil, fault.New(fault.NotFound, "there is no trust policy %s, and nothing is trusted without", name).
			With("write a first one: castellan trust init --key FILE.pub IMAGE, or castellan trust init --look IMAGE of the signatures that are there; or say who must have signed: --key FILE.pub")
	}
	return p, err
}

// ofFlags is what is wrong with a policy that was made of flags: the first problem,
// of which others follow, without its place in a text that nobody wrote.
func ofFlags(err error) error {
	if all := trust.Problems(err); len(all) > 0 {
		return fault.New(fault.Invalid, "%s", all[0].Text).With(all[0].Remedy)
	}
	return err
}

// tellProblems prints what is wrong with a policy a line each, as compilers do.
func (g *globals) tellProblems(err error) error {
	all := trust.Problems(err)
	if len(all) == 0 {
		return err
	}
	for _, p := range all {
		fmt.Fprintf(g.err, "%s:%d:%d: %s\n", printable(p.File), p.Line, p.Column, printable(p.Text))
		if p.Remedy != "" {
			fmt.Fprintf(g.err, "  remedy: %s\n", printable(p.Remedy))
		}
	}
	return errSaid
}

// doc is a part of a policy as it is written.
type doc map[string]any

// write makes the policy.
func (r *ruleFlags) write(ctx context.Context, g *globals, log *slog.Logger) ([]byte, error) {
	keys, signers, stores := doc{}, doc{}, doc{}
	var who []string
	signer := func(name string, d doc) { signers[name] = d; who = append(who, name) }
	for i, k := range r.keys {
		all, err := r.key(ctx, g, k, log)
		if err != nil {
			return nil, err
		}
		var names []string
		for j, one := range all {
			name := fmt.Sprintf("key-%d-%d", i+1, j+1)
			keys[name] = one
			names = append(names, name)
		}
		signer(fmt.Sprintf("key-%d", i+1), doc{"key": names})
	}
	for _, s := range r.stores {
		name, d, err := parseStore(s)
		if err != nil {
			return nil, err
		}
		stores[name] = d
	}
	if err := r.certificates(signer, stores); err != nil {
		return nil, err
	}
	if len(who) == 0 {
		return nil, usagef("nobody is named who must have signed: --key, --certificate-identity with --certificate-oidc-issuer, --certificate-subject, or --signer-profile")
	}
	roots := doc{"keys": keys, "stores": stores}
	if r.trustedRoot != "" {
		roots["sigstore"] = []string{r.trustedRoot}
	}
	rule := doc{"name": "command line", "match": "**", "require": []doc{{"signers": who, "revocation": r.revocation, "allowOld": r.old}}}
	var attestations []doc
	for _, t := range r.attested {
		attestations = append(attestations, doc{"type": t, "signers": who, "threshold": 1, "revocation": r.revocation, "allowOld": r.old})
	}
	if attestations != nil {
		rule["attestations"] = attestations
	}
	return json.Marshal(doc{"version": 1, "roots": roots, "signers": signers, "images": []doc{rule}})
}

// certificates adds the signers that certificates name.
func (r *ruleFlags) certificates(signer func(string, doc), stores doc) error {
	if r.identity != "" || r.issuer != "" {
		if r.identity == "" || r.issuer == "" || r.trustedRoot == "" {
			return usagef("keyless signatures need --certificate-identity, --certificate-oidc-issuer and --trusted-root together")
		}
		signer("keyless", doc{"keyless": doc{"issuer": doc{"exact": r.issuer}, "subject": doc{"exact": r.identity}}})
	}
	of := func(kind string) (string, error) {
		for name, s := range stores {
			if s.(doc)["kind"] == kind {
				return name, nil
			}
		}
		return "", usagef("a certificate is only worth what vouches for it: add --trust-store %s:NAME=FILE", kind)
	}
	if r.subject != "" {
		store, err := of("ca")
		if err != nil {
			return err
		}
		signer("certificate", doc{"certificate": doc{"store": store, "subject": r.subject}})
	}
	if r.profile != "" {
		if err := trust.CheckProfile(r.profile); err != nil {
			return fmt.Errorf("--signer-profile: %w", err)
		}
		store, err := of("signingAuthority")
		if err != nil {
			return err
		}
		signer("aws-signer", doc{"awsSigner": doc{"store": store, "profile": r.profile}})
	}
	return nil
}

// parseStore reads [KIND:]NAME=FILE.
func parseStore(s string) (string, doc, error) {
	name, file, ok := strings.Cut(s, "=")
	if !ok || name == "" || file == "" {
		return "", nil, usagef("--trust-store %q: want NAME=FILE or KIND:NAME=FILE", s)
	}
	kind := "ca"
	if k, rest, ok := strings.Cut(name, ":"); ok {
		kind, name = k, rest
	}
	return name, doc{"kind": kind, "file": file}, nil
}

// kmsKey is the public key of one of AWS KMS, which is asked for it, and its ARN.
func kmsKey(ctx context.Context, name string, log *slog.Logger) (text, arn string, err error) {
	k, err := aws.NewKMSSigner(ctx, name, log.With("door", "aws"))
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return "", "", fmt.Errorf("write public key of %s: %w", name, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), k.ARN(), nil
}

// key is what a policy says of the public keys that one name means: a file, a key
// of KMS, which is asked for it, or all that a ring has of that name.
func (r *ruleFlags) key(ctx context.Context, g *globals, name string, log *slog.Logger) ([]doc, error) {
	if aws.IsKMSKey(name) {
		text, _, err := kmsKey(ctx, name, log)
		if err != nil {
			return nil, err
		}
		return []doc{{"pem": text}}, nil
	}
	if _, err := os.Stat(name); err == nil {
		return []doc{{"file": name}}, nil
	}
	ring := (&keyFlags{dir: r.ring}).ring(g)
	all, err := ring.List(time.Now())
	if err != nil {
		return nil, err
	}
	var out []doc
	for _, k := range all {
		if k.Name != name && k.ID() != name {
			continue
		}
		d := doc{"file": ring.PublicFile(k)}
		if !k.Until.IsZero() {
			d["notAfter"] = k.Until.UTC().Format(time.RFC3339)
		}
		if k.State == trust.KeyLost {
			d["lost"] = k.Since.UTC().Format(time.RFC3339)
		}
		out = append(out, d)
	}
	if out == nil {
		return nil, fault.New(fault.NotFound, "--key %s: there is no such file, and no such key in the ring", name).
			With("name a file with a public key, a key that castellan trust key list shows, or the ARN of one of KMS")
	}
	return out, nil
}
