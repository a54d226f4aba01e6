package gate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxVulnerabilities and maxFound bound what is told of one image, the gravest
	// first; beyond, something of it counts as not looked at.
	maxVulnerabilities = 10_000
	maxFound           = 1_000
	// maxLabels bounds the labels of an image that are told.
	maxLabels = 128
)

// read gathers the facts of an image from what there is.
func (s *Service) read(ctx context.Context, n image, o *sources, now time.Time) (admission.Facts, error) {
	f := admission.Facts{Digest: cmp.Or(n.digest, n.id), At: now.UTC(), Scan: noScan(n, o), Trust: s.trustOf(n, o)}
	for i := range o.images {
		one, err := s.readImage(ctx, &o.images[i], now)
		if err != nil {
			return f, err
		}
		if i == 0 {
			one.Digest, one.At, one.Trust = f.Digest, f.At, f.Trust
			f = one
			continue
		}
		merge(&f, &one)
	}
	slices.Sort(f.Owners)
	f.Owners = slices.Compact(f.Owners)
	return f, nil
}

// noScan is the state of an image of which no scan is known.
func noScan(n image, o *sources) admission.Scan {
	if n.digest == "" && n.id == "" {
		return admission.Scan{Why: "it is not known which image is meant: there is no digest"}
	}
	if o.other {
		return admission.Scan{Why: "the registry that holds it is scanned for other platforms than that of this image"}
	}
	for i := range o.entries {
		switch e := &o.entries[i]; e.State {
		case store.RegistryWaiting, store.RegistryRunning:
			return admission.Scan{State: admission.Waiting, Why: fmt.Sprintf("registry %s holds it, and its scan is %s", e.Registry, e.State)}
		case store.RegistryFailed:
			return admission.Scan{State: admission.Failed, Why: e.Error}
		case store.RegistryLeft:
			return admission.Scan{Why: fmt.Sprintf("the rules of registry %s leave it out", e.Registry)}
		case store.RegistrySkipped:
			return admission.Scan{State: admission.Failed, Why: "it is no image: " + e.Error}
		}
	}
	switch o.sought {
	case seeking:
		return admission.Scan{State: admission.Waiting, Why: "its registry is asked for it, to scan it"}
	case missing:
		return admission.Scan{Why: "its registry is watched, and does not show it: is it pushed, with a tag that the rules of the registry take in?"}
	}
	return admission.Scan{Why: "no registry that is watched holds it, and no agent has told of it: have its registry watched (castellan registries add)"}
}

// readImage gathers what is known of one image.
func (s *Service) readImage(ctx context.Context, m *store.Image, now time.Time) (f admission.Facts, err error) {
	if m.Owner != "" {
		f.Owners = []string{m.Owner}
	}
	f.Scan = stateOf(m)
	if f.Scan.State != admission.Known {
		return f, nil
	}
	if generation, newest := s.Advisories(); m.Scan.Database == generation {
		f.Scan.Database = newest.UTC()
	}
	if u := scan.Unmaintained(m.OS, now); u != nil {
		end := u.Since.AddDate(0, 0, 1) // the day after its last
		f.Scan.EndOfLife = &end
	}
	inv, err := s.Store.Inventory(ctx, m.ID)
	if err != nil {
		return f, fmt.Errorf("read the inventory of image %s: %w", m.ID, err)
	}
	describe(&f, &inv)
	if err := s.readVulnerabilities(ctx, m.ID, &f.Scan); err != nil {
		return f, err
	}
	for kind, into := range map[store.FindingKind]*[]admission.Found{
		store.KindSecret: &f.Scan.Secrets, store.KindMalware: &f.Scan.Malware, store.KindFault: &f.Scan.Faults,
	} {
		if err := s.readFound(ctx, m.ID, kind, into); err != nil {
			return f, err
		}
		f.Scan.Lost = f.Scan.Lost || len(*into) >= maxFound
	}
	return f, nil
}

// stateOf says how much is known of an image by its scan. One that is scanned and
// is to be scanned again is known by what was found last.
func stateOf(m *store.Image) admission.Scan {
	switch {
	case !m.Scan.Done.IsZero() && !m.Scan.Matched.IsZero():
		return admission.Scan{State: admission.Known, At: m.Scan.Done.UTC(), Distribution: m.OS.ID}
	case !m.Scan.Done.IsZero():
		return admission.Scan{State: admission.Waiting, Why: "it is scanned, and about to be held against the advisories"}
	case m.Scan.State == store.ScanFailed:
		return admission.Scan{State: admission.Failed, Why: m.Scan.Error}
	case m.Scan.State == store.ScanGone:
		return admission.Scan{Why: "every container of it ended before an agent had scanned it"}
	}
	return admission.Scan{State: admission.Waiting, Why: "its scan is " + string(m.Scan.State)}
}

