package compare_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/compare"
	"github.com/castellan-security/castellan/internal/watch/compile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

var now = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

func sent(e event.Event) event.Event {
	e.Time, e.AgentID, e.WorkloadID = now, "host-a", "c0ffee"
	e.Process.Key = event.Key{PID: 9, Start: 9}
	if e.Process.Executable == "" {
		e.Process.Executable = "/usr/sbin/nginx"
	}
	return e
}

func exec(file string, origin event.Origin, parent string, args ...string) event.Event {
	e := sent(event.Event{Kind: event.KindExec, Process: event.Process{Executable: file}, Exec: &event.Exec{Args: args, Origin: origin, Cwd: "/"}})
	if parent != "" {
		e.Process.Parent = event.Key{PID: 1, Start: 1}
		e.Exec.Ancestors = []event.Ancestor{{Key: e.Process.Parent, Executable: parent}}
	}
	return e
}

// called gives the parent of an exec a name, and if its program is "-" that alone.
func called(e event.Event, name string) event.Event {
	a := &e.Exec.Ancestors[0]
	if a.Name = name; a.Executable == "-" {
		a.Executable = ""
	}
	return e
}

// with gives an exec an input and variables.
func with(e event.Event, input event.StreamKind, variables ...string) event.Event {
	e.Exec.Stdio, e.Exec.Environment = []event.Stream{{Kind: input}, {}, {}}, variables
	return e
}

func connect(remote, name string) event.Event {
	return sent(event.Event{Kind: event.KindConnect, Connection: &event.Connection{Protocol: "tcp", Remote: netip.MustParseAddrPort(remote), Name: name}})
}

func write(path string) event.Event {
	return sent(event.Event{Kind: event.KindFileWrite, File: &event.File{Path: path}})
}

// shop is the profile of a web server.
func shop() *profile.Profile {
	return &profile.Profile{
		Group: "prod/shop/web", Revision: 7,
		Executables: []profile.Executable{
			{Path: "/bin/dash", Origin: event.OriginImage, Parents: []profile.Pattern{""}, Users: []uint32{0}, Scripts: []profile.Pattern{"/docker-entrypoint.sh"}, Loads: []profile.Pattern{"/etc/profile.d/**"}},
			{Path: "/data/plugins/helper", Origin: event.OriginMount},
			{Path: "/lib64/ld-linux-x86-64.so.2", Origin: event.OriginImage, Scripts: []profile.Pattern{"/usr/bin/id"}},
			{Path: "/usr/sbin/nginx", Origin: event.OriginImage, Parents: []profile.Pattern{"", "/bin/dash"}, Users: []uint32{0}},
		},
		Writes:       []profile.File{{Path: "/run/nginx.pid"}, {Path: "/var/cache/nginx/**"}, {Path: "/var/log/nginx/*.log"}},
		Reads:        []profile.File{{Path: "/etc/ssl/private/shop.key"}},
		Listens:      []profile.Listen{{Protocol: "tcp", Port: profile.Ports{First: 80, Last: 80}}},
		Peers:        []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 8080, Last: 8080}, Group: "prod/shop/app"}, {Protocol: "tcp", Port: profile.Ports{First: 443, Last: 443}, Name: "*.example.com"}, {Protocol: "udp", Port: profile.Ports{First: 53, Last: 53}, Network: netip.MustParsePrefix("10.0.0.2/32")}},
		Callers:      []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 80, Last: 80}, Network: netip.MustParsePrefix("0.0.0.0/0")}},
		Names:        []profile.Name{{Name: "app.local"}},
		Capabilities: []profile.Capability{{Name: "NET_BIND_SERVICE"}},
		Privileges:   []profile.Privilege{{Kind: event.KindClone, Detail: "newuser"}},
	}
}

