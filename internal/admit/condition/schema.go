package condition

import (
	"path"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/finding"
)

// structs is the schema's types: one line a field, with what it means.
func structs() []*Struct {
	return slices.Concat(
		[]*Struct{callerStruct(), placeStruct(), processStruct(), callStruct(), taskStruct(), containerStruct(), imageStruct()},
		partStructs(), factStructs(), grantStructs(),
	)
}

// field makes a Field of a function on the noun.
func field[T any](name, typ, doc string, get func(*T) any) Field {
	return Field{Name: name, Type: typ, Doc: doc, get: func(o *Object) any { return get(of[T](o)) }}
}

// text, flag and number are fields of the common types.
func text[T any](name, doc string, get func(*T) string) Field {
	return field(name, "string", doc, func(v *T) any { return types.String(get(v)) })
}

func flag[T any](name, doc string, get func(*T) bool) Field {
	return field(name, "bool", doc, func(v *T) any { return types.Bool(get(v)) })
}

func number[T any](name, doc string, get func(*T) int64) Field {
	return field(name, "int", doc, func(v *T) any { return types.Int(get(v)) })
}

func words[T any](name, doc string, get func(*T) []string) Field {
	return field(name, "list(string)", doc, func(v *T) any { return texts(get(v)) })
}

// parts is a field with objects in it.
func parts[T, P any](name, kind, doc string, get func(*T) []P) Field {
	return Field{Name: name, Type: "list(" + kind + ")", Doc: doc, get: func(o *Object) any {
		return listed(children(o, kind, name, get(of[T](o))))
	}}
}

func callerStruct() *Struct {
	type T = admission.Caller
	return &Struct{Name: "Caller", Doc: "Who asks, as the door knows it.", Fields: []Field{
		text("name", "subject of a client certificate, ARN of a principal, branch of a build; empty if nobody tells", func(v *T) string { return v.Name }),
		text("method", "how the name is known: TLS, IAM", func(v *T) string { return v.Method }),
		flag("agent", "it is the ECS agent", func(v *T) bool { return v.Agent }),
	}}
}

func placeStruct() *Struct {
	type T = admission.Place
	return &Struct{Name: "Place", Doc: "Where it shall run. What is empty is not known or doesn't apply.", Fields: []Field{
		text("account", "number of the AWS account", func(v *T) string { return v.Account }),
		text("region", "AWS region", func(v *T) string { return v.Region }),
		text("cluster", "name of the ECS cluster", func(v *T) string { return v.Cluster }),
		text("service", "name of the ECS service", func(v *T) string { return v.Service }),
		text("host", "id of the agent on the host", func(v *T) string { return v.Host }),
		text("file", "file that describes it (CI alone)", func(v *T) string { return v.File }),
	}}
}

func processStruct() *Struct {
	type T = admission.Process
	return &Struct{Name: "Process", Doc: "What is to be started in a container that runs (action exec).", Fields: []Field{
		words("command", "the command, a word each", func(v *T) []string { return v.Command }),
		text("user", "as whom; empty: as the container's user", func(v *T) string { return v.User }),
		flag("privileged", "with all capabilities", func(v *T) bool { return v.Privileged }),
		flag("tty", "with a terminal", func(v *T) bool { return v.TTY }),
		text("working_dir", "in which folder", func(v *T) string { return v.WorkingDir }),
		words("env", "names of variables that it gets", func(v *T) []string { return v.Env }),
		{Name: "root", Type: "bool", Doc: "it runs as root, as told or as the container's user", get: func(o *Object) any {
			return processRoot(o.view, of[T](o).User)
		}},
	}}
}

func callStruct() *Struct {
	type T = admission.Call
	return &Struct{Name: "Call", Doc: "The call of Docker's interface (door docker).", Fields: []Field{
		text("method", "GET, POST, …", func(v *T) string { return v.Method }),
		text("path", "without the version: /containers/create", func(v *T) string { return v.Path }),
		text("name", `what it does: "container create", "plugin install", "unknown"`, func(v *T) string { return v.Name }),
		text("what", "name or id of what it is about", func(v *T) string { return v.What }),
		field("options", "map(string, string)", "what is asked for beyond that, by the names of Docker's interface", func(v *T) any { return textMap(v.Options) }),
	}}
}

