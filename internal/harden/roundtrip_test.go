package harden_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/profile"
)

// letters of names, those that mean something to one language or another
// included.
const letters = `abcXYZ0189-_.+ "'\?[]{}^,@#$%&()|;:<>=~!` + "`\t\n\r\x01\x1b\x7f" + "é€\u202e"

// maker makes profiles, and things that they permit or don't.
type maker struct{ *rand.Rand }

func (m maker) name() string {
	all := []rune(letters)
	var b strings.Builder
	for range 1 + m.IntN(6) {
		b.WriteRune(all[m.IntN(len(all))])
	}
	if s := b.String(); s != "." && s != ".." {
		return s
	}
	return "x"
}

func (m maker) pattern() profile.Pattern {
	var b strings.Builder
	if m.IntN(3) == 0 {
		b.WriteString([]string{"/tmp", "/var/log", "/run", "/usr/bin", "/data"}[m.IntN(5)])
	}
	for range 1 + m.IntN(3) {
		b.WriteByte('/')
		switch m.IntN(5) {
		case 0:
			b.WriteString(m.name() + "*" + m.name())
		case 1:
			b.WriteString("*" + m.name())
		default:
			b.WriteString(m.name())
		}
	}
	if m.IntN(5) == 0 {
		b.WriteString("/**")
	}
	return profile.Pattern(b.String())
}

// sample returns a path that a pattern stands for.
func (m maker) sample(p profile.Pattern) string {
	var b strings.Builder
	for _, n := range p.Names() {
		if n == "**" {
			for range 1 + m.IntN(3) {
				b.WriteString("/" + m.name())
			}
			break
		}
		before, after, any := strings.Cut(n, "*")
		if any {
			before += m.name()
		}
		b.WriteString("/" + before + after)
	}
	return b.String()
}

func (m maker) profile() profile.Profile {
	p := profile.Profile{Group: "shop/web/nginx", Revision: 3}
	files := func() (all []profile.File) {
		for range m.IntN(4) {
			all = append(all, profile.File{Path: m.pattern(), Evidence: profile.Evidence{Sample: m.name() + "\n  /** rw,", Comment: m.name()}})
		}
		return all
	}
	p.Writes, p.Reads = files(), files()
	for _, sensitive := range []profile.Pattern{"/run/secrets/pass*", "/run/secrets/other", "/home/*/.aws/credentials", "/etc/shadow", "/root/**"} {
		if m.IntN(6) == 0 {
			p.Reads = append(p.Reads, profile.File{Path: sensitive})
		}
	}
	for range 1 + m.IntN(4) {
		e := profile.Executable{Path: m.pattern(), Origin: event.OriginImage, Parents: []profile.Pattern{""}, Users: []uint32{uint32(m.IntN(2) * 101)}}
		if m.IntN(4) == 0 {
			e.Origin = event.OriginWritten
		}
		p.Executables = append(p.Executables, e)
	}
	for range m.IntN(3) {
		first := uint16(1 + m.IntN(60000))
		p.Listens = append(p.Listens, profile.Listen{Protocol: []string{"tcp", "udp"}[m.IntN(2)], Port: profile.Ports{First: first, Last: first + uint16(m.IntN(3))}})
		first = uint16(1 + m.IntN(60000))
		p.Peers = append(p.Peers, profile.Peer{Protocol: "tcp", Port: profile.Ports{First: first, Last: first}})
	}
	for _, name := range []string{"CHOWN", "SYS_TIME", "NET_ADMIN", "PERFMON", "CAP_41"} {
		if m.IntN(3) == 0 && name != "CAP_41" {
			p.Capabilities = append(p.Capabilities, profile.Capability{Name: name})
		}
	}
	for _, k := range []event.Kind{event.KindMount, event.KindPtrace, event.KindUnshare, event.KindMemfd, event.KindClone} {
		if m.IntN(4) == 0 {
			p.Privileges = append(p.Privileges, profile.Privilege{Kind: k})
		}
	}
	for _, name := range []string{"openat", "socket", "clone", "clone3", "ptrace", "personality", "inotify_init1", "sendmmsg"} {
		if m.IntN(3) > 0 {
			p.Calls = append(p.Calls, profile.Call{Name: name})
		}
	}
	return p
}

// world is a profile with its outputs, read.
type world struct {
	p        profile.Profile
	r        harden.Result
	apparmor aaProfile
	landlock profile.Landlock
	seccomp  struct {
		DefaultAction string
		Syscalls      []struct {
			Names    []string
			Action   string
			ErrnoRet *int
			Args     []struct {
				Index           int
				Value, ValueTwo uint64
				Op              string
			}
		}
	}
	selinux string
	task    map[string]any
}

