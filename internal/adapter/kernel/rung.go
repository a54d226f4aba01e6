package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// offer is the answer to one probe.
type offer struct {
	ok  bool
	why string // what was asked, and what it answered
}

// offers are the answers on which the ladder stands.
type offers struct {
	lsm, signal, cgroup, tcx, fanotify offer
	landlock                           int
}

// offers probes the kernel.
func (h *Host) offers(f findings) offers {
	o := offers{
		lsm:    offer{why: "BPF is not among the active security modules"},
		signal: offer{why: "no BTF"},
		cgroup: h.cgroupOffer(f),
		tcx:    h.try(probeTCX, "a BPF program at a network device (TCX)"),
	}
	if slices.Contains(f.lsms, "bpf") {
		o.lsm = h.try(probeLSM, "a BPF security module program")
	}
	if f.btf {
		o.signal = h.try(probeTPBTF, "a BPF program at exec")
	}
	if err := permissionEvents(); err != nil {
		o.fanotify = offer{why: "fanotify refuses permission events (" + err.Error() + ")"}
	} else {
		o.fanotify = offer{ok: true, why: "fanotify takes permission events"}
	}
	o.landlock = landlockABI()
	return o
}

// try asks the probe.
func (h *Host) try(kind, what string) offer { return answer(what, h.probe(kind)) }

// cgroupOffer needs a cgroup tree of version 2 to attach to, which on hosts with
// version 1 stands beside it.
func (h *Host) cgroupOffer(f findings) offer {
	if f.cgroup != cgroupHybrid && f.cgroup != cgroupV2 {
		return offer{why: "no cgroup version 2 to which a BPF program could be attached"}
	}
	return h.try(probeCgroup, "a BPF program for a cgroup")
}

// answer puts the result of a probe in words.
func answer(what string, err error) offer {
	if err != nil {
		return offer{why: what + " was refused (" + text(err.Error()) + ")"}
	}
	return offer{ok: true, why: what + " was taken"}
}

// step is one rung of a control.
type step struct {
	name  string
	offer offer
	// used says that this version holds containers by it: internal/adapter/bpf.
	used bool
}

// rungs returns the best rung of each control. One by which this version does not hold
// containers does not enforce. By which a group of containers is held it says itself
// (profile.HeldControl): the kernel may yet refuse the programs.
func rungs(f findings) []asset.Rung {
	o := f.offers
	return []asset.Rung{
		climb("exec", "",
			step{"BPF LSM (refused before it starts)", o.lsm, true},
			step{"signal at exec (killed before its first instruction)", o.signal, true},
			step{"fanotify (refused when opened)", o.fanotify, false}),
		climb("file", landlockNote(o.landlock),
			step{"BPF LSM", o.lsm, true}),
		climb("network", "",
			step{"cgroup BPF (connect, sendmsg, bind)", o.cgroup, true},
			step{"TCX in the task's network namespace", o.tcx, false}),
		climb("privilege", "",
			step{"BPF LSM", o.lsm, true},
			step{"signal at the system call", o.signal, true},
			step{"seccomp and AppArmor profiles at start", profiles(f.lsms), false}),
	}
}

const reportOnly = "report only"

// climb takes the highest step that the kernel offers and tells why the higher
// ones are not it.
func climb(control, note string, steps ...step) asset.Rung {
	var why []string
	best := step{name: reportOnly}
	for _, s := range steps {
		why = append(why, s.offer.why)
		if s.offer.ok {
			best = s
			break
		}
	}
	end := "offered by this kernel; not used yet, this version only reports"
	switch {
	case best.used:
		end = "groups whose mode is protect are held by it"
	case best.name == reportOnly:
		end = "nothing that could enforce was found"
	}
	if note != "" {
		why = append(why, note)
	}
	return asset.Rung{Control: control, Best: best.name, Enforces: best.used, Why: strings.Join(append(why, end), "; ")}
}

// profiles is always offered: the engine applies seccomp profiles on every
// kernel that runs containers.
func profiles(lsms []string) offer {
	if slices.Contains(lsms, "apparmor") {
		return offer{ok: true, why: "seccomp and AppArmor are active"}
	}
	return offer{ok: true, why: "seccomp is there, AppArmor is not active"}
}

func landlockNote(abi int) string {
	if abi == 0 {
		return "no Landlock"
	}
	return fmt.Sprintf("Landlock version %d is there for programs that confine themselves", abi)
}

// needed are the capabilities that the sensors and the listing of processes
// rest on.
const needed event.Capabilities = 1<<19 | 1<<38 | 1<<39 // SYS_PTRACE, PERFMON, BPF

// admin is CAP_SYS_ADMIN, which stands in for PERFMON and BPF, and is their
// only name before kernel 5.8.
const (
	admin          event.Capabilities = 1 << 21
	adminStandsFor event.Capabilities = 1<<38 | 1<<39
)

// missing says in sentences what this machine can't give and what that means.
func missing(f findings) []string {
	var m []string
	own := f.own
	if own&admin != 0 {
		own |= adminStandsFor
	}
	if lacking := needed &^ own; lacking != 0 {
		m = append(m, "the agent lacks the capabilities "+strings.Join(lacking.Names(), ", ")+
			": the process sensor can't run and other users' processes are seen in part; run the agent as root")
	}
	if !f.btf {
		m = append(m, "no BTF at "+f.btfPath+": the process sensor can't run; "+
			"use a kernel with CONFIG_DEBUG_INFO_BTF, e.g. Amazon Linux 2023")
	}
	switch {
	case !f.lsmKnown:
		m = append(m, "no list of security modules at "+f.lsmPath+": whether BPF LSM is active is unknown and it "+
			"won't be used; mount it (mount -t securityfs none "+strings.TrimSuffix(f.lsmPath, "/lsm")+")")
	case !slices.Contains(f.lsms, "bpf"):
		m = append(m, "BPF is not among the active security modules ("+strings.Join(f.lsms, ",")+"): starting a program "+
			"can't be denied, only ended at once; start the kernel with bpf added to its lsm= list")
	case !f.offers.lsm.ok && f.offers.lsm.why != "":
		m = append(m, "BPF is an active security module, but "+f.offers.lsm.why+
			": starting a program can't be denied, only ended at once; use a kernel with BPF trampolines, e.g. Amazon Linux 2023")
	}
	if f.cgroup == "" {
		m = append(m, "no cgroup file system is mounted: processes can't be told apart by container; mount one")
	}
	if f.guest {
		m = append(m, f.proc+" shows the processes of a container, not of the host: what ran before the agent started "+
			"stays unknown; run the agent with the host's pid namespace (docker run --pid=host, pidMode: host)")
	}
	return m
}