// describe takes over what the image says of itself.
func describe(f *admission.Facts, inv *inventory.Inventory) {
	f.Scan.Lost = slices.ContainsFunc(inv.Problems, func(p inventory.Problem) bool { return p.Lost })
	f.Users = scan.Users(inv.Users)
	if inv.Image == nil {
		return
	}
	f.Created, f.User = inv.Image.Created.UTC(), inv.Image.Config.User
	if n := len(inv.Image.Config.Labels); n > 0 && n <= maxLabels {
		f.Labels = inv.Image.Config.Labels
	}
}

// readVulnerabilities reads those that count, and then those that are accepted.
func (s *Service) readVulnerabilities(ctx context.Context, imageID string, into *admission.Scan) error {
	for _, accepted := range []bool{false, true} {
		q := store.VulnerabilityQuery{ImageID: imageID, Accepted: accepted, Limit: store.MaxPage}
		for {
			page, err := s.Store.Vulnerabilities(ctx, q)
			if err != nil {
				return fmt.Errorf("read the vulnerabilities of image %s: %w", imageID, err)
			}
			for i := range page {
				into.Vulnerabilities = append(into.Vulnerabilities, short(&page[i].Vulnerability))
			}
			if len(into.Vulnerabilities) >= maxVulnerabilities {
				into.Vulnerabilities, into.Lost = into.Vulnerabilities[:maxVulnerabilities], true
				return nil
			}
			if len(page) < store.MaxPage {
				break
			}
			q.Offset += len(page)
		}
	}
	return nil
}

// short is a vulnerability in the words of conditions.
func short(v *finding.Vulnerability) admission.Vulnerability {
	out := admission.Vulnerability{
		ID: v.ID, Package: v.Package.FullName(), Version: v.Package.Version, Fixed: v.Fixed, Severity: v.Severity, KEV: v.KEV != nil,
		InUse: v.InUse, Published: v.Published.UTC(), Accepted: v.Accepted != nil,
	}
	if v.EPSS != nil {
		out.EPSS = float64(v.EPSS.EPSS)
	}
	for _, c := range v.Scores {
		out.Score = max(out.Score, c.Base)
	}
	return out
}

func (s *Service) readFound(ctx context.Context, imageID string, kind store.FindingKind, into *[]admission.Found) error {
	for _, accepted := range []bool{false, true} {
		page, err := s.Store.FindingsIn(ctx, store.FindingQuery{Kind: kind, ImageID: imageID, Accepted: accepted, Limit: maxFound})
		if err != nil {
			return fmt.Errorf("read what else is wrong with image %s: %w", imageID, err)
		}
		for i := range page {
			x := &page[i]
			f := admission.Found{Rule: x.Rule, Title: x.Title, Severity: x.Severity, Accepted: x.Accepted != nil}
			switch {
			case x.Secret != nil:
				f.Place = cmp.Or(x.Secret.Path, x.Secret.Name)
			case x.Malware != nil:
				f.Place = x.Malware.Path
			case x.Fault != nil:
				f.Place = x.Fault.Subject
			}
			*into = append(*into, f)
		}
	}
	return nil
}

// merge adds what is known of another image that the same digest means, as another
// platform of an index: nobody knows which one will run, so the worse counts.
func merge(f, other *admission.Facts) {
	a, b := &f.Scan, &other.Scan
	if worse(b.State, a.State) {
		a.State, a.Why = b.State, b.Why
	}
	a.Lost = a.Lost || b.Lost
	a.At, a.Database = earlier(a.At, b.At), earlier(a.Database, b.Database)
	if a.Distribution != b.Distribution {
		a.Distribution = ""
	}
	if e := b.EndOfLife; e != nil && (a.EndOfLife == nil || e.Before(*a.EndOfLife)) {
		a.EndOfLife = e
	}
	a.Vulnerabilities = union(a.Vulnerabilities, b.Vulnerabilities, func(v admission.Vulnerability) string {
		return fmt.Sprintf("%s\x00%s\x00%s\x00%v\x00%v", v.ID, v.Package, v.Version, v.Severity, v.Accepted)
	})
	key := func(x admission.Found) string { return fmt.Sprintf("%s\x00%s\x00%v", x.Rule, x.Place, x.Accepted) }
	a.Secrets, a.Malware, a.Faults = union(a.Secrets, b.Secrets, key), union(a.Malware, b.Malware, key), union(a.Faults, b.Faults, key)
	f.Created = earlier(f.Created, other.Created)
	if f.User != other.User {
		f.User = "" // as if it had none: it may be root
	}
	f.Users = usersOf(f.Users, other.Users)
	f.Owners = append(f.Owners, other.Owners...)
	labels := map[string]string{}
	for name, v := range f.Labels {
		if w, ok := other.Labels[name]; ok && v == w {
			labels[name] = v
		}
	}
	f.Labels = labels
}

