package learn_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
)

var start = time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)

const container = "c0ffee"

// script makes events of one container.
type script struct {
	events []event.Event
	at     time.Time
	agent  string
	id     string
}

func newScript() *script { return &script{at: start, agent: "host-a", id: container} }

func (s *script) add(e event.Event) *event.Event {
	s.at = s.at.Add(time.Second)
	e.Time, e.AgentID, e.WorkloadID = s.at, s.agent, s.id
	if e.Process.Key.IsZero() {
		e.Process.Key = event.Key{PID: 7, Start: 7}
	}
	if e.Process.Executable == "" {
		e.Process.Executable = "/usr/bin/app"
	}
	s.events = append(s.events, e)
	return &s.events[len(s.events)-1]
}

func (s *script) exec(file string, origin event.Origin, args ...string) *event.Event {
	e := s.add(event.Event{Kind: event.KindExec, Process: event.Process{Executable: file}, Exec: &event.Exec{Args: args, Origin: origin, Cwd: "/"}})
	e.Process.Parent = event.Key{PID: 1, Start: 1}
	e.Exec.Ancestors = []event.Ancestor{{Key: event.Key{PID: 1, Start: 1}, Executable: "/usr/bin/app"}}
	return e
}

func (s *script) write(path string) *event.Event {
	return s.add(event.Event{Kind: event.KindFileWrite, File: &event.File{Path: path}})
}

func (s *script) connect(remote, name string) *event.Event {
	return s.add(event.Event{Kind: event.KindConnect, Connection: &event.Connection{Protocol: "tcp", Remote: netip.MustParseAddrPort(remote), Name: name}})
}

func (s *script) learned(t *testing.T) *profile.Profile {
	t.Helper()
	l := learn.New("prod/shop/web")
	for i := range s.events {
		l.Take(&s.events[i], nil)
	}
	return l.Profile()
}

func paths(files []profile.File) []string {
	var out []string
	for _, f := range files {
		out = append(out, string(f.Path))
	}
	return out
}

