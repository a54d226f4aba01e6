package authz

import (
	"encoding/json"
	"slices"
	"strings"
)

// securityOptions writes security options in one form, "key=value", however they
// are asked for: older clients write a colon, and the paths that the engine hides
// and protects are lists of their own.
func securityOptions(h *hostConfig) []string {
	var out []string
	for _, opt := range h.SecurityOpt {
		out = append(out, bounded(securityOption(opt)))
	}
	if !h.Privileged && (uncovers(h.MaskedPaths, masked()) || uncovers(h.ReadonlyPaths, protected())) {
		out = append(out, "systempaths=unconfined")
	}
	return out
}

func securityOption(opt string) string {
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

// seccomp names a profile that is given whole: one that lets everything pass
// that it doesn't name is none.
func seccomp(profile string) string {
	var p struct{ DefaultAction string }
	if json.Unmarshal([]byte(profile), &p) != nil {
		return "unreadable"
	}
	switch p.DefaultAction {
	case "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "":
		return "unconfined"
	}
	return "profile"
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
