package verify

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
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
	"github.com/castellan-security/castellan/internal/written"
)

const (
	// PolicyName is what problems call the policy.
	PolicyName = "policy"
	// maxProblems is how many problems are told of a policy.
	maxProblems = 100
)

// Policy returns a version of the policy, the newest with 0; NotFound if there is
// none. It needs access.ReadImages.
func (s *Service) Policy(ctx context.Context, who access.Identity, version int64) (store.TrustPolicy, error) {
	if err := who.Need(access.ReadImages); err != nil {
		return store.TrustPolicy{}, err
	}
	return s.Store.TrustPolicy(ctx, version)
}

// Policies returns the history as store.TrustPolicies does. It needs
// access.ReadImages.
func (s *Service) Policies(ctx context.Context, who access.Identity, before int64, limit int) ([]store.TrustPolicy, error) {
	if err := who.Need(access.ReadImages); err != nil {
		return nil, err
	}
	return s.Store.TrustPolicies(ctx, before, limit)
}

// Check says what is wrong with a policy's text; nothing is, without an answer. It
// needs access.ReadImages.
func (s *Service) Check(who access.Identity, text string) ([]trust.Problem, error) {
	if err := who.Need(access.ReadImages); err != nil {
		return nil, err
	}
	_, problems := s.parse(text)
	return problems, nil
}

// parse reads a policy, which names no files: this server's are nobody's business,
// and agents don't have them.
func (s *Service) parse(text string) (*trust.Policy, []trust.Problem) {
	if len(text) > store.MaxTrustPolicy || !utf8.ValidString(text) {
		return nil, []trust.Problem{{File: PolicyName, Text: fmt.Sprintf("it is larger than %d bytes, or no text", store.MaxTrustPolicy)}}
	}
	p, err := trust.Read([]byte(text), PolicyName, nil)
	if err == nil {
		if err = s.Options.Check(p); err == nil {
			return p, nil
		}
		return nil, []trust.Problem{{File: PolicyName, Text: err.Error(), Remedy: fault.Remedy(err)}}
	}
	problems := trust.Problems(err)
	if len(problems) == 0 {
		problems = []trust.Problem{{File: PolicyName, Text: err.Error(), Remedy: fault.Remedy(err)}}
	}
	return nil, problems[:min(len(problems), maxProblems)]
}

// SetPolicy makes a text the policy, if the newest version is after: else Conflict.
// What is no policy is Invalid, and changes nothing. All images are then verified
// anew. It needs access.ManageTrust.
func (s *Service) SetPolicy(ctx context.Context, who access.Identity, text, comment string, after int64) (store.TrustPolicy, error) {
	if err := who.Need(access.ManageTrust); err != nil {
		return store.TrustPolicy{}, err
	}
	if err := audit.CheckComment(comment); err != nil {
		return store.TrustPolicy{}, err
	}
	if _, problems := s.parse(text); len(problems) > 0 {
		return store.TrustPolicy{}, written.Refused(problems)
	}
	sum := sha256.Sum256([]byte(text))
	s.changes.Lock()
	defer s.changes.Unlock()
	p, err := s.Store.PutTrustPolicy(ctx, store.TrustPolicy{
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Text: text, Actor: who.Actor, Comment: comment, Created: s.Clock(),
	}, after)
	if err != nil {
		return store.TrustPolicy{}, err
	}
	s.forget()
	s.nudge()
	return p, s.audit(ctx, who, p)
}

// forget takes back all that agents are at: it is by a policy of before.
func (s *Service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for agentID, l := range s.leases {
		s.Directions.EndVerify(agentID, l.job)
		delete(s.leases, agentID)
	}
}

func (s *Service) audit(ctx context.Context, who access.Identity, p store.TrustPolicy) error {
	return audit.Log{Store: s.Store, Clock: s.Clock}.Done(ctx, who, "trust.policy", fmt.Sprintf("version:%d", p.Version), strings.TrimSpace(p.Digest+" "+p.Comment))
}

// Images returns a page of images with their verdicts. It needs access.ReadImages.
func (s *Service) Images(ctx context.Context, who access.Identity, q store.TrustQuery) ([]store.TrustImage, error) {
	if err := who.Need(access.ReadImages); err != nil {
		return nil, err
	}
	return s.Store.TrustImages(ctx, q)
}

// Image returns one with its details, by the full name of its repository. It needs
// access.ReadImages.
func (s *Service) Image(ctx context.Context, who access.Identity, repository, digest string) (store.TrustImage, error) {
	if err := who.Need(access.ReadImages); err != nil {
		return store.TrustImage{}, err
	}
	v, err := s.Store.TrustImage(ctx, repository, digest)
	if err != nil || len(v.Details) == 0 {
		return v, err
	}
	v.Details, err = told(v.Details)
	return v, err
}

// told is a verdict without what is kept for trials alone.
func told(details []byte) ([]byte, error) {
	var v trust.Verdict
	err := json.Unmarshal(details, &v)
	v.Facts = nil
	b, encodeErr := json.Marshal(v)
	if err = errors.Join(err, encodeErr); err != nil {
		return nil, fmt.Errorf("decode verdict: %w", err)
	}
	return b, nil
}

// Totals counts images that run by their states. It needs access.ReadImages.
func (s *Service) Totals(ctx context.Context, who access.Identity) (store.TrustTotals, error) {
	if err := who.Need(access.ReadImages); err != nil {
		return store.TrustTotals{}, err
	}
	return s.Store.TrustTotals(ctx)
}
