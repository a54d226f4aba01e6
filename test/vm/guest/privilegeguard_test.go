package guest_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// privilegeDeed is a privileged call, and as what it is told.
type privilegeDeed struct {
	step   string
	kind   event.Kind
	killed bool // there is no hook for it: who makes it is killed, on every rung
}

// privilegeDeeds need the kinds of privileges; those whose call fails for another
// reason are told all the same.
func privilegeDeeds() []privilegeDeed {
	return []privilegeDeed{
		{"tmpfs=/data/m", event.KindMount, false},
		{"assemble=/data", event.KindMount, true},
		{"bind=/etc,/data", event.KindMount, false},
		{"unmount=/proc", event.KindUmount, false},
		{"pivot=/data", event.KindPivotRoot, false},
		{"chroot=/data", event.KindPivotRoot, false},
		{"leave=uts", event.KindUnshare, true},
		{"clone=", event.KindClone, true},
		{"join=uts", event.KindSetns, true},
		{"trace=", event.KindPtrace, false},
		{"peek=", event.KindProcessWrite, false},
		{"widejoin=uts", event.KindSetns, true},
		{"widepeek=", event.KindProcessWrite, false},
		{"module=/bin/subject", event.KindModule, false},
		{"bpf=", event.KindBPF, false},
		{"perf=", event.KindPerf, false},
		{"key=", event.KindKeyring, false},
		{"faults=", event.KindUserfault, false},
		{"newring=", event.KindIOURing, false},
		{"user=7", event.KindUser, false},
		{"write=/proc/sys/kernel/hostname", event.KindKernelKnob, false},
		{"read=/dev/kmsg", event.KindDevice, false},
	}
}

// narrowDeeds are some of them by calls of 32-bit programs, on processors that have such.
func narrowDeeds() []privilegeDeed {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	return []privilegeDeed{
		{"narrow=mount,/data", event.KindMount, false},
		{"narrow=trace", event.KindPtrace, false},
		{"narrow=join", event.KindSetns, true},
	}
}

// allCapabilities are those of the tests' containers, which have all.
const allCapabilities = event.Capabilities(1<<41 - 1)

func TestPrivilegesAreHeld(t *testing.T) {
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlPrivilege, bpf.OpenPrivilegeGuard)
	hooked := refusesCalls()
	all := profile.PrivilegeRules{Capabilities: allCapabilities}
	g.set(profile.Deny, profile.Rules{Privilege: all})
	first := g.new(t, roots)
	for _, d := range append(privilegeDeeds(), narrowDeeds()...) {
		t.Run(string(d.kind)+" "+strings.ReplaceAll(d.step, "/", "."), func(t *testing.T) {
			if !hooked && (d.kind == event.KindUser || d.kind == event.KindKernelKnob || d.kind == event.KindDevice) {
				t.Skip("the rung of signals does not hold this")
			}
			g.set(profile.Deny, profile.Rules{Privilege: all})
			c := g.beside(t, first, roots)
			want, reaction := int(unix.EPERM), event.ReactionDenied
			if d.killed || !hooked {
				want, reaction = -1, event.ReactionKilled
			}
			if got := g.steps(t, c, d.step); got != want {
				t.Errorf("outside the profile it ended with %d, want %d", got, want)
			}
			if e := g.tells(t, c.id, d.kind, reaction); e.Privilege == nil || e.Privilege.Call == "" {
				t.Errorf("told as %+v", e.Privilege)
			}
			having := all
			having.Kinds = []event.Kind{d.kind}
			g.set(profile.Deny, profile.Rules{Privilege: having})
			c = g.beside(t, first, roots)
			got := g.steps(t, c, d.step)
			if got == -1 || got == int(unix.EPERM) && d.kind != event.KindModule {
				t.Errorf("of the profile it ended with %d", got)
			}
			g.silent(t, c.id)
		})
	}
}

