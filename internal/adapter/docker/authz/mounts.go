package authz

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// Kinds of mounts, as a request names them.
const (
	kindBind   = "bind"
	kindVolume = "volume"
	kindTmpfs  = "tmpfs"
	kindImage  = "image"
)

// mounted collects what is mounted into a container. A volume that stands for a
// path of the host is a bind by another name, and told as one.
type mounted struct {
	mounts  []admission.Mount
	volumes []admission.Volume
}

func (m *mounted) add(mount admission.Mount) { m.mounts = append(m.mounts, mount) }

// asked collects what a call asks to be mounted.
func asked(c *containerConfig, h *hostConfig) (mounted, error) {
	var m mounted
	for _, b := range h.Binds {
		if err := m.bind(b, h.VolumeDriver); err != nil {
			return m, err
		}
	}
	for _, one := range h.Mounts {
		if err := m.mount(one); err != nil {
			return m, err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(h.Tmpfs)) {
		m.add(admission.Mount{Kind: kindTmpfs, Target: bounded(target)})
	}
	for _, target := range slices.Sorted(maps.Keys(c.Volumes)) {
		m.add(admission.Mount{Kind: kindVolume, Target: bounded(target)})
	}
	return m, nil
}

// bind adds one of Binds: "source:target", "source:target:options" or, of a new
// volume without a name, "target" and "target:options".
func (m *mounted) bind(spec, driver string) error {
	parts := strings.Split(spec, ":")
	mount := admission.Mount{Kind: kindVolume, Target: bounded(parts[0])}
	options := ""
	switch {
	case len(parts) > 3 || parts[0] == "":
		return refused("write source:target:options", "the bind %q is malformed", short(spec))
	case len(parts) == 1:
	case len(parts) == 2 && !path.IsAbs(parts[1]):
		options = parts[1]
	default:
		mount.Source, mount.Target = parts[0], bounded(parts[1])
		if len(parts) == 3 {
			options = parts[2]
		}
	}
	for o := range strings.SplitSeq(options, ",") {
		switch {
		case o == "ro":
			mount.ReadOnly = true
		case strings.HasSuffix(o, "shared"), strings.HasSuffix(o, "slave"), strings.HasSuffix(o, "private"):
			mount.Propagation = bounded(o)
		}
	}
	if path.IsAbs(mount.Source) {
		mount.Kind, mount.Source = kindBind, bounded(path.Clean(mount.Source))
	} else if mount.Source != "" && driver != "" {
		m.volumes = append(m.volumes, admission.Volume{Name: bounded(mount.Source), Driver: bounded(driver)})
	}
	m.add(mount)
	return nil
}

// mount adds one of Mounts.
func (m *mounted) mount(one mount) error {
	out := admission.Mount{Kind: one.Type, Source: bounded(one.Source), Target: bounded(one.Target), ReadOnly: one.ReadOnly}
	switch one.Type {
	case kindBind:
		out.Source = bounded(path.Clean(one.Source))
		if one.BindOptions != nil {
			out.Propagation = bounded(one.BindOptions.Propagation)
		}
	case kindVolume:
		if one.VolumeOptions != nil && one.VolumeOptions.DriverConfig != nil {
			d := one.VolumeOptions.DriverConfig
			if err := m.volume(admission.Volume{Name: bounded(one.Source), Driver: bounded(d.Name), Options: d.Options}, out); err != nil {
				return err
			}
		}
	case kindTmpfs, kindImage:
	default:
		return refused("mount a bind, a volume, a tmpfs or an image", "mounts of type %q are not known", short(one.Type))
	}
	m.add(out)
	return nil
}

// volume adds a volume with its options as they are, and the paths of the host
// that it stands for as binds.
func (m *mounted) volume(v admission.Volume, at admission.Mount) error {
	paths, err := hostPaths(v.Driver, v.Options)
	if err != nil {
		return err
	}
	if len(paths) > 0 {
		v.Host = paths[0]
	}
	v.Options = boundedMap(v.Options) // only now: the end of a long one counts, too
	m.volumes = append(m.volumes, v)
	for _, p := range paths {
		at.Kind, at.Source = kindBind, p
		m.add(at)
	}
	return nil
}

// known adds what the engine knows of the named volumes among the mounts: one
// that was made before may be a bind in disguise.
func (m *mounted) known(ctx context.Context, e Engine) error {
	for _, at := range slices.Clone(m.mounts) {
		if at.Kind != kindVolume || at.Source == "" {
			continue
		}
		raw, err := e.Volume(ctx, at.Source)
		if fault.Is(err, fault.NotFound) {
			continue // made with the container, as it is asked for
		}
		if err != nil {
			return fmt.Errorf("look at volume %s: %w", short(at.Source), err)
		}
		var v struct {
			Name, Driver string
			Options      map[string]string
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("read volume %s: %w", short(at.Source), err)
		}
		if err := m.volume(admission.Volume{Name: bounded(v.Name), Driver: bounded(v.Driver), Options: v.Options}, at); err != nil {
			return err
		}
	}
	return nil
}

// has says that an image is mounted there already.
func (m *mounted) has(at admission.Mount) bool {
	return at.Kind == kindImage && slices.ContainsFunc(m.mounts, func(have admission.Mount) bool { return have.Kind == kindImage && have.Target == at.Target })
}

// mountedImages says of mounts of images which images these are. One that is named
// by a tag may be another by the time it is mounted, and no inspection tells that.
func (p *Plugin) mountedImages(ctx context.Context, m *mounted) error {
	for i := range m.mounts {
		at := &m.mounts[i]
		if at.Kind != kindImage {
			continue
		}
		img := parseImage(at.Source)
		if img.ID == "" && !img.Pinned {
			return refused("name it by its digest or its id", "the image %s that is mounted at %s is named by a tag, which can be moved", short(at.Source), short(at.Target))
		}
		known, found, err := p.image(ctx, at.Source)
		if err != nil {
			return err
		}
		if found {
			img = p.vouched(img, known)
		}
		at.Image = &img
	}
	return nil
}

// follow adds for each bind whose path is a symbolic link, or below one, where
// that leads: the engine mounts that.
func (m *mounted) follow(resolve func(string) (string, error)) {
	if resolve == nil {
		return
	}
	for _, at := range slices.Clone(m.mounts) {
		if at.Kind != kindBind {
			continue
		}
		// A path that is not there leads nowhere yet: the engine makes a folder.
		if to, err := resolve(at.Source); err == nil && to != at.Source {
			at.Source = bounded(to)
			m.add(at)
		}
	}
}

// followed adds for each device where its path leads, as for binds.
func (p *Plugin) followed(devices []string) []string {
	out := devices
	for _, d := range devices {
		if p.options.Resolve == nil || !path.IsAbs(d) {
			continue
		}
		if to, err := p.options.Resolve(d); err == nil && to != d {
			out = append(out, bounded(to))
		}
	}
	return out
}
