// Package link is the port between an agent and its server: what one says to
// the other, whichever way it is carried.
//
// In one process the server's Intake is handed to the agent as it is; across
// machines Client and Handler carry the same calls over Connect (proto/linkv1).
// It is not for the user's API, which is HTTP and JSON and lives in
// internal/server.
package link

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/response"
)

// Limits of one report. They bound what one agent can make the server hold in
// memory; a larger report is refused as Invalid.
const (
	MaxEvents    = 2_000
	MaxWorkloads = 1_000
	MaxProcesses = 100_000
	MaxSamples   = 10_000
	MaxUses      = 1_000 // workloads; asset.MaxUsePaths each, and MaxUsedPaths together
	MaxUsedPaths = 10_000
)

// Server is the agent's view of its server.
type Server interface {
	// Report hands over what is new. When it returns without an error, every
	// event of the report is stored: it survives a crash of either side. The
	// same report may be sent again after an error; events are recognised by
	// (agent id, boot, sequence number) and stored once.
	//
	// Errors carry a fault.Kind: Unavailable and Exhausted are worth another
	// try after a pause, all others are not.
	Report(ctx context.Context, r Report) (Receipt, error)
	// Directives calls take with what the server wants of this agent: first
	// all that holds now, then each change within a second, one call at a time.
	// It returns when ctx ends, when the connection is lost (Unavailable) or
	// when the agent may no longer report (Denied).
	Directives(ctx context.Context, who Caller, take func(Directive)) error
	// Inventory answers a DirectiveScan. When it returns without an error, the
	// answer is stored. It may be sent again after an error.
	//
	// Errors: Conflict when the job is not this agent's any more: it was answered,
	// its time is over, or another agent has it; Invalid for an answer that is
	// none; Unsupported from a server that does not scan. Unavailable and
	// Exhausted are worth another try after a pause, until ScanWish.Until.
	Inventory(ctx context.Context, s Scanned) error
	// Verdict answers a DirectiveVerify. When it returns without an error, the
	// answer is stored. Errors are those of Inventory, Conflict also when another
	// trust policy is in force.
	Verdict(ctx context.Context, v Verified) error
}

// Caller is the start of an agent that asks for directives.
type Caller struct {
	AgentID string // across machines the certificate says it, whatever stands here
	Boot    string
	Version string
}

// Directive is one thing that the server wants of an agent. An agent ignores,
// and logs, a kind that it does not know: it is of a newer server.
type Directive struct {
	ID     string    // the same for the same wish, so that it is obeyed once
	Kind   string    // see the Directive… constants
	Issued time.Time // by the server's clock
	// Settings is set for DirectiveSettings, Scan for DirectiveScan, Verify for
	// DirectiveVerify, Admission for DirectiveAdmission, Behaviour for
	// DirectiveBehaviour.
	Settings  *asset.AgentSettings
	Scan      *ScanWish
	Verify    *VerifyWish
	Admission *AdmissionWish
	Behaviour *BehaviourWish
	// Detect is set for DirectiveDetect.
	Detect *DetectWish
	// Respond is set for DirectiveRespond.
	Respond *response.Deed
}

// The kinds of directive.
const (
	DirectiveSettings = "settings" // work by these settings from now on
	DirectiveSnapshot = "snapshot" // report everything anew
	DirectiveScan     = "scan"     // scan an image of the engine
	DirectiveVerify   = "verify"   // say whether an image may run
	// DirectiveAdmission: what deployments are decided by is another now.
	DirectiveAdmission = "admission"
	// DirectiveBehaviour: what groups of the host are held to may be another now.
	DirectiveBehaviour = "behaviour"
	// DirectiveDetect: rules of detection or silences are others now.
	DirectiveDetect = "detect"
	// DirectiveRespond: something is to be done to a container of the host, now.
	DirectiveRespond = "respond"
)

// Joiner gives an agent its certificate.
type Joiner interface {
	// Join exchanges a token that is good once for a certificate. Errors:
	// Denied for a token that is unknown, used or too old; Conflict when the
	// agent's id belongs to another one; Invalid for a request that is none.
	Join(ctx context.Context, r JoinRequest) (Credentials, error)
	// Renew gives an agent that has proven itself by a certificate that still
	// holds a new one, with the same id. Denied when it is revoked; Exhausted
	// when it asked too often.
	Renew(ctx context.Context, agentID string, csr []byte) (Credentials, error)
}

// JoinRequest is what an agent says of itself when it joins.
type JoinRequest struct {
	Token    string
	CSR      []byte // PKCS #10, DER
	AgentID  string
	Hostname string
	Version  string
	Address  string // network address it came from, as the server saw it
}

// Credentials are what an agent proves itself with, beside its key.
type Credentials struct {
	AgentID     string
	Certificate []byte // DER
	Authority   []byte // DER
}

// Report is what an agent says at once: at least every few seconds, at once
// when there is something new.
type Report struct {
	Agent     asset.Agent
	Workloads []asset.Workload // changed since the last acknowledged report
	Events    []event.Event    // in order of Seq, all of one Boot
	// Boot is the start of the agent that Events belong to: empty for
	// Agent.Boot, else a former start, whose events were still in the spool.
	Boot string
	// Samples are what workloads use. They may come twice or not at all.
	Samples []asset.Sample
	// Uses are files of images that workloads executed or mapped, each told
	// once a workload. They may come twice or not at all.
	Uses []asset.Use
	// Threats are what the agent's rules of detection found, oldest first, MaxThreats
	// at most. Those that Receipt.ThreatsTaken does not name come again.
	Threats []NumberedThreat
	// ThreatSeries is whose numbers Threats have: another one when they begin anew.
	ThreatSeries string
	// Sent is when the report left, by the agent's clock: with the time of its
	// arrival it tells how far the two clocks are apart.
	Sent time.Time
	// Processes is the whole process table, when Snapshot is true: at the
	// agent's start and whenever the server asked for it.
	Processes []event.Running
	Snapshot  bool
	// Complete says that Workloads is everything the engine knows, so the
	// server may mark this agent's other live workloads as lost.
	Complete bool
}

// Receipt is the server's answer.
type Receipt struct {
	// WantSnapshot asks for Snapshot and Complete in the next report: the
	// server restarted, or this agent is new to it.
	WantSnapshot bool
	// ThreatsTaken is the number of the newest threat of the report that need not be
	// told again; 0 of a server that takes none.
	ThreatsTaken uint64
}
