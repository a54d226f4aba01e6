package gate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	// PolicyName is what problems call the policy.
	PolicyName = "policy"
	// maxProblems is how many problems are told of a policy.
	maxProblems = 100
)

// Policy returns a version of the policy, the newest with 0; NotFound if there is
// none. It needs access.ReadAdmission.
func (s *Service) Policy(ctx context.Context, who access.Identity, version int64) (store.AdmissionPolicy, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return store.AdmissionPolicy{}, err
	}
	return s.Store.AdmissionPolicy(ctx, version)
}

// Policies returns the history as store.AdmissionPolicies does. It needs
// access.ReadAdmission.
func (s *Service) Policies(ctx context.Context, who access.Identity, before int64, limit int) ([]store.AdmissionPolicy, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return nil, err
	}
	return s.Store.AdmissionPolicies(ctx, before, limit)
}

// Check says what is wrong with a policy's text; nothing is, without an answer. It
// needs access.ReadAdmission.
func (s *Service) Check(who access.Identity, text string) ([]admit.Problem, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return nil, err
	}
	_, problems := parse(text)
	return problems, nil
}

// parse reads a policy.
func parse(text string) (*admit.Policy, []admit.Problem) {
	if len(text) > store.MaxAdmissionPolicy || !utf8.ValidString(text) {
		return nil, []admit.Problem{{File: PolicyName, Text: fmt.Sprintf("it is larger than %d bytes, or no text", store.MaxAdmissionPolicy)}}
	}
	p, err := admit.Read([]byte(text), PolicyName)
	if err == nil {
		return p, nil
	}
	problems := admit.Problems(err)
	if len(problems) == 0 {
		problems = []admit.Problem{{File: PolicyName, Text: err.Error(), Remedy: fault.Remedy(err)}}
	}
	return nil, problems[:min(len(problems), maxProblems)]
}

// SetPolicy makes a text the policy, if the newest version is after: else Conflict.
// What is no policy is Invalid, and changes nothing. Agents are told. It needs
// access.ManageAdmission.
func (s *Service) SetPolicy(ctx context.Context, who access.Identity, text, comment string, after int64) (store.AdmissionPolicy, error) {
	if err := who.Need(access.ManageAdmission); err != nil {
		return store.AdmissionPolicy{}, err
	}
	if err := audit.CheckComment(comment); err != nil {
		return store.AdmissionPolicy{}, err
	}
	compiled, problems := parse(text)
	if len(problems) > 0 {
		return store.AdmissionPolicy{}, written.Refused(problems)
	}
	s.exchange.Lock()
	defer s.exchange.Unlock()
	p, err := s.Store.PutAdmissionPolicy(ctx, store.AdmissionPolicy{
		Digest: compiled.Digest(), Text: text, Actor: who.Actor, Comment: comment, Created: s.Clock(),
	}, after)
	if err != nil {
		return store.AdmissionPolicy{}, err
	}
	err = s.changed(ctx)
	return p, errors.Join(err, s.audit(ctx, who, "admission.policy", fmt.Sprintf("version:%d", p.Version), strings.TrimSpace(p.Digest+" "+p.Comment)))
}

// changed puts in force what was stored, and tells the agents.
func (s *Service) changed(ctx context.Context) error {
	ctx, cancel := audit.Outlive(ctx)
	defer cancel()
	x, err := s.load(ctx)
	if err != nil {
		return err
	}
	if x.policy.Version != 0 {
		s.Condition(ctx, PartPolicy, nil)
	}
	s.news.Publish(nil)
	return s.tell(ctx)
}

// load reads by what is decided. A policy that can't be read is one of a newer
// server: nothing is allowed by it, and the reason is told.
func (s *Service) load(ctx context.Context) (*standing, error) {
	s.loading.Lock() // what was read earlier never replaces what was read later
	defer s.loading.Unlock()
	x := &standing{}
	var err error
	x.policy, err = s.Store.AdmissionPolicy(ctx, 0)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read the admission policy: %w", err)
	}
	if x.exceptions, err = s.Store.AdmissionExceptions(ctx, s.Clock()); err != nil {
		return nil, fmt.Errorf("read the exceptions: %w", err)
	}
	if x.policy.Version != 0 {
		var problems []admit.Problem
		if x.compiled, problems = parse(x.policy.Text); len(problems) > 0 {
			x.trouble = written.Refused(problems)
		}
	}
	b, err := json.Marshal(x.exceptions)
	if err != nil {
		return nil, fmt.Errorf("encode the exceptions: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(b, "\n%d %s", x.policy.Version, x.policy.Digest))
	x.stamp = hex.EncodeToString(sum[:16])
	s.now.Store(x)
	return x, nil
}

// tell has the agents fetch by what they decide.
func (s *Service) tell(ctx context.Context) error {
	x, err := s.standing(ctx)
	if err != nil || s.Directions == nil || x.policy.Version == 0 {
		return err // without a policy there is nothing to tell
	}
	s.Directions.TellAdmission(link.AdmissionWish{Version: x.policy.Version, Digest: x.policy.Digest, Stamp: x.stamp})
	return nil
}

func (s *Service) audit(ctx context.Context, who access.Identity, action, target, detail string) error {
	return audit.Log{Store: s.Store, Clock: s.Clock}.Done(ctx, who, action, target, detail)
}
