package docker_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/intake"
	"github.com/castellan-security/castellan/internal/server/live"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// town is containers in every mode of networking, on an engine that has a
// network namespace to itself, which is the host's to them; beyond it is a
// machine that is nobody's.
type town struct {
	*inbox
	engine  *engine.Engine
	program string            // talk, for the host
	ids     map[string]string // by name of a container
	names   map[string]string // the other way round
	beyond  string            // the process that holds the network of the machine beyond
}

// Addresses of the town's host, and of who is beyond. The host gets its own
// after the agent has started.
const (
	hostAddr   = "10.99.0.1"
	hostSix    = "fd99::1"
	beyondAddr = "10.99.0.2"
	gateway    = "172.30.0.1" // of the network "town"
)

// Speakers that are no containers.
const (
	host   = "host"
	beyond = "beyond"
)

// found founds a town without containers.
func found(t *testing.T, settings map[string]any, sensing asset.AgentSettings) *town {
	t.Helper()
	n := &town{
		ids: map[string]string{}, names: map[string]string{},
		inbox: &inbox{changed: make(chan struct{}), workloads: map[string]asset.Workload{}, sensing: sensing},
	}
	n.engine = engine.ForTest(t, engine.Options{Apart: true, Bridge: true, Settings: settings})
	var image engine.Image
	image, n.program = talkImage(t)
	if err := n.engine.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	n.serve(t)
	n.guard(t, n.engine)
	n.network(t, "town", "172.30.0.0/24", "fd30::/64")
	n.road(t)
	return n
}

// serve gives the inbox a real intake with a store: what it keeps then are the
// events as they are stored, with who each peer is.
func (b *inbox) serve(t *testing.T) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := db.Open(t.Context(), db.Options{Path: filepath.Join(t.TempDir(), "castellan.db"), ProcessCrashOnly: true}, log)
	if err != nil {
		t.Fatal(err)
	}
	feed := live.NewFeed()
	b.server = intake.New(st, live.NewTables(time.Now), feed, live.NewConditions(time.Now), time.Now, log)
	ctx, stop := context.WithCancel(context.Background())
	stored, err := feed.Subscribe(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for events := range stored.C() {
			b.take(events)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		if n := stored.Dropped(); n != 0 {
			t.Errorf("the test was too slow for %d events", n)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

// talkImage is an image with nothing but the program that talks.
func talkImage(t *testing.T) (i engine.Image, program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "talk")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./talk")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build talk: %v\n%s", err, out)
	}
	body, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Image{Reference: "talk:test", Entrypoint: []string{"/bin/talk"}, Files: []engine.File{{Path: "/bin/talk", Body: body}}}, program
}

// road leads to the machine beyond.
func (n *town) road(t *testing.T) {
	t.Helper()
	holder := exec.Command("cat") // until its input ends
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	input, err := holder.StdinPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		if err := holder.Wait(); err != nil {
			t.Errorf("holder of the network beyond: %v", err)
		}
	})
	n.beyond = fmt.Sprint(holder.Process.Pid)
	n.must(t, host, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", n.beyond)
	n.must(t, host, "ip", "addr", "add", hostAddr+"/24", "dev", "up0")
	n.must(t, host, "ip", "addr", "add", hostSix+"/64", "dev", "up0", "nodad")
	n.must(t, host, "ip", "link", "set", "up0", "up")
	n.must(t, beyond, "ip", "addr", "add", beyondAddr+"/24", "dev", "eth0")
	n.must(t, beyond, "ip", "link", "set", "eth0", "up")
}

