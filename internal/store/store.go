// Package store is the port for what must be kept: the small interfaces that
// the server is written against, and the questions they answer.
//
// adapter/db implements them on SQLite; storetest is the suite that every
// implementation passes. Rooms and halls depend on the smallest interface they
// need, never on Store as a whole unless they hand it on.
package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// Store is everything together. Implementations are safe for concurrent use.
// Errors carry a fault.Kind: NotFound, Conflict, Exhausted (disk full),
// Corrupt, Unavailable.
type Store interface {
	Events
	EventStats
	Flows
	Samples
	Workloads
	Images
	Registries
	Notify
	Trust
	Admission
	Behaviour
	Response
	Incidents
	Detections
	Trails
	Agents
	AgentSettings
	Invitations
	Certificates
	Users
	UserChanges
	Sessions
	Tokens
	AuditLog
	Upkeep
}

// Events keeps what sensors saw.
type Events interface {
	// AppendEvents stores the events of one agent in order and durably, gives
	// each its ID (set in the slice) and skips, with ID 0, those whose
	// (AgentID, Boot, Seq) is stored already. All or nothing.
	AppendEvents(ctx context.Context, events []event.Event) error
	// Events answers a query with one page, newest first.
	Events(ctx context.Context, q EventQuery) (EventPage, error)
	// Event returns one event by its ID; NotFound if retention removed it.
	Event(ctx context.Context, id int64) (event.Event, error)
}

// EventPage is one page of the answer to an EventQuery.
type EventPage struct {
	Events []event.Event `json:"events"`
	// Next continues behind this page: the query's Before, or its After when it
	// follows. 0 means that nothing more matches now, except when following,
	// where it is always the ID to follow from.
	Next int64 `json:"next,omitempty"`
	// Partial says that the bound on reads was reached before the page was full
	// (it may even be empty): more may match, Next goes on from there.
	Partial bool `json:"partial,omitempty"`
	// Reached is how far a partial page came, by the agents' clock.
	Reached *time.Time `json:"reached,omitempty"`
}

// EventQuery selects events. Zero fields don't filter; all given ones must
// hold. Every combination is answered from indexes within a bounded number of
// row reads; where that bound comes first the page says Partial.
type EventQuery struct {
	Kinds      []event.Kind
	AgentID    string
	WorkloadID string
	Group      string
	HostOnly   bool      // only events of no workload
	Executable string    // exact path; a trailing "*" matches any rest
	Process    event.Key // with AgentID: events of this process
	// Path is a file that the event is about (File.Path and To, Memory.Path,
	// Privilege.Target): exact, or with a trailing "*" for any rest.
	Path string
	// Peer is who was at the other end: an address, address:port, the name
	// that was asked for (Connection.Name, DNS.Name), or a workload's id or
	// group.
	Peer    string
	Origins []event.Origin // of execs
	Entered bool           // only execs that came in from outside
	// Text is words, all of which occur in executable, name, arguments, path,
	// peer or DNS name, each at the start of a word there; the case of ASCII
	// letters is ignored.
	Text   string
	Since  time.Time // by the agent's clock, inclusive
	Until  time.Time // exclusive
	Before int64     // only IDs below; for the next page
	After  int64     // only IDs above; for following, answered oldest first of the new ones
	Limit  int       // 1 to MaxPage; 0 means DefaultPage
}

// Page sizes of every listing.
const (
	DefaultPage = 100
	MaxPage     = 1_000
)

// EventStats counts without reading events.
type EventStats interface {
	// EventRate returns events per kind in buckets of step (at least a minute)
	// over [since, until), for one workload or, with "", for all. Buckets start
	// at multiples of step since the Unix epoch; events are counted by the
	// minute of the agent's clock. Buckets without events are left out; one
	// that since or until cuts is counted whole.
	EventRate(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) ([]Rate, error)
	// Notable returns the newest execs since then that entered from outside or
	// whose file did not come with the image (written, mount, memory), newest
	// first.
	Notable(ctx context.Context, since time.Time, limit int) ([]event.Event, error)
}

// Rate is how many events of one kind fell into one bucket.
type Rate struct {
	Start time.Time  `json:"start"`
	Kind  event.Kind `json:"kind"`
	Count int64      `json:"count"`
}