func taskStruct() *Struct {
	type T = admission.Task
	return &Struct{Name: "Task", Doc: "What shall run: a task definition, or one container as a task of its own.", Fields: []Field{
		text("family", "of the task definition", func(v *T) string { return v.Family }),
		text("revision", "of the task definition", func(v *T) string { return v.Revision }),
		text("arn", "of the task or its definition", func(v *T) string { return v.ARN }),
		text("launch", "EC2, FARGATE or EXTERNAL", func(v *T) string { return strings.ToUpper(v.Launch) }),
		text("network", "mode of its network: host, bridge, awsvpc, none; at the engine host, too, if its container shares that of one in the host's", func(v *T) string { return v.Network }),
		text("pid", "mode of its process namespace: host, task, or empty", func(v *T) string { return v.PID }),
		text("ipc", "mode of its IPC namespace: host, task, none, or empty", func(v *T) string { return v.IPC }),
		parts("roles", "Role", "the IAM roles that it gets", func(v *T) []admission.Role { return v.Roles }),
		{Name: "containers", Type: "list(Container)", Doc: "its containers", get: func(o *Object) any { return listed(o.view.containers) }},
		parts("volumes", "Volume", "its volumes", func(v *T) []admission.Volume { return v.Volumes }),
		flag("exec", "ECS Exec is enabled", func(v *T) bool { return v.Exec }),
		flag("public_ip", "its interfaces get public addresses", func(v *T) bool { return v.PublicIP }),
		number("count", "how many of it shall run, 0 if nobody tells", func(v *T) int64 { return int64(v.Count) }),
	}}
}

func containerStruct() *Struct {
	type T = container
	return &Struct{Name: "Container", Doc: "One container of a task.", Fields: slices.Concat([]Field{
		text("name", "", func(v *T) string { return v.Name }),
		{Name: "image", Type: "Image", Doc: "its image, with what is known of it", get: func(o *Object) any { return of[T](o).image }},
		flag("essential", "the task ends with it", func(v *T) bool { return v.Essential }),
		flag("privileged", "it has all rights on the host", func(v *T) bool { return v.Privileged }),
		text("user", "as configured; empty: the image's", func(v *T) string { return v.User }),
		{Name: "root", Type: "bool", Doc: "it runs as root, by its configuration or else its image's: as a user without a number other than 0; unknown of a name until the image's users are known", get: runsAsRoot},
		flag("read_only_root", "its root file system can't be written", func(v *T) bool { return v.ReadOnlyRoot }),
		words("entrypoint", "", func(v *T) []string { return v.Entrypoint }),
		words("command", "", func(v *T) []string { return v.Command }),
		words("cap_add", "capabilities added, as SYS_ADMIN", func(v *T) []string { return capabilities(v.CapAdd) }),
		words("cap_drop", "capabilities dropped, as NET_RAW or ALL", func(v *T) []string { return capabilities(v.CapDrop) }),
		words("security_opt", "as the engine takes them: seccomp=unconfined", func(v *T) []string { return v.SecurityOpt }),
		words("devices", "paths on the host", func(v *T) []string { return v.Devices }),
		parts("mounts", "Mount", "what is put into it", func(v *T) []admission.Mount { return v.Mounts }),
		parts("ports", "Port", "ports that are open to others", func(v *T) []admission.Port { return v.Ports }),
		parts("env", "Variable", "its variables; values that look like secrets are left out", func(v *T) []admission.Variable { return v.Env }),
		parts("secrets", "Variable", "its secrets; the value is where each comes from", func(v *T) []admission.Variable { return v.Secrets }),
	}, containerLimits())}
}

