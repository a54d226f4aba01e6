package images

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
)

// Limits of an acceptance.
const (
	// maxAhead is how long one may last: who accepts looks again once a year.
	maxAhead  = 366 * 24 * time.Hour
	maxReason = 2_000
	maxName   = 512
)

// weaknessForm is what names of weaknesses look like: CVE-2024-1, GHSA-…,
// RUSTSEC-…, ALAS2023-2024-1, RHSA-2024:1.
var weaknessForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._:-]{2,127}$`) })

// NewAcceptance is a decision to be made; see store.Acceptance.
type NewAcceptance struct {
	Kind          store.FindingKind // "" or KindVulnerability: of a vulnerability
	Vulnerability string
	Rule          string // of the other kinds
	Path          string
	Package       string
	Image         string
	Reason        string
	Expires       time.Time
}

// tidy makes what people type one thing.
func (n *NewAcceptance) tidy() {
	if n.Kind == store.KindVulnerability {
		n.Kind = ""
	}
	for _, s := range []*string{&n.Vulnerability, &n.Rule, &n.Path, &n.Package, &n.Image, &n.Reason} {
		*s = strings.TrimSpace(*s)
	}
	n.Vulnerability = canonical(n.Vulnerability)
}

// Accept makes a decision to live with a finding for a time, and has the images
// compared that it bears on. It needs access.ManageImages.
func (s *Service) Accept(ctx context.Context, who access.Identity, n NewAcceptance) (store.Acceptance, error) {
	if err := who.Need(access.ManageImages); err != nil {
		return store.Acceptance{}, err
	}
	n.tidy()
	s.accepted.mu.Lock()
	defer s.accepted.mu.Unlock()
	now := s.clock()
	if err := n.check(now); err != nil {
		return store.Acceptance{}, err
	}
	if err := s.roomFor(ctx, now); err != nil {
		return store.Acceptance{}, err
	}
	a, err := s.st.PutAcceptance(ctx, store.Acceptance{
		Kind: n.Kind, Vulnerability: n.Vulnerability, Rule: n.Rule, Path: n.Path, Package: n.Package, Image: n.Image, Reason: n.Reason,
		By: who.Actor, Created: now, Expires: n.Expires,
	})
	if err != nil {
		return a, fmt.Errorf("store the acceptance of %s: %w", a.Name(), err)
	}
	s.accepted.dirty = true
	s.nudge()
	return a, s.audit(ctx, who, kindOf(&a)+".accept", target(&a), "until "+a.Expires.UTC().Format(time.RFC3339)+": "+a.Reason)
}

// canonical writes a CVE or GHSA number as findings have it: they are looked up by
// it.
func canonical(name string) string {
	upper := strings.ToUpper(name)
	if rest, ok := strings.CutPrefix(upper, "GHSA-"); ok {
		return "GHSA-" + strings.ToLower(rest)
	}
	if strings.HasPrefix(upper, "CVE-") {
		return upper
	}
	return name
}

// ruleForm is what rules, checks and fingerprints look like: aws-access-token,
// CAST-IMAGE-001, ECS.4, 32 hex digits.
var ruleForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{1,127}$`) })

// everySecret and everyMalware would accept all of a kind, in all files.
const everySecret, everyMalware = "secrets", "malware"

// checkWhat returns what is wrong with what it names.
func (n *NewAcceptance) checkWhat() error {
	if n.Kind == "" {
		switch {
		case n.Rule != "" || n.Path != "":
			return fault.New(fault.Invalid, "rule and path: they are for secrets, faults and malware").With("say the kind")
		case !weaknessForm().MatchString(n.Vulnerability):
			return fault.New(fault.Invalid, "vulnerability: %.40q is no name of a weakness", n.Vulnerability).With("write it as findings show it, as in CVE-2024-3094")
		}
		return nil
	}
	_, err := path.Match(strings.TrimSuffix(n.Path, "/**"), "")
	switch {
	case !slices.Contains(store.FindingKinds(), n.Kind):
		return fault.New(fault.Invalid, "kind: %.40q is none; there are vulnerability, %s", string(n.Kind), kindWords())
	case n.Vulnerability != "" || n.Package != "":
		return fault.New(fault.Invalid, "vulnerability and package: a %s is accepted by its rule", n.Kind)
	case !ruleForm().MatchString(n.Rule), n.Rule == everySecret, n.Rule == everyMalware:
		return fault.New(fault.Invalid, "rule: %.40q is no rule, check or fingerprint", n.Rule).With("write it as findings show it")
	case n.Path != "" && n.Kind == store.KindFault:
		return fault.New(fault.Invalid, "path: a fault is one of an image, not of a file").With("narrow it with image")
	case err != nil || !isText(n.Path, maxName) || n.Path != "" && n.Path[0] != '/':
		return fault.New(fault.Invalid, "path: want an absolute path of %d bytes at most, as in /srv/app/test/**", maxName)
	}
	return nil
}

func kindWords() string {
	var words []string
	for _, k := range store.FindingKinds() {
		words = append(words, string(k))
	}
	return strings.Join(words, ", ")
}

