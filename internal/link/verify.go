package link

import (
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// AbilityVerify is what an agent says of itself when it verifies images of its
// engine for the server (DirectiveVerify).
const AbilityVerify = "verify"

// AbilityAdmit is what an agent says of itself when the engine of its host can ask
// it about deployments: it serves the authorization plugin.
const AbilityAdmit = "admit"

// MaxVerdict bounds a verdict as JSON: one that tells of a hundred signatures has
// half of it.
const MaxVerdict = 256 << 10

// VerifyWish is the body of DirectiveVerify: it is to be said whether an image may
// run, and answered by Server.Verdict.
type VerifyWish struct {
	Job        string `json:"job"` // to be repeated in the answer
	Repository string `json:"repository"`
	Digest     string `json:"digest"` // of the image in its registry
	// Policy is the trust policy's text, which names no files; PolicyDigest tells
	// one from another, and is repeated in the answer.
	Policy       []byte    `json:"policy"`
	PolicyDigest string    `json:"policy_digest"`
	Until        time.Time `json:"until"` // by the server's clock; later answers are refused
}

// Verified answers a VerifyWish.
type Verified struct {
	AgentID      string // across machines the certificate says it, whatever stands here
	Job          string
	Repository   string
	Digest       string
	PolicyDigest string
	// Verdict is trust.Verdict as JSON; empty when nothing could be found out.
	Verdict []byte
	// Error says why, Remedy what helps.
	Error  string
	Remedy string
}

// Check holds the limits of an answer: Invalid when v is larger, or neither a
// verdict nor an error.
func (v Verified) Check() error {
	switch {
	case len(v.Verdict) > MaxVerdict:
		return fault.New(fault.Invalid, "verdict has %d bytes; at most %d are taken", len(v.Verdict), MaxVerdict)
	case max(len(v.Job), len(v.Repository), len(v.Digest), len(v.PolicyDigest), len(v.Error), len(v.Remedy)) > MaxScanText:
		return fault.New(fault.Invalid, "verdict has a text of more than %d bytes", MaxScanText)
	case v.Job == "" || v.Repository == "" || v.Digest == "" || v.PolicyDigest == "":
		return fault.New(fault.Invalid, "verdict names no job, no image or no policy")
	case (len(v.Verdict) == 0) == (v.Error == ""):
		return fault.New(fault.Invalid, "answer has neither a verdict nor an error, or both")
	}
	return nil
}
