package authz

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
)

// complete reads what a call asks for into its request. It returns errPass where
// there is nothing to decide, and an error of kind Invalid or NotFound for what
// is wrong with the call.
func (p *Plugin) complete(ctx context.Context, c *call, a address, r route, req *admission.Request) error {
	if r.kind == create || r.name == "container rename" {
		if name := strings.TrimPrefix(a.query.Get("name"), "/"); name != "" && p.names.busy(name, time.Now()) {
			return refused("try again", "%s: a container of the name %q is just being started or changed", r.name, short(name))
		}
	}
	switch r.kind {
	case create:
		return p.creation(ctx, c, a, req)
	case start:
		return p.starting(ctx, c, a, req)
	case exec:
		return p.execution(ctx, c, req)
	case execStart:
		return p.executing(ctx, req)
	case attach:
		return p.attaching(ctx, a, r, req)
	case change:
		return p.changing(ctx, c, a, r, req)
	case inside:
		req.Call.Options = options(a, "path", "noOverwriteDirNonDir", "copyUIDGID")
		_, err := p.whole(ctx, req.Call.What, req)
		return err
	case pull:
		pulled(a, req)
	case making:
		return p.making(ctx, c, r, req)
	default:
		if err := p.impostor(a, r); err != nil {
			return err
		}
		q := a.query
		req.Call.What = cmp.Or(req.Call.What, bounded(cmp.Or(q.Get("remote"), q.Get("container"), q.Get("name"), q.Get("t"))))
		req.Call.Options = options(a, "container", "repo", "tag", "remote", "name", "dockerfile", "t", "target", "networkmode",
			"cgroupparent", "version", "platform", "changes", "fromSrc", "force", "all", "filters")
	}
	return nil
}

// impostor refuses plugins of this plugin's name: an engine asks its own first.
func (p *Plugin) impostor(a address, r route) error {
	if p.options.Name == "" || r.name != "plugin create" && r.name != "plugin install" {
		return nil
	}
	for _, name := range []string{a.query.Get("name"), a.query.Get("remote")} {
		name = name[strings.LastIndexByte(name, '/')+1:]
		name, _, _ = strings.Cut(name, "@")
		name, _, _ = strings.Cut(name, ":")
		if strings.EqualFold(name, p.options.Name) {
			return refused("give it another name", "%s: the engine would ask it in the place of castellan", r.name)
		}
	}
	return nil
}

// creation reads a container that is to be made.
func (p *Plugin) creation(ctx context.Context, c *call, a address, req *admission.Request) error {
	var asks creation
	if err := read(c.RequestBody, &asks); err != nil {
		return err
	}
	host := asks.HostConfig
	if host == nil {
		host = &hostConfig{}
	}
	if err := checkSizes(host, &asks.containerConfig); err != nil {
		return err
	}
	if asks.Image == "" { // engines take that, and start what the mounts bring
		return refused("name an image", "%s: the container has no image", req.Call.Name)
	}
	out := describe(a.query.Get("name"), &asks.containerConfig, host)
	m, err := asked(&asks.containerConfig, host)
	if err != nil {
		return err
	}
	known, found, err := p.image(ctx, asks.Image)
	if err != nil {
		return err
	}
	if !found {
		// The engine says that it has no such image, and the client pulls it and asks
		// again. Should it come in this moment, the start is still decided.
		return errPass
	}
	out.Image = p.vouched(parseImage(asks.Image), known)
	out.User = cmp.Or(out.User, bounded(user(known)))
	if out.Network, err = p.network(ctx, out.Network); err != nil {
		return err
	}
	if asks.NetworkingConfig != nil {
		if err := p.endpoints(ctx, asks.NetworkingConfig.EndpointsConfig, &out); err != nil {
			return err
		}
	}
	if err := m.known(ctx, p.engine); err != nil {
		return err
	}
	if err := p.mountedImages(ctx, &m); err != nil {
		return err
	}
	m.follow(p.options.Resolve)
	out.Devices = p.followed(out.Devices)
	out.Mounts, req.Task.Volumes = m.mounts, m.volumes
	req.Call.What, req.Call.Options = bounded(a.query.Get("name")), joined(others(&asks.containerConfig, host), options(a, "platform"))
	p.asTask(ctx, req, out, "", a.query.Get("name"))
	if err := p.shared(ctx, req); err != nil {
		return err
	}
	if p.trusted(&out, asks.Healthcheck, known) {
		return errPass
	}
	return nil
}

