package threat

import (
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
)

// Source says where a rule comes from.
type Source string

// The sources. The zero value is not one.
const (
	BuiltIn  Source = "built-in" // it comes with the program
	Written  Source = "written"  // users wrote it
	Imported Source = "imported" // it was made of another tool's
)

// Rule is what people are told of a rule of detection.
type Rule struct {
	ID         string           `json:"id"`    // it never changes its meaning
	Theme      string           `json:"theme"` // escape, shell, miner, …: what it stands under
	Title      string           `json:"title"` // without a full stop
	Severity   finding.Severity `json:"severity"`
	Tactic     Tactic           `json:"tactic"`
	Techniques []string         `json:"techniques"`
	Meaning    string           `json:"meaning"`      // one sentence: what it means that it fires
	FalseAlarm string           `json:"false_alarms"` // what else makes it fire, as far as known
	Tuning     string           `json:"tuning"`       // how that is told from it
	Remedy     string           `json:"remedy"`       // what to do
	Parameters []Parameter      `json:"parameters,omitempty"`
	Kinds      []event.Kind     `json:"kinds"` // of the events that it looks at
	Source     Source           `json:"source"`
	// Code says that it is written in Go, because it needs more state than rules in
	// YAML have.
	Code bool `json:"code,omitempty"`
	// Hosts says that it looks at processes of the host itself too.
	Hosts bool `json:"hosts,omitempty"`
	// Off says that it was switched off.
	Off bool `json:"off,omitempty"`
}

// Parameter is one value of a rule that users may set.
type Parameter struct {
	Name    string `json:"name"`
	Type    string `json:"type"`    // string, int, double, bool, duration, list(string)
	Default string `json:"default"` // as it is written in YAML
	Value   string `json:"value"`   // what is in force
	Meaning string `json:"meaning"` // one sentence
}

// Silence says that a rule is not to be heard in some groups.
type Silence struct {
	Rule   string   `json:"rule"`             // its id, or a pattern with *
	Groups []string `json:"groups,omitempty"` // patterns with *; none is all
	// About is a text that must occur in what the threat is about: an executable, a
	// path, a peer. Empty is all.
	About  string    `json:"about,omitempty"`
	Reason string    `json:"reason"`
	By     string    `json:"by,omitempty"` // who said so
	Until  time.Time `json:"until"`        // from then on it is heard again
}

// RuleStats are how a rule fares: on one host since its agent started, or on all of
// them since the server counts.
type RuleStats struct {
	Rule     string        `json:"rule"`
	Looked   uint64        `json:"looked"` // events that it was held against
	Hits     uint64        `json:"hits"`   // how often it fired, silenced or not
	Silenced uint64        `json:"silenced,omitempty"`
	Errors   uint64        `json:"errors,omitempty"`
	Spent    time.Duration `json:"spent_ns,omitempty"` // by it, as far as that was measured
	Error    string        `json:"error,omitempty"`    // the newest
	Last     time.Time     `json:"last,omitzero"`      // of the newest hit, by the agent's clock
}
