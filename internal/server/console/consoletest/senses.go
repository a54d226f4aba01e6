package consoletest

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// who is a process in a workload.
type who struct {
	workload, group string
	process         event.Process
}

func (b *builder) by(w who, ago time.Duration, k event.Kind) *event.Event {
	return b.add(ago, k, w.workload, w.group, w.process)
}

// senses is what the other sensors saw of the shop in the last day.
func (b *builder) senses(ws []asset.Workload) {
	group := map[string]string{}
	for _, w := range ws {
		group[w.ID] = string(w.Group)
	}
	in := func(workload string, pid uint32, exe string) who {
		return who{workload, group[workload], process(pid, 4_000, exe)}
	}
	front, shell := in(Storefront, 4_011, "/storefront"), in(Storefront, 31_001, "/bin/bash")
	api, db, worker := in(API, 4_101, "/api"), in(DB, 4_201, "/store"), in(Worker, 4_301, "/usr/bin/convert")
	evil := in(Hostile, 34_000, "/tmp/"+HostileName)
	b.files(front, shell, db, worker, evil)
	b.connections(front, shell, api, db, worker, evil, group)
	b.names(front, shell, api, evil)
	b.privileges(shell, evil)
	b.resources(worker, api, in(Client, 4_401, "/client"))
}

func (b *builder) file(w who, ago time.Duration, k event.Kind, f event.File, n uint64) {
	e := b.by(w, ago, k)
	e.File = &f
	if n > 1 {
		e.Count, e.Last = n, e.Time.Add(10*time.Second)
	}
}

