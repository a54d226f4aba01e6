// Package threat holds the nouns for what is hostile whatever a group's profile
// says: a Threat is one thing that a rule of detection saw, a Rule is what people
// are told of the rule, a Silence says where it is not to be heard, and an Incident
// is the story that threats near each other make.
//
// It is not for what happened (see event), for what lies outside a profile (see
// profile.Violation), nor for how threats are found (see detect).
package threat

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
)

// Version is that of the form of a Threat and of an Incident. Within a version,
// fields are only added.
const Version = 1

// Bounds of a threat. Text in it comes from programs that may be hostile.
const (
	MaxEvidence  = 16   // events that are named: the first and the newest of many
	MaxAncestors = 16   // of the process: deeper trees are rare
	MaxText      = 1024 // bytes of a sentence, a path or a command line
	MaxPeers     = 8
	MaxFiles     = 8
)

// Threat is one thing, or many alike, that a rule saw. A rule tells the first at
// once and counts what is alike for a while; that follows as one threat with the
// same Print. The sum of Count over all threats of a Print is what happened.
type Threat struct {
	Version int `json:"version"`
	// Print is the same for what is alike: one rule in one workload about one thing,
	// by processes of one tree.
	Print      string           `json:"print"`
	Rule       string           `json:"rule"` // the rule's id
	Severity   finding.Severity `json:"severity"`
	Tactic     Tactic           `json:"tactic"`
	Techniques []string         `json:"techniques,omitempty"` // of MITRE ATT&CK: "T1611"
	Title      string           `json:"title"`                // of the rule, without a full stop
	// Summary is one sentence: who did what with which file or peer. Untrusted where
	// it quotes events.
	Summary string    `json:"summary"`
	First   time.Time `json:"first"` // by the agent's clock
	Last    time.Time `json:"last"`
	// Count is how many times, at least 1. Of repeats it is those that were not told
	// before.
	Count uint64 `json:"count"`
	// Repeat says that a threat of the same Print was told before.
	Repeat bool `json:"repeat,omitempty"`

	AgentID    string `json:"agent_id"`
	WorkloadID string `json:"workload_id,omitempty"` // empty for the host itself
	Group      string `json:"group,omitempty"`

	Process   event.Process `json:"process"`             // whose doing the last of it was
	Args      []string      `json:"args,omitempty"`      // of its last exec, where that was seen; MaxText bytes in all
	Entered   bool          `json:"entered,omitempty"`   // it, or one of its ancestors, came in from outside (docker exec, ECS Exec)
	Ancestors []Ancestor    `json:"ancestors,omitempty"` // parent first
	// Root is the process under which all of this tree's threats fold: the oldest
	// ancestor within the workload that is not its first process, or the process
	// itself.
	Root event.Key `json:"root,omitzero"`

	// Call is the call of AWS that it is about; nil where a process did it.
	Call *Call `json:"call,omitempty"`

	Files []string `json:"files,omitempty"` // paths it is about, as the process sees them
	Peers []Peer   `json:"peers,omitempty"` // who it was about on the network

	// Evidence are the events that it rests on, oldest first.
	Evidence []Evidence `json:"evidence"`
	// LeftOut events had no room in Evidence.
	LeftOut uint64 `json:"left_out,omitempty"`

	Reaction event.Reaction `json:"reaction,omitempty"` // what the host's kernel did about the last of it
	// Failed is why what was tried did not come to pass, as the event has it: EPERM, …
	Failed string `json:"failed,omitempty"`
}

// Ancestor is one step of the parent chain of a process.
type Ancestor struct {
	Key        event.Key `json:"key"`
	Name       string    `json:"name"`
	Executable string    `json:"executable,omitempty"`
	Args       []string  `json:"args,omitempty"` // where its exec was seen; MaxText bytes in all
}

// Peer is somebody on the network that a threat is about.
type Peer struct {
	Address netip.AddrPort `json:"address,omitzero"`
	Name    string         `json:"name,omitempty"` // that the DNS was asked for
	event.Peer
}

// Evidence names an event that a threat rests on. The agent is the threat's.
type Evidence struct {
	Boot  string     `json:"boot"`
	Seq   uint64     `json:"seq"`
	ID    int64      `json:"id,omitempty"` // the store's, where the event was stored when the threat was found
	Time  time.Time  `json:"time"`
	Kind  event.Kind `json:"kind"`
	Words string     `json:"words"` // what happened in it, MaxText bytes at most; untrusted
}

// EvidenceOf names an event.
func EvidenceOf(e *event.Event) Evidence {
	return Evidence{Boot: e.Boot, Seq: e.Seq, ID: e.ID, Time: e.Time, Kind: e.Kind, Words: Clip(e.Words())}
}

// Clip cuts a text to MaxText bytes, at the beginning of a letter.
func Clip(s string) string {
	if len(s) <= MaxText {
		return s
	}
	const mark = "…"
	return strings.ToValidUTF8(s[:MaxText-len(mark)], "") + mark
}

// printBytes is how much of a hash tells prints apart.
const printBytes = 16

// PrintOf returns the Print of what is alike in these: the rule, the agent, the
// workload, the root of the tree, and what it is about.
func PrintOf(rule, agentID, workloadID string, root event.Key, about ...string) string {
	h := sha256.New()
	for _, s := range append([]string{rule, agentID, workloadID, root.String()}, about...) {
		h.Write([]byte(s))
		h.Write([]byte{0}) // NUL is in none of them
	}
	return hex.EncodeToString(h.Sum(nil)[:printBytes])
}

// Add folds a repeat, which must have the same Print, into t.
func (t *Threat) Add(o *Threat) {
	t.Count += o.Count
	if o.First.Before(t.First) {
		t.First = o.First
	}
	if !o.Last.Before(t.Last) {
		t.Last, t.Summary, t.Process, t.Call, t.Reaction, t.Failed = o.Last, o.Summary, o.Process, o.Call, o.Reaction, o.Failed
	}
	t.Severity = max(t.Severity, o.Severity)
	t.LeftOut += o.LeftOut
	for _, e := range o.Evidence {
		t.AddEvidence(e)
	}
}

// AddEvidence adds an event; the first half of the room is kept, the other half has
// the newest.
func (t *Threat) AddEvidence(e Evidence) {
	if len(t.Evidence) < MaxEvidence {
		t.Evidence = append(t.Evidence, e)
		return
	}
	t.LeftOut++
	copy(t.Evidence[MaxEvidence/2:], t.Evidence[MaxEvidence/2+1:])
	t.Evidence[MaxEvidence-1] = e
}
