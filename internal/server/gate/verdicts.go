package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
)

// Record is a verdict with all that it rests on.
type Record struct {
	ID        int64             `json:"id"`
	Received  time.Time         `json:"received"`
	Agent     string            `json:"agent_id,omitempty"`
	Actor     string            `json:"actor,omitempty"`
	Request   admission.Request `json:"request"`
	Verdict   admission.Verdict `json:"verdict"`
	Facts     []admission.Facts `json:"facts"`
	FactsLost bool              `json:"facts_lost,omitempty"` // there were too many to be kept
}

// Verdicts returns a page, newest first. It needs access.ReadAdmission.
func (s *Service) Verdicts(ctx context.Context, who access.Identity, q store.AdmissionQuery) ([]store.AdmissionLine, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return nil, err
	}
	s.records.settle(ctx)
	return s.Store.AdmissionLines(ctx, q)
}

// Verdict returns one by its number, or the newest on the request of that id. It
// needs access.ReadAdmission.
func (s *Service) Verdict(ctx context.Context, who access.Identity, name string) (Record, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return Record{}, err
	}
	s.records.settle(ctx)
	if len(name) > maxRequestID {
		return Record{}, noVerdict(name)
	}
	if id, err := strconv.ParseInt(name, 10, 64); err == nil {
		v, err := s.Store.AdmissionVerdict(ctx, id)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return opened(v, err)
		}
	}
	all, err := s.Store.AdmissionRecords(ctx, store.AdmissionQuery{RequestID: name, Limit: 1})
	if err == nil && len(all) == 0 {
		return Record{}, noVerdict(name)
	}
	if err != nil {
		return Record{}, err
	}
	return opened(all[0], nil)
}

func noVerdict(name string) error {
	return fault.New(fault.NotFound, "no verdict %.80q is kept", name).With("castellan admit verdicts lists those that are")
}

// opened reads the facts of a verdict.
func opened(v store.AdmissionVerdict, err error) (Record, error) {
	if err != nil {
		return Record{}, err
	}
	facts, err := factsOf(&v)
	return Record{ID: v.ID, Received: v.Received, Agent: v.Agent, Actor: v.Actor, Request: v.Request, Verdict: v.Verdict, Facts: facts, FactsLost: v.FactsLost}, err
}

func factsOf(v *store.AdmissionVerdict) ([]admission.Facts, error) {
	facts := make([]admission.Facts, len(v.Facts))
	for i := range v.Facts {
		if err := json.Unmarshal(v.Facts[i].JSON, &facts[i]); err != nil {
			return nil, fmt.Errorf("decode the facts of verdict %d: %w", v.ID, err)
		}
	}
	return facts, nil
}

// Totals counts verdicts of the days since then. It needs access.ReadAdmission.
func (s *Service) Totals(ctx context.Context, who access.Identity, since time.Time) (store.AdmissionTotals, error) {
	if err := who.Need(access.ReadAdmission); err != nil {
		return store.AdmissionTotals{}, err
	}
	s.records.settle(ctx)
	return s.Store.AdmissionTotals(ctx, since)
}

// Facts returns what is known of images now, in their order. It needs
// access.ReadAdmission or access.DecideAdmission.
func (s *Service) Facts(ctx context.Context, who access.Identity, references []string) ([]admission.Facts, error) {
	if !who.May(access.DecideAdmission) {
		if err := who.Need(access.ReadAdmission); err != nil {
			return nil, err
		}
	}
	if len(references) > link.MaxAskedImages {
		return nil, fault.New(fault.Invalid, "%d images are asked about; at most %d are", len(references), link.MaxAskedImages)
	}
	all := make([]admission.Facts, 0, len(references))
	for _, r := range references {
		n, err := referenced(r)
		if err != nil {
			return nil, err
		}
		g, err := s.gather(ctx, n)
		if err != nil {
			return nil, err
		}
		all = append(all, *g.facts)
	}
	return all, nil
}

// referenced is the image of a reference with a digest, or of a digest alone.
func referenced(reference string) (image, error) {
	repository, digest, found := strings.Cut(reference, "@")
	if !found {
		repository, digest = "", reference
	}
	if inventory.CheckDigest(digest) != nil {
		return image{}, fault.New(fault.Invalid, "image %.200q has no digest", reference).
			With("name it as repository@sha256:…, or by sha256:… alone: what a tag means changes")
	}
	return named("", repository, digest, ""), nil
}