// givenDeed is something that a call gives to a process.
type givenDeed struct {
	step    string
	control profile.Control
	kind    event.Kind
	permit  profile.Rules
	// hooked is what refuses it where BPF is a security module.
	hooked func(string, *slog.Logger) (*bpf.Guard, error)
	killed bool // there is no hook for it, and it takes held privileges
}

func givenDeeds() []givenDeed {
	all := []givenDeed{
		{"packets=", profile.ControlNetwork, event.KindRaw, profile.Rules{Network: profile.NetworkRules{Raw: true, Sockets: []string{"packet"}}}, bpf.OpenPrivilegeGuard, false},
		{"reach=", profile.ControlPrivilege, event.KindProcessWrite,
			profile.Rules{Privilege: profile.PrivilegeRules{Capabilities: allCapabilities, Kinds: []event.Kind{event.KindProcessWrite}}}, bpf.OpenPrivilegeGuard, false},
		{"rewrite=", profile.ControlExec, event.KindExecProtect, profile.Rules{Exec: profile.ExecRules{CodeHeap: true}}, bpf.OpenExecGuard, false},
		{"persona=", profile.ControlExec, event.KindExecProtect, profile.Rules{Exec: profile.ExecRules{CodeHeap: true}}, bpf.OpenPrivilegeGuard, true},
	}
	if runtime.GOARCH == "amd64" { // by calls of 32-bit programs
		packets, own := all[0], all[2]
		packets.step, own.step = "narrow=packets", "narrow=write,/proc/self/mem"
		all = append(all, packets, own)
	}
	return all
}

// withoutModule has BPF look as if it were no active security module, until t ends: what
// is held by signals then is so on this kernel too.
func withoutModule(t *testing.T) {
	t.Helper()
	const list = "/sys/kernel/security/lsm"
	other := filepath.Join(t.TempDir(), "lsm")
	if err := os.WriteFile(other, []byte("lockdown,capability,apparmor"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(other, list, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(list, 0); err != nil {
			t.Error(err)
		}
	})
}

// Sockets of families that the profile does not have, and the memory of processes to write
// into, are refused.
func TestWhatCallsGiveIsHeld(t *testing.T) {
	needLSM(t)
	holdGiven(t, false)
}

// By signals, who gets them is killed.
func TestWhatCallsGiveIsHeldBySignals(t *testing.T) {
	if refusesCalls() {
		withoutModule(t)
	}
	holdGiven(t, true)
}

func holdGiven(t *testing.T, signals bool) {
	roots := layouts()[3].mount(t)
	for _, d := range givenDeeds() {
		t.Run(strings.NewReplacer("/", ".", ",", ".").Replace(d.step), func(t *testing.T) {
			want, reaction, open := int(unix.EPERM), event.ReactionDenied, d.hooked
			if signals {
				open = bpf.OpenExecGuard
			}
			if signals || d.killed {
				want, reaction = -1, event.ReactionKilled
			}
			g := guardBy(t, d.control, open)
			set := func(a profile.Answer, r profile.Rules) {
				r.Group, r.Answers = "a/b/c", map[profile.Control]profile.Answer{}
				for _, c := range profile.Controls() {
					r.Answers[c] = profile.Off
				}
				r.Answers[d.control] = a
				if d.killed {
					r.Answers[profile.ControlPrivilege] = a // with which its programs are loaded
				}
				r.Exec.Paths = []profile.Pattern{"/bin/subject"}
				if a != profile.Audit {
					r.Privilege.Capabilities = allCapabilities
				}
				if err := g.Set(r); err != nil {
					t.Fatal(err)
				}
				// The programs say so of their own control.
				own := map[profile.Control]profile.Answer{profile.ControlExec: profile.Deny, profile.ControlPrivilege: profile.Deny}
				if held := g.Controls(own)[0]; held.Error != "" {
					t.Fatalf("held as %+v", held)
				}
			}
			set(profile.Deny, profile.Rules{})
			c := g.new(t, roots)
			if got := g.steps(t, c, d.step, "exit=5"); got != want {
				t.Errorf("outside the profile it ended with %d, want %d", got, want)
			}
			if e := g.tells(t, c.id, d.kind, reaction); e.Words() == "" {
				t.Errorf("told as %+v", e)
			}
			set(profile.Deny, d.permit)
			c = g.beside(t, c, roots)
			if got := g.steps(t, c, d.step, "exit=5"); got != 5 {
				t.Errorf("of the profile it ended with %d", got)
			}
			g.silent(t, c.id)
			set(profile.Audit, profile.Rules{})
			c = g.beside(t, c, roots)
			if got := g.steps(t, c, d.step, "exit=5"); got != 5 {
				t.Errorf("looked at only it ended with %d", got)
			}
			g.tells(t, c.id, d.kind, event.ReactionAudited)
		})
	}
}

// What is only looked at is done, and told.
func TestPrivilegesAreAudited(t *testing.T) {
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlPrivilege, bpf.OpenPrivilegeGuard)
	g.set(profile.Audit, profile.Rules{})
	c := g.new(t, roots)
	if got := g.steps(t, c, "tmpfs=/data/m", "leave=uts", "hostname=x", "exit=5"); got != 5 {
		t.Errorf("ended with %d", got)
	}
	for _, k := range []event.Kind{event.KindMount, event.KindUnshare} {
		g.tells(t, c.id, k, event.ReactionAudited)
	}
}