// check returns what is wrong with it.
func (n *NewAcceptance) check(now time.Time) error {
	if err := n.checkWhat(); err != nil {
		return err
	}
	switch {
	case n.Reason == "":
		return fault.New(fault.Invalid, "reason: there is none").With("say why it can be lived with")
	case !isText(n.Reason, maxReason):
		return fault.New(fault.Invalid, "reason: want text of %d bytes at most", maxReason)
	case !isWord(n.Package, maxName):
		return fault.New(fault.Invalid, "package: want a name or a package URL of %d bytes at most", maxName)
	case !isWord(n.Image, maxName):
		return fault.New(fault.Invalid, "image: want an image's id or a name of %d bytes at most", maxName)
	case n.Image != "" && inventory.CheckDigest(n.Image) != nil && asset.Repository(n.Image) != n.Image:
		return fault.New(fault.Invalid, "image: %.80q names one version of the image", n.Image).
			With("leave out tag and digest to mean all versions, or give the image's id (sha256:…) to mean one")
	case n.Expires.IsZero():
		return fault.New(fault.Invalid, "expires: an acceptance must end").With("choose a day within a year")
	case !n.Expires.After(now):
		return fault.New(fault.Invalid, "expires: %s is over", n.Expires.UTC().Format(time.RFC3339))
	case n.Expires.After(now.Add(maxAhead)):
		return fault.New(fault.Invalid, "expires: %s is more than a year ahead", n.Expires.UTC().Format(time.DateOnly)).
			With("choose a day within a year, and accept again if it must be")
	}
	return nil
}

// isText reports whether s is text with lines of at most n bytes.
func isText(s string, n int) bool {
	return len(s) <= n && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })
}

// isWord reports whether s is text without spaces of at most n bytes.
func isWord(s string, n int) bool {
	return len(s) <= n && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}

// roomFor returns an error when too many acceptances hold.
func (s *Service) roomFor(ctx context.Context, now time.Time) error {
	all, err := s.st.Acceptances(ctx)
	if err != nil {
		return fmt.Errorf("read what is accepted: %w", err)
	}
	holding := 0
	for i := range all {
		if all[i].Holds(now) {
			holding++
		}
	}
	if holding >= store.MaxAcceptances {
		return fault.New(fault.Exhausted, "%d acceptances hold already", holding).With("end some that are not needed any more")
	}
	return nil
}

// EndAcceptance takes a decision back, and has the images compared that it bore
// on. Conflict when it has ended or expired already. It needs access.ManageImages.
func (s *Service) EndAcceptance(ctx context.Context, who access.Identity, id int64) (store.Acceptance, error) {
	if err := who.Need(access.ManageImages); err != nil {
		return store.Acceptance{}, err
	}
	s.accepted.mu.Lock()
	defer s.accepted.mu.Unlock()
	a, err := s.st.Acceptance(ctx, id)
	if err != nil {
		return a, fmt.Errorf("read acceptance %d: %w", id, err)
	}
	now := s.clock()
	if !a.Holds(now) {
		return a, fault.New(fault.Conflict, "acceptance %d has ended already", id)
	}
	a.Ended, a.EndedBy = now, who.Actor
	if a, err = s.st.PutAcceptance(ctx, a); err != nil {
		return a, fmt.Errorf("end acceptance %d: %w", id, err)
	}
	s.accepted.dirty = true
	s.nudge()
	return a, s.audit(ctx, who, kindOf(&a)+".unaccept", target(&a), "")
}

// Acceptances returns all, newest first; ended and expired ones too. It needs
// access.ReadImages.
func (s *Service) Acceptances(ctx context.Context, who access.Identity) ([]store.Acceptance, error) {
	if !who.May(access.ManageImages) {
		if err := who.Need(access.ReadImages); err != nil {
			return nil, err
		}
	}
	return s.st.Acceptances(ctx)
}

// Rescan has an image scanned anew, whatever became of it. It needs
// access.ManageImages.
func (s *Service) Rescan(ctx context.Context, who access.Identity, imageID string) error {
	if err := who.Need(access.ManageImages); err != nil {
		return err
	}
	held := s.leases.all() // before: what is handed out from now on is the new scan
	if err := s.st.ScanAgain(ctx, imageID, s.clock()); err != nil {
		return fmt.Errorf("have image %s scanned again: %w", imageID, err)
	}
	for agentID, x := range held {
		if x.imageID == imageID {
			s.drop(agentID, x.job)
		}
	}
	s.leases.ask()
	s.nudge()
	s.listeners.touch(imageID)
	return s.audit(ctx, who, "image.rescan", "image:"+imageID, "")
}

// kindOf names what an acceptance is about.
func kindOf(a *store.Acceptance) string {
	if a.Kind == "" {
		return string(store.KindVulnerability)
	}
	return string(a.Kind)
}

// target names an acceptance in the audit log.
func target(a *store.Acceptance) string {
	t := kindOf(a) + ":" + a.Name()
	if a.Path != "" {
		t += " path:" + a.Path
	}
	if a.Package != "" {
		t += " package:" + a.Package
	}
	if a.Image != "" {
		t += " image:" + a.Image
	}
	return t
}

func (s *Service) audit(ctx context.Context, who access.Identity, action, target, detail string) error {
	return audit.Log{Store: s.st, Clock: s.clock}.Done(ctx, who, action, target, detail)
}