func TestFilesAreGeneralisedAsAPersonWould(t *testing.T) {
	many := func(n int, format string) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(format, fmt.Sprintf("n%c%c", 'a'+i/26, 'a'+i%26)))
		}
		return out
	}
	for _, tc := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"a few files stay", []string{"/app/state.json", "/app/state.bak"}, []string{"/app/state.bak", "/app/state.json"}},
		{"rotated logs", []string{"/var/log/app/a.log", "/var/log/app/a.log.1", "/var/log/app/a.log.2"}, []string{"/var/log/app/a.log*"}},
		{"a log that will be rotated", []string{"/var/log/app/a.log", "/app/logs/b-2024-01-02.log"}, []string{"/app/logs/b-*.log", "/var/log/app/a.log*"}},
		{"a log where every name counts", []string{"/etc/a.log", "/var/lib/a.log", "/usr/bin/a.log", "/a.log"}, []string{"/a.log", "/etc/a.log", "/usr/bin/a.log", "/var/lib/a.log"}},
		{"no logs", []string{"/app/a.logic", "/app/catalog", "/app/.log", "/app/a.log/x"}, []string{"/app/.log", "/app/a.log/x", "/app/a.logic", "/app/catalog"}},
		{"a folder made by mkdtemp", []string{"/tmp/node-aB3xQ9/n17.json"}, []string{"/tmp/node-*/**"}},
		{"a folder made by mkdtemp, seen thrice", []string{"/tmp/node-aB3xQ9", "/tmp/node-aB3xQ9/n1.json", "/tmp/node-Zt7Uu2/x/y"}, []string{"/tmp/node-*", "/tmp/node-*/**"}},
		{"folders in a folder for temporary files that are named", []string{"/tmp/app/n17.json", "/tmp/.X11-unix/X0"}, []string{"/tmp/.X11-unix/X0", "/tmp/app/n17.json"}},
		{"a folder that is all chance", []string{"/tmp/aB3xQ9zT/n17.json"}, []string{"/tmp/*/n17.json"}},
		{"a folder by chance that is not for temporary files", []string{"/srv/tmp.aB3xQ9zT1a/n17.json"}, []string{"/srv/tmp.*/n17.json"}},
		{"what sed -i leaves", []string{"/etc/nginx/conf.d/default.conf", "/etc/nginx/conf.d/sedKk2sPo"}, []string{"/etc/nginx/conf.d/default.conf", "/etc/nginx/conf.d/sed*"}},
		{"what replaces a file", []string{"/etc/app.confKk2sPo", "/etc/app.conf", "/etc/app.conf9sTTk2"}, []string{"/etc/app.conf*"}},
		{"what only looks so", []string{"/etc/app.confKk2sPo", "/etc/appserver", "/etc/app"}, []string{"/etc/app", "/etc/app.confKk2sPo", "/etc/appserver"}},
		{"processes", []string{"/proc/12/oom_score_adj", "/proc/4711/oom_score_adj"}, []string{"/proc/*/oom_score_adj"}},
		{"mkstemp", []string{"/tmp/tmpx1y2z3ab", "/tmp/tmp.Aq3xPpL0sV"}, []string{"/tmp/tmp*"}},
		{"uuid", []string{"/data/f47ac10b-58cc-4372-a567-0e02b2c3d479.json"}, []string{"/data/*.json"}},
		{"nine alike", many(9, "/data/in/part-%s.csv"), []string{"/data/in/part-*.csv"}},
		{"eight alike stay", many(8, "/data/in/part-%s.csv"), many(8, "/data/in/part-%s.csv")},
		{"numbered", []string{"/srv/out/invoice-01.json", "/srv/out/invoice-02.json", "/srv/out/invoice-17.json"}, []string{"/srv/out/invoice-*.json"}},
		{"two that are numbered", []string{"/srv/out/invoice-01.json", "/srv/out/invoice-02.json"}, []string{"/srv/out/invoice-01.json", "/srv/out/invoice-02.json"}},
		{"numbered beside others", []string{"/srv/out/w1.sock", "/srv/out/w2.sock", "/srv/out/worker1.sock", "/srv/out/worker2.sock", "/srv/out/worker3.sock", "/srv/out/main.sock"},
			[]string{"/srv/out/main.sock", "/srv/out/w1.sock", "/srv/out/w2.sock", "/srv/out/worker*.sock"}},
		{"what each has in its folder", []string{"/srv/shard-1/a", "/srv/out/shard-1/a", "/srv/out/shard-2/b", "/srv/out/shard-3/a"}, []string{"/srv/out/shard-*/a", "/srv/out/shard-*/b", "/srv/shard-1/a"}},
		{"numbers where every name counts", []string{"/etc/app-1.conf", "/etc/app-2.conf", "/etc/app-3.conf", "/srv/a-1.d", "/srv/a-2.d", "/srv/a-3.d"},
			[]string{"/etc/app-1.conf", "/etc/app-2.conf", "/etc/app-3.conf", "/srv/a-1.d", "/srv/a-2.d", "/srv/a-3.d"}},
		{"libraries", []string{"/opt/app/lib/libfoo.so.1", "/opt/app/lib/libfoo.so.2", "/opt/app/lib/libfoo.so.3"}, []string{"/opt/app/lib/libfoo.so.1", "/opt/app/lib/libfoo.so.2", "/opt/app/lib/libfoo.so.3"}},
		{"versions", []string{"/opt/app/v1/x", "/opt/app/v2/x", "/opt/app/v3/x", "/opt/app/python3.10/x", "/opt/app/python3.11/x", "/opt/app/python3.12/x"},
			[]string{"/opt/app/python3.10/x", "/opt/app/python3.11/x", "/opt/app/python3.12/x", "/opt/app/v1/x", "/opt/app/v2/x", "/opt/app/v3/x"}},
		{"many folders", many(9, "/data/%s/x/state"), []string{"/data/*/x/state"}},
		{"many folders of many files", append(many(9, "/data/a/%s"), many(9, "/data/%s/x")...), []string{"/data/**"}},
		{"never all of etc", many(60, "/etc/%s"), many(60, "/etc/%s")},
		{"never all of usr/bin", many(60, "/usr/bin/%s"), many(60, "/usr/bin/%s")},
		{"never the root", many(60, "/%s/f"), many(60, "/%s/f")},
		{"never homes", many(30, "/home/%s/f"), many(30, "/home/%s/f")},
		{"database", []string{"/var/lib/postgresql/data/base/16384/2619", "/var/lib/postgresql/data/postmaster.pid"}, []string{"/var/lib/postgresql/**"}},
		{"database that says so by its names", []string{"/data/etcd/member/snap/db", "/data/etcd/member/wal/0.tmp"}, []string{"/data/etcd/member/**"}},
		{"mail of many", append(many(9, "/data/mail/%s/cur/x"), append(many(9, "/data/mail/%s/new"), many(9, "/data/mail/%s/tmp")...)...), []string{"/data/mail/**"}},
		{"streams that users name", []string{"/data/js/jetstream/$G/streams/orders/meta.inf"}, []string{"/data/js/jetstream/**"}},
		{"no database where names count", []string{"/etc/x/snap", "/etc/x/wal", "/srv/PG_VERSION", "/srv/base", "/tmp/ibdata1"}, []string{"/etc/x/snap", "/etc/x/wal", "/srv/PG_VERSION", "/srv/base", "/tmp/ibdata1"}},
		{"half of a database", []string{"/data/x/snap", "/data/y/wal"}, []string{"/data/x/snap", "/data/y/wal"}},
		{"what each user has", []string{"/data/out/ann/4115c1.eml", "/data/out/bob/7c951b.eml", "/data/out/eve/93596a.eml", "/data/out/eve/ea3125.eml", "/data/out/log/x.txt"},
			[]string{"/data/out/*/4115c1.eml", "/data/out/*/7c951b.eml", "/data/out/*/93596a.eml", "/data/out/*/ea3125.eml", "/data/out/log/x.txt"}},
		{"what is exported for each user", []string{"/data/out/exp-ann-1796058133493.csv", "/data/out/exp-bob-1796058133999.csv", "/data/out/exp-eve-1796058144444.csv", "/data/out/exp-eve-1796058155555.sql"},
			[]string{"/data/out/exp-*.csv", "/data/out/exp-eve-*.sql"}},
		{"and for two", []string{"/data/out/exp-ann-1796058133493.csv", "/data/out/exp-bob-1796058133999.csv"}, []string{"/data/out/exp-ann-*.csv", "/data/out/exp-bob-*.csv"}},
		{"in a folder where each name counts", []string{"/etc/cron.d/run-a-1796058133493", "/etc/cron.d/run-b-1796058133493", "/etc/cron.d/run-c-1796058133493"},
			[]string{"/etc/cron.d/run-a-*", "/etc/cron.d/run-b-*", "/etc/cron.d/run-c-*"}},
		{"what each user has by its name", []string{"/data/up/ann/ann-1796058133493.bin", "/data/up/bob/bob-1796058133999.bin", "/data/up/eve/eve-1796058144444.bin", "/data/dbs/ann/ann.sqlite", "/data/dbs/bob/bob.sqlite", "/data/dbs/eve/eve.sqlite"},
			[]string{"/data/dbs/*/*.sqlite", "/data/up/*/*.bin"}},
		{"archives that hold a folder of their name", []string{"/data/wp/upgrade/seo-6b0db044c43ed/seo/inc/a.php", "/data/wp/upgrade/shop-6b0db055c43ed/shop/inc/a.php", "/data/wp/upgrade/forms-6b0db066c43ed/forms/inc/a.php", "/data/wp/upgrade/forms-6b0db066c43ed/forms/forms.php"},
			[]string{"/data/wp/upgrade/*/*/*.php", "/data/wp/upgrade/*/*/inc/a.php"}},
		{"names that begin as their folder by chance", []string{"/data/up/ann/annex.bin", "/data/up/bob/bobcat.bin", "/data/up/eve/evening.bin"},
			[]string{"/data/up/*/annex.bin", "/data/up/*/bobcat.bin", "/data/up/*/evening.bin"}},
		{"what two users have", []string{"/data/out/ann/a.eml", "/data/out/bob/b.eml"}, []string{"/data/out/ann/a.eml", "/data/out/bob/b.eml"}},
		{"folders within what each has", []string{"/data/tables/web/_series/00/x", "/data/tables/api/_series/01/x", "/data/tables/log/_series/02/x", "/data/tables/web/meta", "/data/tables/api/meta", "/data/tables/log/meta"},
			[]string{"/data/tables/*/_series/*/x", "/data/tables/*/meta"}},
		{"a job that has its checkout", []string{"/data/job/web/.git/HEAD", "/data/job/api/.git/HEAD", "/data/job/app/.git/HEAD"}, []string{"/data/job/*/.git/**"}},
		{"folders that hold other things", []string{"/app/a/x.json", "/app/b/y.txt", "/app/c/z"}, []string{"/app/a/x.json", "/app/b/y.txt", "/app/c/z"}},
		{"folders alike where every name counts", []string{"/etc/a/x.conf", "/etc/b/x.conf", "/etc/c/x.conf", "/srv/a/x.conf", "/srv/b/x.conf", "/srv/c/x.conf"},
			[]string{"/etc/a/x.conf", "/etc/b/x.conf", "/etc/c/x.conf", "/srv/a/x.conf", "/srv/b/x.conf", "/srv/c/x.conf"}},
		{"cache", []string{"/home/app/.cache/pip/http/a/b", "/home/app/.cache"}, []string{"/home/app/.cache", "/home/app/.cache/**"}},
		{"compiled python", []string{"/app/__pycache__/main.cpython-311.pyc.140234"}, []string{"/app/__pycache__/**"}},
		{"keys of ssh each count", many(30, "/home/app/.ssh/%s"), many(30, "/home/app/.ssh/%s")},
		{"packages", many(9, "/app/node_modules/%s/index.js"), []string{"/app/node_modules/**"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			for _, w := range tc.writes {
				s.write(w)
			}
			if diff := cmp.Diff(paths(s.learned(t).Writes), tc.want); diff != "" {
				t.Errorf("writes (-got +want):\n%s", diff)
			}
		})
	}
}

