package console

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// trait is one setting of a container in words, and how risky it is.
type trait struct {
	Name string
	Says string
	Why  string // what an attacker gains by it; empty when nothing
	Tone tone
}

// isolation puts the settings that separate a container from its host into
// words, the risky ones marked and said why. A Partial workload was gone
// before the engine could be asked, so nothing is said about it.
func isolation(w asset.Workload) []trait {
	if w.Partial {
		return nil
	}
	s := w.Settings
	out := []trait{privilege(s), user(s), rootFS(s)}
	out = append(out, namespaces(s)...)
	out = append(out, capabilities(s), confinement(s))
	out = append(out, limits(s)...)
	return out
}

func privilege(s asset.Settings) trait {
	if s.Privileged {
		return trait{"Privileged", "yes", "Has every capability and every device: root in it is root on the host.", danger}
	}
	return trait{"Privileged", "no", "", good}
}

func user(s asset.Settings) trait {
	if name, _, _ := strings.Cut(s.User, ":"); name == "" || asset.NamesRoot(s.User) {
		return trait{"User", "root", "A process that breaks out starts with uid 0. Set a user in the image or the task definition.", warn}
	}
	return trait{"User", s.User, "", good}
}

func rootFS(s asset.Settings) trait {
	if s.ReadOnlyRoot {
		return trait{"Root file system", "read-only", "", good}
	}
	return trait{"Root file system", "writable", "Programs can be downloaded and run. readonlyRootFilesystem stops that.", calm}
}

func namespaces(s asset.Settings) []trait {
	one := func(name, mode, ordinary, why string) trait {
		switch {
		case mode == "host":
			return trait{name, "the host's own", why, danger}
		case strings.HasPrefix(mode, "container:"):
			return trait{name, "shared with " + asset.ShortID(strings.TrimPrefix(mode, "container:")), "", warn}
		case mode == "":
			mode = ordinary
		}
		return trait{name, mode, "", good}
	}
	return []trait{
		one("Network", s.NetworkMode, "own", "Sees and uses every interface and listening socket of the host."),
		one("Processes", s.PIDMode, "own", "Sees, and as root signals and traces, every process of the host."),
		one("IPC", s.IPCMode, "own", "Reads and writes the shared memory of the host's processes."),
	}
}

func capabilities(s asset.Settings) trait {
	t := trait{Name: "Capabilities", Says: "the engine's default set", Tone: calm}
	var says []string
	if len(s.CapAdd) > 0 {
		says = append(says, "added "+strings.Join(s.CapAdd, ", "))
	}
	if len(s.CapDrop) > 0 {
		says = append(says, "dropped "+strings.Join(s.CapDrop, ", "))
		t.Tone = good
	}
	if len(says) > 0 {
		t.Says = strings.Join(says, "; ")
	}
	for _, c := range s.CapAdd {
		if riskyCapability(c) {
			t.Tone = danger
			t.Why = c + " opens ways out of the container."
			break
		}
	}
	return t
}

func confinement(s asset.Settings) trait {
	t := trait{Name: "Seccomp and AppArmor", Says: "the engine's defaults", Tone: good}
	var off []string
	for _, o := range s.SecurityOpt {
		if asset.Unconfined(o) {
			off = append(off, o)
		}
	}
	switch {
	case len(off) > 0:
		t = trait{t.Name, strings.Join(s.SecurityOpt, ", "), "Switched off: " + strings.Join(off, ", ") + ". Every system call is open to it.", danger}
	case len(s.SecurityOpt) > 0:
		t.Says = strings.Join(s.SecurityOpt, ", ")
	}
	return t
}

func limits(s asset.Settings) []trait {
	memory := trait{"Memory limit", "none", "One leak or attack can take the host's memory from its neighbours.", warn}
	if s.MemoryLimit > 0 {
		memory = trait{"Memory limit", size(uint64(s.MemoryLimit)), "", good}
	}
	pids := trait{"Process limit", "none", "A fork bomb in it takes the whole host down.", warn}
	if s.PidsLimit > 0 {
		pids = trait{"Process limit", count(s.PidsLimit), "", good}
	}
	return []trait{memory, pids}
}

// mountTrait says what a mount gives to the container.
func mountTrait(m asset.Mount) trait {
	t := trait{Name: m.Target, Says: m.Kind, Tone: calm}
	if m.Source != "" {
		t.Says = m.Kind + " of " + m.Source
	}
	if m.ReadOnly {
		t.Says += ", read-only"
	}
	switch {
	case m.Kind != "bind":
	case asset.EngineSocket(m.Source) != "":
		t.Tone, t.Why = danger, "Whoever can write to the engine's socket is root on the host."
	case asset.RulesHost(m.Source):
		t.Tone, t.Why = danger, "A part of the host that decides what the host does."
		if m.ReadOnly {
			t.Tone, t.Why = warn, "A part of the host that tells its secrets."
		}
	}
	return t
}

// portWords says where a port can be reached.
func portWords(p asset.Port) string {
	s := strconv.Itoa(int(p.Port)) + "/" + untrusted.Text(p.Protocol)
	if p.HostPort == 0 {
		return s
	}
	host := netip.AddrPortFrom(p.HostAddr, p.HostPort).String()
	if !p.HostAddr.IsValid() || p.HostAddr.IsUnspecified() {
		host = "every address of the host, port " + strconv.Itoa(int(p.HostPort))
	}
	return s + " on " + host
}
