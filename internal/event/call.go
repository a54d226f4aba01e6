package event

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"
)

// KindCall is that somebody called AWS, as CloudTrail tells it. It is none of Kinds:
// no agent tells it, and it is not kept among the events of hosts; the trail keeps it.
const KindCall Kind = "trail.call"

// Call is the payload of KindCall: one record of CloudTrail. All text in it is of
// whoever called, and untrusted.
type Call struct {
	ID      string `json:"id"`                // CloudTrail's eventID: the same wherever the record comes from
	Account string `json:"account,omitempty"` // whose trail has it
	Region  string `json:"region,omitempty"`
	Service string `json:"service"` // eventSource without its domain: ecs, iam, signin
	Name    string `json:"name"`    // of the operation: RunTask
	Type    string `json:"type,omitempty"`
	Read    bool   `json:"read,omitempty"`    // it changes nothing
	Error   string `json:"error,omitempty"`   // why it was refused: AccessDenied
	Message string `json:"message,omitempty"` // of the error

	Actor Actor `json:"actor"`
	// Source is where it came from: an address, or the name of a service of AWS.
	Source   string `json:"source,omitempty"`
	Endpoint string `json:"endpoint,omitempty"` // of the VPC through which it came: vpce-…
	Agent    string `json:"user_agent,omitempty"`

	Request  json.RawMessage `json:"request,omitempty"`
	Response json.RawMessage `json:"response,omitempty"`
	Extra    json.RawMessage `json:"extra,omitempty"` // additionalEventData

	// Home is what the fleet knows of the task or instance whose credentials they are.
	Home *Home `json:"home,omitempty"`
}

// Actor is who called.
type Actor struct {
	Type    string `json:"type"` // as CloudTrail has it: AssumedRole, IAMUser, Root, AWSService, …
	ARN     string `json:"arn,omitempty"`
	Account string `json:"account,omitempty"` // whose it is
	Name    string `json:"name,omitempty"`    // of the user, or of the role
	Role    string `json:"role,omitempty"`    // ARN of the role that was assumed
	Session string `json:"session,omitempty"` // name of that session
	Key     string `json:"key,omitempty"`     // id of the access key
	// Via is the service of AWS that called on behalf of the actor.
	Via    string    `json:"via,omitempty"`
	MFA    bool      `json:"mfa,omitempty"`
	Issued time.Time `json:"issued,omitzero"` // when the session began
	// IssuedTo is the ARN of what the credentials were given to, where CloudTrail tells.
	IssuedTo string `json:"issued_to,omitempty"`
	// Delivery is by which version of the metadata service an instance got them: 1.0, 2.0.
	Delivery string `json:"delivery,omitempty"`
}

// Home is what agents told of the task, or of the instance, that credentials are of.
type Home struct {
	Addresses []netip.Addr `json:"addresses,omitempty"` // of its containers and their host
	Ended     time.Time    `json:"ended,omitzero"`      // when the last of its containers had ended
}

// ActorKind says what an actor is.
type ActorKind string

// The kinds of actor. The zero value is for those that are none of these.
const (
	ActorUnknown  ActorKind = ""
	ActorTask     ActorKind = "task"     // a task of ECS, by its role
	ActorInstance ActorKind = "instance" // an instance of EC2, by its profile
	ActorFunction ActorKind = "function" // of Lambda
	ActorRole     ActorKind = "role"     // somebody who assumed a role: a person, a pipeline
	ActorUser     ActorKind = "user"     // a user of IAM, or of the identity center
	ActorRoot     ActorKind = "root"     // the account's root user
	ActorService  ActorKind = "service"  // a service of AWS by itself
)

// Kind says what the actor is. A session is that of a task or an instance by its name,
// which ECS and EC2 give it.
func (a *Actor) Kind() ActorKind {
	switch a.Type {
	case "AWSService":
		return ActorService
	case "Root":
		return ActorRoot
	case "IAMUser", "IdentityCenterUser", "FederatedUser":
		return ActorUser
	case "AssumedRole":
		switch {
		case strings.Contains(a.IssuedTo, ":function:"):
			return ActorFunction
		case a.Task() != "":
			return ActorTask
		case a.Instance() != "":
			return ActorInstance
		}
		return ActorRole
	}
	return ActorUnknown
}

// Task returns the id of the task that the session is of; empty for none.
func (a *Actor) Task() string {
	const length = 32
	if a.Type == "AssumedRole" && len(a.Session) == length && strings.Trim(a.Session, "0123456789abcdef") == "" {
		return a.Session
	}
	return ""
}

// Instance returns the id of the instance that the session is of; empty for none.
func (a *Actor) Instance() string {
	const short, long = 8, 17 // hex digits
	digits, ok := strings.CutPrefix(a.Session, "i-")
	if ok && a.Type == "AssumedRole" && (len(digits) == short || len(digits) == long) && strings.Trim(digits, "0123456789abcdef") == "" {
		return a.Session
	}
	return ""
}

// String names the actor in a sentence.
func (a *Actor) String() string {
	switch a.Kind() {
	case ActorTask:
		return "task " + a.Session + " (role " + a.Name + ")"
	case ActorInstance:
		return "instance " + a.Session + " (role " + a.Name + ")"
	case ActorFunction:
		return "function " + a.IssuedTo[strings.LastIndexByte(a.IssuedTo, ':')+1:] + " (role " + a.Name + ")"
	case ActorRole:
		return "role " + a.Name + " as " + a.Session
	case ActorRoot:
		return "the root user of " + a.Account
	case ActorUser:
		return "user " + a.Name
	case ActorService:
		return a.Via
	}
	for _, s := range []string{a.ARN, a.Name, a.Account} {
		if s != "" {
			return s
		}
	}
	return "somebody"
}

// Is returns the service and the operation as policies of IAM name them: ecs:RunTask.
func (c *Call) Is() string { return c.Service + ":" + c.Name }

// Address returns where it came from; invalid for a service of AWS.
func (c *Call) Address() netip.Addr {
	a, err := netip.ParseAddr(c.Source)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// words say what was done, without who did it.
func (c *Call) words() string {
	said := "called " + c.Is()
	if c.Region != "" {
		said += " in " + c.Region
	}
	if c.Account != "" {
		said += " of " + c.Account
	}
	if c.Source != "" {
		said += " from " + c.Source
	}
	return said + " (" + c.Actor.String() + ", event " + c.ID + ")"
}