func newWorld(t *testing.T, p profile.Profile, task string) *world {
	t.Helper()
	r, err := harden.Compile(&p, harden.Options{Outputs: harden.Outputs(), TaskDefinition: []byte(task)})
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	w := &world{p: p, r: r}
	text := map[harden.Output]string{}
	for _, f := range r.Files {
		text[f.Output] = f.Content
	}
	if w.apparmor, err = parseAppArmor(text[harden.AppArmor]); err != nil {
		t.Fatalf("%v\n%s", err, text[harden.AppArmor])
	}
	if w.landlock, err = harden.ReadLandlock([]byte(text[harden.Landlock])); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text[harden.Seccomp]), &w.seccomp); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text[harden.TaskDefinition]), &w.task); err != nil {
		t.Fatal(err)
	}
	w.selinux = text[harden.SELinux]
	return w
}

// says reports whether a note of that kind is about something.
func (w *world) says(o harden.Output, e harden.Effect, about string) bool {
	return slices.ContainsFunc(w.r.Notes, func(n harden.Note) bool {
		return n.Output == o && n.Effect == e && strings.Contains(n.About, about)
	})
}

// grants reports whether the rules for Landlock give a right to a path, whose
// folders are all there.
func (w *world) grants(path string, right profile.LandlockRight) bool {
	for _, r := range w.landlock.Paths {
		if !slices.Contains(r.Rights, right) {
			continue
		}
		for at := path; ; {
			if r.Path.Match(at) && (at == path) == r.Files { // a folder is not what is below it
				return true
			}
			if at == "/" {
				break
			}
			if at = at[:strings.LastIndexByte(at, '/')]; at == "" {
				at = "/"
			}
		}
	}
	return false
}

// reads reports whether the rules for Landlock let a file be read.
func (w *world) reads(path string) bool {
	hidden := slices.ContainsFunc(w.landlock.Without, func(p profile.Pattern) bool { return p.Match(path) })
	others := *w
	if hidden {
		others.landlock.Paths = slices.DeleteFunc(slices.Clone(w.landlock.Paths), func(r profile.LandlockPath) bool { return r.Path == "/" })
	}
	return others.grants(path, profile.LandlockRead)
}

// calls reports what seccomp answers to a call with such a first argument.
func (w *world) calls(name string, arg uint64) (permitted bool) {
	for _, r := range w.seccomp.Syscalls {
		if !slices.Contains(r.Names, name) || r.Action != "SCMP_ACT_ALLOW" {
			continue
		}
		holds := true
		for _, a := range r.Args {
			switch a.Op {
			case "SCMP_CMP_EQ":
				holds = holds && arg == a.Value
			case "SCMP_CMP_LT":
				holds = holds && arg < a.Value
			case "SCMP_CMP_GT":
				holds = holds && arg > a.Value
			case "SCMP_CMP_MASKED_EQ":
				holds = holds && arg&a.Value == a.ValueTwo
			default:
				holds = false
			}
		}
		permitted = permitted || holds
	}
	return permitted
}

const oneTask = `{"requiresCompatibilities":["EC2"],"containerDefinitions":[{"name":"nginx","image":"x"}]}`

func covers(all []profile.File, path string) bool {
	return slices.ContainsFunc(all, func(f profile.File) bool { return f.Path.Match(path) })
}

func runs(p profile.Profile, path string) bool {
	return slices.ContainsFunc(p.Executables, func(e profile.Executable) bool { return e.Path.Match(path) })
}

// What a profile permits, each output permits, or says that it does not; what it
// does not have, each output refuses, or says that it can't.
func TestOutputsPermitWhatTheProfilePermitsAndRefuseTheRest(t *testing.T) {
	const rounds = 400
	for seed := range uint64(rounds) {
		m := maker{rand.New(rand.NewPCG(seed, 8))}
		w := newWorld(t, m.profile(), oneTask)
		for _, check := range []func(*world, maker) error{checkWrites, checkPrograms, checkReads, checkCapabilities, checkCalls, checkPorts} {
			if err := check(w, m); err != nil {
				b, _ := json.Marshal(w.p)
				t.Fatalf("seed %d: %v\nprofile: %s", seed, err, b)
			}
		}
	}
}

