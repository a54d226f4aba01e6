package scan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/scan"
)

// ofEngine is a container in which the scanner finds nothing.
func ofEngine(change func(*admission.Container)) admission.Request {
	c := admission.Container{Name: "web", Image: admission.Image{Reference: "registry.example/shop/web:1"}, User: "1000", ReadOnlyRoot: true,
		CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}, MemoryBytes: 1 << 20, CPUUnits: 10, Command: []string{"serve", "--all"},
		Env: []admission.Variable{{Name: "MODE", Value: "prod"}}}
	if change != nil {
		change(&c)
	}
	return admission.Request{Door: admission.Docker, Action: admission.Run, Task: admission.Task{Containers: []admission.Container{c}}}
}

// TestContainersOfAnEngine shows that the scanner says of a container what it would
// of a task, and nothing of what only ECS has.
func TestContainersOfAnEngine(t *testing.T) {
	type c = admission.Container
	for _, tc := range []struct {
		name   string
		change func(*c)
		want   []string
	}{
		{"all well", nil, nil},
		{"privileged", func(x *c) { x.Privileged = true }, []string{"CAST-TASK-001"}},
		{"the host's network and processes", func(x *c) { x.Network, x.PID, x.IPC = "host", "host", "host" }, []string{"CAST-TASK-002", "CAST-TASK-003", "CAST-TASK-004"}},
		{"a capability", func(x *c) { x.CapAdd = []string{"SYS_ADMIN"} }, []string{"CAST-TASK-005"}},
		{"the engine's socket", func(x *c) {
			x.Mounts = []admission.Mount{{Kind: "bind", Source: "/var/run/docker.sock", Target: "/x"}}
		}, []string{"CAST-TASK-010"}},
		{"unconfined", func(x *c) { x.SecurityOpt = []string{"no-new-privileges", "seccomp=unconfined"} }, []string{"CAST-TASK-027"}},
		{"a device", func(x *c) { x.Devices = []string{"/dev/sda"} }, []string{"CAST-TASK-030"}},
		{"root", func(x *c) { x.User = "0" }, []string{"CAST-TASK-011"}},
		{"no limit", func(x *c) { x.MemoryBytes = 0 }, []string{"CAST-TASK-014"}},
		{"the tag latest", func(x *c) { x.Image.Reference = "web" }, []string{"CAST-TASK-019"}},
		{"a secret in a variable", func(x *c) {
			x.Env = append(x.Env, admission.Variable{Name: "DB_PASSWORD", Value: "hunter2hunter2X9"})
		}, []string{"CAST-TASK-016"}},
		{"a weak secret in a variable", func(x *c) {
			x.Env = append(x.Env, admission.Variable{Name: "DATABASE_URL", Value: "postgres://shop:teapot-and-mug@store:5432/shop"})
		}, []string{"CAST-TASK-016"}},
		{"a secret in a command", func(x *c) { x.Command = []string{"serve", "--password=hunter2hunter2X9"} }, []string{"CAST-TASK-017"}},
		{"a port of a shell", func(x *c) { x.Ports = []admission.Port{{Container: 22, Host: 22}} }, []string{"CAST-TASK-034"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := ofEngine(tc.change)
			scan.JudgeContainers(&r)
			var got []string
			for _, f := range r.Faults {
				got = append(got, f.Check)
				if f.Container != "web" && f.Container != "" || f.Fingerprint == "" {
					t.Errorf("fault %+v is not of the container, or can't be told from others", f)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || !r.FaultsKnown {
				t.Errorf("known %t, -want +got:\n%s", r.FaultsKnown, diff)
			}
			for _, v := range r.Task.Containers[0].Env {
				if v.Name != "MODE" && v.Value != "" {
					t.Errorf("the value of %s is left in", v.Name)
				}
			}
			if strings.Contains(strings.Join(r.Task.Containers[0].Command, " "), "hunter2") {
				t.Errorf("a secret is left in %q", r.Task.Containers[0].Command)
			}
		})
	}
}

// TestTooMuchOfAnEngine shows that what is too large is not known, and not kept.
func TestTooMuchOfAnEngine(t *testing.T) {
	r := ofEngine(func(c *admission.Container) { c.Env[0].Value = strings.Repeat("x", 3<<20) })
	scan.JudgeContainers(&r)
	if c := r.Task.Containers[0]; r.FaultsKnown || c.Env[0].Value != "" || len(c.Command) != 2 || c.Command[1] != "…" {
		t.Errorf("known %t, with %d bytes and %q left in", r.FaultsKnown, len(c.Env[0].Value), c.Command)
	}
	r = ofEngine(func(c *admission.Container) {
		c.Env = append(c.Env, admission.Variable{Name: "DB_PASSWORD", Value: "hunter2hunter2X9"})
	})
	r.Task.ARN = "arn:aws:ecs:eu-west-1:1:task/shop/1" // it may be by its secrets
	if scan.JudgeContainers(&r); len(r.Faults) != 0 || r.Task.Containers[0].Env[1].Value != "" {
		t.Errorf("faults of a task of ECS = %+v, with %q left in", r.Faults, r.Task.Containers[0].Env[1].Value)
	}
	r = admission.Request{Action: admission.Pull}
	if scan.JudgeContainers(&r); r.FaultsKnown {
		t.Error("a request without containers is judged")
	}
}
