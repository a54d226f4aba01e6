package learn_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/document"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

// has returns what a profile permits, as short texts.
func has(p *profile.Profile) []string {
	var out []string
	for _, c := range document.Diff(&profile.Profile{}, p) {
		out = append(out, c.Sentence)
	}
	return out
}

func TestWhatEachKindTeaches(t *testing.T) {
	privilege := func(k event.Kind, p event.Privilege) event.Event { return event.Event{Kind: k, Privilege: &p} }
	connection := func(k event.Kind, c event.Connection) event.Event { return event.Event{Kind: k, Connection: &c} }
	remote := netip.MustParseAddrPort
	for _, tc := range []struct {
		name  string
		event event.Event
		want  []string
	}{
		{"write", event.Event{Kind: event.KindFileWrite, File: &event.File{Path: "/data/a"}}, []string{"writes /data/a"}},
		{"write that failed", event.Event{Kind: event.KindFileWrite, File: &event.File{Path: "/data/a", Error: "EACCES"}}, nil},
		{"write that was denied", event.Event{Kind: event.KindFileWrite, Reaction: event.ReactionDenied, File: &event.File{Path: "/data/a"}}, nil},
		{"write that was audited", event.Event{Kind: event.KindFileWrite, Reaction: event.ReactionAudited, File: &event.File{Path: "/data/a"}}, []string{"writes /data/a"}},
		{"write of the runtime", event.Event{Kind: event.KindFileWrite, Process: event.Process{Executable: "/usr/sbin/runc"}, File: &event.File{Path: "/proc/sys/net/x"}}, nil},
		{"write of the runtime's sealed copy", event.Event{Kind: event.KindFileWrite, Process: event.Process{Executable: "/"}, File: &event.File{Path: "/proc/9/oom_score_adj"}}, nil},
		{"write of what is called as the runtime", event.Event{Kind: event.KindFileWrite, Process: event.Process{Name: "runc:[2:INIT]", Executable: "/usr/bin/java"}, File: &event.File{Path: "/proc/9/oom_score_adj"}}, nil},
		{"sensitive read", event.Event{Kind: event.KindFileRead, File: &event.File{Path: "/etc/shadow", Sensitive: "shadow"}}, []string{"reads /etc/shadow"}},
		{"rename", event.Event{Kind: event.KindFileRename, File: &event.File{Path: "/d/a.tmp", To: "/d/a"}}, []string{"writes /d/a", "writes /d/a.tmp"}},
		{"another name", event.Event{Kind: event.KindFileLink, File: &event.File{Path: "/d/b", To: "/d/a"}}, []string{"writes /d/a", "writes /d/b"}},
		{"symbolic link", event.Event{Kind: event.KindFileLink, File: &event.File{Path: "../target", To: "/d/a", Type: "link"}}, []string{"writes /d/a"}},
		{"path whose beginning is cut", event.Event{Kind: event.KindFileWrite, File: &event.File{Path: "/a/b", PathTruncated: true}}, nil},
		{"connect", connection(event.KindConnect, event.Connection{Protocol: "tcp", Remote: remote("10.0.0.5:5432")}), []string{"connects to 10.0.0.5 at tcp/5432"}},
		{"connect that was refused by the peer", connection(event.KindConnect, event.Connection{Protocol: "tcp", Remote: remote("10.0.0.5:5432"), Error: "ECONNREFUSED"}), []string{"connects to 10.0.0.5 at tcp/5432"}},
		{"connect by name", connection(event.KindConnect, event.Connection{Protocol: "tcp", Remote: remote("52.1.1.1:443"), Name: "API.example.com."}), []string{"connects to api.example.com at tcp/443"}},
		{"connect to a group by a published port", connection(event.KindConnect, event.Connection{Protocol: "tcp", Remote: remote("10.0.0.5:32771"), Name: "db", Peer: event.Peer{Kind: event.PeerWorkload, Group: "prod/shop/db", Port: 5432}}), []string{"connects to prod/shop/db at tcp/5432"}},
		{"connect to itself", connection(event.KindConnect, event.Connection{Protocol: "tcp", Remote: remote("127.0.0.1:8080")}), []string{"connects to itself at tcp/8080"}},
		{"the engine's resolver", connection(event.KindConnect, event.Connection{Protocol: "udp", Remote: remote("127.0.0.11:53")}), []string{"connects to 127.0.0.11 at udp/53"}},
		{"the task's credentials are not the host's", connection(event.KindConnect, event.Connection{Protocol: "tcp", Remote: remote("169.254.170.2:80"), Peer: event.Peer{Kind: event.PeerService}}), []string{"connects to 169.254.170.2 at tcp/80"}},
		{"socket of a file", connection(event.KindConnect, event.Connection{Protocol: "unix"}), nil},
		{"accept", connection(event.KindAccept, event.Connection{Protocol: "tcp", Local: remote("10.0.0.9:80"), Remote: remote("10.0.0.7:51234")}), []string{"is connected to by 10.0.0.7 at tcp/80"}},
		{"listen", connection(event.KindListen, event.Connection{Protocol: "tcp", Local: remote("0.0.0.0:80")}), []string{"opens tcp/80 for others"}},
		{"raw socket", connection(event.KindRaw, event.Connection{Protocol: "raw"}), []string{"makes the privileged call network.raw (raw)"}},
		{"close teaches nothing", connection(event.KindClose, event.Connection{Protocol: "tcp", Remote: remote("10.0.0.5:5432")}), nil},
		{"name", event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: "db.local"}}, []string{"asks the DNS for db.local"}},
		{"reverse look-up", event.Event{Kind: event.KindQuery, DNS: &event.DNS{Name: "7.0.0.10.in-addr.arpa"}}, []string{"asks the DNS for *.in-addr.arpa"}},
		{"capability", privilege(event.KindCapability, event.Privilege{Gained: 1 << 10}), []string{"has the capability NET_BIND_SERVICE"}},
		{"clone", privilege(event.KindClone, event.Privilege{Flags: []string{"newuser", "newns"}}), []string{"makes the privileged call privilege.clone (newns,newuser)"}},
		{"becoming root", privilege(event.KindUser, event.Privilege{OldUID: 33, NewUID: 0}), []string{"makes the privileged call privilege.user (to root)"}},
		{"a call that was not permitted", privilege(event.KindMount, event.Privilege{Type: "proc", Error: "EPERM"}), nil},
		{"just-in-time compiler", event.Event{Kind: event.KindExecProtect, Memory: &event.Memory{Call: "mprotect"}}, []string{"makes the privileged call memory.protect"}},
		{"calls", event.Event{Kind: event.KindCalls, Calls: &event.Calls{Names: []string{"openat", "Bad Name"}}}, []string{"makes the system call openat"}},
		{"runtime that sets up", event.Event{Kind: event.KindExec, Process: event.Process{Executable: "/usr/bin/runc"}, Exec: &event.Exec{Origin: event.OriginHost}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			s.add(tc.event)
			if diff := cmp.Diff(has(s.learned(t)), tc.want); diff != "" {
				t.Errorf("learned (-got +want):\n%s", diff)
			}
		})
	}
}

