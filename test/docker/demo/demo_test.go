// Package demo_test brings the demo up on a private Docker engine, attacks it
// with every script of demo/attacks, and takes it down. It holds what the demo
// promises: ECS labels, ordinary traffic, attacks that work, nothing left.
package demo_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/docker/engine"
)

const (
	root = "../../.." // of the source tree, where the demo is started

	upWithin     = 10 * time.Minute // with debootstrap on a busy machine
	attackWithin = 80 * time.Second // an attack gives up after 60
	orderWithin  = 2 * time.Minute  // for the client to order something
	cannotRun    = 2                // exit code of an attack that this machine can't show
)

// evidence says by which line each attack shows that it worked.
var evidence = map[string]string{
	"credentials":          `DATABASE_URL=postgres://.* pk_demo_`,
	"dns-tunnel":           `put three lines of /etc/passwd together`,
	"download-run":         `payload demo\w+ runs on [0-9a-f]{12} as uid 0`,
	"escape-mount":         `wrote to .*/scratch-demo\w+ on the host and read \d+ lines`,
	"escape-nsenter":       `in the host's namespaces, as uid 0`,
	"escape-release-agent": `as root of the host, in pid:\[\d+\]`,
	"escape-socket":        `started container [0-9a-f]{12} with SYS_ADMIN`,
	"flood-http":           `\d{3,} requests were answered`,
	"flood-syn":            `answered \d{3,} half-open connections`,
	"flood-udp":            `\d{3,} of \d+ datagrams arrived`,
	"fork-bomb":            `could not fork any more, \d+ times`,
	"inject-mem":           `every page now says: .*owned by a visitor`,
	"inject-preload":       `date ran the object's code`,
	"inject-ptrace":        `process 1 ran \d+ bytes of foreign code`,
	"memory-hog":           `exit code 137`,
	"metadata":             `ASIAI44QH8DHBEXAMPLE.*ASIAIOSFODNN7EXAMPLE`,
	"miner":                `the pool gave work; \d+ hashes`,
	"path-traversal":       `root:x:0:0`,
	"reverse-shell":        `shell from [0-9.]+ .*uid=0`,
	"scan":                 `open: .*:5432 .*:8081`,
	"shell-exec":           `a shell ran in the storefront as uid 0`,
	"shell-injection":      `answered with uid=0`,
	"sql-injection":        `stole 3 cards`,
	"xss":                  `<script>alert\('demo\w+'\)</script>`,
}

// A demo is the demo on an engine of its own.
type demo struct {
	engine  *engine.Engine
	env     []string
	program string
}

func TestDemo(t *testing.T) {
	e := engine.ForTest(t, engine.Options{Apart: true})
	d := &demo{engine: e, env: append(os.Environ(), "DOCKER_HOST="+e.Host()), program: filepath.Join(t.TempDir(), "demo")}
	build := exec.CommandContext(t.Context(), "sh", "-c", `go build -o "$1" ./demo && "$1" prepare`, "sh", d.program)
	build.Dir = root // but outside of the engine's namespace, from which no network is in reach
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("prepare the demo: %v\n%s", err, out)
	}
	// What is not the demo's must survive it.
	d.docker(t, "volume", "create", "not-the-demos")
	d.must(t, upWithin, d.program, "up")

	t.Run("labels", d.labels)
	t.Run("traffic", d.traffic)
	before := d.docker(t, "ps", "--quiet", "--no-trunc")
	t.Run("attacks", d.attacks)
	if after := d.docker(t, "ps", "--all", "--quiet", "--no-trunc"); after != before {
		t.Errorf("after the attacks other containers are there:\n%s", cmp.Diff(after, before))
	}
	t.Run("traffic after the attacks", d.traffic)
	t.Run("down", d.down)
	t.Run("port taken", d.portTaken)
}

// labels checks that every container of the shop says what the ECS agent would.
func (d *demo) labels(t *testing.T) {
	const format = `{{.Names}} {{.Label "com.amazonaws.ecs.cluster"}} {{.Label "com.amazonaws.ecs.task-arn"}} ` +
		`{{.Label "com.amazonaws.ecs.task-definition-family"}} {{.Label "com.amazonaws.ecs.task-definition-version"}} ` +
		`{{.Label "com.amazonaws.ecs.container-name"}}`
	line := regexp.MustCompile(`^ecs-(\w+)-(\d+)-(\w+)-[0-9a-f]{20} shop (arn:aws:ecs:eu-central-1:123456789012:task/shop/[0-9a-f]{32}) (\w+) (\d+) (\w+)$`)
	got, tasks := map[string]string{}, map[string]string{}
	for _, text := range strings.Split(d.docker(t, "ps", "--filter", "label=com.amazonaws.ecs.cluster", "--format", format), "\n") {
		m := line.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("got %q, want the name and labels that ECS gives", text)
			continue
		}
		if m[1] != m[5] || m[2] != m[6] || m[3] != m[7] {
			t.Errorf("name and labels differ in %q", text)
		}
		got[m[7]], tasks[m[7]] = m[5]+":"+m[6], m[4]
	}
	want := map[string]string{"storefront": "storefront:3", "api": "orders:7", "worker": "orders:7", "store": "store:2", "client": "client:1"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got (-) and want (+) differ:\n%s", diff)
	}
	if tasks["api"] != tasks["worker"] || tasks["api"] == tasks["store"] {
		t.Errorf("got tasks %v, want api and worker in one, and store in another", tasks)
	}
}

