package authz

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// inspection is what an engine says of a container that is there.
type inspection struct {
	ID    string `json:"Id"`
	Name  string
	Image string // id of the image that it really has
	State struct {
		Status          string
		Running, Paused bool
	}
	Config          *containerConfig
	HostConfig      *hostConfig
	Mounts          []mountPoint
	NetworkSettings struct {
		Networks map[string]*endpoint
	}
}

// mountPoint is a mount that the engine made of what was asked for, those of
// other containers and of the image with it.
type mountPoint struct {
	Type, Name, Source, Destination, Driver string
	RW                                      bool
	Propagation                             string
}

// severalIDs is what engines say of the beginning of several ids, as an error of
// their own.
const severalIDs = "Multiple IDs found"

// there asks the engine for the container of that name or id.
func (p *Plugin) there(ctx context.Context, name string) (inspection, error) {
	raw, err := p.engine.Container(ctx, name)
	if err != nil && strings.Contains(err.Error(), severalIDs) {
		// Whoever asks chose that; and by the time the engine looks it may be one.
		return inspection{}, refused("call it by its whole id", "%s is the beginning of several ids", short(name))
	}
	if err != nil {
		return inspection{}, err
	}
	var in inspection
	if err := json.Unmarshal(raw, &in); err != nil {
		return inspection{}, fmt.Errorf("read container %s: %w", short(name), err)
	}
	if in.Config == nil || in.HostConfig == nil || !isHex(in.ID) {
		return inspection{}, fault.New(fault.Corrupt, "read container %s: the engine tells nothing of it", short(name))
	}
	return in, p.alone(ctx, name, &in)
}

// alone refuses a name that would be another container's if this one lost it: the
// engine takes digits for a name first, and then for the beginning of an id. Names
// are held while a call is under way, but whoever removes a container frees its
// name at once.
func (p *Plugin) alone(ctx context.Context, name string, in *inspection) error {
	if strings.Trim(name, "0123456789abcdef") != "" || strings.TrimPrefix(in.Name, "/") != name {
		return nil
	}
	const remedy = "call it by its id"
	if isHex(name) && in.ID != name {
		return refused(remedy, "the container %s is called like an id", short(name))
	}
	raw, err := p.engine.Containers(ctx)
	if err != nil {
		return err
	}
	var all []struct {
		ID string `json:"Id"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("read list of containers: %w", err)
	}
	for _, c := range all {
		if c.ID != in.ID && strings.HasPrefix(c.ID, name) {
			return refused(remedy, "%s is the name of a container and the beginning of another's id", short(name))
		}
	}
	return nil
}

// container makes a container of a request of what is there.
func (p *Plugin) container(ctx context.Context, in *inspection) (admission.Container, []admission.Volume, error) {
	if err := p.own(ctx, in.HostConfig); err != nil {
		return admission.Container{}, nil, err
	}
	out := describe(in.Name, in.Config, in.HostConfig)
	var err error
	if out.Image, err = p.used(ctx, in); err != nil {
		return out, nil, err
	}
	out.User = bounded(in.Config.User)
	if _, ok := in.NetworkSettings.Networks[hostMode]; ok {
		out.Network = hostMode
	} else if out.Network, err = p.network(ctx, out.Network); err != nil {
		return out, nil, err
	}
	for _, e := range in.NetworkSettings.Networks {
		if err := e.settings(&out); err != nil {
			return out, nil, err
		}
	}
	// Tmpfs are in no list of mount points, and mounts of images not in all.
	m, err := asked(&containerConfig{}, &hostConfig{Tmpfs: in.HostConfig.Tmpfs, Mounts: notPoints(in.HostConfig.Mounts)})
	if err != nil {
		return out, nil, err
	}
	for _, at := range in.Mounts {
		if point := pointed(at); !m.has(point) {
			m.add(point)
		}
	}
	if err := m.known(ctx, p.engine); err != nil {
		return out, nil, err
	}
	if err := p.mountedImages(ctx, &m); err != nil {
		return out, nil, err
	}
	m.follow(p.options.Resolve)
	out.Devices = p.followed(out.Devices)
	out.Mounts = m.mounts
	return out, m.volumes, nil
}

func notPoints(all []mount) []mount {
	var out []mount
	for _, m := range all {
		if m.Type != kindBind && m.Type != kindVolume {
			out = append(out, m)
		}
	}
	return out
}

func pointed(at mountPoint) admission.Mount {
	out := admission.Mount{Kind: at.Type, Target: bounded(at.Destination), ReadOnly: !at.RW, Propagation: bounded(at.Propagation)}
	switch at.Type {
	case kindVolume, kindImage: // newer engines list images, too
		out.Source = bounded(at.Name)
	case kindBind:
		out.Source = bounded(path.Clean(at.Source))
	default:
		out.Source = bounded(at.Source)
	}
	return out
}

// used is the image that a container really has, under the reference by which it
// was asked for.
func (p *Plugin) used(ctx context.Context, in *inspection) (admission.Image, error) {
	img := parseImage(in.Config.Image)
	if in.Image == "" {
		return img, refused("make it of an image", "the container %s has no image", short(in.Name))
	}
	known, found, err := p.image(ctx, in.Image)
	switch {
	case err != nil:
		return img, err
	case !found: // removed, while the container keeps its files
		img.ID, img.Digest, img.Registry, img.Repository = bounded(in.Image), "", "", ""
		return img, nil
	}
	if in.Config.User == "" {
		in.Config.User = user(known)
	}
	return p.vouched(img, known), nil
}

// user is whom a container runs as that names nobody.
func user(known localImage) string {
	if known.Config == nil || known.Config.User == "" {
		return "0"
	}
	return known.Config.User
}

// image asks the engine for an image; found is false when it has none. What can
// be the name of none is an error of kind Invalid.
func (p *Plugin) image(ctx context.Context, reference string) (known localImage, found bool, err error) {
	known, moves, ok := p.images.get(reference, time.Now())
	if ok {
		return known, true, nil
	}
	known = localImage{}
	raw, err := p.engine.Image(ctx, reference)
	if fault.Is(err, fault.NotFound) {
		return localImage{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &known)
	}
	if err != nil {
		return localImage{}, false, fmt.Errorf("look at image %s: %w", short(reference), err)
	}
	if isImageID(known.ID) {
		p.images.put(reference, known, moves, time.Now())
	}
	return known, true, nil
}
