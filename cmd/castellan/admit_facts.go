package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/trust"
)

// factFlags say where what is known of images comes from.
type factFlags struct {
	files       []string
	scan        bool
	trustPolicy string
	write       string
	scanOptions scanOptions
	places      placeFlags
}

// maxFacts bounds a file of facts: some thousand vulnerabilities of some hundred
// images.
const maxFacts = 256 << 20

func (o *factFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.files, "facts", nil, "file with what is known of images (JSON); may be repeated")
	f.BoolVar(&o.scan, "scan", false, "scan the images here, as castellan scan does")
	f.StringVar(&o.trustPolicy, "trust-policy", "", "verify the images' signatures here by this trust policy, as castellan trust verify does")
	f.StringVar(&o.write, "write-facts", "", "write what is known of the images to this file")
	f.StringVar(&o.scanOptions.database, "db", "", "with --scan: advisory database (default: advisories.db in the data folder)")
	f.StringVar(&o.scanOptions.cache, "cache-dir", "", "with --scan: folder for what is known of layers (default: castellan in the user's cache folder)")
	f.StringVar(&o.scanOptions.platform, "platform", "", "with --scan: platform of an image for several, as linux/arm64 (default: this machine's)")
	o.places.add(c)
}

// facts gathers what is known of the images of requests, and gives those that are
// named by a tag the digest that it meant.
func (g *globals) facts(ctx context.Context, requests []admission.Request, o factFlags) (map[string]*admission.Facts, error) {
	named, err := g.factFiles(o.files)
	if err != nil {
		return nil, err
	}
	images := imagesOf(requests)
	if o.scan {
		if err := g.scanImages(ctx, images, named, o); err != nil {
			return nil, err
		}
	}
	if o.trustPolicy != "" {
		if err := g.verifyImages(ctx, images, named, o); err != nil {
			return nil, err
		}
	}
	out := map[string]*admission.Facts{}
	for name, f := range named {
		out[cmp.Or(f.Digest, name)] = f
	}
	for i := range requests {
		for k := range requests[i].Task.Containers {
			image := &requests[i].Task.Containers[k].Image
			f := named[image.Reference]
			if f == nil {
				continue
			}
			switch {
			case image.Digest == "":
				image.Digest = cmp.Or(f.Digest, image.Reference)
				out[image.Digest] = f
			case f.Digest != "" && f.Digest != image.Digest:
				// The reference names another image than the facts are of: nothing is known.
			default:
				out[image.Digest] = f
			}
		}
	}
	if o.write != "" {
		if err := writeWhole(o.write, false, func(w io.Writer) error { return writeJSON(w, named, "  ") }); err != nil {
			return nil, fmt.Errorf("write %s: %w", o.write, err)
		}
	}
	return out, nil
}

// imagesOf are the references of all images, each once. What is built here has
// none yet.
func imagesOf(requests []admission.Request) []string {
	var out []string
	seen := map[string]bool{}
	for i := range requests {
		unknown := map[string]bool{}
		for _, u := range requests[i].Unknown {
			unknown[u] = true
		}
		for k := range requests[i].Task.Containers {
			r := requests[i].Task.Containers[k].Image.Reference
			if r != "" && !seen[r] && !isPath(r) && !unknown[fmt.Sprintf("task.containers[%d].image", k)] {
				seen[r] = true
				out = append(out, r)
			}
		}
	}
	return out
}

// isPath says whether the commands that are called would take a reference for
// something on this machine's disk. A document must not have it read.
func isPath(reference string) bool {
	kind, _, ok := strings.Cut(reference, ":")
	return ok && slices.Contains([]string{"oci", "archive", "docker", "registry", "root", "dir", "task", "sbom", "workload"}, kind)
}

// factFiles reads files of facts, each an object from images.
func (g *globals) factFiles(names []string) (map[string]*admission.Facts, error) {
	out := map[string]*admission.Facts{}
	for _, name := range names {
		b, err := g.readSmall(name, maxFacts)
		if err != nil {
			return nil, fmt.Errorf("read facts: %w", err)
		}
		var some map[string]*admission.Facts
		if err := json.Unmarshal(b, &some); err != nil {
			return nil, fault.New(fault.Invalid, "read facts %s: %w", name, err).With("a file of facts is a JSON object from images to what is known of each; --write-facts writes one")
		}
		for image, f := range some {
			if f == nil {
				return nil, fault.New(fault.Invalid, "read facts %s: nothing stands behind %s", name, image).With("leave the image out")
			}
			if out[image] != nil {
				return nil, fault.New(fault.Invalid, "read facts %s: another file has %s already", name, image).With("name each image once")
			}
			out[image] = f
		}
	}
	return out, nil
}