// TestTheSameWhateverTheOrder shuffles behaviour that reaches every threshold.
func TestTheSameWhateverTheOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprintf("%c%c%c", 'a'+rng.IntN(4), 'a'+rng.IntN(26), 'a'+rng.IntN(3)) }
	for round := range 25 {
		s := newScript()
		tops := []string{"/data", "/srv/app", "/tmp", "/var/log/x", "/app/node_modules", "/home/u/.cache", "/etc/x"}
		for range 60 {
			s.write("/etc/x/" + name() + []string{"", fmt.Sprintf("Xk%02dsA", rng.IntN(90))}[rng.IntN(2)])
		}
		for range 400 {
			path := tops[rng.IntN(len(tops))]
			for range 1 + rng.IntN(3) {
				path += "/" + name()
				switch rng.IntN(9) {
				case 4:
					path += []string{"/snap", "/wal", "/snap/x", "/wal/1"}[rng.IntN(4)]
				case 0:
					path += ".log"
				case 1:
					path += fmt.Sprint("-", rng.IntN(20000))
				case 2:
					path = path[:len(path)-2] + fmt.Sprintf("-%02d.json", rng.IntN(5))
				case 3:
					path = path[:len(path)-2] + fmt.Sprintf("w%d%s", rng.IntN(5), []string{"", ".log", "_x.json"}[rng.IntN(3)])
				}
			}
			s.write(path).AgentID = fmt.Sprint("host-", rng.IntN(12))
		}
		for range 100 {
			s.connect(fmt.Sprintf("10.0.%d.%d:%d", rng.IntN(3), rng.IntN(20), []int{80, 443, 40000 + rng.IntN(5)}[rng.IntN(3)]), "")
			s.connect("52.1.2.3:443", fmt.Sprintf("%s.%s.example.co.uk", name(), name()))
			s.exec("/usr/bin/"+name(), event.OriginImage, "x")
		}
		want := s.learned(t)
		for range 3 {
			rng.Shuffle(len(s.events), func(i, j int) { s.events[i], s.events[j] = s.events[j], s.events[i] })
			if diff := cmp.Diff(s.learned(t), want, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Fatalf("round %d: another order gives another profile (-got +want):\n%.3000s", round, diff)
			}
		}
	}
}

