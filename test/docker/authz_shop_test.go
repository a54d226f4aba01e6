package docker_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// shopPolicy is what a platform engineer has after a while in the mode audit: what
// the shop's own containers need, and nothing beyond. The stand-in for AWS's
// metadata, which on AWS is no container, has exceptions.
const shopPolicy = `version: 1
mode: MODE
rules:
  - use: privileged
  - use: host-network
  - use: host-namespaces
  - use: dangerous-mounts
  - use: host-mounts
  - use: volume-of-the-host
  - use: shared-mounts
  - use: devices
  - use: capabilities
  - use: unconfined
  - use: memory-limit
  - use: pids-limit
  - use: host-ports
  - use: privileged-ports
  - use: cgroup-parent
  - use: runtime
  - use: sysctls
  - use: exec
  - use: exec-privileged
  - use: copy
  - use: change
  - use: load
  - use: build
  - use: plugins
  - use: swarm
  - use: unknown-call
  - use: engine-changes
  - use: not-scanned
  - use: scan-incomplete
  - use: malware
  - use: exploited-vulnerabilities
  - use: task-faults
  - use: secrets-in-environment
exceptions:
  - rules: [capabilities, task-faults]
    container: castellan-demo-metadata
    owner: team-shop@example.com
    reason: it stands in for the metadata of AWS, and sets addresses of the network
    expires: 2099-01-31
  - rules: [capabilities, host-namespaces, memory-limit, pids-limit, task-faults]
    container: castellan-demo-route
    owner: team-shop@example.com
    reason: it leads the storefront to that stand-in
    expires: 2099-01-31
`

// shopUnder is the demo's shop on an engine under the agent's own plugin.
type shopUnder struct {
	t      *testing.T
	engine *engine.Engine
	agent  *castellan
	demo   string // the program
	policy string // its file
}

// mode writes the policy in a mode.
func (s *shopUnder) mode(mode string) {
	s.t.Helper()
	if err := os.WriteFile(s.policy+".new", []byte(strings.Replace(shopPolicy, "MODE", mode, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.policy+".new", s.policy); err != nil {
		s.t.Fatal(err)
	}
}

// runs runs a command in the source tree and in the engine's network.
func (s *shopUnder) runs(within time.Duration, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	line := s.engine.Inside(command...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Dir, c.Env, c.WaitDelay = "../..", append(os.Environ(), "DOCKER_HOST="+s.engine.Host()), 10*time.Second
	out, err := c.CombinedOutput()
	return string(out), err
}

func (s *shopUnder) docker(args ...string) (string, error) {
	return s.runs(patience, append([]string{"docker"}, args...)...)
}

// deployed builds the agent and the demo, and deploys it in the mode audit.
func deployed(t *testing.T) *shopUnder {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: an engine looks for plugins in a folder of root's")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("no docker command here")
	}
	dir := t.TempDir()
	s := &shopUnder{t: t, demo: filepath.Join(dir, "demo"), policy: filepath.Join(dir, "policy.yaml")}
	prepare := exec.CommandContext(t.Context(), "sh", "-c", `go build -o "$1" ./demo && "$1" prepare`, "sh", s.demo)
	prepare.Dir, prepare.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("prepare the demo: %v\n%s", err, out)
	}
	s.mode("audit")
	name, socket := pluginSocket(t)
	host := filepath.Join(dir, "d.sock")
	s.agent = &castellan{t: t, socket: socket, args: []string{build(t), "up", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0",
		"--docker-host", "unix://" + host, "--sensor-off", strings.Join(bpf.Names(), ","), "--verify-images=false",
		"--admission-plugin", "--admission-policy", s.policy, "--admission-socket", socket}}
	s.agent.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("castellan wrote:\n%s", s.agent.output)
		}
		s.agent.kill()
	})
	// Without the proxy, which another version of the engine does not start.
	s.engine = start(t, engine.Options{Apart: true, Settings: map[string]any{"authorization-plugins": []string{name}, "userland-proxy": false}})
	if err := os.Symlink(strings.TrimPrefix(s.engine.Host(), "unix://"), host); err != nil {
		t.Fatal(err)
	}
	vulnerable, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	vulnerable.Reference = "shop/vulnerable:1"
	vulnerable.Files = append(vulnerable.Files, engine.File{Path: "/usr/lib/python3.9/site-packages/salt-2019.2.0.dist-info/METADATA", Mode: 0o644,
		Body: []byte("Metadata-Version: 2.1\nName: salt\nVersion: 2019.2.0\n")})
	if err := s.engine.Load(t.Context(), vulnerable); err != nil {
		t.Fatal(err)
	}
	// What has run is scanned.
	if out, err := s.docker("run", "--detach", "--network=none", vulnerable.Reference, "sleep", "3600"); err != nil {
		t.Fatalf("docker run: %v\n%s", err, out)
	}
	if out, err := s.runs(3*time.Minute, s.demo, "up"); err != nil {
		t.Fatalf("demo up, audited: %v\n%s", err, out)
	}
	return s
}

