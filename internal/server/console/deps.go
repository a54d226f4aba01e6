package console

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/server/verify"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// Store is what the console reads; store.Store satisfies it.
type Store interface {
	Events
	Stats
	Behaviour
	Inventory
	Agents
	Images
	Findings
	Judged
	Held
	store.ImageNames
}

// Events reads what sensors saw.
type Events interface {
	Events(ctx context.Context, q store.EventQuery) (store.EventPage, error)
	Event(ctx context.Context, id int64) (event.Event, error)
}

// Stats counts events and picks out those worth a look.
type Stats interface {
	EventRate(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) ([]store.Rate, error)
	Notable(ctx context.Context, since time.Time, limit int) ([]event.Event, error)
}

// Behaviour adds up who talks with whom, and what workloads use.
type Behaviour interface {
	Flows(ctx context.Context, q store.FlowQuery) ([]store.Flow, error)
	Samples(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) ([]asset.Sample, error)
}

// Inventory reads the workloads.
type Inventory interface {
	Workload(ctx context.Context, id string) (asset.Workload, error)
	Workloads(ctx context.Context, q store.WorkloadQuery) ([]asset.Workload, error)
}

// Agents reads who reports.
type Agents interface {
	Agent(ctx context.Context, id string) (asset.Agent, error)
	Agents(ctx context.Context) ([]asset.Agent, error)
}

// Images reads the images that workloads were started from.
type Images interface {
	Image(ctx context.Context, id string) (store.Image, error)
	Images(ctx context.Context, q store.ImageQuery) ([]store.Image, error)
	Inventory(ctx context.Context, imageID string) (inventory.Inventory, error)
}

// Findings reads what is wrong with them.
type Findings interface {
	Vulnerabilities(ctx context.Context, q store.VulnerabilityQuery) ([]store.ImageVulnerability, error)
	Weaknesses(ctx context.Context, q store.VulnerabilityQuery) ([]store.Weakness, error)
}

// Judged reads their secrets, faults and malware.
type Judged interface {
	FindingsIn(ctx context.Context, q store.FindingQuery) ([]store.Finding, error)
	FindingLines(ctx context.Context, q store.FindingQuery) ([]store.FindingLine, error)
	Trend(ctx context.Context, kind store.FindingKind, since time.Time) ([]store.TrendDay, error)
}

// Held reads what registries hold.
type Held interface {
	RegistryImages(ctx context.Context, q store.RegistryImageQuery) ([]store.RegistryImage, error)
	RegistryRepositories(ctx context.Context, q store.RegistryRepositoryQuery) ([]store.RegistryRepository, error)
	ImageEntries(ctx context.Context, imageID string) ([]store.RegistryImage, error)
}

// Registries watches registries; *registries.Service satisfies it. It refuses what
// an identity may not do.
type Registries interface {
	RegistryViews
	RegistryChanges
	Rescan(ctx context.Context, who access.Identity, id int64) error
}

// RegistryViews says how registries are, and has one looked at.
type RegistryViews interface {
	Registries(ctx context.Context) ([]registries.View, error)
	Registry(ctx context.Context, name string) (registries.View, error)
	Check(ctx context.Context, who access.Identity, name string) error
}

// RegistryChanges says which registries are watched.
type RegistryChanges interface {
	Create(ctx context.Context, who access.Identity, s registries.Spec, webhook bool) (registries.View, string, error)
	Update(ctx context.Context, who access.Identity, s registries.Spec, hook registries.Webhook) (registries.View, string, error)
	Delete(ctx context.Context, who access.Identity, name string) error
}

// Scanning has images scanned and findings accepted; *images.Service satisfies
// it. It refuses what an identity may not do.
type Scanning interface {
	Scans
	Acceptances
	Owning
}

