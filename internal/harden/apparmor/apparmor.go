// Package apparmor writes a profile of behaviour as an AppArmor profile, for the
// containers of a group.
//
// It permits as a person who writes such profiles does: reading broadly but for
// sensitive files that nothing was learned to read, and writing, running,
// capabilities, protocols and mounts only as learned. What every container needs
// from its engine is in each.
package apparmor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// Name returns the name of a group's AppArmor profile.
func Name(p *profile.Profile) string { return intent.Name(p.Group, '.') }

// writer writes one profile.
type writer struct {
	strings.Builder
	p     *profile.Profile
	notes []intent.Note
}

// Write returns the AppArmor profile, and what it can't say.
func Write(p *profile.Profile) (string, []intent.Note) {
	w := &writer{p: p}
	w.head()
	w.engine()
	w.reads()
	w.executables()
	w.writes()
	w.sensitive()
	w.network()
	w.capabilities()
	w.privileges()
	w.WriteString("}\n")
	w.unsaid()
	return w.String(), w.notes
}

func (w *writer) note(e intent.Effect, c profile.Control, about profile.Pattern, format string, args ...any) {
	w.notes = append(w.notes, intent.Note{Effect: e, Control: c, About: string(about), Text: fmt.Sprintf(format, args...)})
}

// rule writes one rule, with what it is for.
func (w *writer) rule(why, format string, args ...any) {
	fmt.Fprintf(w, "  "+format+",", args...)
	if why != "" {
		w.WriteString("  # " + why)
	}
	w.WriteByte('\n')
}

// about begins a part.
func (w *writer) about(format string, args ...any) {
	fmt.Fprintf(w, "\n  # "+format+"\n", args...)
}

func (w *writer) head() {
	fmt.Fprintf(w, `# AppArmor profile of %s, from revision %d of its profile.
# Written by castellan harden: change the profile and write it again, not this file.
# On every host: apparmor_parser --replace --write-cache FILE
# In the task definition: "dockerSecurityOptions": ["apparmor:%s"]

abi <abi/3.0>,

profile %s flags=(attach_disconnected,mediate_deleted) {
`, intent.Line(string(w.p.Group)), w.p.Revision, Name(w.p), Name(w.p))
}

// guarded are parts of the host's kernel that no container changes, and what of
// them it may not even read. One that the profile writes in is left out.
var guarded = []struct{ path, access string }{
	{"/proc/sysrq-trigger", "rwklx"}, {"/proc/kcore", "rwklx"}, {"/proc/kmem", "rwklx"}, {"/proc/mem", "rwklx"},
	{"/sys/firmware/**", "rwklx"}, {"/sys/kernel/security/**", "rwklx"}, {"/sys/devices/virtual/powercap/**", "rwklx"},
	{"/proc/sys/**", "wkl"}, {"/sys/**", "wkl"},
}

func (w *writer) engine() {
	w.about("What the engine and every container need.")
	for _, peer := range []string{"unconfined", "runc", "crun", "docker-default"} {
		w.rule("", "signal (receive) peer=%s", peer)
	}
	w.rule("among its own processes", "signal (send, receive) peer=%s", Name(w.p))
	w.rule("ps and its like", "ptrace (read, readby) peer=%s", Name(w.p))
	w.rule("", `"/dev/{null,zero,full,random,urandom,tty,console,ptmx}" rw`)
	w.rule("", `"/dev/pts/{,*}" rw`)
	w.about("What belongs to the host.")
	for _, g := range guarded {
		inside := slices.ContainsFunc(slices.Concat(w.p.Writes, w.p.Reads), func(f profile.File) bool {
			return profile.Pattern(g.path).Covers(f.Path)
		})
		if !inside {
			w.rule("", "deny %s %s", quoted(profile.Pattern(g.path), ""), g.access)
		}
	}
}

// reads permits reading and mapping broadly: which files are read is learned of
// sensitive ones alone.
func (w *writer) reads() {
	w.about("Reading, locking and mapping libraries: only the reading of sensitive files is learned.")
	w.rule("", `"/{,**}" rmk`)
}

