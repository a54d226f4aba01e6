// Package blueprint holds the nouns of documents that say how containers shall
// be built and run: tasks with their containers, services, clusters, roles and
// image builds, each value with its place in a file. Task definitions,
// CloudFormation, Terraform, compose files, Dockerfiles and images all become
// these, so that a check is written once.
//
// A value may be unknown: the document leaves it to something that is not in it,
// such as a parameter without a default. What is unknown is never a fault.
//
// It is not for reading documents (see iac) and not for judging them (see check).
package blueprint

import (
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
)

// Span is a stretch of a file. The zero value is nowhere.
type Span struct {
	File       string
	Start, End finding.Position
}

// Head is the beginning of a stretch alone, for what is missing in it.
func (s Span) Head() Span {
	s.End = s.Start
	return s
}

// State says how much is known of a value.
type State uint8

// The states. The zero value means that the document does not have it.
const (
	Absent State = iota
	Known
	Unknown
)

// Value is what a document says of one thing.
type Value[T any] struct {
	// V is the zero value unless Known; but of an unknown text it is what is known
	// of it, with ${…} for the rest.
	V  T
	Is State
	At Span
	// Ref names the resource of the same document whose property it is, where it
	// is one: "aws_iam_role.task", "TaskRole".
	Ref string
	// Attr is which property of it, with the key of the instance, as references of
	// this document have it: "./arn", "./task/arn"; "" if that is not known.
	Attr string
}

// SameProperty says that two values are known to be the same property of the same
// resource, whatever its value will be.
func SameProperty[T any](a, b Value[T]) bool {
	return a.Ref != "" && a.Ref == b.Ref && a.Attr != "" && a.Attr == b.Attr
}

// Absent says that the document does not have it.
func (v Value[T]) Absent() bool { return v.Is == Absent }

// Known says that it is there and known.
func (v Value[T]) Known() bool { return v.Is == Known }

// The kinds of value.
type (
	// Text is a string.
	Text = Value[string]
	// Bool is a truth.
	Bool = Value[bool]
	// Number is a whole number.
	Number = Value[int64]
	// Texts is a list of strings, of which some may be unknown.
	Texts = Value[[]Text]
)

// KnownText is a text with its place.
func KnownText(s string, at Span) Text { return Text{V: s, Is: Known, At: at} }

// IsTrue says that it is known to be true.
func IsTrue(b Bool) bool { return b.Known() && b.V }

// IsFalse says that it is known to be false.
func IsFalse(b Bool) bool { return b.Known() && !b.V }

// Is says that a text is known and one of these, in any case.
func Is(t Text, any ...string) bool {
	if !t.Known() {
		return false
	}
	for _, a := range any {
		if strings.EqualFold(t.V, a) {
			return true
		}
	}
	return false
}

// Origin says by what kind of document something is described.
type Origin uint8

// The origins.
const (
	ECS       Origin = iota // in the words of ECS's interface, whatever the format
	Compose                 // for an engine, or a Swarm
	BuildFile               // a Dockerfile
	Built                   // an image
	Engine                  // a container of an engine, or one that it is asked for
)

// Document is what one file, or one Terraform module with what it calls,
// describes.
type Document struct {
	Tasks    []Task
	Services []Service
	Clusters []Cluster
	Roles    []Role
	Builds   []Build
	// Repositories are those for images.
	Repositories []Repository
}

// Resource is what all nouns have: a name, as their document has it, and a place.
type Resource struct {
	Name string
	At   Span
	// Module is the Terraform module within which references to it are.
	Module string
}

// Task is a task definition, or a service of a compose file as one of its own.
type Task struct {
	Resource
	Key           string // as the Ref of a value that is of it
	Origin        Origin
	Family        Text
	Network       Text // host, bridge, awsvpc, none, …
	PID, IPC      Text
	Compatible    Texts // FARGATE, EC2, EXTERNAL
	OS            Text  // operatingSystemFamily
	CPU, Memory   Text
	TaskRole      Text
	ExecutionRole Text
	Containers    []Container
	Volumes       []Volume
	// Cut says in words what of it was left out because there is too much; empty:
	// nothing.
	Cut string
}

// OnlyFargate says that the task runs nowhere else.
func (t *Task) OnlyFargate() bool {
	return t.Compatible.Known() && len(t.Compatible.V) == 1 && Is(t.Compatible.V[0], "FARGATE")
}

// Windows says that its containers are Windows'.
func (t *Task) Windows() bool {
	return t.OS.Known() && strings.HasPrefix(strings.ToUpper(t.OS.V), "WINDOWS")
}

// Container is one container of a task.
type Container struct {
	Name                    Text
	At                      Span
	Image                   Text
	Built                   bool // its image is built here and has no name elsewhere
	Essential               Bool
	Privileged              Bool
	User                    Text
	ReadOnlyRoot            Bool
	CPU, Memory, SoftMemory Text
	AddCapabilities         Texts
	DropCapabilities        Texts
	Devices                 Texts // paths on the host
	Tmpfs                   []Tmpfs
	Init                    Bool
	Ulimits                 []Ulimit
	Environment             []Variable
	Secrets                 []Variable // the value is where it comes from
	EnvironmentUnknown      bool
	Command, Entrypoint     Texts
	Ports                   []Port
	Mounts                  []Mount
	Log                     Log
	SecurityOptions         Texts
	ExtraHosts              []Text
	Sysctls                 []Variable
	From                    Texts // containers whose volumes it gets
	UTS, UserNS, Cgroup     Text  // modes of its namespaces; of compose files alone, as what follows
	Parent, Runtime         Text
	PidsLimit               Number
	Health                  State // whether a health check is set
	HealthDisabled          bool
}