func TestKeptAndLoadedItIsTheSame(t *testing.T) {
	s := newScript()
	w := &asset.Workload{Image: asset.Image{Digest: "sha256:1", Reference: "shop:1"}}
	l := learn.New("prod/shop/web")
	for i := range 300 {
		s.write(fmt.Sprintf("/data/%d/x%c/y%c.log", i, 'a'+i%12, 'a'+i%7))
		s.connect(fmt.Sprintf("10.1.2.%d:80", i%200), "")
	}
	s.write("/data/half/snap")
	x := s.exec("/bin/sh", event.OriginImage, "sh", "-c", "true")
	x.Exec.Entered = true
	for i := range s.events {
		l.Take(&s.events[i], w)
	}
	b, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	again, err := learn.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	more := newScript()
	more.at = s.at
	for i := range 100 {
		more.write(fmt.Sprintf("/data/%d/x%c/z%c.log", i, 'a'+i%12, 'a'+i%7))
	}
	more.write("/data/half/wal") // a database with what was seen before
	for i := range more.events {
		l.Take(&more.events[i], w)
		again.Take(&more.events[i], w)
	}
	if diff := cmp.Diff(again.Profile(), l.Profile(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("loaded (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(again.Settled(more.at), l.Settled(more.at)); diff != "" {
		t.Errorf("settled (-got +want):\n%s", diff)
	}
	a, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	c, err := again.Save()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, c) {
		t.Error("the same learner gives other bytes")
	}
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// A file that is written under another name each time, and renamed, teaches the names
// before: those beside it alone, and nothing that may stand for another file.
func TestNamesBeforeARename(t *testing.T) {
	for _, tc := range []struct {
		name string
		from []string
		link string
		to   string
		want []string // besides what was written
	}{
		{"by process", []string{"/etc/passwd.47"}, "", "/etc/passwd", []string{"/etc/passwd.*"}},
		{"by chance", []string{"/backup/.a.html.abcdeF"}, "", "/backup/a.html", []string{"/backup/.a.html.*"}},
		{"always the same", []string{"/etc/passwd+"}, "", "/etc/passwd", nil},
		{"from another folder", []string{"/tmp/passwd.47"}, "", "/etc/passwd", nil},
		{"by a lock", nil, "/etc/passwd.47", "/etc/passwd.lock", []string{"/etc/passwd.*"}},
		{"linked to what is no lock", nil, "/etc/passwd.47", "/etc/passwd2", []string{"/etc/passwd.47"}},
		{"another file", []string{"/etc/x.47"}, "", "/etc/passwd", nil},
		{"a name that others begin with", []string{"/etc/sudoers47"}, "", "/etc/su", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript()
			want := append([]string{tc.to}, tc.want...)
			for _, from := range tc.from {
				s.write(from)
				s.add(event.Event{Kind: event.KindFileRename, File: &event.File{Path: from, To: tc.to}})
				want = append(want, from)
			}
			if tc.link != "" { // as those lock that change users
				s.add(event.Event{Kind: event.KindFileLink, File: &event.File{Path: tc.link, To: tc.to}})
			}
			want = slices.DeleteFunc(want, func(name string) bool { // what a pattern stands for is not listed beside it
				return slices.ContainsFunc(tc.want, func(p string) bool { return p != name && profile.Pattern(p).Match(name) })
			})
			slices.Sort(want)
			got := paths(s.learned(t).Writes)
			slices.Sort(got)
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("writes (-got +want):\n%s", diff)
			}
		})
	}
}
