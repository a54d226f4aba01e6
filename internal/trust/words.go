package trust

import (
	"io"

	"github.com/castellan-security/castellan/internal/trust/decide"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// What whoever shows a verdict knows of it.
type (
	// VerdictStep is one step of a verdict, as people read it.
	VerdictStep = decide.Step
	// VerdictCase is a signature or an attestation that was looked at.
	VerdictCase = decide.Case
	// VerdictRule is the rule that an image fell under.
	VerdictRule = decide.Chosen
	// VerdictWho is who has signed.
	VerdictWho = decide.Who
	// VerdictLooked is what was found about an image or the index that names it.
	VerdictLooked = decide.Looked
	// VerdictMark is how a step went.
	VerdictMark = decide.Mark
)

// The marks of steps.
const (
	MarkYes  = decide.Yes
	MarkNo   = decide.No
	MarkOpen = decide.Open
	MarkNote = decide.Note
)

// SignatureRefused is what a signature is that is false.
const SignatureRefused = decide.Refused

// Passage is a part of a policy in words; see Policy.Describe.
type Passage = policy.Passage

// WriteDescription writes what a policy means for people.
func WriteDescription(w io.Writer, p *Policy) error { return policy.WriteDescription(w, p) }