func TestWhatLiesOutside(t *testing.T) {
	privilege := func(k event.Kind, p event.Privilege) event.Event { return sent(event.Event{Kind: k, Privilege: &p}) }
	memory := func(k event.Kind, m event.Memory) event.Event { return sent(event.Event{Kind: k, Memory: &m}) }
	denied := func(e event.Event, r event.Reaction) event.Event { e.Reaction = r; return e }
	over := func(protocol string, e event.Event) event.Event { e.Connection.Protocol = protocol; return e }
	as := func(e event.Event, uid uint32) event.Event { e.Process.EUID = uid; return e }
	group := connect("10.0.0.7:32768", "")
	group.Connection.Peer = event.Peer{Kind: event.PeerWorkload, Group: "prod/shop/app", Port: 8080}
	for _, tc := range []struct {
		name   string
		event  event.Event
		want   string // the sentence; empty if it is normal
		unheld bool
	}{
		{"normal start", exec("/bin/dash", event.OriginImage, "", "/bin/sh", "/docker-entrypoint.sh"), "", false},
		{"normal child", exec("/usr/sbin/nginx", event.OriginImage, "/bin/dash"), "", false},
		{"shell of a web server", exec("/bin/dash", event.OriginImage, "/usr/sbin/nginx", "sh", "-c", "id"), "nginx ran /bin/dash: the profile allows that only to the engine.", true},
		{"program of the image", exec("/usr/bin/curl", event.OriginImage, "/bin/dash"), "dash ran /usr/bin/curl: the profile allows dash only /usr/sbin/nginx.", false},
		{"downloaded", exec("/tmp/x", event.OriginWritten, "/bin/dash"), "dash ran /tmp/x, which did not come with the image but was written after the container was made: the profile allows dash only /usr/sbin/nginx.", false},
		{"copied over a program", exec("/usr/sbin/nginx", event.OriginWritten, "/bin/dash"), "dash ran /usr/sbin/nginx, which did not come with the image but was written after the container was made: the profile allows dash only /usr/sbin/nginx.", false},
		{"in memory", denied(exec("/memfd:x", event.OriginMemory, "/usr/sbin/nginx"), event.ReactionKilled), "nginx ran /memfd:x, a file in memory that never had a name, and was killed for it: the profile allows nginx no other program.", false},
		{"by a script", denied(called(exec("/tmp/x", event.OriginWritten, "/bin/dash"), "backup.sh"), event.ReactionKilled), "dash (backup.sh) ran /tmp/x, which did not come with the image but was written after the container was made, and was killed for it: the profile allows dash only /usr/sbin/nginx.", false},
		{"by a name of the program", called(exec("/usr/bin/curl", event.OriginImage, "/usr/bin/python3.11"), "python3"), "python3.11 ran /usr/bin/curl: the profile allows python3.11 no other program.", false},
		{"by a name that is known alone", called(exec("/usr/bin/curl", event.OriginImage, "-"), "cron"), "cron ran /usr/bin/curl: the profile allows it no other program.", false},
		{"permitted exception", exec("/data/plugins/helper", event.OriginMount, "/usr/sbin/nginx"), "", false},
		{"script", exec("/bin/dash", event.OriginImage, "", "sh", "/app/x.sh"), "the container's start ran /app/x.sh by /bin/dash: the profile allows dash only /docker-entrypoint.sh.", true},
		{"script that was written", exec("/bin/dash", event.OriginImage, "", "sh", "/var/cache/nginx/x.sh"), "the container's start ran /var/cache/nginx/x.sh by /bin/dash: the profile allows dash only /docker-entrypoint.sh.", false},
		{"code that is loaded besides", with(exec("/bin/dash", event.OriginImage, "", "sh", "/docker-entrypoint.sh"), event.StreamNull, "ENV=/tmp/x"), "the container's start had /bin/dash load code from /tmp/x: the profile has dash load only from /etc/profile.d/**.", true},
		{"normal code besides", with(exec("/bin/dash", event.OriginImage, "", "sh", "/docker-entrypoint.sh"), event.StreamNull, "ENV=/etc/profile.d/x"), "", false},
		{"what comes by standard input", with(exec("/bin/dash", event.OriginImage, "", "sh"), event.StreamTCP), "the container's start ran what came by the standard input of /bin/dash: the profile has dash load only from /etc/profile.d/**.", true},
		{"loader with an interpreter", exec("/lib64/ld-linux-x86-64.so.2", event.OriginImage, "/bin/dash", "ld.so", "/bin/dash", "/tmp/x.sh"), "dash had /lib64/ld-linux-x86-64.so.2 load code from /tmp/x.sh: the profile has ld-linux-x86-64.so.2 load no code besides.", true},
		{"loader with a program of the image", exec("/lib64/ld-linux-x86-64.so.2", event.OriginImage, "/bin/dash", "ld.so", "/usr/sbin/nginx"), "", false},
		{"loader with a download", exec("/lib64/ld-linux-x86-64.so.2", event.OriginImage, "/bin/dash", "ld.so", "/tmp/x"), "dash ran /tmp/x by /lib64/ld-linux-x86-64.so.2: the profile allows ld-linux-x86-64.so.2 only /usr/bin/id.", false},
		{"another user", as(exec("/usr/sbin/nginx", event.OriginImage, "/bin/dash"), 33), "dash ran /usr/sbin/nginx as user 33: the profile allows it as user 0.", true},
		{"runtime that sets up", exec("/usr/bin/runc", event.OriginHost, ""), "", false},
		{"mapped library", memory(event.KindExecMap, event.Memory{Path: "/tmp/evil.so", Origin: event.OriginWritten}), "nginx mapped /tmp/evil.so as code, which did not come with the image: the profile allows /data/plugins/helper besides the image's code.", false},
		{"code in memory", memory(event.KindExecProtect, event.Memory{Call: "mprotect"}), "nginx made writable memory executable: the profile does not have this call.", false},

		{"normal write", write("/var/cache/nginx/a/b"), "", false},
		{"the folder of all that may be written below it", write("/var/cache/nginx"), "", false},
		{"the folder of what may be written in it", write("/var/log/nginx"), "nginx opened /var/log/nginx for writing: the profile allows the group to change /var/log/nginx/*.log.", false},
		{"write", denied(write("/etc/nginx/nginx.conf"), event.ReactionDenied), "nginx opened /etc/nginx/nginx.conf for writing, which was denied: the profile allows the group to change nothing there.", false},
		{"write beside", write("/var/log/nginx/x.log.gz"), "nginx opened /var/log/nginx/x.log.gz for writing: the profile allows the group to change /var/log/nginx/*.log.", false},
		{"link to what may not be changed", sent(event.Event{Kind: event.KindFileLink, File: &event.File{Path: "/usr/bin/a", To: "/var/cache/nginx/a"}}), "nginx gave /usr/bin/a the further name /var/cache/nginx/a: the profile allows the group to change nothing there.", false},
		{"symbolic link to what may not be changed", sent(event.Event{Kind: event.KindFileLink, File: &event.File{Path: "/usr/bin/a", To: "/var/cache/nginx/a", Flags: []string{"symbolic"}}}), "", false},
		{"rename out", sent(event.Event{Kind: event.KindFileRename, File: &event.File{Path: "/var/cache/nginx/a", To: "/usr/bin/a"}}), "nginx renamed /var/cache/nginx/a to /usr/bin/a: the profile allows the group to change nothing there.", false},
		{"a deletion after which the container was gone", sent(event.Event{Kind: event.KindFileDelete, File: &event.File{Path: "/var/run/nginx.pid", Claimed: true}}), "", false},
		{"a socket that a former process left", sent(event.Event{Kind: event.KindFileDelete, File: &event.File{Path: "/srv/app/web.sock"}}), "", false},
		{"a file of its name that is written", sent(event.Event{Kind: event.KindFileWrite, File: &event.File{Path: "/srv/app/web.sock"}}), "nginx opened /srv/app/web.sock for writing: the profile allows the group to change nothing there.", false},
		{"a deletion where that is another folder", sent(event.Event{Kind: event.KindFileDelete, File: &event.File{Path: "/var/run/nginx.pid"}}), "nginx deleted /var/run/nginx.pid: the profile allows the group to change /var/cache/nginx/** and /var/log/nginx/*.log.", false},
		{"write that failed", sent(event.Event{Kind: event.KindFileWrite, File: &event.File{Path: "/etc/x", Error: "EACCES"}}), "", false},
		{"normal read", sent(event.Event{Kind: event.KindFileRead, File: &event.File{Path: "/etc/ssl/private/shop.key", Sensitive: "keys"}}), "", false},
		{"read", sent(event.Event{Kind: event.KindFileRead, File: &event.File{Path: "/etc/shadow", Sensitive: "shadow"}}), "nginx opened /etc/shadow for reading (shadow): the profile allows the group to read of sensitive files /etc/ssl/private/shop.key.", false},

		{"group", group, "", false},
		{"name", connect("52.1.1.1:443", "api.example.com"), "", false},
		{"the DNS server", over("udp", connect("10.0.0.2:53", "")), "", false},
		{"the DNS server by TCP", connect("10.0.0.2:53", ""), "", false},
		{"the engine's own DNS server", over("udp", connect("127.0.0.11:53", "")), "", false},
		{"the DNS server of a VPC", over("udp", connect("169.254.169.253:53", "")), "", false},
		{"another DNS server", over("udp", connect("10.0.0.3:53", "")), "nginx connected to 10.0.0.3 udp port 53: the profile allows connections to prod/shop/app tcp port 8080, *.example.com tcp port 443 and 10.0.0.2 udp port 53.", false},
		{"domain itself", connect("52.1.1.1:443", "example.com"), "nginx connected to example.com tcp port 443: the profile allows connections to prod/shop/app tcp port 8080, *.example.com tcp port 443 and 10.0.0.2 udp port 53.", false},
		{"another port", connect("52.1.1.1:4444", "api.example.com"), "nginx connected to api.example.com tcp port 4444: the profile allows connections to prod/shop/app tcp port 8080, *.example.com tcp port 443 and 10.0.0.2 udp port 53.", false},
		{"address", connect("6.6.6.6:443", ""), "nginx connected to 6.6.6.6 tcp port 443: the profile allows connections to prod/shop/app tcp port 8080, *.example.com tcp port 443 and 10.0.0.2 udp port 53.", false},
		{"normal caller", sent(event.Event{Kind: event.KindAccept, Connection: &event.Connection{Protocol: "tcp", Local: netip.MustParseAddrPort("10.0.0.9:80"), Remote: netip.MustParseAddrPort("8.8.8.8:999")}}), "", false},
		{"listen", sent(event.Event{Kind: event.KindListen, Connection: &event.Connection{Protocol: "tcp", Local: netip.MustParseAddrPort("0.0.0.0:4444")}}), "nginx opened tcp port 4444 for others: the profile opens tcp port 80.", false},
		{"name asked for", sent(event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: "evil.test"}}), "nginx asked the DNS for evil.test: the profile has app.local.", true},
		{"name of a peer", sent(event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: "api.example.com"}}), "", false},

		{"capability used", privilege(event.KindCapability, event.Privilege{Gained: 1 << 21, Flags: []string{event.CapabilityUsed}}), "nginx used the capability SYS_ADMIN: the profile has NET_BIND_SERVICE.", false},
		{"capability", privilege(event.KindCapability, event.Privilege{Gained: 1<<10 | 1<<21}), "nginx gained the capabilities SYS_ADMIN: the profile has NET_BIND_SERVICE.", false},
		{"clone as it is", privilege(event.KindClone, event.Privilege{Flags: []string{"newuser"}}), "", false},
		{"clone with more", privilege(event.KindClone, event.Privilege{Flags: []string{"newuser", "newns"}}), "nginx started a process in new namespaces (newuser, newns): the profile allows that for newuser alone.", true},
		{"mount", denied(privilege(event.KindMount, event.Privilege{Type: "proc", Target: "/mnt", Error: "EPERM"}), event.ReactionDenied), "nginx mounted proc on /mnt, which was denied: the profile does not have this call.", false},
		{"what the host's rules did not have yet", denied(write("/run/nginx.pid"), event.ReactionDenied), "nginx opened /run/nginx.pid for writing, which was denied: the rules that the host held at that time did not have it; the profile has it now.", false},
		{"limit", denied(sent(event.Event{Kind: event.KindLimit, Resource: &event.Resource{What: "pids", Used: 64, Limit: 64}}), event.ReactionDenied), "nginx uses 64 of 64 pids, which was denied: the limits of the profile are used up.", false},
		{"process of the host", event.Event{Kind: event.KindExec, Exec: &event.Exec{}, Process: event.Process{Executable: "/bin/x"}}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := compare.NewIndex(shop()).Compare(&tc.event)
			if v == nil {
				if tc.want != "" {
					t.Fatal("nothing lies outside")
				}
				return
			}
			if v.Sentence != tc.want {
				t.Errorf("got  %s\nwant %s", v.Sentence, tc.want)
			}
			if v.Unheld != tc.unheld {
				t.Errorf("unheld %v, want %v", v.Unheld, tc.unheld)
			}
			if v.Revision != 7 || v.Group != "prod/shop/web" || v.Fingerprint == "" || v.Count != 1 || v.Subject == "" {
				t.Errorf("violation %+v", v)
			}
			// What would make it normal does.
			if v.Permit != nil {
				if again := compare.NewIndex(learn.Merge(shop(), v.Permit)).Compare(&tc.event); again != nil && tc.event.Reaction == "" {
					t.Errorf("permitted, it still lies outside: %s", again.Sentence)
				}
			}
		})
	}
}