// scanned waits until it is known of an image what is in it: until then a container
// of it is refused for that, or waited with.
func (s *shopUnder) scanned(image string) {
	s.t.Helper()
	end := time.Now().Add(2 * patience)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		out, err := s.docker(s.variant("create", image)...)
		if err == nil || !strings.Contains(out, "scanned") {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s is not scanned: %s", image, out)
		}
	}
}

// variant is a container of the shop as its policy wants it, with more.
func (s *shopUnder) variant(command, image string, more ...string) []string {
	args := []string{command, "--pull=never", "--label=castellan.demo=shop", "--network=none", "--memory=64m", "--pids-limit=64", "--user=1000",
		"--cap-drop=ALL", "--security-opt=no-new-privileges", "--label=com.amazonaws.ecs.cluster=shop", "--label=com.amazonaws.ecs.task-definition-family=orders",
		"--label=com.amazonaws.ecs.container-name=api"}
	return append(append(args, more...), image)
}

// TestShopUnderThePlugin deploys the demo's shop through the plugin of the real
// agent: all of it starts and serves under a policy that is enforced, changed
// variants of it are refused, and so are the attacks that need the engine.
func TestShopUnderThePlugin(t *testing.T) {
	s := deployed(t)
	s.mode("enforce")
	const storefront, api = "castellan-demo/storefront:3", "castellan-demo/api:7"
	images := []string{storefront, api, "castellan-demo/worker:7", "castellan-demo/store:2", "castellan-demo/client:1", "castellan-demo/metadata:1", "castellan-demo/evil:1", "shop/vulnerable:1"}
	for _, image := range images {
		s.scanned(image)
	}
	t.Run("all of it starts and serves", func(t *testing.T) {
		out, err := s.runs(3*time.Minute, s.demo, "up") // takes an order, and waits for its invoice
		if err != nil {
			t.Fatalf("demo up, enforced: %v\n%s", err, out)
		}
		if running, err := s.docker("ps", "--quiet", "--filter", "label=castellan.demo=shop"); err != nil || len(strings.Fields(running)) != 7 {
			t.Errorf("containers of the shop = %q, %v, want seven", running, err)
		}
	})
	t.Run("changed variants are refused", func(t *testing.T) { s.variants(t, api) })
	for name, why := range map[string]string{
		"shell-exec": "exec: ", "escape-mount": "dangerous-mounts: ", "escape-nsenter": "privileged: ",
		"escape-socket": "Socket of the container engine is mounted", "escape-release-agent": "privileged: ",
	} {
		t.Run("attack "+name, func(t *testing.T) {
			out, err := s.runs(80*time.Second, "bash", "demo/attacks/"+name+".sh")
			if err == nil || !strings.HasPrefix(out, "stopped: ") || !strings.Contains(out, "authorization denied by plugin castellan") || !strings.Contains(out, why) {
				t.Errorf("%v: %s, want it stopped by %q", err, out, why)
			}
		})
	}
}

// variants runs a service of the shop in ways that the policy refuses.
func (s *shopUnder) variants(t *testing.T, image string) {
	if out, err := s.docker(s.variant("create", image)...); err != nil {
		t.Fatalf("without a change: %v\n%s", err, out)
	}
	unscanned, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	s.mode("audit") // to load an image that nobody has looked at
	unscanned.Reference, unscanned.Labels = "castellan-demo/api:8", map[string]string{"new": "yes"}
	if err := s.engine.Load(t.Context(), unscanned); err != nil {
		t.Fatal(err)
	}
	s.mode("enforce")
	for _, tc := range []struct {
		name, image string
		more        []string
		want        string
	}{
		{"privileged", image, []string{"--privileged"}, "privileged: api runs privileged"},
		{"with a folder of the host", image, []string{"--volume=/srv:/srv"}, "host-mounts: api gets /srv of the host"},
		{"with the engine's socket", image, []string{"--volume=/var/run/docker.sock:/x"}, "dangerous-mounts: api gets /var/run/docker.sock"},
		{"with a device", image, []string{"--device=/dev/null"}, "devices: "},
		{"with the host's processes", image, []string{"--pid=host"}, "host-namespaces: "},
		{"without limits", image, []string{"--memory=0"}, "memory-limit: api has no limit of memory"},
		{"with a password in its command", image, []string{"--entrypoint=/bin/api"}, ""},
		{"of an image with a vulnerability", "shop/vulnerable:1", nil, "exploited-vulnerabilities: shop/vulnerable:1 has CVE-"},
		{"of an image that nobody has scanned", "castellan-demo/api:8", nil, "castellan-demo/api:8 has not been scanned"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := s.variant("run", tc.image, append(tc.more, "--name=changed")...)
			if tc.want == "" {
				args, tc.want = append(args, "--password=hunter2hunter2X9"), "secrets-in-environment: api: "
			}
			out, err := s.docker(args...)
			if err == nil || !strings.Contains(out, "authorization denied by plugin castellan") || !strings.Contains(out, tc.want) {
				t.Errorf("docker run = %v, %s, want it denied by %q", err, out, tc.want)
			}
			if left, _ := s.docker("ps", "--all", "--quiet", "--filter", "name=changed"); strings.TrimSpace(left) != "" {
				t.Errorf("there is a container: %s", left)
			}
		})
	}
}
