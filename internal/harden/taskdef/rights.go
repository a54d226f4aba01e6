package taskdef

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

func (h *hardener) privileged() error {
	if isTrue(h.c, "privileged") {
		h.set(h.c, h.place, "privileged", false, "the capabilities that the group needs are given one by one")
		h.note(intent.Narrower, profile.ControlPrivilege, "privileged", "devices of the host are no longer there; name those that are needed in linuxParameters.devices")
	}
	return nil
}

// known are the capabilities that ECS takes: KernelCapabilities of its API.
var known = strings.Fields("AUDIT_CONTROL AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE " +
	"LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT " +
	"SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM")

// fargateAdds is the only capability that can be added on Fargate.
const fargateAdds = "SYS_PTRACE"

func (h *hardener) capabilities() error {
	var add []string
	needed := map[string]bool{}
	all := intent.Capabilities(h.p)
	for _, c := range all {
		needed[c.Name] = true
		switch {
		case !slices.Contains(known, c.Name):
			h.note(intent.Narrower, profile.ControlPrivilege, c.Name, "ECS can't give this capability, which is needed: %s", c.Why)
		case h.fargate && c.Name != fargateAdds && !event.IsOfContainers(c.Name):
			h.note(intent.Narrower, profile.ControlPrivilege, c.Name, "Fargate can't give this capability, which is needed: %s", c.Why)
		default:
			add = append(add, c.Name)
		}
	}
	if unseen := intent.Unseen(all); unseen != "" {
		h.note(intent.Wider, profile.ControlPrivilege, unseen, intent.UnseenWhy)
	}
	drop := []string{"ALL"}
	why := "the group needs no capability"
	if len(add) > 0 {
		why = "all but those that the group needs: " + strings.Join(add, ", ")
	}
	if h.fargate {
		keeps := slices.DeleteFunc(slices.Clone(add), func(c string) bool { return c == fargateAdds })
		add = slices.DeleteFunc(add, func(c string) bool { return c != fargateAdds })
		if len(keeps) > 0 { // they couldn't be added again
			drop = slices.DeleteFunc(event.OfContainers(), func(c string) bool { return needed[c] })
			why = "what the engine gives and the group does not need; on Fargate dropped ones can't be added again, and it needs " + strings.Join(keeps, ", ")
		}
	}
	linux, place, err := h.linux("for capabilities")
	if err != nil {
		return err
	}
	want := of("drop", texts(drop...))
	if len(add) > 0 {
		want = of("add", texts(add...), "drop", texts(drop...))
	}
	h.set(linux, place, "capabilities", want, "%s", why)
	return nil
}

func (h *hardener) user() error {
	var first []uint32
	for _, e := range h.p.Executables {
		if slices.Contains(e.Parents, "") {
			first = append(first, e.Users...)
		}
	}
	slices.Sort(first)
	first = slices.Compact(first)
	now, _ := h.c.get("user")
	named, _ := now.(string)
	uid, _, _ := strings.Cut(named, ":")
	switch {
	case len(first) == 0:
		h.note(intent.Advice, profile.ControlPrivilege, "user", "as which user the first process runs was not learned: nothing is said of it")
	case slices.Contains(first, 0) && len(first) == 1:
		h.note(intent.Advice, profile.ControlPrivilege, "user", "the first process runs as root: have the image say USER, if it can do without")
	case len(first) > 1:
		h.note(intent.Advice, profile.ControlPrivilege, "user", "the engine started processes as the users %s: nothing is said of it", joinUsers(first))
	case named == "":
		h.set(h.c, h.place, "user", strconv.FormatUint(uint64(first[0]), 10), "the first process always ran as user %d", first[0])
		h.note(intent.Advice, profile.ControlPrivilege, "user", "if the image's /etc/passwd does not have user %d, its group is root's: then say \"%d:GROUP\"", first[0], first[0])
	case uid == "root" || uid == "0":
		h.note(intent.Advice, profile.ControlPrivilege, "user", "the container starts as %s, and the first process was seen as user %d: one of the two is not of now", uid, first[0])
	case uid != strconv.FormatUint(uint64(first[0]), 10):
		h.note(intent.Advice, profile.ControlPrivilege, "user", "the first process ran as user %d, which %s should be", first[0], intent.Line(uid))
	}
	return nil
}

func joinUsers(users []uint32) string {
	var s []string
	for _, u := range users {
		s = append(s, strconv.FormatUint(uint64(u), 10))
	}
	return strings.Join(s, ", ")
}