// A capability that the profile does not have is none.
func TestCapabilitiesAreHeld(t *testing.T) {
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlPrivilege, bpf.OpenPrivilegeGuard)
	admin, _ := event.CapabilityOf("SYS_ADMIN")
	g.set(profile.Deny, profile.Rules{Privilege: profile.PrivilegeRules{Capabilities: allCapabilities &^ admin}})
	c := g.new(t, roots)
	if got := g.steps(t, c, "hostname=x"); got != int(unix.EPERM) {
		t.Errorf("without it: %v", unix.Errno(got))
	}
	e := g.tells(t, c.id, event.KindCapability, event.ReactionDenied)
	if e.Privilege.Gained != admin || e.Words() != "used SYS_ADMIN: EPERM" {
		t.Errorf("told as %q, %+v", e.Words(), e.Privilege)
	}
	g.set(profile.Deny, profile.Rules{Privilege: profile.PrivilegeRules{Capabilities: allCapabilities}})
	c = g.beside(t, c, roots)
	if got := g.steps(t, c, "hostname=x"); got != 0 {
		t.Errorf("with it: %v", unix.Errno(got))
	}
	g.silent(t, c.id)
}

// An overlay goes to its layers with the capabilities of who mounted it: they are nothing
// that a process of the container uses, which has none itself.
func TestChangesOfAnOverlayTakeNoCapability(t *testing.T) {
	needLSM(t)
	roots := layouts()[3].mount(t)
	g := guardBy(t, profile.ControlPrivilege, bpf.OpenPrivilegeGuard)
	work := []string{"incapable=", "mkdir=/new/folder", "put=/new/file,x", "append=/plain", "rename=/plain,/new/plain", "link=/new/file,/new/other",
		"symlink=file,/new/link", "remove=/new/other", "rename=/new/folder,/moved", "remove=/moved"}
	ring := profile.PrivilegeRules{Kinds: []event.Kind{event.KindIOURing}}
	bounding, _ := event.CapabilityOf("SETPCAP")
	bounded := ring
	bounded.Capabilities = bounding
	for _, c := range []struct {
		name  string
		rules profile.PrivilegeRules
		steps []string
		want  unix.Errno
	}{
		{"without an io_uring", profile.PrivilegeRules{}, work, 0},
		// It may work with credentials that a process had.
		{"with an io_uring", ring, work, unix.EPERM},
		{"with an io_uring by more than processes can have", bounded, append([]string{"bound="}, work...), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.set(profile.Deny, profile.Rules{Privilege: c.rules})
			held := g.new(t, roots)
			if got := unix.Errno(g.steps(t, held, c.steps...)); got != c.want {
				t.Errorf("ended with %v, want %v", got, c.want)
			}
			if c.want == 0 {
				g.silent(t, held.id)
			}
		})
	}
}
