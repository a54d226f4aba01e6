package watch_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch"
)

// service makes the events of one run of a service, with all that changes from one
// run to the next: names made by chance, process ids, dates, addresses of peers.
type service struct {
	rng    *rand.Rand
	run    int
	events []event.Event
}

const (
	lowerDigits = "abcdefghijklmnopqrstuvwxyz0123456789_"                          // Python's tempfile
	mixed       = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" // mkstemp
	hexDigits   = "0123456789abcdef"
)

func (s *service) chance(from string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = from[s.rng.IntN(len(from))]
	}
	return string(b)
}

func (s *service) add(e event.Event) {
	e.Time = start.Add(time.Duration(s.run)*time.Hour + time.Duration(len(s.events))*time.Second)
	e.WorkloadID, e.AgentID = fmt.Sprint("run", s.run), "a"
	e.Process.Key = event.Key{PID: 7, Start: 7}
	s.events = append(s.events, e)
}

func (s *service) write(format string, args ...any) {
	s.add(event.Event{Kind: event.KindFileCreate, File: &event.File{Path: fmt.Sprintf(format, args...)}})
}

// rename writes a file under another name and renames it.
func (s *service) rename(to, format string, args ...any) {
	s.write(format, args...)
	s.add(event.Event{Kind: event.KindFileRename, File: &event.File{Path: fmt.Sprintf(format, args...), To: to}})
}

func (s *service) exec(parent, file string, args ...string) {
	s.add(event.Event{Kind: event.KindExec, Process: event.Process{Executable: file, Parent: event.Key{PID: 1, Start: 1}},
		Exec: &event.Exec{Args: args, Origin: event.OriginImage, Cwd: "/app", Ancestors: []event.Ancestor{{Executable: parent}}}})
}

func (s *service) connect(to string, port uint16, name string) {
	s.add(event.Event{Kind: event.KindConnect, Connection: &event.Connection{Protocol: "tcp", Remote: netip.AddrPortFrom(netip.MustParseAddr(to), port), Name: name}})
}