// Owning tells who is responsible for which images, and changes it.
type Owning interface {
	Owners(ctx context.Context, who access.Identity) (asset.Owners, error)
	SetOwner(ctx context.Context, who access.Identity, rule asset.OwnerRule) error
	RemoveOwner(ctx context.Context, who access.Identity, rule asset.OwnerRule) error
}

// Scans tells how scanning goes, and starts it anew.
type Scans interface {
	Rescan(ctx context.Context, who access.Identity, imageID string) error
	Status(ctx context.Context) (images.Status, error)
	Changed(ctx context.Context, imageID string) (<-chan struct{}, error)
}

// Acceptances keeps decisions to live with a weakness for a time.
type Acceptances interface {
	Accept(ctx context.Context, who access.Identity, n images.NewAcceptance) (store.Acceptance, error)
	EndAcceptance(ctx context.Context, who access.Identity, id int64) (store.Acceptance, error)
	Acceptances(ctx context.Context, who access.Identity) ([]store.Acceptance, error)
}

// Account decides about users, sign-ins and tokens; *account.Service satisfies
// it. It refuses what an identity may not do, whatever a page showed.
type Account interface {
	SignIns
	Passwords
	Users
	UserChanges
	Tokens
	Audit
}

// Enrolment lets agents join and cuts them off; *enrol.Service satisfies it.
// It refuses what an identity may not do.
type Enrolment interface {
	Invite(ctx context.Context, who access.Identity, name string, life time.Duration) (i access.Invitation, token string, err error)
	Certificates(ctx context.Context, who access.Identity, agentID string) ([]access.Certificate, error)
	Revoke(ctx context.Context, who access.Identity, agentID string) (int, error)
}

// Trust knows who has signed images, and keeps the trust policy; *verify.Service
// satisfies it. It refuses what an identity may not do.
type Trust interface {
	TrustVerdicts
	TrustPolicies
	TrustChanges
}

// TrustVerdicts reads what came of verifying images.
type TrustVerdicts interface {
	Images(ctx context.Context, who access.Identity, q store.TrustQuery) ([]store.TrustImage, error)
	Image(ctx context.Context, who access.Identity, repository, digest string) (store.TrustImage, error)
	Totals(ctx context.Context, who access.Identity) (store.TrustTotals, error)
}

// TrustPolicies reads the trust policy and its history.
type TrustPolicies interface {
	Policy(ctx context.Context, who access.Identity, version int64) (store.TrustPolicy, error)
	Policies(ctx context.Context, who access.Identity, before int64, limit int) ([]store.TrustPolicy, error)
}

// TrustChanges changes it.
type TrustChanges interface {
	Explain(who access.Identity, text string) (means []trust.Passage, problems []trust.Problem, err error)
	Try(ctx context.Context, who access.Identity, text string) (verify.Trial, error)
	SetPolicy(ctx context.Context, who access.Identity, text, comment string, after int64) (store.TrustPolicy, error)
}

// Admission decides what may be deployed; *gate.Service satisfies it. It refuses
// what an identity may not do.
type Admission interface {
	AdmissionVerdicts
	AdmissionPolicies
	AdmissionChanges
	AdmissionExceptions
	AdmissionNews
}

// AdmissionVerdicts reads what was asked for, and how it ended.
type AdmissionVerdicts interface {
	Verdicts(ctx context.Context, who access.Identity, q store.AdmissionQuery) ([]store.AdmissionLine, error)
	Verdict(ctx context.Context, who access.Identity, name string) (gate.Record, error)
	Totals(ctx context.Context, who access.Identity, since time.Time) (store.AdmissionTotals, error)
}

// AdmissionPolicies reads the admission policy and its history.
type AdmissionPolicies interface {
	Policy(ctx context.Context, who access.Identity, version int64) (store.AdmissionPolicy, error)
	Policies(ctx context.Context, who access.Identity, before int64, limit int) ([]store.AdmissionPolicy, error)
}