// whole reads the container that is there into a request.
func (p *Plugin) whole(ctx context.Context, name string, req *admission.Request) (inspection, error) {
	in, err := p.there(ctx, name)
	if err != nil {
		return in, err
	}
	return in, p.fill(ctx, &in, req)
}

// fill makes what is there the task of a request.
func (p *Plugin) fill(ctx context.Context, in *inspection, req *admission.Request) error {
	out, volumes, err := p.container(ctx, in)
	if err != nil {
		return err
	}
	req.Call.What, req.Task.Volumes = in.ID, volumes
	p.asTask(ctx, req, out, in.ID, in.Name)
	return p.shared(ctx, req)
}

// starting reads a container that is to start or to go on: not what was once
// asked for but what is there, so that a tag that moved, a volume that was made
// anew or a container from before the plugin makes no difference.
func (p *Plugin) starting(ctx context.Context, c *call, a address, req *admission.Request) error {
	if a.query.Get("checkpoint-dir") != "" {
		return refused("keep checkpoints where the engine does", "%s: what is in a checkpoint in a folder of its own is no container's", req.Call.Name)
	}
	in, err := p.made(ctx, req)
	if err != nil {
		return err
	}
	if err := p.fill(ctx, &in, req); err != nil {
		return err
	}
	c.found = &in
	req.Call.Options = joined(others(in.Config, in.HostConfig), options(a, "checkpoint"))
	if len(p.options.Trusted) == 0 && len(p.options.AgentImages) == 0 {
		return nil
	}
	known, found, err := p.image(ctx, in.Image)
	if err != nil {
		return err
	}
	if found && p.trusted(&req.Task.Containers[0], in.Config.Healthcheck, known) {
		return errPass
	}
	return nil
}

// made is the container that is to start: as the agent saw it when it was made, if
// nothing came in between that may have changed it, or as the engine tells it now.
func (p *Plugin) made(ctx context.Context, req *admission.Request) (inspection, error) {
	id := req.Call.What
	if req.Call.Name == "container start" && isHex(id) {
		var in inspection
		if raw := p.seen.take(ctx, id); raw != nil && json.Unmarshal(raw, &in) == nil &&
			in.ID == id && in.State.Status == "created" && in.Config != nil && in.HostConfig != nil {
			return in, nil
		}
	}
	return p.there(ctx, id)
}

// execution reads a process that is to be prepared in a container.
func (p *Plugin) execution(ctx context.Context, c *call, req *admission.Request) error {
	var e execution
	if err := read(c.RequestBody, &e); err != nil {
		return err
	}
	req.Exec = &admission.Process{
		Command: boundedAll(e.Cmd), User: bounded(e.User), Privileged: e.Privileged, TTY: e.Tty,
		WorkingDir: bounded(e.WorkingDir), Env: variableNames(e.Env),
	}
	_, err := p.whole(ctx, req.Call.What, req)
	return err
}

// executing reads a process that is to be started, which was prepared before.
func (p *Plugin) executing(ctx context.Context, req *admission.Request) error {
	raw, err := p.engine.Exec(ctx, req.Call.What)
	if err != nil {
		return err
	}
	var e struct {
		ContainerID   string
		ProcessConfig struct {
			Tty        bool     `json:"tty"`
			Entrypoint string   `json:"entrypoint"`
			Arguments  []string `json:"arguments"`
			Privileged bool     `json:"privileged"`
			User       string   `json:"user"`
		}
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read exec %s: %w", short(req.Call.What), err)
	}
	req.Exec = &admission.Process{
		Command: boundedAll(append([]string{e.ProcessConfig.Entrypoint}, e.ProcessConfig.Arguments...)),
		User:    bounded(e.ProcessConfig.User), Privileged: e.ProcessConfig.Privileged, TTY: e.ProcessConfig.Tty,
	}
	_, err = p.whole(ctx, e.ContainerID, req)
	return err
}

// attaching reads who wants to write to a container that runs. Whoever only
// reads, or waits for a container to start, asks for no more than its logs.
func (p *Plugin) attaching(ctx context.Context, a address, r route, req *admission.Request) error {
	if !a.yes("stdin") && !strings.HasSuffix(r.pattern, "/ws") {
		return errPass
	}
	in, err := p.there(ctx, req.Call.What)
	if err != nil {
		return err
	}
	if !in.State.Running {
		return errPass
	}
	if err := p.fill(ctx, &in, req); err != nil {
		return err
	}
	req.Exec = &admission.Process{TTY: true}
	req.Call.Options = map[string]string{"stdin": "true"}
	return nil
}