func (b *builder) files(front, shell, db, worker, evil who) {
	root := uint32(0)
	b.file(front, 50*time.Minute, event.KindFileWrite, event.File{Path: "/tmp/sessions.db", FileSystem: "tmpfs", Origin: event.OriginMount, Mode: 0o644, Flags: []string{"write"}}, 412)
	b.file(front, 44*time.Minute, event.KindFileCreate, event.File{Path: "/uploads/2026/11/cat.jpg", FileSystem: "ext4", Origin: event.OriginMount, Mode: 0o644}, 38)
	b.file(front, 43*time.Minute, event.KindFileRename, event.File{Path: "/uploads/.part-1", To: "/uploads/2026/11/dog.jpg", FileSystem: "ext4", Origin: event.OriginMount}, 0)
	b.file(db, 30*time.Minute, event.KindFileWrite, event.File{Path: "/data/wal/000000010000000000000042", FileSystem: "ext4", Origin: event.OriginMount, Inode: 81_001, Device: 8<<20 | 1, Flags: []string{"write", "append"}}, 9_411)
	b.file(db, 29*time.Minute, event.KindFileDelete, event.File{Path: "/data/wal/000000010000000000000039", FileSystem: "ext4", Origin: event.OriginMount}, 3)
	b.file(worker, 20*time.Minute, event.KindFileCreate, event.File{Path: "/uploads/thumbs/cat.jpg", FileSystem: "ext4", Origin: event.OriginMount}, 38)
	b.file(shell, 13*time.Minute, event.KindFileRead, event.File{Path: "/etc/shadow", Origin: event.OriginImage, Layer: event.Layer{Number: 1, Of: 4}, FileSystem: "overlay", Inode: 1_977, Device: 66_305, Mode: 0o640, Sensitive: "shadow"}, 2)
	b.file(shell, 13*time.Minute-9*time.Second, event.KindFileRead, event.File{Path: "/proc/1/environ", FileSystem: "proc", Sensitive: "environ"}, 0)
	b.file(shell, 13*time.Minute-20*time.Second, event.KindFileRead, event.File{Path: "/root/.aws/credentials", Sensitive: "cloud", Claimed: true, Error: "ENOENT"}, 0)
	b.file(shell, 12*time.Minute, event.KindFileCreate, event.File{Path: "/tmp/.x", Origin: event.OriginWritten, FileSystem: "overlay", Mode: 0o644}, 0)
	b.file(shell, 11*time.Minute+55*time.Second, event.KindFileChmod, event.File{Path: "/tmp/.x", Origin: event.OriginWritten, FileSystem: "overlay", Mode: 0o4755}, 0)
	b.file(shell, 11*time.Minute+54*time.Second, event.KindFileChown, event.File{Path: "/tmp/.x", Origin: event.OriginWritten, UID: &root, GID: &root}, 0)
	b.file(shell, 11*time.Minute+50*time.Second, event.KindFileLink, event.File{Path: "/tmp/.x", To: "/usr/local/bin/ls", Flags: []string{"symbolic"}}, 0)
	b.file(evil, 2*time.Minute, event.KindFileWrite, event.File{Path: "/host/etc/cron.d/" + HostileName, FileSystem: "xfs", Origin: event.OriginMount, PathTruncated: true, Flags: []string{"write", HostileArg}}, 0)
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// talk is one connection as both its ends, or one, tell it.
func (b *builder) talk(w who, ago time.Duration, k event.Kind, c event.Connection, n uint64) {
	if c.Protocol == "" {
		c.Protocol = "tcp"
	}
	c.NetNS = 4_026_532_281
	e := b.by(w, ago, k)
	e.Connection = &c
	if n > 1 {
		e.Count, e.Last = n, e.Time.Add(time.Minute)
	}
}

func (b *builder) connections(front, shell, api, db, worker, evil who, group map[string]string) {
	to := func(id string, port uint16) event.Peer {
		return event.Peer{Kind: event.PeerWorkload, WorkloadID: id, Group: group[id], AgentID: AgentID, Port: port}
	}
	b.talk(front, 3*time.Hour, event.KindListen, event.Connection{Local: at("0.0.0.0:8080")}, 0)
	b.talk(api, 3*time.Hour, event.KindListen, event.Connection{Local: at("0.0.0.0:8080")}, 0)
	b.talk(db, 3*time.Hour, event.KindListen, event.Connection{Local: at("[::]:5432")}, 0)
	for i, ago := range []time.Duration{150 * time.Minute, 40 * time.Minute, 90 * time.Second} {
		local := "172.17.0.2:4" + strconv.Itoa(1000+i)
		b.talk(front, ago, event.KindConnect, event.Connection{Local: at(local), Remote: at("172.17.0.3:8080"), Name: "api.shop.internal", Peer: to(API, 0)}, uint64(300*(i+1)))
		b.talk(front, ago-time.Second, event.KindClose, event.Connection{Local: at(local), Remote: at("172.17.0.3:8080"), Name: "api.shop.internal", Peer: to(API, 0), BytesSent: 21_204, BytesReceived: 1_882_011, PacketsSent: 120, PacketsReceived: 1_420, Duration: 820 * time.Millisecond}, 0)
		b.talk(api, ago, event.KindAccept, event.Connection{Local: at("172.17.0.3:8080"), Remote: at(local), Peer: to(Storefront, 0)}, uint64(300*(i+1)))
		b.talk(api, ago, event.KindConnect, event.Connection{Local: at("172.17.0.3:5500" + strconv.Itoa(i)), Remote: at("172.17.0.4:5432"), Name: "store.shop.internal", Peer: to(DB, 0)}, uint64(80*(i+1)))
		b.talk(worker, ago, event.KindConnect, event.Connection{Local: at("172.17.0.2:3800" + strconv.Itoa(i)), Remote: at("10.0.3.17:8080"), Peer: to(Storefront, 8080)}, uint64(7*(i+1)))
	}
	b.talk(front, 35*time.Minute, event.KindAccept, event.Connection{Local: at("172.17.0.2:8080"), Remote: at("203.0.113.80:51990"), Peer: event.Peer{Kind: event.PeerPublic}}, 2_410)
	b.talk(api, 20*time.Minute, event.KindConnect, event.Connection{Remote: at("169.254.170.2:80"), Peer: event.Peer{Kind: event.PeerService}}, 12)
	b.talk(api, 19*time.Minute, event.KindConnect, event.Connection{Remote: at("52.95.170.1:443"), Name: "s3.eu-central-1.amazonaws.com", Peer: event.Peer{Kind: event.PeerPublic}}, 240)
	b.talk(worker, 18*time.Minute, event.KindConnect, event.Connection{Remote: at("10.0.9.44:6379"), Name: "cache.shop.internal", Peer: event.Peer{Kind: event.PeerPrivate}, Error: "ECONNREFUSED"}, 6)
	b.talk(db, 90*time.Minute, event.KindConnect, event.Connection{Local: at("172.17.0.4:44100"), Remote: at("10.0.7.203:22"), Peer: event.Peer{Kind: event.PeerHost, AgentID: Agent2ID}, Resumed: true}, 0)
	b.talk(shell, 12*time.Minute, event.KindConnect, event.Connection{Local: at("172.17.0.2:50001"), Remote: at("198.51.100.7:80"), Peer: event.Peer{Kind: event.PeerPublic}}, 0)
	b.talk(shell, 11*time.Minute+40*time.Second, event.KindConnect, event.Connection{Remote: at("198.51.100.9:4444"), Name: "pool.invalid", Peer: event.Peer{Kind: event.PeerPublic}, Error: "ETIMEDOUT"}, 31)
	b.talk(shell, 11*time.Minute, event.KindConnect, event.Connection{Remote: at("169.254.169.254:80"), Peer: event.Peer{Kind: event.PeerService}}, 3)
	b.talk(shell, 10*time.Minute, event.KindUnix, event.Connection{Protocol: "unix", Path: "/run/docker.sock", Asked: "/tmp/" + HostileName, Outside: true, Listener: key(800), ListenerName: "dockerd"}, 0)
	b.talk(api, 10*time.Minute, event.KindUnix, event.Connection{Protocol: "unix", Path: "/run/postgresql/.s.PGSQL.5432", Listener: key(4_101), ListenerName: "pgbouncer", ListenerWorkloadID: API}, 40)
	b.talk(shell, 10*time.Minute, event.KindStdio, event.Connection{Local: at("172.17.0.2:50001"), Remote: at("198.51.100.7:80"), Peer: event.Peer{Kind: event.PeerPublic}, Stream: "input"}, 0)
	b.talk(evil, 2*time.Minute, event.KindRaw, event.Connection{Protocol: "packet"}, 0)
	b.talk(evil, 2*time.Minute, event.KindConnect, event.Connection{Protocol: "udp", Remote: at("[2001:db8::bad]:53"), Name: HostileName, Peer: event.Peer{Kind: event.PeerPublic}}, 4)
}

func (b *builder) ask(w who, ago time.Duration, name, kind, code string, n uint64, answers ...string) {
	q := event.DNS{Protocol: "udp", Server: at("127.0.0.11:53"), Client: at("127.0.0.1:40112"), ID: 41_002, Name: name, Type: kind, Size: 44}
	e := b.by(w, ago, event.KindQuery)
	asked := q
	e.DNS = &asked
	if n > 1 {
		e.Count, e.Last = n, e.Time.Add(time.Minute)
	}
	e = b.by(w, ago-20*time.Millisecond, event.KindAnswer)
	q.Code, q.Answers, q.Size = code, answers, 44+16*len(answers)
	e.DNS = &q
}

func (b *builder) names(front, shell, api, evil who) {
	b.ask(front, 40*time.Minute, "api.shop.internal", "A", "NOERROR", 640, "172.17.0.3")
	b.ask(front, 40*time.Minute-30*time.Millisecond, "api.shop.internal", "AAAA", "NOERROR", 640)
	b.ask(api, 19*time.Minute, "s3.eu-central-1.amazonaws.com", "A", "NOERROR", 12, "52.95.170.1", "52.95.170.2", "52.95.170.3", "52.95.170.4")
	b.ask(shell, 11*time.Minute+41*time.Second, "pool.invalid", "A", "NXDOMAIN", 31)
	b.ask(shell, 10*time.Minute, strings.Repeat("dGhlIHN0b2xlbiBmaWxl", 3)+".t.example.org", "TXT", "NOERROR", 0, "ok")
	b.ask(evil, time.Minute, HostileName+".example", "A", "SERVFAIL", 0)
}

func (b *builder) privileges(shell, evil who) {
	one := func(w who, ago time.Duration, k event.Kind, p event.Privilege) { b.by(w, ago, k).Privilege = &p }
	one(shell, 9*time.Minute, event.KindMount, event.Privilege{Call: "mount", Source: "proc", Target: "/mnt", Type: "proc", Error: "EPERM"})
	one(shell, 8*time.Minute, event.KindUnshare, event.Privilege{Call: "unshare", Flags: []string{"newuser", "newns"}})
	one(shell, 8*time.Minute-time.Second, event.KindCapability, event.Privilege{Call: "unshare", Gained: 0x1ffffffffff})
	one(shell, 5*time.Minute, event.KindUser, event.Privilege{Call: "setuid", OldUID: 1000})
	one(evil, 2*time.Minute, event.KindSetns, event.Privilege{Call: "setns", Type: "mnt", Process: key(1)})
	one(evil, 2*time.Minute, event.KindPtrace, event.Privilege{Call: "ptrace", Flags: []string{"attach"}, Process: key(4_001), WorkloadID: Storefront})
	one(evil, 2*time.Minute, event.KindModule, event.Privilege{Call: "finit_module", Target: "/tmp/" + HostileName + ".ko"})
	one(evil, 2*time.Minute, event.KindKernelKnob, event.Privilege{Call: "openat", Target: "/proc/sys/kernel/core_pattern"})
	one(evil, 2*time.Minute, event.KindDevice, event.Privilege{Call: "openat", Target: "/dev/sda", Device: 8 << 20})
}

func (b *builder) resources(worker, api, client who) {
	e := b.by(worker, 6*time.Minute, event.KindExecMap)
	e.Memory = &event.Memory{Call: "mmap", Path: "/tmp/libevil.so", Origin: event.OriginWritten, Protection: []string{"read", "execute"}, Length: 81_920}
	e = b.by(worker, 6*time.Minute-time.Second, event.KindExecProtect)
	e.Memory = &event.Memory{Call: "mmap", Path: "/usr/lib/libjit.so", Origin: event.OriginImage, Layer: event.Layer{Number: 3, Of: 4}, Protection: []string{"read", "write", "execute"}, Length: 4_096}
	e = b.by(api, 6*time.Minute+time.Second, event.KindMemfd)
	e.Memory = &event.Memory{Call: "memfd_create", Path: "kworker"}
	e = b.by(client, 40*time.Minute, event.KindOOM)
	e.Resource = &event.Resource{What: "memory", Used: 256 << 20, Limit: 256 << 20}
	e = b.by(api, 4*time.Minute, event.KindThrottle)
	e.Resource, e.Count = &event.Resource{What: "cpu", Used: 500, Limit: 500}, 14
	e = b.by(api, 3*time.Minute, event.KindLimit)
	e.Resource = &event.Resource{What: "memory", Used: 243 << 20, Limit: 256 << 20}
}

// samples are a day of what three containers use, in steps of a minute, and of
// the last quarter of an hour in steps of ten seconds.
func samples(now time.Time) []asset.Sample {
	var out []asset.Sample
	for i, id := range []string{Storefront, API, DB} {
		s := asset.Sample{WorkloadID: id, MemoryLimit: 256 << 20, PidsLimit: 128, CPULimit: 500 * uint64(i)}
		if i == 0 {
			s.Missing = []string{"disk_read_bytes", "disk_written_bytes"}
		}
		last := now.Add(-24 * time.Hour)
		for t := last; !t.After(now); {
			long := t.Sub(last)
			last = t
			wave := 1 + math.Sin(float64(t.Unix())/900+float64(i)) + 0.3*math.Sin(float64(t.Unix())/37)
			s.Time = t
			s.CPU += time.Duration(float64(long) * 0.12 * max(wave, 0.05))
			s.Memory = uint64((90 + 60*wave) * (1 << 20))
			s.Pids, s.Descriptors = uint64(9+4*wave), uint64(80+30*wave)
			s.NetworkReceived += uint64(long.Seconds() * 40_000 * max(wave, 0))
			s.NetworkSent += uint64(long.Seconds() * 160_000 * max(wave, 0))
			s.DiskWritten += uint64(long.Seconds() * 9_000 * float64(i))
			if i == 1 && now.Sub(t) < 5*time.Minute && now.Sub(t) > 4*time.Minute {
				s.Throttled += long / 2
			}
			if i == 1 && now.Sub(t) < 8*time.Minute && s.OOMKills == 0 {
				s.OOMKills++
			}
			out = append(out, s)
			step := time.Minute
			if now.Sub(t) <= 16*time.Minute {
				step = 10 * time.Second
			}
			t = t.Add(step)
		}
	}
	return out
}