// options are what the engine on EC2 takes beyond.
func (h *hardener) options() error {
	const key = "dockerSecurityOptions"
	if h.fargate {
		h.note(intent.Advice, profile.ControlPrivilege, key, "Fargate has no security options: castellan harden run puts the rules for Landlock in force there, and no_new_privs with them")
		return nil
	}
	items, err := h.listOf(h.c, h.place, key)
	if err != nil {
		return err
	}
	var want, why []string
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return invalid("read task definition: an item of %s is no text", within(h.place, key))
		}
		if !h.replaced(text) {
			want = append(want, text)
		}
	}
	if reason := intent.GainsByExec(h.p); reason != "" {
		h.note(intent.Wider, profile.ControlPrivilege, "no-new-privileges", "left out: a program gives rights to who runs it (%s)", reason)
	} else if !slices.Contains(want, "no-new-privileges") && !slices.Contains(want, "no-new-privileges:true") {
		want, why = append(want, "no-new-privileges"), append(why, "no program gives rights to who runs it")
	}
	switch h.o.Module {
	case AppArmor:
		want, why = append(want, "apparmor:"+h.o.AppArmor), append(why, "the profile for AppArmor")
		h.note(intent.Advice, "", key, "the task is placed only on hosts with ECS_APPARMOR_CAPABLE=true, and starts only where the profile %s is loaded", h.o.AppArmor)
	case SELinux:
		want, why = append(want, "label:type:"+h.o.SELinux), append(why, "the module for SELinux")
		h.note(intent.Advice, "", key, "the task is placed only on hosts with ECS_SELINUX_CAPABLE=true, and starts only where the module with the type %s is loaded", h.o.SELinux)
	}
	if len(want) > 0 {
		h.set(h.c, h.place, key, texts(want...), "%s", orKept(why))
	}
	return nil
}

func orKept(why []string) string {
	if len(why) == 0 {
		return "as it was, without what is said anew"
	}
	return strings.Join(why, "; ")
}

// replaced reports whether an option is one that is said anew.
func (h *hardener) replaced(option string) bool {
	return h.o.Module == AppArmor && strings.HasPrefix(option, "apparmor:") || h.o.Module == SELinux && strings.HasPrefix(option, "label:type:")
}

// inits are programs that reap what others leave.
var inits = strings.Fields("init systemd tini tini-static dumb-init docker-init s6-svscan catatonit runit runsvdir supervisord")

// init has the engine start an init, where the first process has children.
func (h *hardener) init() error {
	var children profile.Pattern
	for _, first := range h.p.Executables {
		if !slices.Contains(first.Parents, "") {
			continue
		}
		if slices.Contains(inits, path.Base(string(first.Path))) {
			return nil
		}
		for _, e := range h.p.Executables {
			if slices.ContainsFunc(e.Parents, func(up profile.Pattern) bool {
				return up != "" && intent.Overlap(first.Path, up) && first.Path.Covers(up)
			}) {
				children = first.Path
			}
		}
	}
	if children == "" {
		return nil
	}
	linux, place, err := h.linux("for the first process")
	if err != nil {
		return err
	}
	if _, said := linux.get("initProcessEnabled"); !said {
		h.set(linux, place, "initProcessEnabled", true, "%s starts others and is no init: what they leave behind would fill the table of processes", intent.Line(string(children)))
	}
	return nil
}

func (h *hardener) terminal() error {
	for _, key := range []string{"pseudoTerminal", "interactive"} {
		if isTrue(h.c, key) {
			h.set(h.c, h.place, key, false, "a service has nobody at its terminal")
		}
	}
	return nil
}

// host notes what is shared with the host, which is the task's and not one
// container's.
func (h *hardener) host() error {
	for _, key := range []string{"pidMode", "ipcMode", "networkMode"} {
		if v, _ := h.task.get(key); v == "host" {
			h.note(intent.Wider, profile.ControlPrivilege, key, "the task shares the host's: it is left as it is, since it holds for all containers of the task; awsvpc and no %s keep them apart", key)
		}
	}
	if linux, err := h.objectOf(h.c, h.place, "linuxParameters"); err == nil && linux != nil {
		if devices, err := h.listOf(linux, within(h.place, "linuxParameters"), "devices"); err == nil && len(devices) > 0 {
			h.note(intent.Wider, profile.ControlPrivilege, "devices", "the container has %d devices of the host: leave out those that it does without", len(devices))
		}
	}
	h.note(intent.Wider, profile.ControlExec, "", "which programs run is not a task definition's: the profiles for AppArmor and Landlock hold them")
	h.note(intent.Wider, profile.ControlNetwork, "", "ports and peers are the security groups': %s", said(intent.NetworkOf(h.p)))
	return nil
}

func said(n intent.Network) string {
	return fmt.Sprintf("the group opens %s and connects to %s", ranges(n.Binds), ranges(n.Connects))
}

// ranges names TCP ports.
func ranges(ports []profile.Ports) string {
	if len(ports) == 0 {
		return "no TCP port"
	}
	var s []string
	for _, r := range ports {
		if r.First == r.Last {
			s = append(s, strconv.Itoa(int(r.First)))
		} else {
			s = append(s, fmt.Sprintf("%d to %d", r.First, r.Last))
		}
	}
	if len(s) == 1 && ports[0].First == ports[0].Last {
		return "TCP port " + s[0]
	}
	return "TCP ports " + strings.Join(s, ", ")
}