func TestOneFingerprintForWhatIsAlike(t *testing.T) {
	x := compare.NewIndex(shop())
	one := func(e event.Event) string {
		v := x.Compare(&e)
		if v == nil {
			t.Fatalf("%s: nothing lies outside", e.Words())
		}
		return v.Fingerprint
	}
	a, b := write("/srv/tmp.Xa91bKc2"), write("/srv/tmp.9sTTk2Lp")
	b.AgentID, b.WorkloadID, b.Time = "host-b", "dead", now.Add(time.Hour)
	if one(a) != one(b) {
		t.Error("two temporary files are two violations")
	}
	if one(a) == one(write("/srv/state")) {
		t.Error("two files are one violation")
	}
}

// behaviour makes events of every kind by chance.
func behaviour(rng *rand.Rand, n int) []event.Event {
	var out []event.Event
	word := func() string { return fmt.Sprintf("%c%c%c", 'a'+rng.IntN(5), 'a'+rng.IntN(26), 'a'+rng.IntN(4)) }
	tops := []string{"/data", "/tmp", "/etc", "/usr/lib/x", "/app/node_modules", "/home/u", "/var/lib/mysql", "/proc/77", "/var/log"}
	path := func() string {
		p := tops[rng.IntN(len(tops))]
		for range 1 + rng.IntN(3) {
			p += "/" + word() + []string{"", "", ".log", ".log.1", "-12345", "-Xk29sAq1"}[rng.IntN(6)]
		}
		return p
	}
	origins := []event.Origin{event.OriginImage, event.OriginImage, event.OriginWritten, event.OriginMount}
	for range n {
		var e event.Event
		switch rng.IntN(9) {
		case 0:
			e = exec("/usr/bin/"+word(), origins[rng.IntN(4)], "/usr/bin/"+word())
			e.Process.EUID = uint32(rng.IntN(3))
		case 1:
			e = exec("/bin/sh", event.OriginImage, []string{"", "/usr/bin/app"}[rng.IntN(2)], "sh", path())
		case 2:
			e = write(path())
		case 3:
			e = sent(event.Event{Kind: event.KindFileRename, File: &event.File{Path: path(), To: path()}})
		case 4:
			e = sent(event.Event{Kind: event.KindFileRead, File: &event.File{Path: path(), Sensitive: "keys"}})
		case 5:
			e = connect(fmt.Sprintf("10.0.%d.%d:%d", rng.IntN(3), rng.IntN(30), []int{80, 443, 40000 + rng.IntN(9)}[rng.IntN(3)]), "")
		case 6:
			e = connect("52.1.1.1:443", word()+"."+word()+[]string{".example.com", ".s3.amazonaws.com", ".local"}[rng.IntN(3)])
		case 7:
			e = sent(event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: word() + ".x.example.org"}})
		case 8:
			e = sent(event.Event{Kind: event.KindClone, Privilege: &event.Privilege{Flags: []string{word()[:1]}}})
		}
		out = append(out, e)
	}
	return out
}