// must runs a command on the host or beyond it.
func (n *town) must(t *testing.T, where string, command ...string) {
	t.Helper()
	if out, err := n.outside(t, where, command...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

func (n *town) outside(t *testing.T, where string, command ...string) *exec.Cmd {
	t.Helper()
	line := n.engine.Inside(command...)
	if where == beyond {
		line = append([]string{"nsenter", "--net=/proc/" + n.beyond + "/ns/net", "--"}, command...)
	}
	return exec.CommandContext(t.Context(), line[0], line[1:]...)
}

// network makes a network of the user's, as `docker network create` does.
func (n *town) network(t *testing.T, name string, subnets ...string) {
	t.Helper()
	six := true
	config := &network.IPAM{Driver: "default"}
	for _, s := range subnets {
		config.Config = append(config.Config, network.IPAMConfig{Subnet: netip.MustParsePrefix(s)})
	}
	if _, err := n.engine.Client.NetworkCreate(t.Context(), name, client.NetworkCreateOptions{Driver: "bridge", EnableIPv6: &six, IPAM: config}); err != nil {
		t.Fatal(err)
	}
}

// change edits what the engine is asked for: see engine.Container.
type change = func(*container.Config, *container.HostConfig)

func inNetwork(name string) change {
	return func(_ *container.Config, h *container.HostConfig) { h.NetworkMode = container.NetworkMode(name) }
}

// publish publishes ports as docker run does: "18080:8080/tcp",
// "127.0.0.1:18081:8081/tcp".
func publish(list ...string) change {
	return func(c *container.Config, h *container.HostConfig) {
		c.ExposedPorts, h.PortBindings = network.PortSet{}, network.PortMap{}
		for _, text := range list {
			part := strings.Split(text, ":")
			b := network.PortBinding{HostPort: part[len(part)-2]}
			if len(part) == 3 {
				b.HostIP = netip.MustParseAddr(part[0])
			}
			inner := network.MustParsePort(part[len(part)-1])
			c.ExposedPorts[inner] = struct{}{}
			h.PortBindings[inner] = append(h.PortBindings[inner], b)
		}
	}
}

func labelled(labels map[string]string) change {
	return func(c *container.Config, _ *container.HostConfig) { c.Labels = labels }
}

// settle starts a container that answers at ports ("tcp:80", "udp:53-59"), and
// waits until it listens.
func (n *town) settle(t *testing.T, name string, ports []string, changes ...change) {
	t.Helper()
	var places []string
	for _, p := range ports {
		protocol, span, _ := strings.Cut(p, ":")
		var first, last int
		if got, _ := fmt.Sscanf(span, "%d-%d", &first, &last); got < 2 { // one alone
			last = first
		}
		for ; first <= last; first++ {
			places = append(places, fmt.Sprintf("%s:%d", protocol, first))
		}
	}
	n.start(t, name, append([]string{"serve"}, places...), changes...)
	n.wait(t, name+" to listen", func() bool {
		heard := 0
		for _, e := range n.events {
			if e.Kind == event.KindListen && e.WorkloadID == n.ids[name] {
				heard++
			}
		}
		return heard >= len(places)
	})
	n.workload(t, n.ids[name], in(asset.Running))
}

// start starts a container that runs talk.
func (n *town) start(t *testing.T, name string, cmd []string, changes ...change) {
	t.Helper()
	id := run(t, n.engine, engine.Container{Name: name, Image: "talk:test", Cmd: cmd, Change: func(c *container.Config, h *container.HostConfig) {
		for _, change := range changes {
			change(c, h)
		}
	}})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ids[name], n.names[id] = id, name
}

// remove ends a container, and waits until the agent tells of it.
func (n *town) remove(t *testing.T, name string) {
	t.Helper()
	if err := n.engine.Remove(t.Context(), n.ids[name]); err != nil {
		t.Fatal(err)
	}
	n.workload(t, n.ids[name], in(asset.Exited))
}

// address is the one that the engine gave a container.
func (n *town) address(t *testing.T, name string) string {
	t.Helper()
	w := n.workload(t, n.ids[name], func(w asset.Workload) bool { return len(w.Settings.Addresses) > 0 })
	return w.Settings.Addresses[0].String()
}

// says runs talk in a container, on the host, or beyond it.
func (n *town) says(t *testing.T, who string, args ...string) {
	t.Helper()
	var out string
	var code int
	var err error
	switch who {
	case host, beyond:
		var b []byte
		b, err = n.outside(t, who, append([]string{n.program}, args...)...).CombinedOutput()
		out = string(b)
	default:
		out, code, err = n.engine.Exec(t.Context(), n.ids[who], append([]string{"/bin/talk"}, args...)...)
	}
	if err != nil || code != 0 {
		t.Fatalf("%s says %s: %v, code %d, %s", who, strings.Join(args, " "), err, code, out)
	}
}

// runs runs talk on the host or beyond it until the test ends, and returns when
// it serves.
func (n *town) runs(t *testing.T, where string, args ...string) {
	t.Helper()
	c := n.outside(t, where, append([]string{n.program}, args...)...)
	said, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		_, err = said.Read(make([]byte, 1))
	}
	if err != nil {
		t.Fatalf("talk %s: %v", strings.Join(args, " "), err)
	}
	t.Cleanup(func() { _ = c.Wait() }) // killed with the test's context
}

// mark is how many events there are.
func (n *town) mark() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.events)
}

// hears is what must be told of one side of a conversation.
type hears struct {
	who  string // of whom; a speaker on the host is the host
	kind event.Kind
	port uint16 // the peer's; of what is incoming the own
	peer string // see town.said
	name string // that was asked for to find the peer
}

// said puts a peer into words: its kind, the name of the workload or else its
// group, and the workload's own port behind a published one.
func (n *town) said(p event.Peer) string {
	s := string(p.Kind)
	switch {
	case n.names[p.WorkloadID] != "":
		s += " " + n.names[p.WorkloadID]
	case p.WorkloadID != "":
		s += " " + p.WorkloadID
	case p.Group != "":
		s += " of " + p.Group
	}
	if p.Port != 0 {
		s += fmt.Sprintf(":%d", p.Port)
	}
	return s
}

// told waits for an event that fits, of those after the first so many, and
// checks who its peer is.
func (n *town) told(t *testing.T, after int, h hears) {
	t.Helper()
	fits := func(e event.Event) bool {
		c := e.Connection
		if c == nil || e.Kind != h.kind || e.WorkloadID != n.ids[h.who] {
			return false
		}
		if e.Kind == event.KindAccept || c.Incoming {
			return c.Local.Port() == h.port
		}
		return c.Remote.Port() == h.port
	}
	var got event.Event
	n.wait(t, fmt.Sprintf("%s of %s at port %d", h.kind, h.who, h.port), func() bool {
		i := slices.IndexFunc(n.events[after:], fits)
		if i >= 0 {
			got = n.events[after+i]
		}
		return i >= 0
	})
	c := got.Connection
	if peer := n.said(c.Peer); peer != h.peer {
		t.Errorf("%s of %s from %s to %s: the peer is %q, want %q", h.kind, h.who, c.Local, c.Remote, peer, h.peer)
	}
	if c.Name != h.name {
		t.Errorf("%s of %s from %s to %s: its name is %q, want %q", h.kind, h.who, c.Local, c.Remote, c.Name, h.name)
	}
}
