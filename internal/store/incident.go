package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// Incidents keeps what threats made, and what people made of it.
type Incidents interface {
	// SaveIncidents stores a change: all of it or nothing. New incidents (ID 0) get
	// their IDs, and all their new Revision, in the change. It is Conflict if one has
	// another revision than is kept: somebody else has changed it meanwhile.
	SaveIncidents(ctx context.Context, c *IncidentChange) error
	// Incident returns one with all it has; by the id of one that became part of
	// another, that other. NotFound if it is not kept.
	Incident(ctx context.Context, id int64) (threat.Incident, error)
	// IncidentMemory returns what was stored with it last; NotFound as Incident.
	IncidentMemory(ctx context.Context, id int64) ([]byte, error)
	// Incidents returns a page, the newest first, by their IDs, so that what changes
	// meanwhile is in one page, and one only. They are in brief: without processes,
	// peers, files, weaknesses and timeline.
	Incidents(ctx context.Context, q IncidentQuery) ([]threat.Incident, error)
	// FormerIncident returns the id of the newest incident below before with one of
	// these traces; 0 if there is none.
	FormerIncident(ctx context.Context, traces []string, before int64) (int64, error)
	IncidentTotals(ctx context.Context) (IncidentTotals, error)
	// IncidentRules counts by rule the resolved incidents of which people said that they
	// came to this. A rule of none is not there.
	IncidentRules(ctx context.Context, r threat.Resolution) (map[string]int, error)
}

// Limits of what is kept.
const (
	// MaxIncident bounds an incident as JSON, MaxIncidentMemory what is kept beside
	// it. Both are bounded by the room themselves, well below.
	MaxIncident       = 8 << 20
	MaxIncidentMemory = 2 << 20
	// MaxIncidentTraces bounds the traces of one incident, and of one question.
	MaxIncidentTraces = 512
)

// IncidentChange is what has become another, together.
type IncidentChange struct {
	Put []IncidentPut
	// Merged are incidents that became part of others: their ids lead there from now
	// on.
	Merged map[int64]int64
}

// IncidentPut is an incident to be stored.
type IncidentPut struct {
	Incident *threat.Incident
	// Memory is what is needed to fold more threats into it, and Traces are what it is
	// found by as a former one; where Memory is nil, both stay as they are.
	Memory []byte
	Traces []string
}

// IncidentQuery selects incidents; zero fields don't filter, all given ones must hold.
type IncidentQuery struct {
	States   []threat.State
	Severity finding.Severity // at least
	Group    string           // one of its groups: exact, or with a trailing "*" for any rest
	Rule     string           // one of its rules
	// Technique is one of its techniques of MITRE ATT&CK, or begins some: T1059 is
	// T1059.004, too.
	Technique string
	AgentID   string // one of its agents
	Workload  string // one of its workloads
	Assignee  string
	Since     time.Time // its newest threat is not older, by the agents' clocks
	Until     time.Time // its newest threat is older
	Text      string    // substring of title, story, or one of its names
	Before    int64     // only IDs below; for the next page
	Limit     int       // as in EventQuery
}

// IncidentTotals counts incidents.
type IncidentTotals struct {
	States map[threat.State]int `json:"states"`
	// Active counts those that are not resolved, by severity.
	Active map[finding.Severity]int `json:"active"`
}