// Pipes have no name. The runtime gives those that a container writes to to its user.
func TestPipesTeachNothing(t *testing.T) {
	for _, tc := range []struct {
		path, kind string
		want       []string
	}{
		{"/", "fifo", nil}, {"/", "socket", nil}, {"/", "folder", []string{"/"}}, {"/", "", []string{"/"}}, {"/run/x", "fifo", []string{"/run/x"}},
	} {
		s := newScript()
		s.add(event.Event{Kind: event.KindFileChown, File: &event.File{Path: tc.path, Type: tc.kind}})
		if got := paths(s.learned(t).Writes); !slices.Equal(got, tc.want) {
			t.Errorf("%s %s: learned %q, want %q", tc.kind, tc.path, got, tc.want)
		}
	}
}

func TestPrograms(t *testing.T) {
	s := newScript()
	s.exec("/usr/bin/python3.11", event.OriginImage, "python3.11", "-u", "app.py").Exec.Cwd = "/app"
	s.exec("/usr/bin/dash", event.OriginImage, "sh", "-c", "true")
	x := s.exec("/usr/bin/dash", event.OriginImage, "/bin/sh", "/entry.sh", "web")
	x.Exec.Requested = "/entry.sh"
	s.exec("/opt/app/releases/20240101/bin/app", event.OriginImage, "app")
	s.exec("/opt/app/releases/20250202/bin/app", event.OriginImage, "app")
	s.exec("/tmp/build-1234567/tool", event.OriginWritten, "tool")
	s.exec("/lib64/ld-linux-x86-64.so.2", event.OriginImage, "ld.so", "--library-path", "/x", "/usr/bin/id")
	s.exec("/usr/bin/java", event.OriginImage, "java", "-cp", "/x", "-jar", "/app/app.jar")
	s.exec("/usr/bin/node", event.OriginImage, "node", "--require", "/app/trace.js", "/app/app.js").Exec.Environment = []string{"NODE_PATH=/tmp/build-1234567"}
	s.exec("/usr/bin/node", event.OriginImage, "node").Exec.Stdio = []event.Stream{{Kind: event.StreamPipe}, {}, {}}
	m := s.add(event.Event{Kind: event.KindExecMap, Memory: &event.Memory{Call: "mmap", Path: "/tmp/libx.so", Origin: event.OriginWritten}})
	m.Process.Executable = "/usr/bin/java"
	var got []string
	for _, x := range s.learned(t).Executables {
		got = append(got, fmt.Sprint(x.Path, " ", x.Origin, " ", x.Scripts, x.Loads))
	}
	want := []string{
		"/lib64/ld-linux-x86-64.so.2 image [/usr/bin/id] []",
		"/opt/app/releases/*/bin/app image [] []",
		"/tmp/build-1234567/tool written [] []",
		"/tmp/libx.so written [] []",
		"/usr/bin/dash image [/entry.sh] []",
		"/usr/bin/java image [/app/app.jar] [/x]",
		"/usr/bin/node image [/app/app.js] [/app/trace.js /dev/stdin /tmp/build-*]",
		"/usr/bin/python3.11 image [/app/app.py] []",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("programs (-got +want):\n%s", diff)
	}
}

