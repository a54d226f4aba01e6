package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/adapter/ecs"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/agent"
	"github.com/castellan-security/castellan/internal/agent/brief"
	"github.com/castellan-security/castellan/internal/agent/gate"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/scan"
)

// admissionFolder is below the agent's data folder.
const admissionFolder = "admission"

// admissionOptions are the flags of an agent that decides on deployments.
type admissionOptions struct {
	plugin      bool
	policy      string
	socket      string
	trusted     []string
	agentImages []string
	agents      []string
	trustTags   bool
	labels      bool

	introspection string
}

func (o *admissionOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.plugin, "admission-plugin", false, "answer the Docker engine of this host as its authorization plugin: it asks before containers are made and started")
	f.StringVar(&o.policy, "admission-policy", "", "decide by this policy `file` instead of the server's; it is read again when it changes")
	f.StringVar(&o.socket, "admission-socket", authz.DefaultSocket, "where the engine looks for the plugin; its name in authorization-plugins is the file's, without .sock")
	f.StringSliceVar(&o.trusted, "admission-trust-image", nil, "`ids` of images (sha256:…) whose containers pass if they ask for nothing of the host, such as the ECS agent's pause container")
	f.StringSliceVar(&o.agentImages, "admission-agent-image", nil, "`ids` of the ECS agent's own image, whose container passes if it runs what the image says, unprivileged")
	f.BoolVar(&o.trustTags, "admission-trust-tags", false, "believe the registry that a tag names where the engine can't tell from where an image came (images kept by containerd, before API 1.53)")
	f.BoolVar(&o.labels, "admission-labels", true, "believe the labels by which a container says of which task of ECS it is while no ECS agent has answered on this host")
	f.StringVar(&o.introspection, "admission-ecs-agent", ecs.DefaultIntrospectionURL, "where the ECS agent of this host says which containers are of which task")
	f.StringSliceVar(&o.agents, "admission-agent-subject", nil, "subjects of the client certificates by which the ECS agent comes, for policies that tell it apart")
}

// check refuses flags that don't fit together.
func (o *admissionOptions) check() error {
	if !o.plugin && (o.policy != "" || o.trustTags || !o.labels || o.introspection != ecs.DefaultIntrospectionURL || len(o.trusted)+len(o.agentImages)+len(o.agents) > 0) {
		return usagef("flags of admission are of no use without --admission-plugin")
	}
	for _, id := range slices.Concat(o.trusted, o.agentImages) {
		hex, ok := strings.CutPrefix(id, "sha256:")
		if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
			return usagef("%s is no id of an image: want sha256: and 64 hex digits, as docker image inspect --format {{.Id}} IMAGE prints", id)
		}
	}
	return nil
}

// admissionDoor is the authorization plugin of this host. A nil door does nothing.
type admissionDoor struct {
	plugin   *authz.Plugin
	listener net.Listener
	reader   *docker.Reader
	keeper   *brief.Keeper // nil: the server keeps no policy
	holder   *holder       // nil: containers are not held; set before run
	ecs      *ecs.Identifier
	log      *slog.Logger
}

// openAdmission opens the plugin's socket, if that is asked for: first of all, since
// an engine that waits for its plugin does nothing meanwhile.
func (g *globals) openAdmission(ctx context.Context, o agentOptions, id string, server any, log *slog.Logger) (*admissionDoor, error) {
	if err := o.admission.check(); err != nil || !o.admission.plugin {
		return nil, err
	}
	engine, err := docker.New(docker.Options{Host: o.dockerHost}, log.With("door", "docker"))
	if err != nil {
		return nil, err
	}
	d := &admissionDoor{reader: engine.Reader(), log: log.With("door", "authz")}
	rules := gate.Options{File: o.admission.policy, Log: log.With("hall", "gate")}
	if keeps, ok := server.(link.Admission); ok {
		d.keeper, err = brief.Open(brief.Options{Dir: filepath.Join(g.dataDir, admissionFolder), AgentID: id, Server: keeps, Log: log.With("hall", "brief")})
		if err != nil {
			return nil, err
		}
		rules.Fleet = d.keeper
	}
	decider, err := gate.Open(rules)
	if err != nil {
		return nil, err
	}
	options := authz.Options{
		Allow: func() bool { return decider.Allows(admission.Docker) }, Report: decider.Decided,
		Name: strings.TrimSuffix(filepath.Base(o.admission.socket), ".sock"), Host: id, Trusted: o.admission.trusted, AgentImages: o.admission.agentImages, Agents: o.admission.agents,
		TrustTags: o.admission.trustTags, Judge: scan.JudgeContainers,
	}
	host := ecs.New(ecs.Options{IntrospectionURL: o.admission.introspection}, log.With("door", "ecs"))
	d.ecs, options.Starting = host, d.starting
	options.Cluster, options.Task = whereabouts(host), membership(host, o.admission.labels)
	if o.proc == "/proc" { // else this program has another root than the engine
		options.Resolve = authz.HostPath
	}
	d.plugin = authz.New(decider, d.reader, options, d.log)
	if d.listener, err = authz.Listen(ctx, o.admission.socket); err != nil {
		return nil, err
	}
	d.log.Info("the engine may ask here", "socket", o.admission.socket, "policy", decider.Policy().Name())
	return d, nil
}