func (w *writer) executables() {
	w.about("Programs. Each goes on in this profile (ix): it holds the group, not one program.")
	scripts := map[profile.Pattern]bool{}
	for _, e := range w.p.Executables {
		tail := ""
		if e.Origin == event.OriginMemory {
			tail = "{, (deleted)}"
		}
		w.rule(string(e.Origin)+": "+intent.Origin(e.Evidence), "%s mrix", quoted(e.Path, tail))
		if e.Origin != event.OriginImage {
			w.note(intent.Wider, profile.ControlExec, e.Path, "it may run whatever its content is: AppArmor knows files by their paths")
		}
		for _, s := range e.Scripts {
			if !scripts[s] {
				scripts[s] = true
				w.rule("a script of "+intent.Line(string(e.Path)), "%s mrix", quoted(s, ""))
			}
		}
	}
}

func (w *writer) writes() {
	w.about("Files and folders that are made, changed, renamed, deleted.")
	mapped := intent.Has(w.p, event.KindExecMap)
	var data []profile.Pattern
	for _, f := range w.p.Writes {
		tail := "{,/}" // a folder's path ends with a slash
		if strings.HasSuffix(string(f.Path), "/**") || f.Path == "/" {
			tail = ""
		}
		w.rule(intent.Origin(f.Evidence), "%s rwkl", quoted(f.Path, tail))
		if folder, ok := f.Path.Folder(); ok {
			w.rule("the folder itself, which a new volume lacks", "%s rw", quoted(folder, "/"))
		}
		runs := w.runsIn(f.Path)
		switch {
		case runs != "":
			w.note(intent.Wider, profile.ControlExec, f.Path, "what is written over %s may run: AppArmor knows files by their paths", runs)
		case mapped:
		case intent.Scratch(f.Path):
			data = append(data, f.Path)
		default:
			w.note(intent.Wider, profile.ControlExec, f.Path, "what is written there may be mapped as code: the image may have libraries there")
		}
	}
	if mapped {
		w.note(intent.Wider, profile.ControlExec, "", "written files may be mapped as code anywhere: %s was learned", event.KindExecMap)
		return
	}
	w.about("What was written is not code.")
	for _, d := range data {
		w.rule("", "deny %s m", quoted(d, ""))
	}
}

// runsIn returns a program or script that a pattern of written files can stand
// for.
func (w *writer) runsIn(written profile.Pattern) profile.Pattern {
	for _, e := range w.p.Executables {
		if intent.Overlap(written, e.Path) {
			return e.Path
		}
		for _, s := range e.Scripts {
			if intent.Overlap(written, s) {
				return s
			}
		}
	}
	return ""
}

func (w *writer) sensitive() {
	w.about("Sensitive files that nothing was learned to read.")
	unread, read := intent.Unread(w.p)
	var open []intent.Sensitive
	for _, s := range unread {
		w.rule(s.Name, "deny %s r", place(s))
	}
	for _, s := range read {
		if names, ok := w.namesIn(s); ok {
			w.rule(s.Name+", but for what is read", `deny "%s/{%s}" r`, glob(string(intent.Folder(s.Path))), strings.Join(allBut(names), ","))
			continue
		}
		open = append(open, s)
	}
	if len(open) > 0 {
		w.note(intent.Wider, profile.ControlFile, profile.Pattern(intent.Paths(open)), "all such files may be read, because some are: AppArmor refuses before it permits")
	}
	w.note(intent.Wider, profile.ControlFile, "", "keys that are known by their ending alone (%s) may be read: certificates end so too", intent.ByEnding)
}

func place(s intent.Sensitive) string {
	if s.Anywhere {
		return `"/{,**/}` + glob(strings.TrimPrefix(string(s.Path), "/")) + `"`
	}
	return quoted(s.Path, "")
}

// namesIn returns the names in a sensitive folder that are read, if they can be
// told: all are whole names directly in it.
func (w *writer) namesIn(s intent.Sensitive) (names []string, ok bool) {
	folder := intent.Folder(s.Path)
	if s.Anywhere || s.Path != folder+"/*" {
		return nil, false
	}
	for _, f := range w.p.Reads {
		if !intent.Overlap(s.Path, f.Path) {
			continue
		}
		if !f.Path.Exact() {
			return nil, false
		}
		names = append(names, f.Path.Names()[len(f.Path.Names())-1])
	}
	return names, true
}

