// Package access holds the nouns for who may do what in Castellan itself:
// users, roles, scopes, API tokens, sessions and the audit log.
//
// It is not for what containers may do; that is policy. The zero value of
// every type permits nothing.
package access

import (
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// Role is what a user is trusted with. The empty role may do nothing.
type Role string

// The roles, each including the one before.
const (
	Viewer        Role = "viewer"        // sees everything but users and tokens
	Operator      Role = "operator"      // changes what Castellan does, not who may use it
	Administrator Role = "administrator" // also users, tokens and the audit log
)

// Roles lists the roles from least to most.
func Roles() []Role { return []Role{Viewer, Operator, Administrator} }

// Scope is one right that a route asks for and an API token carries.
type Scope string

// The scopes.
const (
	ReadWorkloads Scope = "workloads:read"
	ReadEvents    Scope = "events:read"
	ReadAgents    Scope = "agents:read"
	ReadImages    Scope = "images:read"
	ManageImages  Scope = "images:manage" // accept vulnerabilities, have images scanned anew
	// ManageRegistries is to say which registries are watched: the server connects
	// to them, with the credentials that it has.
	ManageRegistries Scope = "registries:manage"
	ManageAgents     Scope = "agents:manage" // settings of agents
	EnrolAgents      Scope = "agents:enrol"  // invite agents, and revoke them
	// InviteAgents is to invite agents and no more: hosts that join by themselves when
	// they start carry it. EnrolAgents has it in it.
	InviteAgents Scope = "agents:invite"
	ReadNotify   Scope = "notify:read"
	ManageNotify Scope = "notify:manage" // who is told of what
	// ManageTrust is to say who must have signed images: whoever may change it can
	// let any image run.
	ManageTrust   Scope = "trust:manage"
	ReadAdmission Scope = "admission:read"
	// DecideAdmission is for the doors of deployment: to ask whether something may be
	// deployed. It permits nothing else.
	DecideAdmission Scope = "admission:decide"
	// ManageAdmission is to say what may be deployed, and to make exceptions.
	ManageAdmission Scope = "admission:manage"
	ReadBehaviour   Scope = "behaviour:read"
	// ManageBehaviour is to say what groups are held to: modes, profiles, and what is
	// made normal.
	ManageBehaviour Scope = "behaviour:manage"
	ReadResponse    Scope = "response:read"
	// ManageResponse is to have something done about threats: it can end any container.
	ManageResponse Scope = "response:manage"
	ReadIncidents  Scope = "incidents:read"
	// WriteIncidents is to assign, comment, resolve and reopen incidents.
	WriteIncidents Scope = "incidents:write"
	ReadDetect     Scope = "detect:read"
	// WriteDetect is to write rules of detection and to silence them.
	WriteDetect  Scope = "detect:write"
	ManageUsers  Scope = "users:manage"
	ManageTokens Scope = "tokens:manage" // everyone's; one's own need no scope
	ReadAudit    Scope = "audit:read"
)

// Scopes lists every scope.
func Scopes() []Scope {
	return []Scope{ReadWorkloads, ReadEvents, ReadAgents, ReadImages, ManageImages, ManageRegistries, ManageAgents, EnrolAgents, InviteAgents,
		ReadNotify, ManageNotify, ManageTrust, ReadAdmission, DecideAdmission, ManageAdmission, ReadBehaviour, ManageBehaviour,
		ReadResponse, ManageResponse, ReadIncidents, WriteIncidents, ReadDetect, WriteDetect, ManageUsers, ManageTokens, ReadAudit}
}

// Scopes returns the rights of a role; an unknown role has none.
func (r Role) Scopes() []Scope {
	read := []Scope{ReadWorkloads, ReadEvents, ReadAgents, ReadImages, ReadNotify, ReadAdmission, ReadBehaviour, ReadResponse, ReadIncidents, ReadDetect}
	switch r {
	case Viewer:
		return read
	case Operator:
		return append(read, ManageImages, ManageRegistries, ManageAgents, ManageNotify, DecideAdmission, ManageBehaviour, ManageResponse, WriteIncidents, WriteDetect)
	case Administrator:
		return append(read, ManageImages, ManageRegistries, ManageAgents, ManageNotify, DecideAdmission, ManageBehaviour, ManageResponse, WriteIncidents, WriteDetect, EnrolAgents, InviteAgents, ManageTrust,
			ManageAdmission, ManageUsers, ManageTokens, ReadAudit)
	}
	return nil
}

// Valid reports whether r is one of Roles.
func (r Role) Valid() bool { return slices.Contains(Roles(), r) }

// User is a person who signs in to the console.
type User struct {
	ID           int64      `json:"id"`
	Name         string     `json:"name"` // unique, lower case
	Role         Role       `json:"role"`
	PasswordHash string     `json:"-"` // argon2id, in the PHC string form
	MustChange   bool       `json:"must_change_password,omitempty"`
	Disabled     bool       `json:"disabled,omitempty"`
	Created      time.Time  `json:"created"`
	LastSignIn   *time.Time `json:"last_sign_in,omitempty"`
}

// Token is an API token. The secret is shown once, when it is made, and only
// its SHA-256 is kept (it is 256 random bits, so a slow hash adds nothing).
type Token struct {
	ID       int64      `json:"id"`
	Name     string     `json:"name"`
	Owner    string     `json:"owner"` // the user who made it, or "local" for the command line on the server
	Hash     []byte     `json:"-"`
	Prefix   string     `json:"prefix"` // the first characters, to recognise it by
	Scopes   []Scope    `json:"scopes"`
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires,omitempty"` // nil: never
	LastUsed *time.Time `json:"last_used,omitempty"`
}

// Session is one sign-in of a user in a browser.
type Session struct {
	Hash    []byte    // SHA-256 of the cookie's value
	UserID  int64     //
	CSRF    string    // token that every changing request of this session carries
	Created time.Time //
	Expires time.Time // absolute end
	Used    time.Time // for the idle limit
	Address string    // of the browser, as the server saw it
}

// Invitation lets one agent join, once. The secret is shown when it is made,
// and only its SHA-256 is kept.
type Invitation struct {
	ID      int64      `json:"id"`
	Hash    []byte     `json:"-"`
	Name    string     `json:"name,omitempty"` // what it is for, in the words of who made it
	By      string     `json:"by"`             // actor, as in Audit
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	Used    *time.Time `json:"used,omitempty"`
	AgentID string     `json:"agent_id,omitempty"` // who used it
}

// Certificate is one certificate that was given to an agent.
type Certificate struct {
	Serial   string     `json:"serial"` // hex
	AgentID  string     `json:"agent_id"`
	Hostname string     `json:"hostname,omitempty"` // as the agent said when it asked
	Address  string     `json:"address,omitempty"`  // from where it asked
	Issued   time.Time  `json:"issued"`
	Expires  time.Time  `json:"expires"`
	Revoked  *time.Time `json:"revoked,omitempty"`
}

// Audit is one change, and who made it.
type Audit struct {
	ID      int64     `json:"id"`
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`   // "user:name", "token:name", "local:uid", "system"
	Address string    `json:"address"` // network address of the actor, when there is one
	Action  string    `json:"action"`  // "user.create", "session.start", "session.refused", …
	Target  string    `json:"target"`  // what was changed
	Outcome string    `json:"outcome"` // "done", or why it was refused
	Detail  string    `json:"detail,omitempty"`
}

// Identity is who asks, as one request established it. The zero value may do
// nothing.
type Identity struct {
	Actor  string  `json:"actor"` // as in Audit
	UserID int64   `json:"user_id,omitempty"`
	Name   string  `json:"name"`
	Role   Role    `json:"role,omitempty"`
	Scopes []Scope `json:"scopes"`
	// MustChange says that the user's password was set by somebody else: until
	// it is changed the identity carries no scopes.
	MustChange bool `json:"must_change_password,omitempty"`
	// Address is the network address the request came from, for the audit log.
	Address string `json:"address,omitempty"`
}

// May reports whether the identity carries the scope, or one that has it in it.
func (i Identity) May(s Scope) bool {
	return slices.Contains(i.Scopes, s) || s == InviteAgents && slices.Contains(i.Scopes, EnrolAgents)
}

// Need returns why the identity may not do what takes a scope: Unauthenticated for
// nobody, else Denied.
func (i Identity) Need(s Scope) error {
	if i.May(s) {
		return nil
	}
	if i.Actor == "" {
		return fault.New(fault.Unauthenticated, "not signed in").With("sign in, or send an API token")
	}
	return fault.New(fault.Denied, "%s lacks the right %s", i.Actor, s).
		With("ask an administrator for a role or a token with that right")
}