// TestWhatWasLearnedIsNormal holds events against the profile that they made, and
// against the rules of that.
func TestWhatWasLearnedIsNormal(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		events := behaviour(rng, 600)
		l := learn.New("g")
		for i := range events {
			l.Take(&events[i], nil)
		}
		p := l.Profile()
		x := compare.NewIndex(p)
		rules, notes, err := compile.Compile(p, compile.Options{Mode: profile.Protect, Resolvers: []netip.Addr{netip.MustParseAddr("10.0.0.2")}})
		if err != nil || len(notes) > 0 {
			t.Fatal(err, notes)
		}
		for i := range events {
			e := &events[i]
			if v := x.Compare(e); v != nil {
				t.Fatalf("what was learned lies outside: %s", v.Sentence)
			}
			if e.File != nil {
				list := rules.File.Writes
				if e.Kind == event.KindFileRead {
					list = rules.File.Reads
				}
				if !matches(list, e.File.Path) {
					t.Fatalf("the rules block %s", e.File.Path)
				}
			}
			if e.Exec != nil {
				list := rules.Exec.Paths
				if e.Exec.Origin != event.OriginImage {
					list = rules.Exec.Written
				}
				if !matches(list, e.Process.Executable) {
					t.Fatalf("the rules block %s", e.Process.Executable)
				}
			}
		}
		if raw := strings.Join(wide(p), " "); raw != "" {
			t.Fatalf("too wide: %s", raw)
		}
	}
}