func TestScriptsThatDidNotComeWithTheImage(t *testing.T) {
	s := newScript()
	s.write("/data/job.sh")
	for _, f := range []string{"/data/job.sh", "/vol/x.sh", "/app/run.sh"} {
		s.exec("/bin/sh", event.OriginImage, "sh", f)
	}
	l := learn.New("g")
	w := &asset.Workload{Settings: asset.Settings{Mounts: []asset.Mount{{Target: "/vol"}}}}
	for i := range s.events {
		l.Take(&s.events[i], w)
	}
	if diff := cmp.Diff(l.Profile().Executables[0].Loose, []profile.Pattern{"/data/job.sh", "/vol/x.sh"}); diff != "" {
		t.Errorf("loose scripts (-got +want):\n%s", diff)
	}
}

func TestPeersAndNamesAreGeneralised(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*script)
		want []string
	}{
		{"three private neighbours stay", func(s *script) {
			for i := range 3 {
				s.connect(fmt.Sprintf("10.0.1.%d:80", i+1), "")
			}
		}, []string{"connects to 10.0.1.1 at tcp/80", "connects to 10.0.1.2 at tcp/80", "connects to 10.0.1.3 at tcp/80"}},
		{"four are a network", func(s *script) {
			for i := range 4 {
				s.connect(fmt.Sprintf("10.0.1.%d:80", i+1), "")
			}
		}, []string{"connects to 10.0.1.0/24 at tcp/80"}},
		{"public addresses stay", func(s *script) {
			for i := range 5 {
				s.connect(fmt.Sprintf("52.0.1.%d:80", i+1), "")
			}
		}, []string{"connects to 52.0.1.1 at tcp/80", "connects to 52.0.1.2 at tcp/80", "connects to 52.0.1.3 at tcp/80", "connects to 52.0.1.4 at tcp/80", "connects to 52.0.1.5 at tcp/80"}},
		{"ports that the kernel gives", func(s *script) {
			for i := range 4 {
				s.connect(fmt.Sprintf("10.0.1.1:%d", 40000+i), "")
			}
		}, []string{"connects to 10.0.1.1 at tcp/32768-65535"}},
		{"two such ports of its own", func(s *script) {
			s.connect("127.0.0.1:40001", "")
			s.connect("127.0.0.1:50001", "")
			s.connect("10.0.1.1:40001", "")
			s.connect("10.0.1.1:50001", "")
		}, []string{"connects to itself at tcp/32768-65535", "connects to 10.0.1.1 at tcp/40001", "connects to 10.0.1.1 at tcp/50001"}},
		{"one port of its own", func(s *script) { s.connect("127.0.0.1:40001", ""); s.connect("127.0.0.1:8080", "") }, []string{"connects to itself at tcp/8080", "connects to itself at tcp/40001"}},
		{"rotating names", func(s *script) {
			for i := range 5 {
				s.connect("52.1.1.1:443", fmt.Sprintf("x%d7a%d9b.cdn.example.com", i, i))
			}
		}, []string{"connects to *.cdn.example.com at tcp/443"}},
		{"never wider than what somebody registered", func(s *script) {
			for i := range 30 {
				s.connect("52.1.1.1:443", fmt.Sprintf("a%c%c.co.uk", 'a'+i/5, 'a'+i%5))
			}
		}, nil},
		{"never all of a cloud", func(s *script) {
			for i := range 30 {
				s.connect("52.1.1.1:443", fmt.Sprintf("a%c%c.s3.eu-west-1.amazonaws.com", 'a'+i/5, 'a'+i%5))
			}
		}, nil},
		{"callers of the internet", func(s *script) {
			for i := range 9 {
				s.add(event.Event{Kind: event.KindAccept, Connection: &event.Connection{Protocol: "tcp", Local: netip.MustParseAddrPort("10.0.0.9:80"), Remote: netip.MustParseAddrPort(fmt.Sprintf("8.8.%d.1:1000", i))}})
			}
		}, []string{"is connected to by 0.0.0.0/0 at tcp/80"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			tc.do(s)
			got := has(s.learned(t))
			if tc.want == nil {
				for _, g := range got {
					if strings.Contains(g, "*") {
						t.Errorf("generalised: %s", g)
					}
				}
				return
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("learned (-got +want):\n%s", diff)
			}
		})
	}
}