// whereabouts tells where this host is in ECS, as its ECS agent says; what that said
// once holds while it is away.
func whereabouts(i *ecs.Identifier) func(context.Context) admission.Place {
	var mu sync.Mutex
	var last admission.Place
	return func(ctx context.Context) admission.Place {
		arn, cluster := i.Instance(ctx)
		mu.Lock()
		defer mu.Unlock()
		if cluster == "" {
			return last
		}
		last = admission.Place{Cluster: cluster}
		if part := strings.SplitN(arn, ":", 6); len(part) == 6 {
			last.Region, last.Account = part[3], part[4]
		}
		return last
	}
}

// membership tells of which task of ECS containers are, as the ECS agent says. From
// its first answer on this is a host of ECS, and labels count for nothing: while the
// agent is away it makes no containers either.
func membership(i *ecs.Identifier, labels bool) func(ctx context.Context, id, name string) (asset.ECS, bool) {
	var once atomic.Bool
	return func(ctx context.Context, id, name string) (asset.ECS, bool) {
		of, answers := i.Task(ctx, id, name)
		if answers {
			once.Store(true)
		}
		return of, labels && !once.Load()
	}
}

// starting holds a container to its profile while the engine waits to start it.
func (d *admissionDoor) starting(ctx context.Context, id, name string, labels map[string]string) {
	if d.holder == nil || d.holder.keeper == nil {
		return
	}
	w := asset.Workload{ID: id, Name: name, ECS: docker.Identity(labels)}
	if w.ECS != (asset.ECS{}) {
		one := []asset.Workload{w}
		d.ecs.Identify(ctx, one) // its service, which labels don't say
		w = one[0]
	}
	if err := d.holder.keeper.Starting(ctx, id, asset.GroupOf(w)); err != nil {
		d.log.Error("a container starts that is not held to its profile before", "container", asset.ShortID(id), "error", err, "remedy", fault.Remedy(err))
	}
}

// beside has the plugin know what the agent reads of containers: they follow the same
// engine.
func (d *admissionDoor) beside(engine agent.Engine) {
	if e, ok := engine.(*docker.Engine); ok && d != nil {
		e.Share(d.plugin.Looking)
	}
}

// run answers until ctx ends.
func (d *admissionDoor) run(ctx context.Context) {
	if d == nil {
		return
	}
	defer d.reader.Close()
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { d.lookAround(ctx) })
	if err := d.plugin.Serve(ctx, d.listener); err != nil {
		d.log.Error("the engine is not answered any more: it refuses everything", "error", err)
	}
}

// lookAround says, once the engine is there, if there is a way past the plugin that
// only the host's administrator can close.
func (d *admissionDoor) lookAround(ctx context.Context) {
	const again = 10 * time.Second // the engine starts after its plugin
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		unasked, err := d.reader.BuildsUnasked(ctx)
		if unasked {
			d.log.Warn("this engine builds images by gRPC without asking its plugin; what is built so is decided on when it is to run",
				"remedy", "let root alone open the engine's socket, and take network-host from the builder's entitlements: docs/admission-docker.md")
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// close is for a door that never ran.
func (d *admissionDoor) close() error {
	if d == nil {
		return nil
	}
	d.reader.Close()
	return d.listener.Close()
}

// keeps is what keeps the fleet's policy here; nil for nothing.
func (d *admissionDoor) keeps() agent.Decider {
	if d == nil || d.keeper == nil {
		return nil
	}
	return d.keeper
}