var services = map[string]func(*service){
	"nginx": func(s *service) {
		s.write("/etc/nginx/conf.d/sed%s", s.chance(mixed, 6))
		s.write("/run/nginx.pid")
		for range 20 {
			s.write("/var/cache/nginx/proxy_temp/%d/%02d/%010d", s.rng.IntN(10), s.rng.IntN(100), s.rng.IntN(1e6))
			s.write("/var/log/nginx/access.log.%d", 1+s.rng.IntN(14))
		}
	},
	"postgres": func(s *service) {
		for range 40 {
			s.write("/var/lib/postgresql/data/base/%d/%d_fsm", 16384+s.rng.IntN(9), s.rng.IntN(99999))
			s.write("/var/lib/postgresql/data/pg_wal/%024X", s.rng.Uint32())
			s.write("/dev/shm/PostgreSQL.%d", s.rng.Uint32())
		}
	},
	"python": func(s *service) {
		s.exec("/usr/local/bin/python3.11", "/usr/local/bin/python3.11", "python3", "/app/worker.py")
		for range 8 {
			s.write("/tmp/tmp%s", s.chance(lowerDigits, 8))
			s.write("/tmp/wgunicorn-%s", s.chance(lowerDigits, 8))
			s.write("/srv/uploads/%s-%s-4%s-a%s-%s.jpg", s.chance(hexDigits, 8), s.chance(hexDigits, 4), s.chance(hexDigits, 3), s.chance(hexDigits, 3), s.chance(hexDigits, 12))
			s.write("/app/__pycache__/views.cpython-311.pyc.%d", 140000000000+s.rng.IntN(1e9))
			s.connect(fmt.Sprintf("10.0.4.%d", s.rng.IntN(250)), 5432, "db.shop.internal")
			s.connect(fmt.Sprintf("52.%d.1.1", s.rng.IntN(250)), 443, "sqs.eu-west-1.amazonaws.com")
		}
	},
	"java": func(s *service) {
		pid := 1 + s.rng.IntN(30000)
		s.write("/tmp/hsperfdata_app/%d", pid)
		s.write("/tmp/.attach_pid%d", pid)
		s.write("/tmp/tomcat.8080.%d/work/Tomcat/localhost/ROOT", s.rng.Uint64()>>1)
		s.write("/proc/%d/coredump_filter", pid)
		s.write("/var/log/app/app-%s.log", start.AddDate(0, 0, s.run).Format(time.DateOnly))
		s.write("/var/log/app/gc.log.%d", s.run%5)
	},
	"package builds": func(s *service) {
		for _, tool := range []string{"npm", "node", "gcc", "ld", "make", "pip"} {
			s.exec("/usr/bin/sh", "/usr/bin/"+tool, tool)
		}
		for i := range 12 {
			s.write("/root/.npm/_cacache/content-v2/sha512/%s/%s/%s", s.chance(hexDigits, 2), s.chance(hexDigits, 2), s.chance(hexDigits, 40))
			s.write("/root/.npm/_logs/2026-11-02T08_%02d_%02d_%03dZ-debug-0.log", s.rng.IntN(60), s.rng.IntN(60), s.rng.IntN(1000))
			s.write("/build/node_modules/pkg%c/lib/index.js", 'a'+i)
			s.write("/build/node_modules/.pkg%c-%s/package.json", 'a'+i, s.chance(mixed, 8))
			s.write("/tmp/cc%s.s", s.chance(mixed, 6))
			s.write("/tmp/cc%s.o", s.chance(mixed, 6))
			s.write("/tmp/pip-unpack-%s/wheel.whl", s.chance(lowerDigits, 8))
			s.write("/tmp/go-build%d/b%03d/_pkg_.a", s.rng.Uint32(), 1+s.rng.IntN(300))
			s.write("/root/.cache/go-build/%s/%s-d", s.chance(hexDigits, 2), s.chance(hexDigits, 64))
		}
	},
	"mail server": func(s *service) { // few mails: a quiet one
		for range 3 {
			id := "1" + s.chance(mixed, 5) + "-" + s.chance(mixed, 6) + "-" + s.chance(mixed, 2)
			s.write("/var/spool/exim4/input/%s-D", id)
			s.write("/var/spool/exim4/msglog/%s", id)
			s.write("/var/spool/exim4/input/hdr.%d", 40+s.rng.IntN(9000))
			s.write("/var/mail/shop/tmp/%d.H%dP%d.mail-1", 1764000000+s.rng.IntN(1e6), s.rng.IntN(1e6), 40+s.rng.IntN(900))
			s.write("/var/mail/shop/new/%d.M%dP%dV%sI%s.mail-1,S=%d", 1764000000+s.rng.IntN(1e6), s.rng.IntN(1e6), 40+s.rng.IntN(900), s.chance("0123456789ABCDEF", 16), s.chance("0123456789ABCDEF", 16), s.rng.IntN(9999))
			s.write("/var/spool/postfix/incoming/4%s%s", s.chance("bcdfghjklmnpqrstvwxyzBCDFGHJKLMNPQRSTVWXYZ0123456789", 9), "z"+s.chance("0123456789abcdef", 4))
		}
	},
	"php": func(s *service) {
		for range 2 {
			s.write("/var/lib/php/sessions/sess_%s", s.chance("abcdefghijklmnopqrstuv0123456789", 26))
			s.write("/tmp/php%s", s.chance(mixed, 6))
		}
	},
	"git server": func(s *service) {
		for range 5 {
			s.write("/srv/git/shop.git/objects/%s/tmp_obj_%s", s.chance(hexDigits, 2), s.chance(mixed, 6))
			s.write("/srv/git/shop.git/objects/tmp_objdir-incoming-%s/%s", s.chance(mixed, 6), s.chance(hexDigits, 2))
			s.write("/srv/git/shop.git/objects/tmp_objdir-incoming-%s/pack/tmp_pack_%s", s.chance(mixed, 6), s.chance(mixed, 6))
			s.write("/srv/git/shop.git/objects/pack/pack-%s.pack", s.chance(hexDigits, 40))
		}
	},
	"copies": func(s *service) { // by rsync, and by programs that write a file anew
		for range 2 {
			s.rename("/backup/site/index.html", "/backup/site/.index.html.%s", s.chance(mixed, 6))
			s.rename("/var/lib/shop/state.json", "/var/lib/shop/state.json.%d.%s", 40+s.rng.IntN(900), s.chance("abcdefghijklmnopqrstuvwxyz0123456789", 7))
			s.rename("/var/lib/shop/settings.json", "/var/lib/shop/settings.json.%s", s.chance(mixed, 6))
			s.rename("/etc/mailcap", "/etc/mailcap.%d", 40+s.rng.IntN(900))
		}
	},
	"cron job": func(s *service) {
		s.exec("/usr/sbin/cron", "/usr/bin/dash", "/bin/sh", "-c", "run-parts /etc/cron.daily")
		s.exec("/usr/bin/dash", "/usr/bin/pg_dump", "pg_dump")
		s.write("/tmp/tmp.%s", s.chance(mixed, 10))
		s.write("/backup/%s/dump-%s.sql.gz", start.AddDate(0, 0, s.run).Format("2006-01"), start.AddDate(0, 0, s.run).Format("20060102"))
	},
}

