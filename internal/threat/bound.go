package threat

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Bounds of what else stands in a threat; see MaxText.
const (
	maxArgs       = 64   // arguments of one process that are told
	maxTechniques = 16   // rules have one or two
	maxPath       = 4096 // PATH_MAX
	maxName       = 64   // the kernel's names have 15 bytes, those that the DNS tells 253
	maxHostname   = 256
	maxWord       = 128 // a kind, a reaction, an error's name
	// MaxRuleID bounds the id of a rule.
	MaxRuleID = 64
)

// ruleID is the form of the id of a rule.
var ruleID = regexp.MustCompile(`^[a-z][a-z0-9]*([-_][a-z0-9]+)*$`)

// IsRuleID reports whether s is of the form of a rule's id.
func IsRuleID(s string) bool { return len(s) <= MaxRuleID && ruleID.MatchString(s) }

// Check returns what makes a threat none that a rule told: the form of its version,
// print, rule, severity, tactic, techniques and count. What it says is not judged.
func (t *Threat) Check() error {
	print, err := hex.DecodeString(t.Print)
	switch {
	case t.Version != Version:
		return fmt.Errorf("threat of version %d: %d is known", t.Version, Version)
	case err != nil || len(print) != printBytes:
		return fmt.Errorf("threat with the print %.80q: want %d bytes in hex", t.Print, printBytes)
	case !IsRuleID(t.Rule):
		return fmt.Errorf("threat of a rule with the id %.80q", t.Rule)
	case t.Severity <= finding.Unknown || t.Severity > finding.Critical:
		return fmt.Errorf("threat of rule %s with the severity %d", t.Rule, t.Severity)
	case !slices.Contains(Tactics(), t.Tactic):
		return fmt.Errorf("threat of rule %s with the tactic %.80q", t.Rule, t.Tactic)
	case t.Count == 0 || t.Count > maxCount:
		return fmt.Errorf("threat of rule %s that happened %d times", t.Rule, t.Count)
	case len(t.Evidence) == 0:
		return fmt.Errorf("threat of rule %s that rests on nothing", t.Rule)
	}
	for _, id := range t.Techniques {
		if err := CheckTechnique(id); err != nil {
			return err
		}
	}
	return nil
}

// maxCount keeps sums exact where numbers are floating point.
const maxCount = 1 << 53

// Bound cuts every text and every list to the bounds of a threat, so that it can be
// stored. No list is changed in place.
func (t *Threat) Bound() {
	t.Title, t.Summary = untrusted.Clip(t.Title, MaxText), untrusted.Clip(t.Summary, MaxText)
	t.Group = untrusted.Clip(t.Group, MaxText)
	t.Process.Name, t.Process.Executable = untrusted.Clip(t.Process.Name, maxName), untrusted.Clip(t.Process.Executable, maxPath)
	t.Techniques = bounded(t.Techniques, maxTechniques, func(s *string) { *s = untrusted.Clip(*s, maxWord) })
	t.Args = boundArgs(t.Args)
	t.Ancestors = bounded(t.Ancestors, MaxAncestors, func(a *Ancestor) {
		a.Name, a.Executable, a.Args = untrusted.Clip(a.Name, maxName), untrusted.Clip(a.Executable, maxPath), boundArgs(a.Args)
	})
	t.Files = bounded(t.Files, MaxFiles, func(s *string) { *s = untrusted.Clip(*s, maxPath) })
	t.Peers = bounded(t.Peers, MaxPeers, func(p *Peer) {
		p.Name, p.Group = untrusted.Clip(p.Name, maxHostname), untrusted.Clip(p.Group, MaxText)
		p.Kind = event.PeerKind(untrusted.Clip(string(p.Kind), maxWord))
		p.WorkloadID, p.AgentID = untrusted.Clip(p.WorkloadID, maxWord), untrusted.Clip(p.AgentID, maxWord)
		if p.Address.Addr().Zone() != "" { // of any length
			p.Address = netip.AddrPortFrom(p.Address.Addr().WithZone(""), p.Address.Port())
		}
	})
	if n := len(t.Evidence); n > MaxEvidence {
		t.LeftOut = min(t.LeftOut, maxCount) + uint64(n-MaxEvidence)
	}
	t.Evidence = bounded(t.Evidence, MaxEvidence, func(e *Evidence) {
		e.Boot, e.Kind, e.Words = untrusted.Clip(e.Boot, maxWord), event.Kind(untrusted.Clip(string(e.Kind), maxWord)), untrusted.Clip(e.Words, MaxText)
	})
	t.LeftOut = min(t.LeftOut, maxCount)
	if t.Call != nil {
		c := *t.Call
		c.bound()
		t.Call = &c
	}
	t.Reaction = event.Reaction(untrusted.Clip(string(t.Reaction), maxWord))
	t.Failed = untrusted.Clip(t.Failed, maxWord)
}

// bounded returns a copy of the first n, each changed.
func bounded[T any](list []T, n int, change func(*T)) []T {
	if len(list) == 0 {
		return nil
	}
	out := slices.Clone(list[:min(len(list), n)])
	for i := range out {
		change(&out[i])
	}
	return out
}

// boundArgs keeps MaxText bytes of arguments, of which there are maxArgs at most.
func boundArgs(args []string) []string {
	left := MaxText
	out := bounded(args, maxArgs, func(s *string) {
		*s = untrusted.Clip(*s, max(left, 0))
		left -= len(*s)
	})
	for len(out) > 0 && len(out) < len(args) && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}