func containerLimits() []Field {
	type T = container
	return []Field{
		field("labels", "map(string, string)", "", func(v *T) any { return textMap(v.Labels) }),
		field("sysctls", "map(string, string)", "", func(v *T) any { return textMap(v.Sysctls) }),
		field("ulimits", "map(string, int)", "hard limits by name", func(v *T) any { return types.DefaultTypeAdapter.NativeToValue(v.Ulimits) }),
		number("memory_bytes", "limit of its memory, 0: none", func(v *T) int64 { return v.MemoryBytes }),
		number("cpu_units", "1024 are one processor, 0: no limit", func(v *T) int64 { return v.CPUUnits }),
		number("pids_limit", "how many processes, 0 or less: no limit", func(v *T) int64 { return v.PidsLimit }),
		text("network", "mode of its network, as the engine writes it: host, container:ID; empty: the task's", func(v *T) string { return v.Network }),
		text("pid", "mode of its process namespace; empty: its own", func(v *T) string { return v.PID }),
		text("ipc", "mode of its IPC namespace; empty: its own", func(v *T) string { return v.IPC }),
		text("uts", "mode of its UTS namespace; empty: its own", func(v *T) string { return v.UTS }),
		text("userns", "mode of its user namespace; empty: the engine's", func(v *T) string { return v.UserNS }),
		text("cgroup", "mode of its cgroup namespace; empty: the engine's", func(v *T) string { return v.Cgroup }),
		text("cgroup_parent", "cgroup that it is put under; empty: the engine's", func(v *T) string { return v.Parent }),
		text("runtime", "runtime that starts it; empty: the engine's", func(v *T) string { return v.Runtime }),
		text("log", "driver of its log", func(v *T) string { return v.Log }),
		flag("health", "it has a health check", func(v *T) bool { return v.Health }),
		words("volumes_from", "containers whose volumes it gets", func(v *T) []string { return v.From }),
	}
}

// capabilities are in upper case without CAP_, however they came.
func capabilities(all []string) []string {
	tidy := func(s string) string { return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "CAP_") }
	if !slices.ContainsFunc(all, func(s string) bool { return tidy(s) != s }) {
		return all
	}
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = tidy(s)
	}
	return out
}

func partStructs() []*Struct {
	return []*Struct{
		{Name: "Mount", Doc: "Something that is put into a container.", Fields: []Field{
			text("kind", "bind, volume, tmpfs or image", func(v *admission.Mount) string { return v.Kind }),
			text("source", "path on the host, or the volume's name", func(v *admission.Mount) string { return v.Source }),
			text("target", "path in the container", func(v *admission.Mount) string { return v.Target }),
			flag("read_only", "", func(v *admission.Mount) bool { return v.ReadOnly }),
			text("propagation", "of binds: rprivate, rshared, …", func(v *admission.Mount) string { return v.Propagation }),
		}},
		{Name: "Volume", Doc: "A volume of a task, or of an engine.", Fields: []Field{
			text("name", "", func(v *admission.Volume) string { return v.Name }),
			text("host", "path on the host; empty: none", func(v *admission.Volume) string { return v.Host }),
			text("driver", "", func(v *admission.Volume) string { return v.Driver }),
			field("options", "map(string, string)", "of the driver", func(v *admission.Volume) any { return textMap(v.Options) }),
		}},
		{Name: "Port", Doc: "A port that is open to others.", Fields: []Field{
			number("container", "in the container", func(v *admission.Port) int64 { return int64(v.Container) }),
			number("host", "on the host, 0: whichever is free, or none", func(v *admission.Port) int64 { return int64(v.Host) }),
			text("address", "of the host; empty: all", func(v *admission.Port) string { return v.Address }),
			text("protocol", "tcp, udp or sctp", func(v *admission.Port) string { return v.Protocol }),
		}},
		{Name: "Variable", Doc: "A variable of the environment.", Fields: []Field{
			text("name", "", func(v *admission.Variable) string { return v.Name }),
			text("value", "", func(v *admission.Variable) string { return v.Value }),
		}},
		{Name: "Fault", Doc: "What the scanner says of a task, its service or its cluster (castellan scan checks lists all).", Fields: []Field{
			text("check", "id of the check: CAST-TASK-001", func(v *finding.Misconfiguration) string { return v.Check }),
			text("title", "", func(v *finding.Misconfiguration) string { return v.Title }),
			field("severity", "severity", "", func(v *finding.Misconfiguration) any { return severity(v.Severity) }),
			text("container", "name of the container, empty: the whole task", func(v *finding.Misconfiguration) string { return v.Container }),
			text("resource", "as its document names it", func(v *finding.Misconfiguration) string { return v.Resource }),
			text("subject", "what of it is meant: a variable, a path, a port", func(v *finding.Misconfiguration) string { return v.Subject }),
			text("evidence", "what is there, in words", func(v *finding.Misconfiguration) string { return v.Evidence }),
			text("remedy", "", func(v *finding.Misconfiguration) string { return v.Remedy }),
			flag("accepted", "somebody decided to live with it", func(v *finding.Misconfiguration) bool { return v.Accepted != nil }),
		}},
	}
}