func checkWrites(w *world, m maker) error {
	for _, f := range w.p.Writes {
		path := m.sample(f.Path)
		if !w.apparmor.permits(path, "w") {
			return fmt.Errorf("AppArmor refuses to write %q, which %q stands for", path, f.Path)
		}
		if !f.Path.Exact() || f.Path == "/" {
			continue
		}
		if folder := path + "/"; !w.apparmor.permits(folder, "w") {
			return fmt.Errorf("AppArmor refuses to make the folder %q", path)
		}
		if !w.grants(path, profile.LandlockWrite) {
			return fmt.Errorf("landlock refuses to write %q", path)
		}
		if !w.grants(path, profile.LandlockMake) && !w.says(harden.Landlock, harden.Narrower, string(f.Path)) {
			return fmt.Errorf("landlock refuses to make %q and does not say so", path)
		}
	}
	for range 4 {
		path := m.stranger(w.p)
		if covers(w.p.Writes, path) {
			continue
		}
		if w.apparmor.permits(path, "w") {
			return fmt.Errorf("AppArmor permits to write %q", path)
		}
		wider := slices.ContainsFunc(w.r.Notes, func(n harden.Note) bool {
			return n.Output == harden.Landlock && n.Effect == harden.Wider && n.Control == profile.ControlFile && n.About != "" &&
				strings.HasPrefix(path, folderIn(n.Text))
		})
		if w.grants(path, profile.LandlockWrite) && !wider {
			return fmt.Errorf("landlock permits to write %q and does not say so", path)
		}
	}
	return nil
}

// folderIn is the folder that a note says everything of may be changed.
func folderIn(text string) string {
	rest, ok := strings.CutPrefix(text, "anything in ")
	folder, _, cut := strings.Cut(rest, " may be ")
	if !ok || !cut {
		return "\x00"
	}
	return folder + "/"
}

// stranger is a path near those of the profile, which may be one of them.
func (m maker) stranger(p profile.Profile) string {
	if len(p.Writes) == 0 || m.IntN(4) == 0 {
		return m.sample(m.pattern())
	}
	path := m.sample(p.Writes[m.IntN(len(p.Writes))].Path)
	switch m.IntN(5) {
	case 0:
		return path + "x"
	case 1:
		return path + "/x"
	case 2:
		if up := path[:strings.LastIndexByte(path, '/')]; up != "" {
			return up
		}
		return "/x"
	case 3:
		return "/x" + path
	}
	i := 1 + m.IntN(len(path)-1)
	return path[:i] + "x" + path[i:]
}

func checkPrograms(w *world, m maker) error {
	for _, e := range w.p.Executables {
		path := m.sample(e.Path)
		if !w.apparmor.permits(path, "x") || !w.apparmor.permits(path, "m") {
			return fmt.Errorf("AppArmor refuses to run %q, which %q stands for", path, e.Path)
		}
		if !w.grants(path, profile.LandlockExecute) {
			return fmt.Errorf("landlock refuses to run %q", path)
		}
	}
	for range 4 {
		path := m.stranger(w.p)
		if runs(w.p, path) {
			continue
		}
		if w.apparmor.permits(path, "x") {
			return fmt.Errorf("AppArmor permits to run %q", path)
		}
		wider := slices.ContainsFunc(w.r.Notes, func(n harden.Note) bool {
			return n.Output == harden.Landlock && n.Effect == harden.Wider && n.Control == profile.ControlExec && strings.HasPrefix(path, runsIn(n.Text))
		})
		if w.grants(path, profile.LandlockExecute) && !wider {
			return fmt.Errorf("landlock permits to run %q and does not say so", path)
		}
	}
	return nil
}

func runsIn(text string) string {
	rest, ok := strings.CutPrefix(text, "anything in ")
	folder, _, cut := strings.Cut(rest, " may run")
	if !ok || !cut {
		return "\x00"
	}
	return strings.TrimSuffix(folder, "/") + "/"
}

func checkReads(w *world, m maker) error {
	for _, f := range w.p.Reads {
		if path := m.sample(f.Path); !w.apparmor.permits(path, "r") {
			return fmt.Errorf("AppArmor refuses to read %q", path)
		}
	}
	for _, f := range w.p.Reads {
		if path := m.sample(f.Path); !w.reads(path) {
			return fmt.Errorf("landlock refuses to read %q", path)
		}
	}
	for _, path := range []string{"/etc/shadow", "/root/.aws/credentials", "/home/a/.ssh/id_rsa", "/run/secrets/password"} {
		reopened := slices.ContainsFunc(w.r.Notes, func(n harden.Note) bool {
			return n.Output == harden.Landlock && n.Effect == harden.Wider && strings.HasPrefix(n.Text, "it may be read all the same") && profile.Pattern(n.About).Match(path)
		})
		if !covers(w.p.Reads, path) && !reopened && w.reads(path) {
			return fmt.Errorf("landlock permits to read %q", path)
		}
		if covers(w.p.Reads, path) || w.says(harden.AppArmor, harden.Wider, path) {
			continue
		}
		known := slices.ContainsFunc(w.r.Notes, func(n harden.Note) bool {
			return n.Output == harden.AppArmor && strings.Contains(n.Text, "all such files may be read")
		})
		if w.apparmor.permits(path, "r") && !known {
			return fmt.Errorf("AppArmor permits to read %q", path)
		}
	}
	return nil
}

