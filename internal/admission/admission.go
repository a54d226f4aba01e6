// Package admission has the words for a decision on a deployment: what a door was
// asked to let through, what is known of its images, and the verdict with every
// reason that led to it.
//
// Doors (the Docker authorization plugin, the ECS deployment hook, the
// CloudFormation hook, the EventBridge reaction, the CI gate) make a Request of
// what they were asked in their own protocol, and write the Verdict back in it. A
// door never decides: that is for the room (package admit), by one policy for all
// doors.
//
// Everything in a Request comes from whoever asks and is hostile text: bounded by
// the door, escaped where it is shown. The zero Verdict denies.
package admission

import (
	"encoding/json"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// Door is a place where a deployment can be refused.
type Door string

// The doors.
const (
	Docker         Door = "docker"         // the authorization plugin of an engine
	Service        Door = "service"        // ECS's service deployment lifecycle hook
	CloudFormation Door = "cloudformation" // the hook before resources are created or changed
	EventBridge    Door = "eventbridge"    // the reaction to a change of a task's state
	CI             Door = "ci"             // before anything reaches AWS
)

// Doors are all doors.
func Doors() []Door { return []Door{Docker, Service, CloudFormation, EventBridge, CI} }

// Action is what is asked for.
type Action string

// The actions. All but Run and Register are of the Docker door.
const (
	Run      Action = "run"      // a task or container is to start
	Register Action = "register" // something is written down by which tasks may run later
	Exec     Action = "exec"     // a process more in a container that runs
	Change   Action = "change"   // other limits or settings for a container that is there
	Copy     Action = "copy"     // files into a container
	Pull     Action = "pull"     // an image is fetched, loaded or imported
	Build    Action = "build"    // an image is built, or made of a container
	Engine   Action = "engine"   // what changes the engine: plugins, swarm, volumes, networks
)

// Actions are all actions.
func Actions() []Action { return []Action{Run, Register, Exec, Change, Copy, Pull, Build, Engine} }

// Request is what a door was asked.
type Request struct {
	ID     string    `json:"id"` // chosen by the door, unlike any other
	Door   Door      `json:"door"`
	Action Action    `json:"action"`
	At     time.Time `json:"at"`
	By     Caller    `json:"by"`
	Place  Place     `json:"place"`
	// Task is what shall run: a task definition, or one container as a task of its
	// own. With Exec, Change and Copy it is the container that is there. With Pull
	// and Build its containers have nothing but the images that are asked for, or
	// built upon.
	Task         Task         `json:"task"`
	Exec         *Process     `json:"exec,omitempty"`         // with the action Exec
	Call         *Call        `json:"call,omitempty"`         // of the Docker door
	Repositories []Repository `json:"repositories,omitempty"` // of the CloudFormation and CI doors
	// Unknown are the fields, as the schema of conditions names them from the
	// request on ("task.network", "task.containers[0].image", "place.cluster"), that
	// are there but whose values nobody can know yet, such as a template's
	// parameters. What is in an unknown field is unknown, too.
	Unknown []string `json:"unknown,omitempty"`
	// Faults is what the scanner says of the task, its service and its cluster.
	// FaultsKnown says that it was asked.
	Faults      []finding.Misconfiguration `json:"faults,omitempty"`
	FaultsKnown bool                       `json:"faults_known,omitempty"`
}

// Caller is who asks, as the door knows it. Empty fields are not known: a Docker
// engine on a socket of the host tells nobody's name.
type Caller struct {
	Name   string `json:"name,omitempty"`   // subject of a client certificate, ARN of a principal, branch of a build
	Method string `json:"method,omitempty"` // how the name is known: "TLS", "IAM"
	Agent  bool   `json:"agent,omitempty"`  // the ECS agent, as far as the door can tell
}

// Place is where it shall run. Empty fields are not known or don't apply.
type Place struct {
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	Cluster string `json:"cluster,omitempty"` // name, not ARN
	Service string `json:"service,omitempty"` // name, not ARN
	Host    string `json:"host,omitempty"`    // id of the agent
	File    string `json:"file,omitempty"`    // that describes it, of the CI door
}

// Call is a call of Docker's interface.
type Call struct {
	Method string `json:"method"`
	Path   string `json:"path"`           // without the version, ids as they came: "/containers/create"
	Name   string `json:"name"`           // what the door calls it: "container create", "plugin install", "unknown"
	What   string `json:"what,omitempty"` // name or id of what it is about
	// Options are what is asked for beyond that, by the names of Docker's interface:
	// driver and options of a volume, remote of a build.
	Options map[string]string `json:"options,omitempty"`
}

// Process is a process that is to be started in a container.
type Process struct {
	Command    []string `json:"command"`
	User       string   `json:"user,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	Env        []string `json:"env,omitempty"` // names alone
}

// Repository is a repository of images that is created or changed.
type Repository struct {
	Name       string          `json:"name"`
	Immutable  bool            `json:"immutable,omitempty"` // its tags
	ScanOnPush bool            `json:"scan_on_push,omitempty"`
	Key        string          `json:"key,omitempty"`    // of KMS; empty: encrypted by the registry's own
	Policy     json.RawMessage `json:"policy,omitempty"` // who may pull and push
}