// traffic waits until the worker writes another invoice: the client has ordered
// something and everything in between has worked.
func (d *demo) traffic(t *testing.T) {
	worker := d.docker(t, "ps", "--quiet", "--filter", "label=com.amazonaws.ecs.container-name=worker")
	invoices := func() int { return strings.Count(d.docker(t, "logs", worker), "msg=invoiced") }
	ctx, cancel := context.WithTimeout(t.Context(), orderWithin)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for before := invoices(); invoices() == before; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("no order within %v", orderWithin)
		}
	}
}

func (d *demo) attacks(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(root, "demo/attacks/*.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) != len(evidence)+1 {
		t.Errorf("got %d scripts, want %d attacks and lib.sh", len(scripts), len(evidence))
	}
	says := regexp.MustCompile(`^#!/usr/bin/env bash\n# [A-Z].*\. MITRE ATT&CK T\d{4}.*\n`)
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".sh")
		if name == "lib" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(script)
			if err != nil || !says.Match(text) {
				t.Errorf("the script does not begin with what it does and its technique, error %v", err)
			}
			want, ok := evidence[name]
			if !ok {
				t.Fatal("add the attack to evidence")
			}
			out, code := d.run(t, attackWithin, "bash", "demo/attacks/"+name+".sh")
			t.Log(out)
			if code == cannotRun {
				t.SkipNow()
			}
			if code != 0 || !regexp.MustCompile(`(?s)^worked: .*`+want).MatchString(out) {
				t.Errorf("got exit code %d and %q, want 0 and evidence %q", code, out, want)
			}
		})
	}
}

// portTaken occupies the storefront's port before the demo can.
func (d *demo) portTaken(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	line := d.engine.Inside("perl", "-MIO::Socket::INET", "-e",
		`$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:8680") or die; $| = 1; print "taken\n"; sleep 600`)
	other := exec.CommandContext(ctx, line[0], line[1:]...)
	said, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the port could not be taken: %v", err)
	}
	out, code := d.run(t, upWithin, d.program, "up")
	if code != 1 || !strings.Contains(out, "choose another: go run ./demo -port 8681 up") {
		t.Errorf("got exit code %d and %q, want 1 and another port proposed", code, out)
	}
	cancel()
	_ = other.Wait() // it was killed
}

func (d *demo) down(t *testing.T) {
	d.must(t, upWithin, d.program, "down")
	for list, want := range map[string]string{
		"ps --all --quiet":              "",
		"image ls --all --quiet":        "",
		"volume ls --quiet":             "not-the-demos",
		"network ls --format {{.Name}}": "host\nnone", // the engine has no bridge
	} {
		if got := d.docker(t, strings.Fields(list)...); got != want {
			t.Errorf("docker %s: got %q, want %q", list, got, want)
		}
	}
	out, code := d.run(t, attackWithin, "bash", "demo/attacks/shell-exec.sh")
	if code != cannotRun || !strings.Contains(out, "make demo") {
		t.Errorf("got exit code %d and %q of an attack without the demo, want %d", code, out, cannotRun)
	}
}

// run runs a command in the source tree and in the engine's namespace, and returns its output and exit code.
func (d *demo) run(t *testing.T, within time.Duration, name string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	line := d.engine.Inside(append([]string{name}, args...)...)
	command := exec.CommandContext(ctx, line[0], line[1:]...)
	command.Dir, command.Env, command.WaitDelay = root, d.env, 10*time.Second
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", name, err)
	}
	return string(bytes.TrimSpace(out)), command.ProcessState.ExitCode()
}

func (d *demo) must(t *testing.T, within time.Duration, name string, args ...string) string {
	t.Helper()
	out, code := d.run(t, within, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d: %s", name, strings.Join(args, " "), code, out)
	}
	return out
}

func (d *demo) docker(t *testing.T, args ...string) string {
	t.Helper()
	return d.must(t, time.Minute, "docker", args...)
}
