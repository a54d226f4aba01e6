package authz

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
)

// securityOptions writes security options in one form, "key=value", however they
// are asked for: older clients write a colon, and the paths that the engine hides
// and protects are lists of their own.
func securityOptions(h *hostConfig) []string {
	var out []string
	for _, opt := range h.SecurityOpt {
		opt = bounded(securityOption(opt))
		if strings.HasPrefix(opt, noNewPrivileges) { // the last one counts
			out = slices.DeleteFunc(out, func(o string) bool { return strings.HasPrefix(o, noNewPrivileges) })
		}
		out = append(out, opt)
	}
	if !h.Privileged && (uncovers(h.MaskedPaths, masked()) || uncovers(h.ReadonlyPaths, protected())) {
		out = append(out, "systempaths=unconfined")
	}
	return out
}

const noNewPrivileges = "no-new-privileges"

func securityOption(opt string) string {
	switch opt {
	case "disable": // of labels, from before options had names
		return "label=disable"
	case "writable-cgroups": // of engines from 29 on
		return "writable-cgroups=true"
	}
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, ok = strings.Cut(opt, ":")
	}
	if !ok {
		return opt
	}
	if key == "seccomp" && strings.HasPrefix(strings.TrimSpace(value), "{") {
		value = seccomp(value)
	}
	return key + "=" + value
}

// seccomp names a profile that is given whole: one that does not stop what it
// doesn't name is none, and neither is one that names what no container needs.
func seccomp(profile string) string {
	var p struct {
		DefaultAction string
		Syscalls      []struct {
			Name     string
			Names    []string
			Action   string
			Includes struct{ Caps []string }
		}
	}
	if json.Unmarshal([]byte(profile), &p) != nil {
		return "unreadable"
	}
	if !stops(p.DefaultAction) {
		return "unconfined"
	}
	for _, s := range p.Syscalls {
		if !stops(s.Action) && !slices.ContainsFunc(s.Includes.Caps, special) && slices.ContainsFunc(append(s.Names, s.Name), rulesKernel) {
			return "unconfined"
		}
	}
	return "profile"
}

// special says that a capability is none of those that containers have unless they are
// taken from them: only then is it a condition that they get it.
func special(capability string) bool {
	name, full := strings.CutPrefix(capability, "CAP_")
	return !full || !event.IsOfContainers(name)
}

// stops says that an action keeps a call from the kernel.
func stops(action string) bool {
	return action == "SCMP_ACT_ERRNO" || action == "SCMP_ACT_TRAP" || strings.HasPrefix(action, "SCMP_ACT_KILL")
}

// rulesKernel says that a call is to replace the kernel or parts of it: the usual
// profile lets nobody have it without a capability, and who lists it lists all.
func rulesKernel(call string) bool {
	switch call {
	case "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "open_by_handle_at", "iopl", "ioperm":
		return true
	}
	return false
}

// masked are the paths that engines hide at the least, protected those that they
// make read-only: what all engines since 20.10 have in common.
func masked() []string {
	return []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"}
}

func protected() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// uncovers says that a list is there, in the place of the engine's own, and
// leaves out what that has.
func uncovers(list *[]string, least []string) bool {
	if list == nil {
		return false
	}
	return slices.ContainsFunc(least, func(p string) bool { return !slices.Contains(*list, p) })
}
