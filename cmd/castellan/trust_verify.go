package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/trust"
)

// exitHelpTrust is of commands that decide by a trust policy.
const exitHelpTrust = `
Exit codes: 0 allowed, 1 it could not be decided, 2 wrong usage, 3 denied. Only 0 is
leave to run.`

// verifyFlags are those of commands that decide.
type verifyFlags struct {
	ruleFlags
	placeFlags
	platform string
	files    []string
	revoked  bool
	atOnce   int
	isPolicy bool // --policy was said
}

func (v *verifyFlags) add(c *cobra.Command) {
	v.ruleFlags.add(c)
	v.placeFlags.add(c)
	f := c.Flags()
	f.StringVar(&v.platform, "platform", "", "judge the manifest for this platform, as linux/arm64, or each with all; a signature of the index counts for it (default: what the tag means itself)")
	f.StringArrayVar(&v.files, "signature", nil, "file with a signature or attestation, instead of those that are attached to the image; may be repeated")
	f.BoolVar(&v.revoked, "online-revocation", false, "ask who can tell what was revoked: the OCSP responders that certificates of the Notary Project name, and AWS Signer of its own (signer:GetRevocationStatus; needs credentials)")
}

// verifier decides on images.
type verifier struct {
	*globals
	f       verifyFlags
	places  *places
	decider trust.Decider
	files   signatureFiles // instead of what is attached; nil: that
}

// openVerifier reads the policy and opens the doors. The caller closes places.
func (g *globals) openVerifier(ctx context.Context, f verifyFlags) (*verifier, error) {
	log, err := g.logger()
	if err != nil {
		return nil, err
	}
	p, err := f.load(ctx, g, f.isPolicy, log)
	if err != nil {
		return nil, err
	}
	v := &verifier{globals: g, f: f, decider: trust.Decider{Policy: p}}
	if v.decider.Openers, err = openers(p.Roots(), newAuthorities(f.revoked, log)); err != nil {
		return nil, err
	}
	if len(f.files) > 0 {
		if v.files, err = g.readSignatureFiles(f.files); err != nil {
			return nil, err
		}
	}
	v.places, err = g.openPlaces(f.placeFlags)
	return v, err
}

// judged is what became of one image.
type judged struct {
	Name    string         `json:"name"`
	Verdict *trust.Verdict `json:"verdict,omitempty"`
	Error   string         `json:"error,omitempty"`
	Remedy  string         `json:"remedy,omitempty"`
	err     error
}

// decide says of one image, or of each of its platforms, whether it may run.
func (v *verifier) decide(ctx context.Context, name string, explain bool) []judged {
	failed := func(err error) []judged {
		return []judged{{Name: name, Error: err.Error(), Remedy: fault.Remedy(err), err: err}}
	}
	n, err := v.places.find(ctx, name)
	if err != nil {
		return failed(err)
	}
	images, err := n.of(ctx, v.f.platform)
	if err != nil {
		return failed(err)
	}
	d := v.decider
	if d.Finder = n.shelf; v.files != nil {
		d.Finder = v.files
	}
	out := make([]judged, 0, len(images))
	for _, i := range images {
		verify := d.Verify
		if explain {
			verify = d.Explain
		}
		verdict, err := verify(ctx, i, time.Now())
		if err == nil && nothingFound(&verdict) && v.files == nil {
			// Is there no signature, or no image? Only now is that worth a request.
			_, err = n.whole(ctx)
		}
		one := judged{Name: name, Verdict: &verdict, err: err}
		if err != nil {
			one.Error, one.Remedy = err.Error(), fault.Remedy(err)
		}
		out = append(out, one)
	}
	return out
}

func nothingFound(v *trust.Verdict) bool {
	if v.Allowed || len(v.Looked) == 0 {
		return false
	}
	for _, l := range v.Looked {
		if l.Found > 0 {
			return false
		}
	}
	return true
}

// worst is the outcome of many: one that is denied says more than one that could
// not be decided, and neither is leave to run.
func worst(all []judged) error {
	var out error
	for _, j := range all {
		switch {
		case j.err == nil && !j.Verdict.Allowed:
			return errViolated
		case errors.As(j.err, new(usageError)):
			return j.err
		case j.err != nil:
			out = errSaid
		}
	}
	return out
}

