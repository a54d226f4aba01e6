package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/aws"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust"
)

// initFlags say what a first policy is made of.
type initFlags struct {
	keyFlags
	placeFlags
	askOptions
	look, running    bool
	policy           string
	pub              []string
	identity, issuer string
	trustedRoot      string
	store, subject   string
	profile          string
}

func newTrustInit(g *globals) *cobra.Command {
	var i initFlags
	c := &cobra.Command{
		Use:   "init IMAGE...",
		Short: "Write a first trust policy",
		Long: `Write a first trust policy, with comments: which images, and who must have signed
them. IMAGE is a name without tag, or a pattern: * is any letters within a part
of the name, ** any parts. Nothing is overwritten, and nobody is asked but KMS of its
keys. Without a word about who signs, the active keys of the ring do.

With --look it is drafted from the signatures that images have already. Who was named
and has signed is required; whoever else was seen is written down, with what vouches
for him, for you to decide on: until then the images that only he has signed are
denied, and so are those that nobody has signed.

  castellan trust init ghcr.io/acme/shop
  castellan trust init --key keys/build.pub '123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/**'
  castellan trust init --look --trusted-root trusted_root.json ghcr.io/acme/shop:2 ghcr.io/acme/web:1
  castellan trust init --look --running
  castellan trust init --trusted-root trusted_root.json \
    --certificate-oidc-issuer https://token.actions.githubusercontent.com \
    --certificate-identity 'https://github.com/acme/*/.github/workflows/release.yml@refs/tags/*' 'ghcr.io/acme/**'
` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return g.initPolicy(c.Context(), args, i) },
	}
	f := c.Flags()
	i.placeFlags.add(c)
	i.askOptions.flags(c)
	f.BoolVar(&i.look, "look", false, "draft it from the signatures that the images have already")
	f.BoolVar(&i.running, "running", false, "with --look: the images that run on the server's hosts")
	f.StringVar(&i.policy, "policy", trust.File, "file to write, - for the standard output")
	f.StringVar(&i.dir, "keys", env("CASTELLAN_KEYS", ""), "folder of keys (CASTELLAN_KEYS; else the folder keys in --data-dir)")
	f.StringArrayVar(&i.pub, "key", nil, "file with a public key that signs, the name of a key of the ring, or a key of AWS KMS, which is asked for it; may be repeated")
	f.StringVar(&i.identity, "certificate-identity", "", "who signs keyless; * is any letters but /")
	f.StringVar(&i.issuer, "certificate-oidc-issuer", "", "by whose OIDC tokens")
	f.StringVar(&i.trustedRoot, "trusted-root", "", "trusted root of Sigstore (trusted_root.json), for keyless signatures")
	f.StringVar(&i.store, "trust-store", "", "file with certificates of authorities (PEM), with --certificate-subject or --signer-profile")
	f.StringVar(&i.profile, "signer-profile", "", "ARN of the signing profile of AWS Signer that signs")
	f.StringVar(&i.subject, "certificate-subject", "", "subject of the certificate that signs, as CN=build,O=Acme")
	return c
}

// draft is what the flags mean, with files relative to the policy.
func (i *initFlags) draft(ctx context.Context, g *globals, images []string) (trust.Draft, error) {
	if (i.identity == "") != (i.issuer == "") || (i.store == "") != (i.subject+i.profile == "") {
		return trust.Draft{}, usagef("--certificate-identity and --certificate-oidc-issuer belong together, and so do --trust-store and --certificate-subject or --signer-profile")
	}
	if i.subject != "" && i.profile != "" {
		return trust.Draft{}, usagef("--certificate-subject and --signer-profile need stores of their own: name one, and add the other by hand")
	}
	if i.profile != "" {
		if err := trust.CheckProfile(i.profile); err != nil {
			return trust.Draft{}, fmt.Errorf("--signer-profile: %w", err)
		}
	}
	folder := i.folder()
	d := trust.Draft{TrustedRoot: relative(folder, i.trustedRoot)}
	for _, name := range images {
		d.Images = append(d.Images, repositoryPattern(name))
	}
	if i.identity != "" {
		d.Keyless = []trust.DraftKeyless{{Issuer: i.issuer, Subject: i.identity}}
	}
	if i.store != "" {
		d.Certificates = []trust.DraftCertificate{{File: relative(folder, i.store), Subject: i.subject, Profile: i.profile}}
	}
	names := i.pub
	if len(names)+len(d.Keyless)+len(d.Certificates) == 0 {
		names = []string{""} // all of the ring
	}
	for _, name := range names {
		if aws.IsKMSKey(name) {
			k, err := i.ofKMS(ctx, g, name)
			if err != nil {
				return d, err
			}
			d.Keys = append(d.Keys, k)
			continue
		}
		if _, err := os.Stat(name); name != "" && err == nil {
			d.Keys = append(d.Keys, trust.DraftKey{File: relative(folder, name)})
			continue
		}
		found, err := i.ofRing(g, folder, name)
		if err != nil {
			return d, err
		}
		d.Keys = append(d.Keys, found...)
	}
	return d, nil
}

// folder is where the policy will be.
func (i *initFlags) folder() string {
	if i.policy == "-" {
		return "."
	}
	return filepath.Dir(i.policy)
}

// ofKMS is a key of AWS KMS, whose public half stands in the policy: to verify asks
// nobody.
func (i *initFlags) ofKMS(ctx context.Context, g *globals, name string) (trust.DraftKey, error) {
	log, err := g.logger()
	if err != nil {
		return trust.DraftKey{}, err
	}
	text, arn, err := kmsKey(ctx, name, log)
	called := "kms"
	if _, alias, ok := strings.Cut(name, "alias/"); ok {
		called = alias
	}
	k := trust.DraftKey{Name: called, PEM: text}
	if strings.Contains(arn, ":key/") {
		k.KMS = arn
	}
	return k, err
}