// AdmissionChanges changes it.
type AdmissionChanges interface {
	Check(who access.Identity, text string) ([]admit.Problem, error)
	Replay(ctx context.Context, who access.Identity, r gate.Replay) (gate.Replayed, error)
	SetPolicy(ctx context.Context, who access.Identity, text, comment string, after int64) (store.AdmissionPolicy, error)
}

// AdmissionExceptions keeps the leave that people gave.
type AdmissionExceptions interface {
	Exceptions(ctx context.Context, who access.Identity, all bool) ([]store.AdmissionException, error)
	Except(ctx context.Context, who access.Identity, e admission.Exception) (store.AdmissionException, error)
	Withdraw(ctx context.Context, who access.Identity, id string) (store.AdmissionException, error)
}

// AdmissionNews tells that a verdict was kept, or policy or exceptions changed.
type AdmissionNews interface {
	News(ctx context.Context, who access.Identity) (<-chan struct{}, error)
}

// Notify decides who is told of what happens; *notify.Service satisfies it. It
// refuses what an identity may not do.
type Notify interface {
	Targets(ctx context.Context, who access.Identity) ([]notice.Target, error)
	Add(ctx context.Context, who access.Identity, n notify.NewTarget) (t notice.Target, secret string, err error)
	Edit(ctx context.Context, who access.Identity, id int64, c notify.TargetChange) (t notice.Target, secret string, err error)
	Remove(ctx context.Context, who access.Identity, id int64) error
	Test(ctx context.Context, who access.Identity, id int64) error
	Preview(who access.Identity, t notice.Template, kind notice.Kind) (title, text string, err error)
	DeadLetters
}

// DeadLetters are the notifications that were given up.
type DeadLetters interface {
	Dead(ctx context.Context, who access.Identity, target int64) ([]notice.Dead, error)
	RetryDead(ctx context.Context, who access.Identity, q store.DeadQuery) (int, error)
	DropDead(ctx context.Context, who access.Identity, q store.DeadQuery) (int, error)
}

// SignIns starts and ends sessions.
type SignIns interface {
	SignIn(ctx context.Context, name, password, address string) (cookie string, session access.Session, err error)
	SignOut(ctx context.Context, cookie string, who access.Identity) error
	SignOutAll(ctx context.Context, who access.Identity) error
}

// Passwords changes the password of who asks.
type Passwords interface {
	ChangePassword(ctx context.Context, who access.Identity, old, new string) error
}

// Users lists and adds those who may sign in.
type Users interface {
	Users(ctx context.Context, who access.Identity) ([]access.User, error)
	CreateUser(ctx context.Context, who access.Identity, n account.NewUser) (access.User, error)
}

// UserChanges changes and removes them.
type UserChanges interface {
	UpdateUser(ctx context.Context, who access.Identity, id int64, c account.UserChange) (access.User, error)
	DeleteUser(ctx context.Context, who access.Identity, id int64) error
}

// Tokens looks after API tokens.
type Tokens interface {
	Tokens(ctx context.Context, who access.Identity) ([]access.Token, error)
	CreateToken(ctx context.Context, who access.Identity, n account.NewToken) (access.Token, string, error)
	DeleteToken(ctx context.Context, who access.Identity, id int64) error
}

// Audit reads who changed what.
type Audit interface {
	Audit(ctx context.Context, who access.Identity, before int64, limit int) ([]access.Audit, error)
}

// Tables are the processes that run now; *live.Tables satisfies it.
type Tables interface {
	Tree(workloadID string) (procs []event.Running, known bool)
	Host(agentID string) (procs []event.Running, known bool)
}

// Feed tells what is new; *live.Feed satisfies it.
type Feed interface {
	Subscribe(ctx context.Context, match func(*event.Event) bool) (*live.Subscription, error)
	Changed(ctx context.Context, workloadID string) (<-chan struct{}, error)
}

// Conditions are what is wrong with the server now, and what it lost;
// *live.Conditions satisfies it.
type Conditions interface {
	List() []live.Condition
	Losses() []asset.Loss
}