func newTrustVerify(g *globals) *cobra.Command {
	var v verifyFlags
	c := &cobra.Command{
		Use:   "verify IMAGE...",
		Short: "Say whether images may run, by who signed them",
		Long: `Say whether images may run, by a trust policy. A tag is looked up once; everything
after that is about the digest. Signatures are held against the roots of the
policy alone: only the registry is asked.
` + imagesHelp + `
task:FILE stands for all images of an ECS task definition.

  castellan trust verify ghcr.io/acme/shop:2
  castellan trust verify oci:./layout:2 --as ghcr.io/acme/shop
  castellan trust verify task:task-definition.json -o json

Without a policy, flags say who must have signed; all of them must:

  castellan trust verify --key build.pub ghcr.io/acme/shop:2
  castellan trust verify ghcr.io/acme/shop:2 --trusted-root trusted_root.json \
    --certificate-oidc-issuer https://token.actions.githubusercontent.com \
    --certificate-identity https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v2
  castellan trust verify --trust-store acme=ca.pem --certificate-subject CN=build,O=Acme IMAGE
` + exitHelpTrust,
		Args: cobra.MinimumNArgs(1),
	}
	v.add(c)
	c.Flags().IntVar(&v.atOnce, "at-once", 4, "images that are verified at once")
	f := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		v.isPolicy = c.Flags().Changed("policy")
		return g.verify(c.Context(), args, v, *f)
	}
	return c
}

func (g *globals) verify(ctx context.Context, names []string, f verifyFlags, out form) error {
	if f.atOnce < 1 || f.atOnce > 64 {
		return usagef("--at-once %d: want 1 to 64", f.atOnce)
	}
	names, err := g.imagesOfTasks(names)
	if err != nil {
		return err
	}
	v, err := g.openVerifier(ctx, f)
	if err != nil {
		return err
	}
	defer v.places.Close()
	v.decider.Cache = trust.NewCache(0)
	results := make([][]judged, len(names))
	var group errgroup.Group
	group.SetLimit(f.atOnce)
	for i, name := range names {
		group.Go(func() error {
			results[i] = v.decide(ctx, name, false)
			return nil
		})
	}
	_ = group.Wait() // each result has its own error
	all := slices.Concat(results...)
	err = g.print(out, map[string]any{"images": all}, func() error {
		for _, j := range all {
			if err := g.judgedLine(j); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, worst(all))
}

// judgedLine is one image in a line, with the reasons of what is not allowed
// below it.
func (g *globals) judgedLine(j judged) error {
	var b strings.Builder
	switch {
	case j.err != nil:
		fmt.Fprintf(&b, "%s  %s\n    %s\n", g.paint("unknown", warn), printable(j.Name), printable(j.Error))
		if j.Remedy != "" {
			fmt.Fprintf(&b, "    remedy: %s\n", printable(j.Remedy))
		}
	case j.Verdict.Allowed:
		fmt.Fprintf(&b, "%s  %s  %s\n", g.paint("allowed", good), printable(pinnedName(j)), printable(votes(j.Verdict)))
	default:
		fmt.Fprintf(&b, "%s   %s\n    %s\n", g.paint("denied", bad), printable(pinnedName(j)), printable(j.Verdict.Reason))
		if j.Verdict.Remedy != "" {
			fmt.Fprintf(&b, "    remedy: %s\n", printable(j.Verdict.Remedy))
		}
	}
	_, err := io.WriteString(g.out, b.String())
	return err
}

// pinnedName is an image with the digest that was verified.
func pinnedName(j judged) string {
	if strings.HasSuffix(j.Name, "@"+j.Verdict.Digest) {
		return j.Name
	}
	if j.Verdict.Repository == "" {
		return j.Name + " " + j.Verdict.Digest
	}
	return j.Verdict.Repository + "@" + j.Verdict.Digest
}

// votes says by whom an image was signed.
func votes(v *trust.Verdict) string {
	var who []string
	for _, r := range v.Requirements {
		for _, by := range r.By {
			if !slices.Contains(who, by.Signer) {
				who = append(who, by.Signer)
			}
		}
	}
	if len(who) == 0 {
		return v.Reason
	}
	slices.Sort(who)
	return "by " + strings.Join(who, ", ")
}

// maxTaskImages bounds the images of one run.
const maxTaskImages = 10_000

// imagesOfTasks puts the images of task definitions in their place.
func (g *globals) imagesOfTasks(names []string) ([]string, error) {
	var out []string
	add := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, name := range names {
		file, ok := strings.CutPrefix(name, "task:")
		if !ok {
			add(name)
			continue
		}
		b, err := g.readSmall(file, maxTaskBytes)
		if err != nil {
			return nil, fmt.Errorf("read task definition: %w", err)
		}
		tasks, err := scan.ParseTask(b)
		if err != nil {
			return nil, err
		}
		for _, t := range tasks {
			for _, c := range t.Containers {
				add(c.Image)
			}
		}
	}
	if len(out) > maxTaskImages {
		return nil, usagef("%d images, and at most %d are verified in one run", len(out), maxTaskImages)
	}
	return out, nil
}