func matches(list []profile.Pattern, path string) bool {
	for _, p := range list {
		if p.Match(path) {
			return true
		}
	}
	return false
}

// wide returns entries that nobody may be given by learning alone.
func wide(p *profile.Profile) []string {
	var out []string
	for _, f := range p.Writes {
		for _, probe := range []string{"/etc/passwd", "/usr/bin/id", "/etc/cron.d/x", "/root/.ssh/authorized_keys", "/home/u/.ssh/authorized_keys", "/x", "/var/spool/cron/root"} {
			if f.Path.Match(probe) {
				out = append(out, string(f.Path))
			}
		}
	}
	for _, x := range p.Executables {
		if x.Origin != event.OriginImage && !x.Path.Exact() {
			out = append(out, string(x.Path))
		}
	}
	return out
}

// TestPatternsAgree holds the fast set against the noun's own matching.
func TestPatternsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	name := func(wild bool) string {
		n := []string{"a", "b", "ab", "abc", "x.log"}[rng.IntN(5)]
		if wild && rng.IntN(3) == 0 {
			n = []string{"*", "a*", "*b", "a*c", "*.log"}[rng.IntN(5)]
		}
		return n
	}
	var got, want int
	for range 3000 {
		var list []profile.Pattern
		p := &profile.Profile{}
		for range 1 + rng.IntN(4) {
			s := ""
			for range 1 + rng.IntN(3) {
				s += "/" + name(true)
			}
			if rng.IntN(4) == 0 {
				s += "/**"
			}
			list = append(list, profile.Pattern(s))
			p.Reads = append(p.Reads, profile.File{Path: profile.Pattern(s)})
		}
		x := compare.NewIndex(p)
		for range 8 {
			s := ""
			for range 1 + rng.IntN(4) {
				s += "/" + name(false)
			}
			e := write(s)
			e.Kind = event.KindFileRead
			in := x.Compare(&e) == nil
			if in != matches(list, s) {
				t.Fatalf("%v has %s: %v, want %v", list, s, in, !in)
			}
			if in {
				got++
			}
			want++
		}
	}
	if got == 0 || got == want {
		t.Errorf("%d of %d matched: the test shows nothing", got, want)
	}
}

