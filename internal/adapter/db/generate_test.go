package db_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/castellan-security/castellan/internal/event"
)

// fleet makes events as a fleet of hosts does: every agent watches twenty
// workloads of its own, a process is forked, executes and exits, arguments
// repeat but for an id in every tenth, and a few things are rare.
type fleet struct {
	rnd    *rand.Rand
	agents []*fleetAgent
	clock  time.Time
	made   int
	mixed  bool // with files and connections too
}

type fleetAgent struct {
	id   string
	seq  uint64
	pid  uint32
	boot uint64 // nanoseconds since its boot
}

const (
	fleetAgents    = 50
	fleetWorkloads = 20 // of each agent
	fleetPrograms  = 120
	// fleetStep is the time between two events: 10 million are ten days.
	fleetStep = 86 * time.Millisecond
)

var fleetStart = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func newFleet(seed uint64) *fleet {
	f := &fleet{rnd: rand.New(rand.NewPCG(seed, 7)), clock: fleetStart}
	for i := range fleetAgents {
		f.agents = append(f.agents, &fleetAgent{id: fmt.Sprintf("agent-%02d", i), pid: 1_000, boot: uint64(i) * 1e12})
	}
	return f
}

func workloadID(agent, n int) string { return fmt.Sprintf("%02x%02x%060x", agent, n, agent*1000+n) }
func groupName(agent, n int) string  { return fmt.Sprintf("prod/service-%d/app", (agent+n)%40) }
func program(n int) string           { return fmt.Sprintf("/usr/bin/tool-%c%c", 'a'+n/26, 'a'+n%26) }

// batch is one report of one agent.
func (f *fleet) batch(n int) []event.Event {
	at := f.rnd.IntN(len(f.agents))
	a := f.agents[at]
	events := make([]event.Event, 0, n)
	for len(events) < n {
		for _, e := range f.life(at, a) {
			if len(events) < n {
				a.seq++
				e.Seq = a.seq
				events = append(events, e)
			}
		}
	}
	return events
}

// life is one process: fork, exec, exit.
func (f *fleet) life(at int, a *fleetAgent) []event.Event {
	a.pid++
	a.boot += 40_000_000 + f.rnd.Uint64N(1_000_000)
	w := int(float64(fleetWorkloads) * f.rnd.Float64() * f.rnd.Float64()) // some are busier
	prog := program(int(fleetPrograms * f.rnd.Float64() * f.rnd.Float64()))
	base := event.Event{
		Version: event.Version, AgentID: a.id, Boot: "boot-1",
		WorkloadID: workloadID(at, w), Group: groupName(at, w),
		Process: event.Process{
			Key:    event.Key{PID: a.pid, Start: a.boot},
			Parent: event.Key{PID: 900, Start: uint64(at)*1e12 + 5}, ContainerPID: a.pid % 500,
			Name: prog[len("/usr/bin/"):], Executable: "/bin/sh", UID: 1000, EUID: 1000, GID: 1000,
		},
	}
	if w == 0 && f.rnd.IntN(20) == 0 {
		base.WorkloadID, base.Group = "", ""
	}
	fork, exec, exit := base, base, base
	fork.Kind, exec.Kind, exit.Kind = event.KindFork, event.KindExec, event.KindExit
	exec.Process.Executable, exit.Process.Executable = prog, prog
	exec.Exec = f.exec(prog, exec.Process)
	if f.made%1_000_003 == 1_000_000%1_000_003-1 || f.made == 30_000 {
		exec.Process.Executable, exec.Process.Name = "/tmp/.hidden/xmrig", "xmrig"
		exec.Exec.Origin = event.OriginWritten
		exec.Exec.Args = []string{"/tmp/.hidden/xmrig", "-o", "stratum+tcp://pool.minerals.example:3333"}
	}
	exit.Exit = &event.Exit{Code: f.rnd.IntN(2), Lifetime: time.Duration(f.rnd.IntN(1e9))}
	life := []event.Event{fork, exec}
	if f.mixed {
		during := exec
		during.Exec = nil
		life = append(life, f.objects(during)...)
	}
	life = append(life, exit)
	for i := range life {
		f.clock = f.clock.Add(fleetStep)
		f.made++
		life[i].Time = f.clock
		life[i].Received = f.clock.Add(time.Second)
	}
	return life
}

func (f *fleet) exec(prog string, p event.Process) *event.Exec {
	args := []string{prog, "--config", "/etc/app/config.yaml", fmt.Sprintf("--level=%d", f.rnd.IntN(5))}
	if f.rnd.IntN(10) == 0 {
		args = append(args, fmt.Sprintf("--request-id=%016x", f.rnd.Uint64()))
	}
	if f.rnd.IntN(50) == 0 {
		args = append(args, "curl", fmt.Sprintf("http://10.0.%d.%d/health", f.rnd.IntN(200), f.rnd.IntN(250)))
	}
	x := &event.Exec{
		Args: args, Cwd: "/srv/app", Origin: event.OriginImage, Inode: f.rnd.Uint64N(1 << 22), Device: 44,
		Capabilities: 0xa80425fb,
		Ancestors: []event.Ancestor{
			{Key: p.Parent, Name: "sh", Executable: "/bin/sh"},
			{Key: event.Key{PID: 880, Start: p.Parent.Start - 1}, Name: "supervisor", Executable: "/usr/sbin/supervisor"},
		},
	}
	switch f.rnd.IntN(20_000) {
	case 0:
		x.Entered = true
	case 1, 2, 3:
		x.Origin = event.OriginWritten
	case 4:
		x.Origin = event.OriginMemory
	}
	return x
}