// factOf returns the facts of an image, new ones if there are none yet.
func factOf(named map[string]*admission.Facts, image string) *admission.Facts {
	if named[image] == nil {
		named[image] = &admission.Facts{At: time.Now().UTC()}
	}
	return named[image]
}

// scanImages scans images. One that can't be scanned is known to be so.
func (g *globals) scanImages(ctx context.Context, images []string, named map[string]*admission.Facts, o factFlags) error {
	log, err := g.logger()
	if err != nil {
		return err
	}
	so := o.scanOptions
	so.dockerHost, so.plainHTTP, so.caFile = o.places.dockerHost, o.places.plainHTTP, o.places.caFile
	s := &scanning{globals: g, o: so, log: log}
	s.garbage.set(knownPercent)
	if s.baseline, err = readBaseline("", time.Now()); err != nil {
		return err
	}
	if s.secrets, err = g.openSecrets(so); err != nil {
		return err
	}
	if s.malware, err = g.openMalware(so); err != nil {
		return err
	}
	if s.db, s.seeded, err = scan.OpenDatabase(g.advisoryPath(so.database)); err != nil {
		return err
	}
	defer s.db.Close()
	for _, image := range images {
		f := factOf(named, image)
		known, err := s.facts(ctx, image)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			f.Scan = admission.Scan{State: admission.Failed, Why: err.Error()}
			continue
		}
		known.Trust, known.Owners = f.Trust, f.Owners
		*f = known
	}
	s.clearProgress()
	return nil
}

// facts scans one image.
func (s *scanning) facts(ctx context.Context, image string) (admission.Facts, error) {
	inventories, err := s.taskImage(ctx, s.scanner(), image, s.o.platform)
	if err != nil {
		return admission.Facts{}, err
	}
	if len(inventories) != 1 {
		return admission.Facts{}, fmt.Errorf("%s means %d images", image, len(inventories))
	}
	r, err := s.report(ctx, inventories[0])
	if err != nil {
		return admission.Facts{}, err
	}
	return scan.Facts(&r), nil
}

// verifyImages verifies the signatures of images.
func (g *globals) verifyImages(ctx context.Context, images []string, named map[string]*admission.Facts, o factFlags) error {
	v, err := g.openVerifier(ctx, verifyFlags{ruleFlags: ruleFlags{policy: o.trustPolicy}, placeFlags: o.places, platform: o.scanOptions.platform, isPolicy: true})
	if err != nil {
		return err
	}
	defer v.places.Close()
	for _, image := range images {
		f := factOf(named, image)
		all := v.decide(ctx, image, false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.Trust = trustOf(all)
		if f.Digest == "" && len(all) == 1 && all[0].Verdict != nil {
			f.Digest = all[0].Verdict.Digest
		}
	}
	return nil
}

// trustOf is a verdict on signatures in the words of a decision; of several
// platforms all must be allowed.
func trustOf(all []judged) admission.Trust {
	out := admission.Trust{State: admission.Known, Allowed: len(all) > 0, At: time.Now().UTC()}
	for i := range all {
		j := &all[i]
		if j.err != nil {
			return admission.Trust{State: admission.Failed, Why: j.err.Error(), Remedy: j.Remedy}
		}
		v := j.Verdict
		out.Policy = v.Policy
		if !v.Until.IsZero() && (out.Until.IsZero() || v.Until.Before(out.Until)) {
			out.Until = v.Until
		}
		if !v.Allowed {
			out.Allowed, out.Why, out.Remedy = false, v.Reason, v.Remedy
		}
		out.Signers = append(out.Signers, signersOf(v)...)
	}
	return out
}

// signersOf are those whose signatures and attestations hold.
func signersOf(v *trust.Verdict) []admission.Signer {
	var out []admission.Signer
	for i := range v.Signatures {
		c := &v.Signatures[i]
		if c.State != trust.SignatureGood || c.By == nil {
			continue
		}
		s := admission.Signer{Names: c.Signers, Identity: c.By.String(), Kind: string(c.Kind), Attests: c.Predicate}
		if c.Time != nil {
			s.At = *c.Time
		}
		out = append(out, s)
	}
	return out
}