func (w *writer) network() {
	n := intent.NetworkOf(w.p)
	w.about("Protocols. What is within the host (unix, netlink) is not learned.")
	w.rule("", "network unix")
	w.rule("", "network netlink")
	if n.TCP {
		w.rule("tcp", "network inet stream")
		w.rule("tcp", "network inet6 stream")
	}
	if n.Any() {
		why := "udp"
		if !n.UDP {
			why = "not learned: programs ask the kernel about its addresses by such sockets"
			w.note(intent.Wider, profile.ControlNetwork, "udp", "UDP is permitted: the C library asks the kernel by such sockets which address is its own")
		}
		w.rule(why, "network inet dgram")
		w.rule(why, "network inet6 dgram")
	}
	if n.Raw {
		for _, s := range []string{"inet raw", "inet6 raw", "packet"} {
			w.rule("raw sockets", "network "+s)
		}
	}
	if n.Any() {
		w.note(intent.Wider, profile.ControlNetwork, "", "any port and any peer of these protocols: AppArmor knows neither ports nor addresses nor names")
	}
}

// known are the capabilities that the parser of AppArmor 3 has words for.
const known = " audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override dac_read_search fowner fsetid " +
	"ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override mknod net_admin net_bind_service net_broadcast net_raw perfmon " +
	"setfcap setgid setpcap setuid sys_admin sys_boot sys_chroot sys_module sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time " +
	"sys_tty_config syslog wake_alarm "

func (w *writer) capabilities() {
	w.about("Capabilities.")
	all := intent.Capabilities(w.p)
	for _, c := range all {
		name := strings.ToLower(c.Name)
		if !strings.Contains(known, " "+name+" ") {
			w.note(intent.Narrower, profile.ControlPrivilege, profile.Pattern(c.Name), "AppArmor 3 has no word for this capability: it is refused")
			continue
		}
		w.rule(c.Why, "capability %s", name)
	}
	if unseen := intent.Unseen(all); unseen != "" {
		w.note(intent.Wider, profile.ControlPrivilege, profile.Pattern(unseen), intent.UnseenWhy)
	}
}

// kindRules are what privileged calls need beside capabilities.
var kindRules = []struct {
	kind  event.Kind
	rules []string
}{
	{event.KindMount, []string{"mount", "remount"}},
	{event.KindUmount, []string{"umount"}},
	{event.KindPivotRoot, []string{"pivot_root"}},
}

func (w *writer) privileges() {
	w.about("Mounts and tracing.")
	for _, k := range kindRules {
		for _, r := range k.rules {
			if intent.Has(w.p, k.kind) {
				w.rule(string(k.kind), "%s", r)
			} else {
				w.rule("", "deny %s", r)
			}
		}
	}
	if intent.Has(w.p, event.KindPtrace, event.KindProcessWrite) {
		w.rule("learned", "ptrace (trace, tracedby) peer=%s", Name(w.p))
	}
}

// outside are privileged calls that AppArmor has no rules for.
var outside = []event.Kind{
	event.KindUnshare, event.KindSetns, event.KindClone, event.KindProcessWrite, event.KindBPF, event.KindPerf, event.KindKeyring,
	event.KindUserfault, event.KindIOURing, event.KindMemfd,
}

// unsaid notes what the language has no words for.
func (w *writer) unsaid() {
	w.note(intent.Wider, profile.ControlExec, "", "any program may start any of these, as any user: who starts what is not held")
	w.note(intent.Wider, profile.ControlExec, "", "what the engine itself starts (the first process, docker exec, ECS Exec) runs even if it is not listed")
	w.note(intent.Wider, profile.ControlFile, "", "any program may write what one of them was learned to write")
	var kinds []string
	for _, k := range outside {
		if !intent.Has(w.p, k) {
			kinds = append(kinds, string(k))
		}
	}
	w.note(intent.Wider, profile.ControlPrivilege, profile.Pattern(strings.Join(kinds, ", ")), "not held by AppArmor 3 beyond their capabilities: the seccomp profile refuses them")
	w.note(intent.Wider, profile.ControlPrivilege, profile.Pattern(event.KindExecProtect), "memory that was written may be made executable: AppArmor knows files alone")
	if intent.Has(w.p, event.KindModule, event.KindKexec, event.KindKernelKnob) {
		w.note(intent.Advice, profile.ControlPrivilege, "", "the profile changes the host's kernel: it is hardly a container any more")
	}
	w.note(intent.Narrower, profile.ControlNetwork, "unix", "kernels with AppArmor's own rules for unix sockets (Ubuntu's) refuse sockets with a path outside the folders that are written: permit the socket's path as a file that is written")
	w.note(intent.Wider, profile.ControlResource, "", "limits are not AppArmor's: the task definition has them")
}
