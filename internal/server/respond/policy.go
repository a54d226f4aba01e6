package respond

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/respond"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	// PolicyName is what problems call the policy.
	PolicyName = "policy"
)

// standing is by what is decided now.
type standing struct {
	policy  store.ResponsePolicy
	rules   []respond.Rule
	trouble error // why the policy can't be read
}

// standing returns by what is decided now.
func (s *Service) standing(ctx context.Context) (*standing, error) {
	if x := s.now.Load(); x != nil {
		return x, nil
	}
	return s.load(ctx)
}

// load reads by what is decided. A policy that can't be read is one of a newer
// server: nothing is done by it, and the reason is told.
func (s *Service) load(ctx context.Context) (*standing, error) {
	s.loading.Lock() // what was read earlier never replaces what was read later
	defer s.loading.Unlock()
	x := &standing{}
	var err error
	x.policy, err = s.Store.ResponsePolicy(ctx, 0)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read the response policy: %w", err)
	}
	if x.policy.Version != 0 {
		var problems written.Problems
		if x.rules, problems = parse(x.policy.Text); len(problems) > 0 {
			x.trouble = written.Refused(problems)
		}
	}
	s.now.Store(x)
	return x, nil
}

// parse reads a policy.
func parse(text string) ([]respond.Rule, written.Problems) {
	if !utf8.ValidString(text) {
		return nil, written.Problems{{File: PolicyName, Text: "it is no text"}}
	}
	rules, err := respond.ReadRules(PolicyName, []byte(text))
	return rules, written.ProblemsOf(err)
}

// Policy returns a version of the policy, the newest with 0; NotFound if there is
// none. It needs access.ReadResponse.
func (s *Service) Policy(ctx context.Context, who access.Identity, version int64) (store.ResponsePolicy, error) {
	if err := s.need(who); err != nil {
		return store.ResponsePolicy{}, err
	}
	return s.Store.ResponsePolicy(ctx, version)
}

// Policies returns the history as store.ResponsePolicies does. It needs
// access.ReadResponse.
func (s *Service) Policies(ctx context.Context, who access.Identity, before int64, limit int) ([]store.ResponsePolicy, error) {
	if err := s.need(who); err != nil {
		return nil, err
	}
	return s.Store.ResponsePolicies(ctx, before, limit)
}

// Check says what is wrong with a policy's text; nothing is, without an answer. It
// needs access.ReadResponse.
func (s *Service) Check(who access.Identity, text string) (written.Problems, error) {
	if err := s.need(who); err != nil {
		return nil, err
	}
	_, problems := parse(text)
	return problems, nil
}

// SetPolicy makes a text the policy, if the newest version is after: else Conflict.
// What is no policy is Invalid, and changes nothing. It holds for what happens from
// then on. It needs access.ManageResponse.
func (s *Service) SetPolicy(ctx context.Context, who access.Identity, text, comment string, after int64) (store.ResponsePolicy, error) {
	if err := who.Need(access.ManageResponse); err != nil {
		return store.ResponsePolicy{}, err
	}
	if err := audit.CheckComment(comment); err != nil {
		return store.ResponsePolicy{}, err
	}
	if _, problems := parse(text); len(problems) > 0 {
		return store.ResponsePolicy{}, written.Refused(problems)
	}
	sum := sha256.Sum256([]byte(text))
	p, err := s.Store.PutResponsePolicy(ctx, store.ResponsePolicy{
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Text: text, Actor: who.Actor, Comment: comment, Created: s.Clock(),
	}, after)
	if err != nil {
		return store.ResponsePolicy{}, err
	}
	within, cancel := audit.Outlive(ctx)
	defer cancel()
	_, err = s.load(within)
	return p, errors.Join(err, s.log().Done(ctx, who, "respond.policy", fmt.Sprintf("version:%d", p.Version), strings.TrimSpace(p.Digest+" "+p.Comment)))
}

// RuleLine is a rule with what it did.
type RuleLine struct {
	respond.Rule
	Runs int       `json:"runs"`          // things that it did, or with DryRun would have done, of those that are kept
	Last time.Time `json:"last,omitzero"` // when the newest was
	// Held is how often it was held back since the server started, HeldWhy what held it
	// back last, and HeldAt when.
	Held    int       `json:"held,omitempty"`
	HeldWhy string    `json:"held_why,omitempty"`
	HeldAt  time.Time `json:"held_at,omitzero"`
}

// Rules returns the rules in force with what they did. It needs access.ReadResponse.
func (s *Service) Rules(ctx context.Context, who access.Identity) ([]RuleLine, error) {
	if err := s.need(who); err != nil {
		return nil, err
	}
	in, err := s.standing(ctx)
	if err == nil {
		err = in.trouble
	}
	if err != nil {
		return nil, err
	}
	var out []RuleLine
	for _, r := range in.rules {
		l := RuleLine{Rule: r}
		if l.Runs, l.Last, err = s.Store.CountResponseRuns(ctx, r.ID); err != nil {
			return nil, err
		}
		s.mu.Lock()
		h := s.held[r.ID]
		l.Held, l.HeldWhy, l.HeldAt = h.times, h.why, h.at
		s.mu.Unlock()
		out = append(out, l)
	}
	return out, nil
}

// Runs returns what rules did. It needs access.ReadResponse.
func (s *Service) Runs(ctx context.Context, who access.Identity, q store.ResponseRunQuery) ([]store.ResponseRun, error) {
	if err := s.need(who); err != nil {
		return nil, err
	}
	return s.Store.ResponseRuns(ctx, q)
}

// Tried is what one rule says to a case.
type Tried struct {
	Rule  string   `json:"rule"`
	Fits  bool     `json:"fits"`
	Why   string   `json:"why,omitempty"` // it does not
	Do    []string `json:"do,omitempty"`  // in a few words
	Held  string   `json:"held,omitempty"`
	Lacks []string `json:"lacks,omitempty"`
	Dry   bool     `json:"dry_run,omitempty"`
}

// Try says what a text as the policy, or with "" the policy in force, would do about
// a threat, with what rules did lately. Nothing is done. It needs access.ReadResponse.
func (s *Service) Try(ctx context.Context, who access.Identity, text string, t *threat.Threat, c respond.Case) ([]Tried, written.Problems, error) {
	if err := s.need(who); err != nil {
		return nil, nil, err
	}
	rules, problems, err := s.rulesOf(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	if len(problems) > 0 {
		return nil, problems, nil
	}
	c.Threat = t
	if c.At.IsZero() {
		c.At = s.Clock().UTC()
	}
	if t.Last.IsZero() {
		t.Last = c.At
	}
	if c.Theme == "" && s.Theme != nil {
		c.Theme = s.Theme(ctx, t.Rule)
	}
	s.mu.Lock()
	all := respond.Decide(rules, &c, s.memory)
	s.mu.Unlock()
	var out []Tried
	for i := range rules {
		x := Tried{Rule: rules[i].ID, Why: rules[i].On.Fits(&c), Dry: rules[i].DryRun}
		if rules[i].Off {
			x.Why = "it is off"
		}
		x.Fits = x.Why == ""
		for _, d := range all {
			if d.Rule.ID != x.Rule {
				continue
			}
			x.Held, x.Lacks = d.Held, d.Lacks
			for _, a := range d.Do {
				x.Do = append(x.Do, a.String())
			}
		}
		out = append(out, x)
	}
	return out, nil, nil
}