func TestLearnedAndEditedStayApart(t *testing.T) {
	l := learn.New("g")
	e := exec("/bin/sh", event.OriginImage, "/usr/bin/app")
	l.Take(&e, &asset.Workload{})
	bad := exec("/bin/sh", event.OriginImage, "/usr/sbin/nginx")
	v := compare.NewIndex(l.Profile()).Compare(&bad)
	if v == nil {
		t.Fatal("another parent is normal")
	}
	p := learn.Merge(l.Profile(), v.Permit)
	if diff := cmp.Diff(p.Executables[0].Parents, []profile.Pattern{"/usr/bin/app", "/usr/sbin/nginx"}); diff != "" {
		t.Errorf("parents (-got +want):\n%s", diff)
	}
}

func BenchmarkCompareKnown(b *testing.B) {
	rng := rand.New(rand.NewPCG(3, 4))
	events := behaviour(rng, 2000)
	l := learn.New("g")
	for i := range events {
		l.Take(&events[i], nil)
	}
	x := compare.NewIndex(l.Profile())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if v := x.Compare(&events[i%len(events)]); v != nil {
			b.Fatal(v.Sentence)
		}
	}
}

// A program of a layer that was seen with another content was replaced; in another
// layer it is another version.
func TestReplacedPrograms(t *testing.T) {
	image := func(layers ...string) *asset.Workload {
		return &asset.Workload{Image: asset.Image{Digest: "sha256:image", Layers: layers}}
	}
	run := func(digest string, number uint16) event.Event {
		e := exec("/usr/sbin/nginx", event.OriginImage, "/bin/dash")
		e.Exec.Digest, e.Exec.Layer = digest, event.Layer{Number: number, Of: 3}
		return e
	}
	p := shop()
	l := learn.New(p.Group)
	for _, e := range []event.Event{run("sha256:aaaaaaaaaaaaaaaa", 2)} {
		l.Take(&e, image("sha256:base", "sha256:top"))
	}
	saved, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	if l, err = learn.Load(saved); err != nil {
		t.Fatal(err)
	}
	p = learn.Merge(p, l.Profile())
	written := shop()
	written.Executables[3].Digest, written.Executables[3].Source = "sha256:aaaaaaaaaaaaaaaa", profile.Person
	for _, tc := range []struct {
		name  string
		p     *profile.Profile
		event event.Event
		w     *asset.Workload
		want  string
	}{
		{"the same", p, run("sha256:aaaaaaaaaaaaaaaa", 2), image("sha256:base", "sha256:top"), ""},
		{"replaced", p, run("sha256:bbbbbbbbbbbbbbbb", 2), image("sha256:base", "sha256:top"), "dash ran /usr/sbin/nginx, which was replaced: its content is sha256:bbbbbbbbbbbb: in the same layer of the image the profile has seen sha256:aaaaaaaaaaaa."},
		{"another version of the image", p, run("sha256:bbbbbbbbbbbbbbbb", 2), image("sha256:base", "sha256:newer"), ""},
		{"another layer of the same", p, run("sha256:bbbbbbbbbbbbbbbb", 1), image("sha256:base", "sha256:top"), ""},
		{"not read", p, run("", 2), image("sha256:base", "sha256:top"), ""},
		{"layers that are not known", p, run("sha256:bbbbbbbbbbbbbbbb", 2), image(), ""},
		{"nothing known of the container", p, run("sha256:bbbbbbbbbbbbbbbb", 2), nil, ""},
		{"written down by a person", written, run("sha256:bbbbbbbbbbbbbbbb", 2), nil, "dash ran /usr/sbin/nginx with the content sha256:bbbbbbbbbbbb: the profile allows it with the content sha256:aaaaaaaaaaaa alone."},
		{"as a person wrote down", written, run("sha256:aaaaaaaaaaaaaaaa", 2), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := compare.NewIndex(tc.p).CompareOf(&tc.event, tc.w)
			if tc.want == "" {
				if v != nil {
					t.Errorf("got %q", v.Sentence)
				}
				return
			}
			if v == nil || v.Sentence != tc.want || !v.Unheld {
				t.Fatalf("got %+v, want %q", v, tc.want)
			}
			if again := compare.NewIndex(learn.Merge(tc.p, v.Permit)).CompareOf(&tc.event, tc.w); again != nil {
				t.Errorf("permitted, and still outside: %s", again.Sentence)
			}
		})
	}
}

// Of one program the newest contents are kept, in whatever order hosts tell of them.
func TestContentsAreBounded(t *testing.T) {
	events, images := []event.Event{}, []*asset.Workload{}
	for i := range 2 * profile.MaxContents {
		e := exec("/usr/sbin/nginx", event.OriginImage, "/bin/dash")
		e.Time = now.Add(time.Duration(i) * time.Hour)
		e.Exec.Digest, e.Exec.Layer = fmt.Sprintf("sha256:%d", i), event.Layer{Number: 1, Of: 2}
		events, images = append(events, e), append(images, &asset.Workload{Image: asset.Image{Digest: "x", Layers: []string{fmt.Sprintf("sha256:layer%d", i)}}})
	}
	var want []profile.Content
	for round := range 5 {
		l := learn.New("g")
		for _, i := range rand.Perm(len(events)) {
			l.Take(&events[i], images[i])
		}
		got := l.Profile().Executables[0].Contents
		if round == 0 {
			want = got
		}
		if diff := cmp.Diff(got, want); diff != "" || len(got) != profile.MaxContents {
			t.Fatalf("%d contents (-got +want):\n%s", len(got), diff)
		}
	}
}