func imageStruct() *Struct {
	asked := func(f Field) Field { f.asked = true; return f }
	word := func(name, doc string, get func(*Image) string) Field { return asked(text(name, doc, get)) }
	beside := func(f Field) Field { f.request = true; return f }
	scanned := func(name, typ, doc string, get func(*Object, *admission.Scan) any) Field {
		return Field{Name: name, Type: typ, Doc: doc + "; unknown unless scanned", get: func(o *Object) any {
			if v := of[Image](o); v.scan == nil {
				return get(o, &v.Facts.Scan)
			}
			return of[Image](o).scan
		}}
	}
	found := func(name, doc string, get func(*admission.Scan) []admission.Found) Field {
		return scanned(name, "list(Found)", doc, func(o *Object, s *admission.Scan) any { return listed(children(o, "Found", name, get(s))) })
	}
	return &Struct{Name: "Image", facts: true, Doc: "An image as it was asked for, and what is known of it.", Fields: []Field{
		word("reference", "as written", func(v *Image) string { return v.Reference }),
		word("registry", "its host, docker.io if none is written", func(v *Image) string { return v.Registry }),
		word("repository", "without the registry", func(v *Image) string { return v.Repository }),
		word("tag", "", func(v *Image) string { return v.Tag }),
		word("digest", "the registry's; empty if it is not known", func(v *Image) string { return v.Digest }),
		asked(flag("pinned", "the reference itself names the digest", func(v *Image) bool { return v.Pinned })),
		word("id", "the engine's", func(v *Image) string { return v.ID }),
		beside(words("containers", "names of the containers that run it", func(v *Image) []string { return v.Containers })),
		flag("scanned", "it has been scanned; never unknown", func(v *Image) bool { return v.scan == nil }),
		flag("verified", "its signatures have been verified, whatever the result; never unknown", func(v *Image) bool { return v.trust == nil }),
		scanned("scan", "Scan", "how it was scanned", func(o *Object, s *admission.Scan) any { return o.child("Scan", "scan", s) }),
		scanned("vulnerabilities", "list(Vulnerability)", "its known vulnerabilities", func(o *Object, s *admission.Scan) any {
			return listed(children(o, "Vulnerability", "vulnerabilities", s.Vulnerabilities))
		}),
		found("secrets", "secrets in it", func(s *admission.Scan) []admission.Found { return s.Secrets }),
		found("malware", "malware in it", func(s *admission.Scan) []admission.Found { return s.Malware }),
		found("faults", "what is set wrongly in it", func(s *admission.Scan) []admission.Found { return s.Faults }),
		{Name: "trust", Type: "Trust", Doc: "who vouched for it; unknown unless verified", get: func(o *Object) any {
			if v := of[Image](o); v.trust == nil {
				return o.child("Trust", "trust", &v.Facts.Trust)
			}
			return of[Image](o).trust
		}},
		scanned("created", "timestamp", "when it was built, as it says itself", func(o *Object, _ *admission.Scan) any {
			return moment(o, "image.created", of[Image](o).Facts.Created)
		}),
		scanned("user", "string", "as whom it runs, as it says itself", func(o *Object, _ *admission.Scan) any { return types.String(of[Image](o).Facts.User) }),
		{Name: "users", Type: "list(string)", Doc: "the names in its /etc/passwd with a number other than 0; unknown unless scanned", get: func(o *Object) any {
			return named(o, func(u *admission.Users) []string { return u.Others })
		}},
		{Name: "root_users", Type: "list(string)", Doc: "the names in its /etc/passwd with the number 0, as root; unknown unless scanned", get: func(o *Object) any {
			return named(o, func(u *admission.Users) []string { return u.Root })
		}},
		scanned("owners", "list(string)", "who is responsible for it", func(o *Object, _ *admission.Scan) any { return texts(of[Image](o).Facts.Owners) }),
		scanned("labels", "map(string, string)", "its labels", func(o *Object, _ *admission.Scan) any { return textMap(of[Image](o).Facts.Labels) }),
	}}
}

// moment is a time that may not be known.
func moment(o *Object, what string, t time.Time) any {
	if t.IsZero() {
		return o.view.miss(Missing{What: what, State: admission.Failed, Text: what + " is not known", Remedy: "leave the rule's limit of time out, or say unknown: warn"})
	}
	return types.Timestamp{Time: t}
}

// under says whether a path is a folder or lies in it, whatever dots and slashes
// it is written with.
func under(p, folder string) bool {
	p, folder = path.Clean("/"+p), path.Clean("/"+folder)
	return p == folder || folder == "/" || strings.HasPrefix(p, folder+"/")
}