// Flows keeps who talks with whom: one line per hour, workload, direction,
// protocol, peer and port, added to as events are appended.
type Flows interface {
	// Flows returns the lines that overlap the query's time added up per peer
	// and port, busiest first, at most MaxFlows.
	Flows(ctx context.Context, q FlowQuery) ([]Flow, error)
}

// MaxFlows bounds one answer about flows.
const MaxFlows = 5_000

// FlowQuery selects flows; zero fields don't filter.
type FlowQuery struct {
	WorkloadID string
	Group      string
	// Since and Until are by the agents' clock; hours that they cut are counted
	// whole.
	Since, Until time.Time
	Limit        int // 0 is MaxFlows
}

// Flow is all connections of one workload, in one direction, with one peer at
// one port.
type Flow struct {
	WorkloadID string     `json:"workload_id,omitempty"` // empty: the host itself
	Group      string     `json:"group,omitempty"`
	AgentID    string     `json:"agent_id"`
	Kind       event.Kind `json:"kind"` // network.connect, network.accept, network.listen or network.raw
	Protocol   string     `json:"protocol"`
	Address    netip.Addr `json:"address,omitzero"` // of the peer
	Port       uint16     `json:"port,omitempty"`   // the peer's for connect, the workload's own for accept and listen
	Name       string     `json:"name,omitempty"`   // as asked of the DNS, the newest
	Peer       event.Peer `json:"peer,omitzero"`    // the newest
	Count      uint64     `json:"count"`            // connections, failed ones included
	Failed     uint64     `json:"failed,omitempty"`
	Error      string     `json:"error,omitempty"` // of the newest that failed
	// Bytes are those of connections that ended.
	BytesSent     uint64    `json:"bytes_sent"`
	BytesReceived uint64    `json:"bytes_received"`
	First         time.Time `json:"first"`
	Last          time.Time `json:"last"`
}

// Samples keeps what workloads use over time.
type Samples interface {
	// PutSamples stores samples; one that is stored already is replaced.
	PutSamples(ctx context.Context, samples []asset.Sample) error
	// Samples returns those of one workload with since <= Time < until, oldest
	// first: the last of each step, or all if step is 0; at most MaxSamples.
	Samples(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) ([]asset.Sample, error)
}

// MaxSamples bounds one answer about samples.
const MaxSamples = 2_000

// Workloads keeps what is guarded.
type Workloads interface {
	// PutWorkloads inserts or replaces by ID. A Partial workload never
	// replaces one that is not.
	PutWorkloads(ctx context.Context, ws []asset.Workload) error
	Workload(ctx context.Context, id string) (asset.Workload, error)
	Workloads(ctx context.Context, q WorkloadQuery) ([]asset.Workload, error)
}

// WorkloadQuery selects workloads, running first, then newest first.
type WorkloadQuery struct {
	AgentID string
	Group   string
	Cluster string
	ImageID string // the engine's id of its image
	States  []asset.State
	Text    string // substring of name, group, image reference or id
	// After continues behind the last workload of a page: its ID.
	After string
	Limit int // as in EventQuery
}

// Agents keeps who reports.
type Agents interface {
	PutAgent(ctx context.Context, a asset.Agent) error
	Agent(ctx context.Context, id string) (asset.Agent, error)
	Agents(ctx context.Context) ([]asset.Agent, error)
}

// AgentSettings keeps what operators decided about agents.
type AgentSettings interface {
	// PutAgentSettings replaces those of one agent, or with "" those of all
	// agents that have none of their own. The zero value removes them.
	PutAgentSettings(ctx context.Context, agentID string, s asset.AgentSettings) error
	// AgentSettings returns what is kept under that id; the zero value when
	// nothing is.
	AgentSettings(ctx context.Context, agentID string) (asset.AgentSettings, error)
}

// Invitations keeps the tokens by which agents join.
type Invitations interface {
	PutInvitation(ctx context.Context, i access.Invitation) (access.Invitation, error)
	// UseInvitation marks the invitation with this hash as used, once: Denied
	// when there is none, or it is used or expired by now.
	UseInvitation(ctx context.Context, hash []byte, agentID string, now time.Time) (access.Invitation, error)
	// Invitations returns all, newest first.
	Invitations(ctx context.Context) ([]access.Invitation, error)
}