func checkCapabilities(w *world, _ maker) error {
	for _, name := range []string{"CHOWN", "SYS_TIME", "NET_ADMIN", "PERFMON", "SYS_MODULE", "SYS_BOOT"} {
		learned := slices.ContainsFunc(w.p.Capabilities, func(c profile.Capability) bool { return c.Name == name })
		low := strings.ToLower(name)
		task, _ := json.Marshal(w.task)
		for output, permits := range map[harden.Output]bool{
			harden.AppArmor:       slices.Contains(w.apparmor.other, "capability "+low),
			harden.SELinux:        strings.Contains(w.selinux, low),
			harden.TaskDefinition: strings.Contains(string(task), `"`+name+`"`),
		} {
			switch {
			case learned && !permits && !w.says(output, harden.Narrower, name):
				return fmt.Errorf("%s refuses the capability %s and does not say so", output, name)
			case !learned && permits && !w.says(output, harden.Wider, name):
				return fmt.Errorf("%s permits the capability %s and does not say so", output, name)
			}
		}
	}
	return nil
}

func checkCalls(w *world, _ maker) error {
	namespaces := slices.ContainsFunc(w.p.Privileges, func(x profile.Privilege) bool { return x.Kind == event.KindClone })
	for _, c := range w.p.Calls {
		if !w.calls(c.Name, 0) && (c.Name != "clone3" || namespaces) {
			return fmt.Errorf("seccomp refuses %s, which was learned", c.Name)
		}
	}
	for name, kind := range map[string]event.Kind{
		"mount": event.KindMount, "unshare": event.KindUnshare, "memfd_create": event.KindMemfd, "process_vm_writev": event.KindPtrace,
		"init_module": event.KindModule, "bpf": event.KindBPF, "keyctl": event.KindKeyring, "io_uring_setup": event.KindIOURing,
	} {
		learned := slices.ContainsFunc(w.p.Privileges, func(x profile.Privilege) bool { return x.Kind == kind })
		if w.calls(name, 0) != learned {
			return fmt.Errorf("seccomp permits %s: %v, and it was learned: %v", name, !learned, learned)
		}
	}
	if w.calls("socket", 40) || w.calls("socket", 38) || w.calls("personality", 0x40000) || w.calls("clone", 0x10000000) != namespaces {
		return fmt.Errorf("seccomp permits arguments that it should not")
	}
	if len(w.p.Calls) > 0 {
		for _, name := range []string{"swapon", "reboot", "msgget", "fanotify_mark"} {
			if w.calls(name, 0) {
				return fmt.Errorf("seccomp permits %s", name)
			}
		}
	}
	if w.seccomp.DefaultAction != "SCMP_ACT_ERRNO" {
		return fmt.Errorf("seccomp answers %s to the rest", w.seccomp.DefaultAction)
	}
	return nil
}

func checkPorts(w *world, m maker) error {
	for range 6 {
		port := uint16(1 + m.IntN(65535))
		if len(w.p.Listens) > 0 && m.IntN(2) == 0 {
			port = w.p.Listens[m.IntN(len(w.p.Listens))].Port.First
		}
		if len(w.p.Peers) > 0 && m.IntN(3) == 0 {
			port = w.p.Peers[0].Port.First
		}
		has := func(all []profile.Ports) bool {
			return slices.ContainsFunc(all, func(r profile.Ports) bool { return r.Has(port) })
		}
		bind := slices.ContainsFunc(w.p.Listens, func(l profile.Listen) bool { return l.Protocol == "tcp" && l.Port.Has(port) })
		connect := slices.ContainsFunc(w.p.Peers, func(l profile.Peer) bool { return l.Port.Has(port) })
		if has(w.landlock.Binds) != bind || has(w.landlock.Connects) != connect {
			return fmt.Errorf("landlock: port %d may be opened %v, want %v; connected to %v, want %v", port, has(w.landlock.Binds), bind, has(w.landlock.Connects), connect)
		}
	}
	tcp := strings.Contains(w.selinux, "(tcp_socket (name_bind))")
	if want := slices.ContainsFunc(w.p.Listens, func(l profile.Listen) bool { return l.Protocol == "tcp" }); tcp != want {
		return fmt.Errorf("SELinux permits to open TCP ports: %v, want %v", tcp, want)
	}
	return nil
}
