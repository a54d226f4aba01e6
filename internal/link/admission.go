package link

import (
	"context"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// Limits of what is said of admission.
const (
	// MaxAskedImages bounds the images that are asked about at once: a task has ten
	// containers.
	MaxAskedImages = 32
	// MaxBriefFacts bounds the facts of one brief, packed; those beyond are asked for
	// again. Those of an image with a thousand vulnerabilities are 30 KiB.
	MaxBriefFacts = 2 << 20
	// MaxFactsUnpacked bounds the facts of one image as JSON.
	MaxFactsUnpacked = 8 << 20
	// MaxBriefPolicy and MaxBriefExceptions are those of what the server keeps.
	MaxBriefPolicy     = 256 << 10
	MaxBriefExceptions = 1_000
	// MaxReported bounds the verdicts that are reported at once, and MaxReport their
	// size as JSON.
	MaxReported = 100
	MaxReport   = 4 << 20
	// maxImageText bounds each name of an image.
	maxImageText = 512
)

// Admission is the agent's view of a server that keeps an admission policy. A
// server may not: then both are Unsupported.
type Admission interface {
	// Brief returns what an agent decides by, as far as it does not have it.
	Brief(ctx context.Context, a AdmissionAsk) (AdmissionBrief, error)
	// Admitted hands over what an agent has decided. When it returns without an
	// error all of it is taken; it may be sent again after an error, and each verdict
	// is kept once. Invalid when one is of another host, or none. Exhausted when the
	// agent tells too much: it is worth another try after a pause.
	Admitted(ctx context.Context, r AdmissionReport) error
}

// AdmissionWish is the body of DirectiveAdmission: what agents decide by has
// changed, and is to be fetched by Brief.
type AdmissionWish struct {
	Version int64  `json:"version"` // of the policy; 0: there is none
	Digest  string `json:"digest"`  // of the policy
	Stamp   string `json:"stamp"`   // of policy and exceptions together
}

// AdmissionAsk asks for what an agent decides by.
type AdmissionAsk struct {
	AgentID string       `json:"-"`               // across machines the certificate says it, whatever stands here
	Stamp   string       `json:"stamp,omitempty"` // of the policy and the exceptions that the agent has
	Images  []AskedImage `json:"images,omitempty"`
}

// AskedImage is an image of which an agent wants to know what is known.
type AskedImage struct {
	Registry   string `json:"registry,omitempty"`
	Repository string `json:"repository,omitempty"` // without the registry
	Digest     string `json:"digest,omitempty"`     // of the registry
	ID         string `json:"id,omitempty"`         // the engine's
	Have       string `json:"have,omitempty"`       // BriefFacts.Hash of what the agent has
}

// AdmissionBrief is what an agent decides by.
type AdmissionBrief struct {
	AdmissionWish
	// Changed says that Policy and Exceptions are set: they are others than those of
	// the stamp that was sent.
	Changed    bool                  `json:"changed,omitempty"`
	Policy     []byte                `json:"policy,omitempty"` // its text; empty: there is none
	Exceptions []admission.Exception `json:"exceptions,omitempty"`
	// Facts are in the order of the images, as many as there is room for: those that
	// are missing are to be asked for again.
	Facts []BriefFacts `json:"facts,omitempty"`
}

// BriefFacts is what is known of one image.
type BriefFacts struct {
	Hash string `json:"hash"`           // of the facts; "" when they could not be found out
	Same bool   `json:"same,omitempty"` // the agent has them: Packed is empty
	// Packed are admission.Facts as PackFacts writes them.
	Packed []byte `json:"packed,omitempty"`
}

// AdmissionReport is what an agent has decided.
type AdmissionReport struct {
	AgentID  string            `json:"-"` // as in AdmissionAsk
	Verdicts []ReportedVerdict `json:"verdicts"`
}

// ReportedVerdict is one decision of an agent.
type ReportedVerdict struct {
	Request admission.Request `json:"request"`
	Verdict admission.Verdict `json:"verdict"`
}

// Check holds the limits of an ask: Invalid when it is larger.
func (a *AdmissionAsk) Check() error {
	if len(a.Images) > MaxAskedImages {
		return fault.New(fault.Invalid, "%d images are asked about; at most %d are", len(a.Images), MaxAskedImages)
	}
	n := len(a.Stamp)
	for i := range a.Images {
		m := &a.Images[i]
		n = max(n, len(m.Registry), len(m.Repository), len(m.Digest), len(m.ID), len(m.Have))
	}
	if n > maxImageText {
		return fault.New(fault.Invalid, "an image has a name of more than %d bytes", maxImageText)
	}
	return nil
}

// Check holds the limits of a report: Invalid when it is larger, or about another
// host than the agent's.
func (r *AdmissionReport) Check() error {
	if len(r.Verdicts) > MaxReported {
		return fault.New(fault.Invalid, "report has %d verdicts; at most %d are taken", len(r.Verdicts), MaxReported)
	}
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		switch {
		case v.Request.Place.Host != r.AgentID || r.AgentID == "":
			return fault.New(fault.Invalid, "a verdict is of another host than that of agent %s", r.AgentID)
		case v.Request.ID == "" || len(v.Request.ID) > maxImageText || v.Verdict.Request != v.Request.ID:
			return fault.New(fault.Invalid, "a verdict names no request, or another one")
		}
	}
	return nil
}