// ofRing are the keys of the ring that sign, or whose signatures are still good, those
// of one name if there is one. Keys that replaced each other are one signer's.
func (i *initFlags) ofRing(g *globals, folder, name string) ([]trust.DraftKey, error) {
	ring := i.ring(g)
	all, err := ring.List(time.Now())
	if err != nil {
		return nil, err
	}
	var out []trust.DraftKey
	active := false
	of := map[string]int{} // keys by name
	for _, k := range all {
		if k.State != trust.KeyActive && k.State != trust.KeyRetiring || name != "" && k.Name != name && k.ID() != name {
			continue
		}
		active = active || k.State == trust.KeyActive
		of[k.Name]++
		out = append(out, trust.DraftKey{Name: k.ID(), File: relative(folder, ring.PublicFile(k)), Signer: k.Name, NotAfter: k.Until})
	}
	for j := range out {
		if of[out[j].Signer] == 1 {
			out[j].Signer = "" // its own
		}
	}
	if !active && name != "" {
		return nil, fault.New(fault.NotFound, "--key %s: there is no such file, and no such active key in the ring", name).With("castellan trust key list shows the ring's; a file with a public key ends with .pub")
	}
	return out, nil
}

// relative is a path as a policy in a folder names it: one that was given in full
// stays so.
func relative(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	from, err := filepath.Abs(folder)
	if err != nil {
		return path
	}
	to, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if r, err := filepath.Rel(from, to); err == nil {
		return filepath.ToSlash(r)
	}
	return path
}

// repositoryPattern is an image's name without tag and digest.
func repositoryPattern(name string) string {
	name = strings.TrimPrefix(name, "registry:")
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name
}

func (g *globals) initPolicy(ctx context.Context, images []string, i initFlags) error {
	switch {
	case i.running && !i.look:
		return usagef("--running says which images to look at: add --look")
	case len(images) == 0 && !i.running:
		return usagef("name images: registry/path, with * and ** as a pattern; or --look --running for what runs")
	case i.look:
		return g.initSeen(ctx, images, i)
	}
	d, err := i.draft(ctx, g, images)
	if err != nil {
		return err
	}
	b, err := trust.First(d)
	if err != nil {
		return err
	}
	return g.writeFirst(i.policy, b)
}

// writeFirst writes a first policy, and says what is in it.
func (g *globals) writeFirst(name string, b []byte) error {
	if err := g.writePolicy(name, b); err != nil || name == "-" {
		return err
	}
	p, err := trust.Load(name)
	if err != nil {
		return g.tellProblems(err)
	}
	_, err = fmt.Fprintf(g.out, "%s: %s. What no rule matches is denied.\ncastellan trust explain IMAGE shows how an image is decided on.\n", name, counted(p))
	return err
}

// writePolicy writes a policy, and never over another.
func (g *globals) writePolicy(name string, b []byte) error {
	if name == "-" {
		_, err := g.out.Write(b)
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Conflict, "%s is there already", name).With("nothing is overwritten: say another file with --policy, or - to see it")
	}
	if err != nil {
		return fmt.Errorf("write trust policy: %w", err)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// counted says in words what a policy has.
func counted(p *trust.Policy) string {
	r := p.Roots()
	return fmt.Sprintf("%d rules, %d signers, %d keys, %d certificate stores, %d trusted roots of Sigstore, %d exceptions",
		len(p.Rules), len(p.Signers), len(r.Keys), len(r.Stores), len(r.Sigstore), len(p.Exceptions))
}

func newTrustPolicy(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check trust policies; show and change that of the fleet",
		Long:  "Check trust policies; show and change the one that the server keeps for the fleet.\n" + exitHelp,
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say whether a trust policy can be used, and what is wrong with it",
		Long: `Say whether a trust policy can be used. All that is wrong with it is told with line
and column, as FILE:LINE:COLUMN, and what to do. The files that it names are read;
nobody is asked. With --explain it is said in words what it means, rule by rule.

  castellan trust policy check castellan-trust.yaml
  castellan trust policy check --explain
  castellan trust policy check -o json
` + exitHelp,
		Args: cobra.MaximumNArgs(1),
	}
	f := outputFlag(check)
	explain := check.Flags().Bool("explain", false, "say in words what the policy means")
	check.RunE = func(_ *cobra.Command, args []string) error {
		name := cmp.Or(strings.Join(args, ""), os.Getenv("CASTELLAN_TRUST_POLICY"), trust.File)
		p, err := loadPolicy(name)
		problems := trust.Problems(err)
		if err != nil && (len(problems) == 0 || *f == formTable) {
			return g.tellProblems(err)
		}
		if err == nil {
			problems = []trust.Problem{}
		}
		answer := map[string]any{"problems": problems}
		if *explain && err == nil {
			answer["means"] = p.Describe()
		}
		shown := g.print(*f, answer, func() error {
			if _, err := fmt.Fprintf(g.out, "%s: %s\n", printable(name), counted(p)); err != nil || !*explain {
				return err
			}
			fmt.Fprintln(g.out)
			return trust.WriteDescription(g.out, p)
		})
		if err != nil {
			return errors.Join(shown, errSaid)
		}
		return shown
	}
	c.AddCommand(check)
	c.AddCommand(g.trustPolicyOfFleet()...)
	return c
}
