// Package selinux writes a profile of behaviour as a module for SELinux in its
// common intermediate language (CIL), in the manner of udica: a type for the
// group that inherits what every container may, and on top what was learned.
//
// It is not for files within a container's root: all of them have one label, and
// so SELinux can't tell them apart.
package selinux

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// Name returns the name of the block, which is that of the module. The type of
// the group's processes is process within it.
func Name(p *profile.Profile) string { return intent.Name(p.Group, '_') }

// Type returns the type of the group's processes.
func Type(p *profile.Profile) string { return Name(p) + ".process" }

type writer struct {
	strings.Builder
	p     *profile.Profile
	notes []intent.Note
}

// Write returns the module, and what it can't say.
func Write(p *profile.Profile) (string, []intent.Note) {
	w := &writer{p: p}
	fmt.Fprintf(w, `; SELinux module of %s, from revision %d of its profile.
; Written by castellan harden: change the profile and write it again, not this file.
; On every host, with container-selinux and udica's templates:
;   semodule -i %s.cil /usr/share/udica/templates/base_container.cil
; In the task definition: "dockerSecurityOptions": ["label:type:%s"]

(block %s
    ; what every container may: files of its own root and its volumes
    (blockinherit container)
`, intent.Line(string(p.Group)), p.Revision, Name(p), Type(p), Name(p))
	w.capabilities()
	w.network()
	if intent.Has(p, event.KindPtrace, event.KindProcessWrite) {
		w.part("tracing was learned")
		w.line("(allow process process (process (ptrace)))")
	}
	w.WriteString(")\n")
	w.unsaid()
	return w.String(), w.notes
}

func (w *writer) note(e intent.Effect, c profile.Control, about, format string, args ...any) {
	w.notes = append(w.notes, intent.Note{Effect: e, Control: c, About: about, Text: fmt.Sprintf(format, args...)})
}

func (w *writer) part(what string) { fmt.Fprintf(w, "\n    ; %s\n", what) }

func (w *writer) line(format string, args ...any) { fmt.Fprintf(w, "    "+format+"\n", args...) }

// second are the capabilities of class capability2, and younger those of them
// that base policies before 2020 don't have.
const (
	first = " chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast " +
		"net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource " +
		"sys_time sys_tty_config mknod lease audit_write audit_control setfcap "
	second  = " mac_override mac_admin syslog wake_alarm block_suspend audit_read "
	younger = " perfmon bpf checkpoint_restore "
)

func (w *writer) capabilities() {
	classes := map[string][]string{}
	all := intent.Capabilities(w.p)
	for _, c := range all {
		name := strings.ToLower(c.Name)
		switch has := func(list string) bool { return strings.Contains(list, " "+name+" ") }; {
		case has(first):
			classes["capability"] = append(classes["capability"], name)
		case has(second):
			classes["capability2"] = append(classes["capability2"], name)
		case has(younger):
			classes["younger"] = append(classes["younger"], name)
		default:
			w.note(intent.Narrower, profile.ControlPrivilege, c.Name, "SELinux has no word for this capability: it is refused")
		}
	}
	if unseen := intent.Unseen(all); unseen != "" {
		w.note(intent.Wider, profile.ControlPrivilege, unseen, intent.UnseenWhy)
	}
	if len(classes) > 0 {
		w.part("capabilities")
	}
	for _, class := range []string{"capability", "capability2"} {
		if len(classes[class]) > 0 {
			w.line("(allow process process (%s (%s)))", class, strings.Join(classes[class], " "))
		}
	}
	if len(classes["younger"]) > 0 {
		w.line("(optional younger_capabilities (allow process process (capability2 (%s))))", strings.Join(classes["younger"], " "))
	}
}

const (
	streams   = "accept append bind connect create getattr getopt ioctl listen lock read setattr setopt shutdown write"
	datagrams = "append bind connect create getattr getopt ioctl lock read setattr setopt shutdown write"
)

func (w *writer) network() {
	n := intent.NetworkOf(w.p)
	if !n.Any() {
		return
	}
	w.part("protocols")
	w.line("(allow process process (netlink_route_socket (bind create getattr getopt nlmsg_read read setopt write)))")
	if n.TCP {
		w.line("(allow process process (tcp_socket (%s)))", streams)
		w.line("(allow process node_t (tcp_socket (node_bind)))")
	}
	if n.UDP {
		w.line("(allow process process (udp_socket (%s)))", datagrams)
		w.line("(allow process node_t (udp_socket (node_bind)))")
	}
	if n.Raw {
		w.line("(allow process process (rawip_socket (%s)))", datagrams)
		w.line("(allow process process (packet_socket (%s)))", datagrams)
	}
	for _, a := range []struct {
		ports       []profile.Ports
		class, does string
	}{
		{n.Binds, "tcp_socket", "name_bind"}, {n.UDPBinds, "udp_socket", "name_bind"}, {n.Connects, "tcp_socket", "name_connect"},
	} {
		for _, typ := range typesOf(a.class, a.ports) {
			w.line("(allow process %s (%s (%s)))", typ, a.class, a.does)
		}
	}
	w.note(intent.Wider, profile.ControlNetwork, "", "ports are permitted by their type in the host's policy, which are several in most (%s); on a host whose administrator gave ports other types (semanage port) they have to be given here too",
		strings.Join(w.all(n), ", "))
	w.note(intent.Wider, profile.ControlNetwork, "", "any address and any name of these protocols; of UDP all ports may be sent to")
}

// all lists the port types that are used.
func (w *writer) all(n intent.Network) []string {
	types := slices.Concat(typesOf("tcp_socket", n.Binds), typesOf("udp_socket", n.UDPBinds), typesOf("tcp_socket", n.Connects))
	slices.Sort(types)
	return slices.Compact(types)
}

func (w *writer) unsaid() {
	w.note(intent.Wider, profile.ControlFile, "", "all files of the container's root and its volumes may be read and written as far as their modes let: they have one label; the read-only root of the task definition and the AppArmor profile hold them")
	w.note(intent.Wider, profile.ControlExec, "", "any file of the container may run, and memory may be made executable: the label of programs is that of all its files")
	w.note(intent.Wider, profile.ControlPrivilege, "", "system calls are not SELinux's: the seccomp profile holds them")
	w.note(intent.Wider, profile.ControlResource, "", "limits are not SELinux's: the task definition has them")
	if intent.Has(w.p, event.KindMount, event.KindUmount, event.KindPivotRoot, event.KindModule, event.KindBPF, event.KindKernelKnob, event.KindDevice) {
		w.note(intent.Narrower, profile.ControlPrivilege, "", "mounts, modules, BPF, devices and knobs of the kernel are refused although they were learned: a type of their own would have to be written for what they touch")
	}
	w.note(intent.Advice, profile.ControlFile, "", "a profile does not have the host's side of mounts: label folders of the host that are mounted, semanage fcontext -a -t container_file_t 'FOLDER(/.*)?' and restorecon -R FOLDER")
	w.note(intent.Advice, "", "", "the hosts need docker --selinux-enabled and ECS_SELINUX_CAPABLE=true; Bottlerocket's policy takes no modules")
}