// TestServicesAreNotBlockedAfterLearning learns from a few runs of each service and
// holds the next twenty to what was learned.
func TestServicesAreNotBlockedAfterLearning(t *testing.T) {
	const learned, held = 4, 20
	for name, run := range services {
		t.Run(name, func(t *testing.T) {
			l := watch.NewLearner(asset.Group("prod/x/" + name))
			rng := rand.New(rand.NewPCG(7, 8))
			for i := range learned {
				s := &service{rng: rng, run: i}
				run(s)
				for j := range s.events {
					l.Take(&s.events[j], nil)
				}
			}
			p := l.Profile()
			x := watch.NewIndex(p)
			total, blocked := 0, map[string]int{}
			for i := range held {
				s := &service{rng: rng, run: learned + i}
				run(s)
				for j := range s.events {
					total++
					if v := x.Compare(&s.events[j]); v != nil && !v.Unheld {
						blocked[v.Sentence]++
					}
				}
			}
			for said := range blocked {
				t.Errorf("%s", said)
			}
			t.Logf("%d events, %d blocked, by %d entries", total, len(blocked), watch.Entries(p))
			for _, bad := range []string{"/etc/passwd", "/usr/bin/id", "/root/.ssh/authorized_keys", "/etc/cron.d/x", "/app/main.py"} {
				for _, f := range p.Writes {
					if f.Path.Match(bad) {
						t.Errorf("%s lets %s be written", f.Path, bad)
					}
				}
			}
		})
	}
}

// TestAttacksLieOutside holds what attacks do against what the services do.
func TestAttacksLieOutside(t *testing.T) {
	attack := func(do func(*service)) []event.Event {
		s := &service{rng: rand.New(rand.NewPCG(1, 1))}
		do(s)
		return s.events
	}
	foreign := func(s *service, file string, o event.Origin) {
		s.exec("/usr/bin/dash", file, file)
		s.events[len(s.events)-1].Exec.Origin = o
	}
	for name, events := range map[string][]event.Event{
		"download and run":     attack(func(s *service) { foreign(s, "/tmp/tmpabcd1234", event.OriginWritten) }),
		"in memory":            attack(func(s *service) { foreign(s, "/memfd:x", event.OriginMemory) }),
		"from a volume":        attack(func(s *service) { foreign(s, "/srv/uploads/x", event.OriginMount) }),
		"tool of the image":    attack(func(s *service) { s.exec("/usr/local/bin/python3.11", "/usr/bin/curl", "curl") }),
		"crontab":              attack(func(s *service) { s.write("/etc/cron.d/x") }),
		"key of ssh":           attack(func(s *service) { s.write("/root/.ssh/authorized_keys") }),
		"preload":              attack(func(s *service) { s.write("/etc/ld.so.preload") }),
		"reverse shell":        attack(func(s *service) { s.connect("6.6.6.6", 4444, "") }),
		"instance metadata":    attack(func(s *service) { s.connect("169.254.169.254", 80, "") }),
		"database of another":  attack(func(s *service) { s.connect("10.9.9.9", 5432, "") }),
		"another cloud bucket": attack(func(s *service) { s.connect("52.9.9.9", 443, "evil.s3.eu-west-1.amazonaws.com") }),
		"shadow": attack(func(s *service) {
			s.add(event.Event{Kind: event.KindFileRead, File: &event.File{Path: "/etc/shadow", Sensitive: "shadow"}})
		}),
		"ptrace": attack(func(s *service) {
			s.add(event.Event{Kind: event.KindPtrace, Privilege: &event.Privilege{Call: "ptrace"}})
		}),
		"library": attack(func(s *service) {
			s.add(event.Event{Kind: event.KindExecMap, Memory: &event.Memory{Path: "/tmp/tmpx.so", Origin: event.OriginWritten}})
		}),
	} {
		for service, run := range services {
			l := watch.NewLearner("g")
			s := newRuns(run, 6)
			for i := range s {
				l.Take(&s[i], nil)
			}
			x := watch.NewIndex(l.Profile())
			outside := false
			for i := range events {
				v := x.Compare(&events[i])
				outside = outside || v != nil && !v.Unheld && v.Group == "g" && v.Mode == profile.Discover
			}
			if !outside {
				t.Errorf("%s passes in %s", name, service)
			}
		}
	}
}

func newRuns(run func(*service), n int) (out []event.Event) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range n {
		s := &service{rng: rng, run: i}
		run(s)
		out = append(out, s.events...)
	}
	return out
}