// Certificates keeps which agents hold which certificates.
type Certificates interface {
	PutCertificate(ctx context.Context, c access.Certificate) error
	// Certificates returns those of one agent, or with "" all, newest first.
	Certificates(ctx context.Context, agentID string) ([]access.Certificate, error)
	// RevokeCertificates revokes all of the agent's, and returns how many still
	// held; 0 is no error.
	RevokeCertificates(ctx context.Context, agentID string, now time.Time) (int, error)
}

// Users reads who may sign in.
type Users interface {
	User(ctx context.Context, id int64) (access.User, error)
	UserByName(ctx context.Context, name string) (access.User, error)
	Users(ctx context.Context) ([]access.User, error)
}

// UserChanges changes who may sign in.
type UserChanges interface {
	// CreateUser returns Conflict when the name is taken.
	CreateUser(ctx context.Context, u access.User) (access.User, error)
	// UpdateUser replaces by ID; a new name keeps the user's tokens. It refuses,
	// as Conflict, to take the last enabled administrator away.
	UpdateUser(ctx context.Context, u access.User) error
	// DeleteUser also ends the user's sessions and removes their tokens; it
	// refuses as UpdateUser does.
	DeleteUser(ctx context.Context, id int64) error
}

// Sessions keeps sign-ins.
type Sessions interface {
	PutSession(ctx context.Context, s access.Session) error
	// Session returns NotFound for an unknown or expired one.
	Session(ctx context.Context, hash []byte, now time.Time) (access.Session, error)
	// DeleteSessions ends the session with this hash, or with a nil hash all
	// of the user's.
	DeleteSessions(ctx context.Context, hash []byte, userID int64) error
}

// Tokens keeps API tokens.
type Tokens interface {
	// PutToken creates the token (ID 0; Conflict when its owner has one of that
	// name) or records its last use.
	PutToken(ctx context.Context, t access.Token) (access.Token, error)
	// Tokens returns those of one owner, of the one hash, or all.
	Tokens(ctx context.Context, q TokenQuery) ([]access.Token, error)
	DeleteToken(ctx context.Context, id int64) error
}

// TokenQuery selects tokens; zero fields don't filter.
type TokenQuery struct {
	ID    int64
	Owner string
	Hash  []byte
}

// AuditLog keeps every change. There is no call that changes or removes a
// line; retention does, by age alone.
type AuditLog interface {
	AppendAudit(ctx context.Context, a access.Audit) error
	// Audit returns lines newest first, with IDs below before unless it is 0.
	Audit(ctx context.Context, before int64, limit int) ([]access.Audit, error)
}

// Upkeep looks after the store itself.
type Upkeep interface {
	// Prune removes what is older than the retention says, in short
	// transactions, and returns how many rows went.
	Prune(ctx context.Context, r Retention, now time.Time) (int64, error)
	// Health returns what an operator should know: sizes, oldest event,
	// free disk.
	Health(ctx context.Context) (Health, error)
	Close() error
}

// Retention says how long things are kept, by the server's clock (an event's
// Received: an agent whose clock is wrong must not make evidence go early);
// zero keeps forever.
type Retention struct {
	Events    time.Duration // also flows and samples
	MaxEvents int64         // the oldest go first; 0 is no limit
	Workloads time.Duration // after they ended; images of registries after they were gone
	Audit     time.Duration
	// Verdicts are those of admission; of MaxVerdicts, 0 for no limit, the oldest go
	// first.
	Verdicts    time.Duration
	MaxVerdicts int64
	// Violations are those of behaviour, after they were seen last.
	Violations time.Duration
	// Incidents are kept so long after they were changed last, resolved or not.
	Incidents time.Duration
}

// Health describes the store.
type Health struct {
	Engine     string     `json:"engine"` // sqlite
	Schema     int64      `json:"schema"` // version of the last migration
	Bytes      int64      `json:"bytes"`
	FreeBytes  int64      `json:"free_bytes"` // on its file system
	Events     int64      `json:"events"`     // an estimate is enough
	OldestTime *time.Time `json:"oldest_event,omitempty"`
}