// usersOf are the users of two images, one of which will run: a name is another's
// than root's if it is so in both.
func usersOf(a, b *admission.Users) *admission.Users {
	if a == nil || b == nil {
		return nil
	}
	root := slices.Concat(a.Root, b.Root)
	slices.Sort(root)
	others := slices.DeleteFunc(slices.Clone(a.Others), func(name string) bool {
		_, both := slices.BinarySearch(b.Others, name)
		return !both
	})
	return &admission.Users{Root: slices.Compact(root), Others: others}
}

// worse says whether less is known in state a than in state b.
func worse(a, b admission.State) bool {
	order := []admission.State{admission.Failed, admission.Unknown, admission.Waiting, admission.Known}
	return slices.Index(order, a) < slices.Index(order, b)
}

// earlier is the earlier of two times; one that is not known is the earliest.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// union adds what is not there yet, by its key.
func union[T any](a, b []T, key func(T) string) []T {
	have := map[string]bool{}
	for _, x := range a {
		have[key(x)] = true
	}
	for _, x := range b {
		if !have[key(x)] {
			a = append(a, x)
		}
	}
	return a
}

// findTrust finds what came of the trust policy.
func (s *Service) findTrust(ctx context.Context, n image, o *sources, now time.Time) error {
	if n.repository == "" || n.digest == "" {
		return nil
	}
	t, err := s.Store.TrustImage(ctx, n.repository, n.digest)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the trust verdict: %w", err)
	}
	o.trust, o.vouched = t, true
	o.overdue = !t.Next.IsZero() && now.After(t.Next.Add(verifyLate))
	return nil
}

// verifyLate is how much later than planned an image is verified anew before its
// verdict holds no longer: agents that are busy come a little late.
const verifyLate = 10 * time.Minute

// trustOf says what the trust policy says of an image.
func (s *Service) trustOf(n image, o *sources) admission.Trust {
	t := &o.trust
	switch {
	case o.policy == "":
		return admission.Trust{Why: "the fleet has no trust policy", Remedy: "an administrator writes one: castellan trust policy set FILE"}
	case n.digest == "" || n.repository == "":
		return admission.Trust{Why: "it is not known which image is meant", Remedy: "name the image by repository and digest"}
	case !o.vouched && o.held != nil:
		return admission.Trust{State: admission.Waiting, Why: "registry " + o.held.registry + " holds it, and it is about to be verified"}
	case !o.vouched && o.sought == seeking && s.Want != nil:
		return admission.Trust{State: admission.Waiting, Why: "its registry is asked for it, to verify it"}
	case !o.vouched:
		return admission.Trust{
			Why:    "nobody has verified it: no workload of it has run, and no registry that is watched holds it",
			Remedy: "verify it where it is built (castellan trust verify), or have its registry watched (castellan registries add)",
		}
	case t.State == store.TrustWaiting, t.Policy != o.policy && t.State != store.TrustLocal:
		return admission.Trust{State: admission.Waiting, Why: "it is about to be verified"}
	case t.State == store.TrustLocal:
		return admission.Trust{State: admission.Failed, Why: "no registry has it: there is nowhere to look for a signature", Remedy: "push it to a registry, and sign it there"}
	case t.State == store.TrustUndecided:
		return admission.Trust{State: admission.Failed, Why: t.Reason, Remedy: t.Remedy, Policy: t.Policy, At: t.Checked}
	case o.overdue:
		return admission.Trust{Why: "the last verdict on it is too old", Remedy: "castellan trust images says which agents verify"}
	}
	out := admission.Trust{
		State: admission.Known, Allowed: t.State == store.TrustAllowed, Why: t.Reason, Remedy: t.Remedy, Policy: t.Policy, At: t.Checked, Until: t.Next,
	}
	for _, x := range t.Signers {
		who := admission.Signer{Names: x.Names, Identity: x.Identity, Kind: x.Kind, Attests: x.Attests}
		if x.At != nil {
			who.At = *x.At
		}
		out.Signers = append(out.Signers, who)
	}
	return out
}