// Variable is a variable of the environment, or a secret that becomes one.
type Variable struct {
	Name  Text
	Value Text
	At    Span
}

// Port is a port that is mapped.
type Port struct {
	Container, Host Number
	At              Span
}

// Mount puts a volume or, in compose files, a path of the host into a container.
type Mount struct {
	Volume   Text // its name
	Host     Text // a path of the host
	Path     Text // in the container
	ReadOnly Bool
	// Propagation is of compose files.
	Propagation Text
	At          Span
}

// Log is where a container's output goes.
type Log struct {
	Is     State
	Driver Text
	Mode   Text // blocking or non-blocking
	At     Span
}

// Tmpfs is a file system in memory.
type Tmpfs struct {
	Path    Text
	Options Texts
	At      Span
}

// Ulimit is a limit of the kernel's.
type Ulimit struct {
	Name Text
	Hard Number
	At   Span
}

// Volume is a volume of a task.
type Volume struct {
	Name     Text
	HostPath Text
	Driver   Text
	Options  []Variable // of the driver
	EFS      *EFS       // nil: it is none
	At       Span
}

// EFS is a volume on Amazon EFS.
type EFS struct {
	TransitEncryption Text // ENABLED or DISABLED
	AccessPoint       Text
	IAM               Text // ENABLED or DISABLED
	At                Span
}

// Service is an ECS service, or a task set.
type Service struct {
	Resource
	Called          Text // its own name
	Cluster         Text
	TaskDefinition  Text
	TaskSet         bool
	LaunchType      Text
	Providers       Texts // capacity providers
	PublicIP        Bool
	PublicSubnets   []Text // the subnets of the service that give public addresses, by their names
	Exec            Bool
	Platform        Text
	Controller      Text // ECS, CODE_DEPLOY, EXTERNAL
	CircuitBreaker  Bool
	CircuitRollback Bool
	Scheduling      Text
}

// Cluster is an ECS cluster.
type Cluster struct {
	Resource
	Insights       Text // enabled, enhanced, disabled
	ExecLogging    Text // NONE, DEFAULT, OVERRIDE
	ExecEncryption Bool // of the log that ECS Exec is written to, where one is named
	ExecKey        Text // KMS key of the session
}

// Role is an IAM role that a task uses, or may use.
type Role struct {
	Resource
	Key        string    // as the Ref of a value that is of it; empty where ForTasks says all
	Ref        string    // the same, within its Module
	Open       bool      // it has policies that the document doesn't tell
	ForTasks   bool      // tasks may assume it
	Managed    []Text    // ARNs of policies that are attached
	Statements []Grant   // of its own policies, and of those of the document that are attached
	Denials    []Grant   // of the same
	Trust      []Grant   // who may assume it
	Boundary   *Boundary // what it may do at most; nil: it has none
}

// Boundary is the permissions boundary of a role.
type Boundary struct {
	Allows, Denials []Grant
	Open            bool // the document doesn't tell all of it
}

// Grant is a statement of a policy that allows or denies something.
type Grant struct {
	Actions      Texts
	NotActions   Texts
	Resources    Texts
	NotResources Texts
	Principals   Texts
	Conditions   bool
	Keys         []string // of its conditions, as far as they are known
	At           Span
}

// Repository is one of ECR, for images.
type Repository struct {
	Resource
	Called     Text
	Mutability Text // MUTABLE, IMMUTABLE, or one of these with exclusions
	ScanOnPush Bool
	Encryption Text // AES256, KMS, KMS_DSSE
	Key        Text // of KMS
	// Policy is who may pull and push, as JSON; of what is unknown in it that is known
	// which has ${…} for the rest.
	Policy Text
}

// Build is how an image is, or was, built: a stage of a Dockerfile that is not
// built upon, or an image's history and configuration.
type Build struct {
	Resource
	Origin  Origin
	Base    Text // what it is built from; absent for scratch
	Windows bool
	User    Text
	Health  State
	Steps   []Step
	Ports   []Text // as written: 22, 22/tcp
	Env     []Variable
	Files   []File
	// Packages are names of what is installed, with where each is known from.
	Packages []Installed
}

// Step is one instruction.
type Step struct {
	Word  string   // RUN, ADD, COPY, …; upper case
	Args  string   // as written, continued lines joined
	Flags []string // --mount=…, --from=…
	Image Text     // of FROM: what it names; absent for a stage of the same file and for scratch
	At    Span
	Layer int
	// Last says that it is of the stage that becomes the image.
	Last bool
}

// File is a noteworthy file of an image.
type File struct {
	Path  string
	Why   string // as inventory.Why
	Size  int64
	Owner string
	Layer int
	IsDir bool
}

// Installed is a package of an image.
type Installed struct {
	Name  string
	Layer int
}