// visit is a command from outside, with a child that writes a file.
func visit(s *script, pid uint32, at time.Time, args ...string) {
	s.at = at
	key := event.Key{PID: pid, Start: uint64(at.UnixNano())}
	x := s.exec("/bin/sh", event.OriginImage, args...)
	x.Process.Key, x.Process.Parent, x.Exec.Ancestors, x.Exec.Entered = key, event.Key{}, nil, true
	c := s.exec("/usr/bin/curl", event.OriginImage, "curl")
	c.Process.Key, c.Process.Parent = event.Key{PID: pid + 1, Start: key.Start + 1}, key
	c.Exec.Ancestors = []event.Ancestor{{Key: key, Executable: "/bin/sh"}}
	w := s.write("/tmp/health")
	w.Process.Key, w.Process.Parent = c.Process.Key, key
}

func TestWhatComesFromOutside(t *testing.T) {
	for _, tc := range []struct {
		name   string
		runs   int
		gap    func(i int) time.Duration
		learnt bool
	}{
		{"health check every 30 seconds", 25, func(int) time.Duration { return 30 * time.Second }, true},
		{"health check with some late", 25, func(i int) time.Duration { return time.Duration(30+i%10/9*20) * time.Second }, true},
		{"too few", 19, func(int) time.Duration { return 30 * time.Second }, false},
		{"person", 25, func(i int) time.Duration { return time.Duration(7+i*i%97) * 10 * time.Second }, false},
		{"once an hour", 25, func(int) time.Duration { return time.Hour }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, at := newScript(), start
			for i := range tc.runs {
				visit(s, uint32(100+2*i), at, "sh", "-c", "curl localhost")
				at = at.Add(tc.gap(i))
			}
			l := learn.New("g")
			for i := range s.events {
				l.Take(&s.events[i], nil)
			}
			p := l.Profile()
			if got := len(p.Executables) == 2 && len(p.Writes) == 1; got != tc.learnt {
				t.Errorf("learned %v, want %v: %v", got, tc.learnt, has(p))
			}
			told := slices.ContainsFunc(l.Settled(at).Waits, func(w string) bool { return strings.Contains(w, `"sh -c curl localhost"`) })
			if told == tc.learnt {
				t.Errorf("told as not learned: %v, want %v", told, !tc.learnt)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	l := learn.New("g")
	one, two := &asset.Workload{Image: asset.Image{Digest: "sha256:1", Reference: "shop:1"}}, &asset.Workload{Image: asset.Image{Digest: "sha256:2", Reference: "shop:2"}}
	s := newScript()
	for _, p := range []string{"/data/both", "/data/old"} {
		s.write(p)
	}
	n := len(s.events)
	s.write("/data/both")
	s.write("/data/new")
	for i := range s.events {
		w := one
		if i >= n {
			w = two
		}
		l.Take(&s.events[i], w)
	}
	p := l.Profile()
	var got []string
	for _, c := range document.Changes(p, "sha256:2") {
		got = append(got, fmt.Sprint(c.Added, " ", c.Sentence))
	}
	if diff := cmp.Diff(got, []string{"true writes /data/new", "false writes /data/old"}); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
	for i := range 100 { // more versions than are told apart
		s.write("/data/both")
		l.Take(&s.events[len(s.events)-1], &asset.Workload{Image: asset.Image{Digest: fmt.Sprint("sha256:x", i)}})
	}
	p = l.Profile()
	if got := p.Versions[len(p.Versions)-1].Digest; got != "sha256:x99" {
		t.Errorf("the newest version is %s, want sha256:x99", got)
	}
}

func TestAdoptedIsKeptAndLearnedOn(t *testing.T) {
	l := learn.New("g")
	l.Adopt(&profile.Profile{Writes: []profile.File{{Path: "/data/**", Evidence: profile.Evidence{Source: profile.Person, Comment: "ours"}}}})
	s := newScript()
	s.write("/data/a")
	s.write("/other/b")
	for i := range s.events {
		l.Take(&s.events[i], nil)
	}
	p := l.Profile()
	if diff := cmp.Diff(paths(p.Writes), []string{"/data/**", "/other/b"}); diff != "" {
		t.Errorf("writes (-got +want):\n%s", diff)
	}
	if e := p.Writes[0].Evidence; e.Source != profile.Person || e.Count != 1 || e.Comment != "ours" {
		t.Errorf("evidence %+v, want a person's, seen once", e)
	}
}

// What the first container wrote was adopted with its exact name; what later ones
// taught stands for it.
func TestWhatAWiderEntryStandsForIsNotListed(t *testing.T) {
	s := newScript()
	learned := profile.Evidence{Source: profile.Learned, First: start, Last: start, Count: 2}
	l := learn.New("prod/shop/web")
	l.Adopt(&profile.Profile{Writes: []profile.File{
		{Path: "/data/x.1ZBsci", Programs: []profile.Pattern{"/bin/old"}, Evidence: learned},
		{Path: "/data/x.mine", Evidence: profile.Evidence{Source: profile.Person, Comment: "ours"}},
		{Path: "/data/**", Evidence: profile.Evidence{Source: profile.Person}},
		{Path: "/srv/q/*", Evidence: learned},
		{Path: "/srv/q/a-*.log", Evidence: learned},
	}})
	s.write("/data/x.aB3dE9")
	for i := range s.events {
		l.Take(&s.events[i], nil)
	}
	p := l.Profile()
	if diff := cmp.Diff(paths(p.Writes), []string{"/data/**", "/data/x.1ZBsci", "/data/x.mine", "/srv/q/*"}); diff != "" {
		t.Errorf("of what a person permitted, nothing else goes (-got +want):\n%s", diff)
	}
	p.Writes = slices.DeleteFunc(p.Writes, func(f profile.File) bool { return f.Path == "/data/**" })
	l = learn.New("prod/shop/web")
	l.Adopt(p)
	for i := range 4 {
		s.write(fmt.Sprintf("/data/x.aB3dE%d", i))
	}
	for i := range s.events {
		l.Take(&s.events[i], nil)
	}
	p = l.Profile()
	if diff := cmp.Diff(paths(p.Writes), []string{"/data/x.*", "/data/x.mine", "/srv/q/*"}); diff != "" {
		t.Errorf("entries (-got +want):\n%s", diff)
	}
	if f := p.Writes[0]; f.Count != 7 || !slices.Contains(f.Programs, "/bin/old") {
		t.Errorf("its evidence: %d times by %q, want 7 times, by /bin/old too", f.Count, f.Programs)
	}
}

// What programs write beside what they wrote, though it was not seen.
func TestWhatIsWrittenBeside(t *testing.T) {
	for name, tc := range map[string]struct{ write, beside string }{
		"a socket, when its server ends": {"/run/mysqld/mysqld.pid", "/run/mysqld/mysqld.sock"},
		"what SQLite sorts":              {"/data/app.db-journal", "/var/tmp/etilqs_*"},
		"a table that is repaired":       {"/data/sess.dets", "/data/sess.dets.TMP"},
		"a file that has a name at last": {"/tmp/#47", "/tmp/tmpf*"},
	} {
		s := newScript()
		s.write(tc.write)
		if got := paths(s.learned(t).Writes); !slices.Contains(got, tc.beside) {
			t.Errorf("%s: learned %q, want %s too", name, got, tc.beside)
		}
	}
	s := newScript()
	s.write("/tmp/pkqstblt").Process.Executable = "/usr/bin/python3.11"
	if got := paths(s.learned(t).Writes); !slices.Contains(got, "/tmp/*") {
		t.Errorf("a name that Python made of letters: learned %q, want /tmp/* as for those with digits", got)
	}
	s = newScript()
	s.write("/tmp/#47").Process.Executable = "/usr/bin/python3.11"
	if got := paths(s.learned(t).Writes); !slices.Contains(got, "/tmp/tmp*") {
		t.Errorf("a file of Python's without a name: learned %q, want /tmp/tmp* as on other hosts", got)
	}
	for _, name := range []string{"/tmp/pkqstblt", "/data/app.pid", "/etc/passwd.lock", "/run/lock/x.lock", "/data/#47", "/tmp/#47x"} {
		s := newScript()
		s.write(name)
		if got := paths(s.learned(t).Writes); len(got) != 1 {
			t.Errorf("beside %s: learned %q", name, got)
		}
	}
}

// What is unpacked beside its place and renamed to it is there, and is removed there.
func TestAFolderThatIsRenamedTakesItsFilesAlong(t *testing.T) {
	s := newScript()
	move := func(from, to string) {
		s.add(event.Event{Kind: event.KindFileRename, File: &event.File{Path: from, To: to, Type: "folder"}})
	}
	for _, f := range []string{"/srv/upgrade/seo-6b0d3ce1e90e0/seo/seo.php", "/srv/upgrade/seo-6b0d3ce1e90e0/seo/inc/a.php"} {
		s.write(f)
	}
	move("/srv/upgrade/seo-6b0d3ce1e90e0/seo", "/srv/plugins/seo")
	move("/srv/unknown", "/srv/plugins/other")
	want := []string{
		"/srv/plugins/other", "/srv/plugins/seo", "/srv/plugins/seo/inc/a.php", "/srv/plugins/seo/seo.php", "/srv/unknown",
		"/srv/upgrade/seo-*/seo", "/srv/upgrade/seo-*/seo/inc/a.php", "/srv/upgrade/seo-*/seo/seo.php",
	}
	got := paths(s.learned(t).Writes)
	slices.Sort(got)
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("writes (-got +want):\n%s", diff)
	}
}

// Files that are counted behind a dot are one.
func TestFilesThatAreCountedAreOne(t *testing.T) {
	s := newScript()
	for n := range 4 {
		s.write(fmt.Sprintf("/data/bs/binlog.%d", n+8))
		s.write(fmt.Sprintf("/data/bs/libjob.so.%d", n+1))
		s.write(fmt.Sprintf("/data/bs/python3.%d", n+8))
	}
	want := []string{"/data/bs/binlog.*", "/data/bs/libjob.so.1", "/data/bs/libjob.so.2", "/data/bs/libjob.so.3", "/data/bs/libjob.so.4",
		"/data/bs/python3.10", "/data/bs/python3.11", "/data/bs/python3.8", "/data/bs/python3.9"}
	if diff := cmp.Diff(paths(s.learned(t).Writes), want); diff != "" {
		t.Errorf("writes (-got +want):\n%s", diff)
	}
}

func TestWhoseChildAProgramIs(t *testing.T) {
	shim := event.Ancestor{Key: event.Key{PID: 900, Start: 1}, Name: "containerd-shim", Executable: "/usr/bin/containerd-shim-runc-v2"}
	app := event.Ancestor{Key: event.Key{PID: 950, Start: 2}, Name: "app", Executable: "/usr/bin/app"}
	for _, tc := range []struct {
		name      string
		pid       uint32
		entered   bool
		ancestors []event.Ancestor
		parent    string
		known     bool
	}{
		{"first process", 1, false, []event.Ancestor{shim}, "", true},
		{"first process while the runtime is still there", 1, false, []event.Ancestor{{Name: "runc"}, shim}, "", true},
		{"first process in the host's pid namespace", 950, false, []event.Ancestor{shim}, "", true},
		{"shim whose program is not known", 950, false, []event.Ancestor{{Name: "containerd-shim"}}, "", true},
		{"from outside", 33, true, []event.Ancestor{shim}, "", true},
		{"child", 34, false, []event.Ancestor{app, shim}, "/usr/bin/app", true},
		{"child of one that calls itself a shim", 34, false, []event.Ancestor{{Name: "containerd-shim", Executable: "/usr/bin/app"}, shim}, "/usr/bin/app", true},
		{"child of one that nobody knows", 34, false, []event.Ancestor{{Name: "app"}}, "", false},
	} {
		e := event.Event{Process: event.Process{ContainerPID: tc.pid, Parent: event.Key{PID: 1, Start: 1}}, Exec: &event.Exec{Entered: tc.entered, Ancestors: tc.ancestors}}
		if parent, known := learn.Parent(&e); parent != tc.parent || known != tc.known {
			t.Errorf("%s: %q, %v, want %q, %v", tc.name, parent, known, tc.parent, tc.known)
		}
	}
}

// What a program had and what it used are told apart, as far as a host sees uses.
func TestCapabilitiesThatAreUsed(t *testing.T) {
	had, _ := event.CapabilityOf("NET_RAW")
	used, _ := event.CapabilityOf("CHOWN")
	l := learn.New("g")
	for _, e := range []event.Event{
		{Kind: event.KindExec, Process: event.Process{Executable: "/bin/x"}, Exec: &event.Exec{Origin: event.OriginImage, Capabilities: had | used}},
		{Kind: event.KindCalls, Calls: &event.Calls{Names: []string{"chown"}, Capabilities: used, CapabilitiesSeen: true}},
	} {
		e.WorkloadID, e.Time = "a", start
		l.Take(&e, nil)
	}
	saved, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	if l, err = learn.Load(saved); err != nil {
		t.Fatal(err)
	}
	p := learn.Merge(&profile.Profile{Group: "g"}, l.Profile())
	if !p.UsesSeen || len(p.Capabilities) != 2 || p.Capabilities[0].Name != "CHOWN" || !p.Capabilities[0].Used || p.Capabilities[1].Used {
		t.Errorf("got %+v", p.Capabilities)
	}
}

// A resolver asks from ports that it takes by chance, so that nobody can guess them: there is
// no end of these, and no room that they lack. Ports of TCP, and a few of UDP, each count.
func TestPortsByChance(t *testing.T) {
	for _, tc := range []struct {
		protocol string
		ports    int
		want     int
	}{{"udp", 16, 16}, {"udp", 17, 1}, {"udp", 2000, 1}, {"tcp", 17, 17}} {
		s := newScript()
		for i := range tc.ports {
			s.add(event.Event{Kind: event.KindListen, Connection: &event.Connection{Protocol: tc.protocol, Local: addr(fmt.Sprintf("0.0.0.0:%d", 5000+i*13))}})
		}
		s.add(event.Event{Kind: event.KindListen, Connection: &event.Connection{Protocol: tc.protocol, Local: addr("0.0.0.0:53")}})
		p := s.learned(t)
		if len(p.Listens) != 1+tc.want {
			t.Errorf("%d ports of %s: %d are listened at, want %d", tc.ports, tc.protocol, len(p.Listens), 1+tc.want)
		}
		if tc.want == 1 && (p.Listens[1].Port != profile.Ports{First: 1024, Last: 65535} || p.Listens[1].Evidence.Count != uint64(tc.ports)) {
			t.Errorf("%d ports of %s: %+v", tc.ports, tc.protocol, p.Listens[1])
		}
	}
}
