package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// Quarantine cuts single containers off their network, by programs on their cgroups
// that let nothing pass: packets of any socket that a process of the container made,
// both ways, loopback too, and new sockets and connections. They are pinned: they
// stay when this program ends, and go with the cgroup. It keeps nothing in memory,
// so that two processes may use one folder.
//
// Frames that a process with CAP_NET_RAW sends as they are (AF_PACKET) are not of the
// network's protocols, and pass.
type Quarantine struct{ dir string }

// NewQuarantine returns what cuts containers off. dir is as for OpenNetGuard.
func NewQuarantine(dir string) *Quarantine { return &Quarantine{filepath.Join(dir, "quarantine")} }

// cuts are the places where nothing passes. Return value 0 drops a packet of a
// cgroup_skb program and is EPERM for the others (since Linux 4.10 to 4.18).
var cuts = []struct {
	name string
	kind ebpf.ProgramType
	at   ebpf.AttachType
}{
	{"out", ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress},
	{"in", ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress},
	{"socket", ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate},
	{"connect4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect},
	{"connect6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect},
	{"sendmsg4", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg},
	{"sendmsg6", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP6Sendmsg},
}

// Cut cuts a container off whose cgroup is the folder of that name in the unified
// hierarchy. It is no error if it is already; a cgroup that the container got anew is
// cut off anew. With dry it only tries whether the kernel takes such programs. On an
// error nothing of the container is cut that was not before.
func (q *Quarantine) Cut(container, cgroup string, dry bool) error {
	if !asset.IsContainerID(container) {
		return fault.New(fault.Invalid, "%q is no container id", container)
	}
	if err := isContainersOwn(container, cgroup); err != nil {
		return err
	}
	own := filepath.Join(q.dir, container)
	if whole, err := isCut(own, cgroup); err != nil || whole && !dry {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	if dry {
		return q.attach("", cgroup)
	}
	if err := mountPins(own); err != nil {
		return err
	}
	if err := q.attach(own, cgroup); err != nil {
		return errors.Join(fmt.Errorf("cut the network of container %s: %w", asset.ShortID(container), err), q.Restore(container))
	}
	return nil
}

// isContainersOwn keeps a mistake from cutting the host: the folder must be named
// after the container, and be one of the unified hierarchy.
func isContainersOwn(container, cgroup string) error {
	name := filepath.Base(cgroup)
	var st unix.Statfs_t
	if err := unix.Statfs(cgroup, &st); err != nil {
		return fmt.Errorf("look at the cgroup of container %s: %w", asset.ShortID(container), err)
	}
	const scope = len("-") + 64 + len(".scope")
	named := name == container || len(name) > scope && name[len(name)-scope:] == "-"+container+".scope"
	if !named || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fault.New(fault.Invalid, "%s is not the cgroup of container %s", cgroup, asset.ShortID(container))
	}
	return nil
}

// attach attaches all of cuts to a cgroup and pins them below own; with "" it only
// loads them.
func (q *Quarantine) attach(own, cgroup string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return fmt.Errorf("open its cgroup: %w", err)
	}
	defer dir.Close()
	for _, c := range cuts {
		if err := attachCut(c.kind, c.at, own, c.name, int(dir.Fd())); err != nil {
			return fmt.Errorf("attach %s: %w", c.name, err)
		}
	}
	return nil
}

func attachCut(kind ebpf.ProgramType, at ebpf.AttachType, own, name string, cgroup int) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "quarantine", Type: kind, AttachType: at, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return fault.New(fault.Unsupported, "%w", err).With("run the agent as root, on Linux 5.7 or newer")
	}
	defer p.Close()
	if own == "" {
		return nil
	}
	pin := filepath.Join(own, linkPrefix+name)
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return pinned(pin, func() (link.Link, error) {
		return link.AttachRawLink(link.RawLinkOptions{Target: cgroup, Program: p, Attach: at})
	})
}

// isCut reports whether all of cuts is pinned for a cgroup, which has the number
// of its folder.
func isCut(own, cgroup string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(cgroup, &st); err != nil {
		return false, fmt.Errorf("look at its cgroup: %w", err)
	}
	for _, c := range cuts {
		at, err := link.LoadPinnedLink(filepath.Join(own, linkPrefix+c.name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at what is cut: %w", err)
		}
		info, err := at.Info()
		if err = errors.Join(err, at.Close()); err != nil {
			return false, fmt.Errorf("look at what is cut: %w", err)
		}
		if cg := info.Cgroup(); cg == nil || cg.CgroupId != st.Ino {
			return false, nil // of a cgroup that has gone
		}
	}
	return true, nil
}

// Cuts returns the containers that something is pinned for, those included that are
// gone since.
func (q *Quarantine) Cuts() (all []string, err error) {
	entries, err := os.ReadDir(q.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at what is cut: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && asset.IsContainerID(e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// Restore gives a container its network back. It is no error if nothing was cut.
func (q *Quarantine) Restore(container string) error {
	if !asset.IsContainerID(container) {
		return fault.New(fault.Invalid, "%q is no container id", container)
	}
	own := filepath.Join(q.dir, container)
	var errs []error
	for _, c := range cuts {
		if err := os.Remove(filepath.Join(own, linkPrefix+c.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give container %s its network back: %w", asset.ShortID(container), err)
	}
	return nil
}