// changing reads a change of a container.
func (p *Plugin) changing(ctx context.Context, c *call, a address, r route, req *admission.Request) error {
	var u updating
	updates := r.name == "container update"
	if updates {
		if err := read(c.RequestBody, &u); err != nil {
			return err
		}
	}
	if _, err := p.whole(ctx, req.Call.What, req); err != nil {
		return err
	}
	req.Call.Options = options(a, "name")
	if !updates {
		return nil
	}
	after := &req.Task.Containers[0]
	before := *after
	limits(after, &u.resources)
	after.Devices = append(after.Devices, devices(&u.resources)...)
	if after.MemoryBytes == 0 {
		after.MemoryBytes = before.MemoryBytes
	}
	if after.CPUUnits == 0 {
		after.CPUUnits = before.CPUUnits
	}
	if after.Parent == "" {
		after.Parent = before.Parent
	}
	if u.RestartPolicy != nil && u.RestartPolicy.Name != "" {
		req.Call.Options = map[string]string{"RestartPolicy": bounded(u.RestartPolicy.Name)}
	}
	return nil
}

// pulled reads an image that is to be fetched or imported.
func pulled(a address, req *admission.Request) {
	req.Call.Options = options(a, "fromSrc", "repo", "tag", "platform", "changes")
	from := a.query.Get("fromImage")
	if from == "" {
		return
	}
	img, tag := parseImage(strings.TrimSuffix(from, ":")), a.query.Get("tag")
	switch {
	case strings.Contains(tag, ":"): // a digest
		img.Tag, img.Digest, img.Pinned = "", bounded(tag), true
		img.Reference = bounded(from + "@" + tag)
	case tag != "":
		img.Tag, img.Digest, img.Pinned = bounded(tag), "", false
		img.Reference = bounded(from + ":" + tag)
	}
	req.Call.What = img.Reference
	req.Task.Containers = []admission.Container{{Image: img}}
}

// making reads a volume or a network that is to be made or joined.
func (p *Plugin) making(ctx context.Context, c *call, r route, req *admission.Request) error {
	switch r.name {
	case "volume create":
		var v volumeCreation
		if err := read(c.RequestBody, &v); err != nil {
			return err
		}
		var m mounted
		if len(v.DriverOpts) > maxList {
			return refused("set fewer", "DriverOpts has more than %d entries", maxList)
		}
		if err := m.volume(admission.Volume{Name: bounded(v.Name), Driver: bounded(v.Driver), Options: v.DriverOpts}, admission.Mount{}); err != nil {
			return err
		}
		req.Task.Volumes = m.volumes
		req.Call.What, req.Call.Options = bounded(v.Name), settings("DriverOpts", v.DriverOpts, "Driver", v.Driver)
	case "network create":
		var n networkCreation
		if err := read(c.RequestBody, &n); err != nil {
			return err
		}
		if len(n.Options) > maxList {
			return refused("set fewer", "Options has more than %d entries", maxList)
		}
		req.Call.What, req.Call.Options = bounded(n.Name), settings("Options", n.Options, "Driver", n.Driver, "Scope", n.Scope)
	default:
		var n connection
		if err := read(c.RequestBody, &n); err != nil {
			return err
		}
		return p.connecting(ctx, &n, req)
	}
	return nil
}

// joined is both of two sets of options, nil if there are none.
func joined(a, b map[string]string) map[string]string {
	if a == nil {
		return b
	}
	maps.Copy(a, b)
	return a
}

// settings are options by their names: pairs of single ones, and a group.
func settings(group string, m map[string]string, pairs ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out[pairs[i]] = bounded(pairs[i+1])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m))[:min(len(m), maxList)] {
		value := m[k]
		if mayBeSecret(k, value) && k != "device" && k != "o" {
			value = ""
		}
		out[bounded(group+"."+k)] = bounded(value)
	}
	return out
}

// options are the parameters of an address that are there and named; lists are
// joined by commas.
func options(a address, names ...string) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		if values := a.query[n]; len(values) > 0 {
			out[n] = bounded(strings.Join(values, ","))
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func variableNames(env []string) []string {
	var out []string
	for _, v := range variables(env) {
		out = append(out, v.Name)
	}
	return out
}
