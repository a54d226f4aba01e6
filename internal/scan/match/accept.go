package match

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// EverySecret is the id of a rule that is for secrets of any kind.
const EverySecret = "secrets"

// EveryMalware is the id of a rule that is for malware of any kind.
const EveryMalware = "malware"

// Accept accepts the faults that rules name, and returns those rules that hold no
// longer and would have.
func Accept(faults []finding.Misconfiguration, rules []Rule, now time.Time) (expired []Rule) {
	return accept(faults, rules, now, func(m *finding.Misconfiguration) **finding.Acceptance { return &m.Accepted }, (*Rule).meetsFault)
}

// AcceptSecrets accepts the secrets that rules name, and returns those rules that
// hold no longer and would have.
func AcceptSecrets(found []finding.Secret, rules []Rule, now time.Time) (expired []Rule) {
	return accept(found, rules, now, func(s *finding.Secret) **finding.Acceptance { return &s.Accepted }, (*Rule).meetsSecret)
}

// AcceptMalware accepts the malware that rules name, and returns those rules that
// hold no longer and would have.
func AcceptMalware(found []finding.Malware, rules []Rule, now time.Time) (expired []Rule) {
	return accept(found, rules, now, func(m *finding.Malware) **finding.Acceptance { return &m.Accepted }, (*Rule).meetsMalware)
}

// accept is what all kinds of finding have in common. What is accepted already, by
// a comment beside it or a rule before, stays so.
func accept[T any](found []T, rules []Rule, now time.Time, accepted func(*T) **finding.Acceptance, meets func(*Rule, *T) bool) (expired []Rule) {
	for i := range rules {
		r := &rules[i]
		for k := range found {
			by := accepted(&found[k])
			if *by != nil || !meets(r, &found[k]) {
				continue
			}
			if r.over(now) {
				expired = append(expired, *r)
				break
			}
			*by = r.acceptance()
		}
	}
	return expired
}

// meetsSecret says whether a rule is about a secret: its id is the kind of the
// secret, its fingerprint, the check that is about secrets there, or EverySecret,
// and its path, if it has one, is where it stands. A rule without an id is for
// packages alone.
func (r *Rule) meetsSecret(s *finding.Secret) bool {
	if r.ID == "" || r.Package != "" || r.Path != "" && !r.meetsPath(s.Path) {
		return false
	}
	return r.ID == s.Rule || r.ID == s.Fingerprint || r.ID == EverySecret || s.Check != "" && strings.EqualFold(r.ID, s.Check)
}

// meetsMalware says whether a rule is about malware: its id is the rule that told,
// its fingerprint, the SHA-256 of the file, or EveryMalware, and its path, if it has
// one, is where that is. A rule without an id is for packages alone.
func (r *Rule) meetsMalware(m *finding.Malware) bool {
	if r.ID == "" || r.Package != "" || r.Resource != "" || r.Path != "" && !r.meetsPath(m.Path) {
		return false
	}
	return r.ID == m.Rule || r.ID == m.Fingerprint || r.ID == EveryMalware || m.SHA256 != "" && r.ID == m.SHA256
}
