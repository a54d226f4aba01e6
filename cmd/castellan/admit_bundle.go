package main

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/sealed"
	"github.com/castellan-security/castellan/internal/server/query"
)

func newAdmitBundle(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Carry policy and facts to where there is no server, signed",
		Long: `Carry an admission policy, and what is known of images, to where there is no
server to ask: one file, signed, that expires. The function for AWS Lambda decides
by it (docs/admission-aws.md). An older bundle is refused by its lifetime and by
the least version that the reader takes.
` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(g.bundleCreate(), g.bundleVerify(), g.bundleShow())
	return c
}

func (g *globals) bundleCreate() *cobra.Command {
	var s signerFlags
	var policy, output, long string
	var facts []string
	var number uint64
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a bundle",
		Long: `Make a bundle of an admission policy and of facts, and sign it. A file of facts is
what castellan admit test --write-facts writes. Without facts the policy decides
by what a request itself tells, and what is not known is unknown.

The version is the time of making it if none is given, so that a later bundle has
a higher one.
` + exitHelp,
		Example: "  castellan admit bundle create --policy castellan-admission.yaml --facts facts.json --key build -o castellan.bundle\n" +
			"  aws s3 cp castellan.bundle s3://shop-policies/",
		Args: cobra.NoArgs,
	}
	s.keyFlags.add(g, c)
	f := c.Flags()
	f.StringVar(&policy, "policy", admit.File, "admission policy (YAML)")
	f.StringArrayVar(&facts, "facts", nil, "file with what is known of images (JSON); may be repeated")
	f.StringVar(&s.key, "key", "", "private key: a file, the name of a key of the ring, or one of AWS KMS (its ARN, alias/NAME, awskms:///…)")
	f.BoolVar(&s.plainKey, "plain-key", false, "take a key file that no password seals, too")
	f.StringVar(&long, "for", "7d", fmt.Sprintf("how long it is good, at most %dd", admit.MaxBundleLifetime/(24*time.Hour)))
	f.Uint64Var(&number, "version", 0, "its version, higher than that of the one that it replaces (else the time)")
	f.StringVarP(&output, "output", "o", "castellan.bundle", "where to write it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if s.key == "" {
			return usagef("say who signs: --key FILE, name or KMS key")
		}
		lifetime, err := query.Duration(long)
		if err != nil {
			return usagef("--for %q: %w", long, err)
		}
		content, err := g.bundleContent(policy, facts)
		if err != nil {
			return err
		}
		log, err := g.logger()
		if err != nil {
			return err
		}
		key, err := s.private(c.Context(), g, log)
		if err != nil {
			return err
		}
		now := time.Now()
		var b bytes.Buffer
		m, err := admit.WriteBundle(&b, content, admit.BundleTerms{Version: number, Expires: now.Add(lifetime)}, key, now)
		if err != nil {
			return err
		}
		err = writeWhole(output, true, func(w io.Writer) error {
			_, err := w.Write(b.Bytes())
			return err
		})
		if err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
		_, err = fmt.Fprintf(g.out, "%s: version %d, good until %s, facts of %d images\n", output, m.Version, m.Expires.Format(time.RFC3339), m.Images)
		return err
	}
	return c
}

// bundleContent reads what goes into a bundle. Facts of an image without a digest
// are of no use: whoever decides by the bundle knows images by it.
func (g *globals) bundleContent(policy string, files []string) (admit.BundleContent, error) {
	var c admit.BundleContent
	var err error
	if c.Policy, err = g.readSmall(policy, admit.MaxBytes); err != nil {
		return c, fmt.Errorf("read admission policy: %w", err)
	}
	named, err := g.factFiles(files)
	if err != nil {
		return c, err
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		f := *named[name]
		if f.Digest == "" && inventory.CheckDigest(name) == nil {
			f.Digest = name
		}
		switch {
		case f.Digest == "":
			fmt.Fprintf(g.err, "%s\n", g.paint(printable("facts of "+name+" are left out: they don't say of which digest"), warn))
		case !seen[f.Digest]: // an image may have several names
			seen[f.Digest] = true
			c.Facts = append(c.Facts, f)
		}
	}
	return c, nil
}

// bundleReading is how a bundle is read by hand.
type bundleReading struct {
	keys  []string
	least uint64
}

func (r *bundleReading) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&r.keys, "public-key", nil, "file with the public key of whoever signs bundles (PEM); may be repeated (required)")
	c.Flags().Uint64Var(&r.least, "min-version", 0, "refuse bundles that are older")
}

// publicKeys reads files of public keys that a flag names.
func (g *globals) publicKeys(flag string, files []string) ([]crypto.PublicKey, error) {
	var all []crypto.PublicKey
	for _, name := range files {
		b, err := g.readSmall(name, maxCredential)
		var keys []crypto.PublicKey
		if err == nil {
			keys, err = sealed.Keys(b)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", flag, name, err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

func (r *bundleReading) read(g *globals, name string) (*admit.Bundle, error) {
	if len(r.keys) == 0 {
		return nil, usagef("say whose bundles are taken: --public-key FILE")
	}
	check := admit.BundleCheck{Least: r.least, Now: time.Now()}
	var err error
	if check.Keys, err = g.publicKeys("--public-key", r.keys); err != nil {
		return nil, err
	}
	b, err := g.readSmall(name, admit.MaxBundle)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return admit.ReadBundle(b, check)
}

func (g *globals) bundleVerify() *cobra.Command {
	var r bundleReading
	c := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Say whether a bundle would be taken",
		Long:  "Say whether a bundle would be taken: signed by one of the keys, not expired, not too old,\nand with a policy that loads.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := r.read(g, args[0])
			if err == nil {
				_, err = admit.Read(b.Policy, args[0])
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "%s holds: version %d, good until %s, signed by %s\n", args[0], b.Manifest.Version, b.Manifest.Expires.Format(time.RFC3339), b.Key)
			return err
		},
	}
	r.flags(c)
	return c
}

// shownBundle is a bundle for people and programs.
type shownBundle struct {
	admit.BundleManifest
	Key    string       `json:"key"`
	Policy string       `json:"policy"` // digest
	Mode   admit.Mode   `json:"mode"`
	Rules  []admit.Rule `json:"rules"`
}

func (g *globals) bundleShow() *cobra.Command {
	var r bundleReading
	var asWritten bool
	var out *form
	c := &cobra.Command{
		Use:   "show BUNDLE",
		Short: "Show what a bundle carries",
		Long:  "Show what a bundle carries, if it would be taken.\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
	}
	r.flags(c)
	c.Flags().BoolVar(&asWritten, "policy", false, "print its policy as it was written, and nothing else")
	out = outputFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		b, err := r.read(g, args[0])
		if err != nil {
			return err
		}
		if asWritten {
			_, err = g.out.Write(b.Policy)
			return err
		}
		p, err := admit.Read(b.Policy, args[0])
		if err != nil {
			return err
		}
		s := shownBundle{b.Manifest, b.Key, p.Digest(), p.Mode(), p.Rules()}
		return g.print(*out, s, func() error {
			return g.table([]string{"VERSION", "CREATED", "EXPIRES", "IMAGES", "MODE", "RULES", "SIGNED BY"}, [][]cell{{
				text(strconv.FormatUint(s.Version, 10)), text(s.Created.Format(time.RFC3339)), text(s.Expires.Format(time.RFC3339)),
				text(strconv.Itoa(s.Images)), text(string(s.Mode)), text(strconv.Itoa(len(s.Rules))), text(s.Key)}})
		})
	}
	return c
}
