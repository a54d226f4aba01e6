package link

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// toWire writes a report in the form of the link. Text that is not valid UTF-8
// gets replacement characters: the wire carries nothing else.
func toWire(r Report) (*linkv1.ReportRequest, error) {
	agent, err := json.Marshal(r.Agent)
	if err != nil {
		return nil, fault.New(fault.Invalid, "write agent: %w", err)
	}
	m := &linkv1.ReportRequest{
		AgentJson: agent, WorkloadsJson: make([][]byte, len(r.Workloads)),
		Events: eventsToWire(r.Events), Processes: runningToWire(r.Processes),
		Snapshot: r.Snapshot, Complete: r.Complete,
	}
	for i := range r.Workloads {
		if m.WorkloadsJson[i], err = json.Marshal(r.Workloads[i]); err != nil {
			return nil, fault.New(fault.Invalid, "write workload %s: %w", r.Workloads[i].ID, err)
		}
	}
	return m, nil
}

// fromWire reads what toWire wrote, in this version or another. What is in a
// report is not judged here, only its form and its size.
func fromWire(m *linkv1.ReportRequest) (Report, error) {
	if err := checkSize(len(m.GetEvents()), len(m.GetWorkloadsJson()), len(m.GetProcesses())); err != nil {
		return Report{}, err
	}
	r := Report{Snapshot: m.GetSnapshot(), Complete: m.GetComplete()}
	if err := json.Unmarshal(m.GetAgentJson(), &r.Agent); err != nil {
		return Report{}, fault.New(fault.Invalid, "read agent: %w", err)
	}
	if n := len(m.GetWorkloadsJson()); n > 0 {
		r.Workloads = make([]asset.Workload, n)
	}
	for i, b := range m.GetWorkloadsJson() {
		if err := json.Unmarshal(b, &r.Workloads[i]); err != nil {
			return Report{}, fault.New(fault.Invalid, "read workload %d: %w", i, err)
		}
	}
	r.Events = eventsFromWire(m.GetEvents(), r.Agent.ID, r.Agent.Boot)
	r.Processes = runningFromWire(m.GetProcesses())
	return r, nil
}

// checkSize holds the limits of one report.
func checkSize(events, workloads, processes int) error {
	if events > MaxEvents || workloads > MaxWorkloads || processes > MaxProcesses {
		return fault.New(fault.Invalid, "report has %d events, %d workloads, %d processes; at most %d, %d, %d are taken",
			events, workloads, processes, MaxEvents, MaxWorkloads, MaxProcesses)
	}
	return nil
}

// Check holds the limits of one report: Invalid when r is larger.
func (r Report) Check() error { return checkSize(len(r.Events), len(r.Workloads), len(r.Processes)) }

func eventsToWire(events []event.Event) []*linkv1.Event {
	out := make([]*linkv1.Event, len(events))
	all := make([]linkv1.Event, len(events)) // one allocation for all
	for i := range events {
		e, w := &events[i], &all[i]
		w.Version = uint32(e.Version)
		w.Seq = e.Seq
		w.TimeUnixNs = nanos(e.Time)
		w.Kind = text(string(e.Kind))
		w.WorkloadId = text(e.WorkloadID)
		w.Process = processToWire(&e.Process)
		w.Exec = execToWire(e.Exec)
		w.Exit = exitToWire(e.Exit)
		out[i] = w
	}
	return out
}

func eventsFromWire(events []*linkv1.Event, agentID, boot string) []event.Event {
	if len(events) == 0 {
		return nil
	}
	out := make([]event.Event, len(events))
	for i, w := range events {
		out[i] = event.Event{
			Version: int(w.GetVersion()), AgentID: agentID, Boot: boot, Seq: w.GetSeq(),
			Time: at(w.GetTimeUnixNs()), Kind: event.Kind(w.GetKind()), WorkloadID: w.GetWorkloadId(),
			Process: processFromWire(w.GetProcess()), Exec: execFromWire(w.GetExec()), Exit: exitFromWire(w.GetExit()),
		}
	}
	return out
}

func runningToWire(procs []event.Running) []*linkv1.Running {
	out := make([]*linkv1.Running, len(procs))
	all := make([]linkv1.Running, len(procs))
	for i := range procs {
		p, w := &procs[i], &all[i]
		w.WorkloadId = text(p.WorkloadID)
		w.Process = processToWire(&p.Process)
		w.Args = texts(p.Args)
		w.Origin = text(string(p.Origin))
		w.Entered = p.Entered
		w.StartedUnixNs = nanos(p.Started)
		if p.Ended != nil {
			w.EndedUnixNs = nanos(*p.Ended)
		}
		w.Exit = exitToWire(p.Exit)
		out[i] = w
	}
	return out
}

func runningFromWire(procs []*linkv1.Running) []event.Running {
	if len(procs) == 0 {
		return nil
	}
	out := make([]event.Running, len(procs))
	for i, w := range procs {
		out[i] = event.Running{
			WorkloadID: w.GetWorkloadId(), Process: processFromWire(w.GetProcess()), Args: w.GetArgs(),
			Origin: event.Origin(w.GetOrigin()), Entered: w.GetEntered(), Started: at(w.GetStartedUnixNs()),
			Exit: exitFromWire(w.GetExit()),
		}
		if ns := w.GetEndedUnixNs(); ns != 0 {
			t := at(ns)
			out[i].Ended = &t
		}
	}
	return out
}

func processToWire(p *event.Process) *linkv1.Process {
	return &linkv1.Process{
		Key: keyToWire(p.Key), ContainerPid: p.ContainerPID, Parent: keyToWire(p.Parent),
		Name: text(p.Name), Executable: text(p.Executable), Uid: p.UID, Euid: p.EUID, Gid: p.GID,
	}
}

func processFromWire(w *linkv1.Process) event.Process {
	return event.Process{
		Key: keyFromWire(w.GetKey()), ContainerPID: w.GetContainerPid(), Parent: keyFromWire(w.GetParent()),
		Name: w.GetName(), Executable: w.GetExecutable(), UID: w.GetUid(), EUID: w.GetEuid(), GID: w.GetGid(),
	}
}

func keyToWire(k event.Key) *linkv1.Key {
	if k.IsZero() {
		return nil
	}
	return &linkv1.Key{Pid: k.PID, Start: k.Start}
}

func keyFromWire(w *linkv1.Key) event.Key { return event.Key{PID: w.GetPid(), Start: w.GetStart()} }

func execToWire(x *event.Exec) *linkv1.Exec {
	if x == nil {
		return nil
	}
	w := &linkv1.Exec{
		Requested: text(x.Requested), Args: texts(x.Args), ArgsTruncated: x.ArgsTruncated,
		Cwd: text(x.Cwd), PathTruncated: x.PathTruncated, Origin: text(string(x.Origin)),
		Deleted: x.Deleted, Inode: x.Inode, Device: x.Device, Setuid: x.SetUID, Setgid: x.SetGID,
		Capabilities: uint64(x.Capabilities), Entered: x.Entered,
	}
	if len(x.Ancestors) > 0 {
		w.Ancestors = make([]*linkv1.Ancestor, len(x.Ancestors))
	}
	for i := range x.Ancestors {
		a := &x.Ancestors[i]
		w.Ancestors[i] = &linkv1.Ancestor{Key: keyToWire(a.Key), Name: text(a.Name), Executable: text(a.Executable)}
	}
	return w
}

func execFromWire(w *linkv1.Exec) *event.Exec {
	if w == nil {
		return nil
	}
	x := &event.Exec{
		Requested: w.GetRequested(), Args: w.GetArgs(), ArgsTruncated: w.GetArgsTruncated(),
		Cwd: w.GetCwd(), PathTruncated: w.GetPathTruncated(), Origin: event.Origin(w.GetOrigin()),
		Deleted: w.GetDeleted(), Inode: w.GetInode(), Device: w.GetDevice(), SetUID: w.GetSetuid(), SetGID: w.GetSetgid(),
		Capabilities: event.Capabilities(w.GetCapabilities()), Entered: w.GetEntered(),
	}
	if n := len(w.GetAncestors()); n > 0 {
		x.Ancestors = make([]event.Ancestor, n)
	}
	for i, a := range w.GetAncestors() {
		x.Ancestors[i] = event.Ancestor{Key: keyFromWire(a.GetKey()), Name: a.GetName(), Executable: a.GetExecutable()}
	}
	return x
}

func exitToWire(x *event.Exit) *linkv1.Exit {
	if x == nil {
		return nil
	}
	return &linkv1.Exit{
		Code: int32(x.Code), Signal: int32(x.Signal), CoreDumped: x.CoreDumped, LifetimeNs: int64(x.Lifetime),
	}
}

func exitFromWire(w *linkv1.Exit) *event.Exit {
	if w == nil {
		return nil
	}
	return &event.Exit{
		Code: int(w.GetCode()), Signal: int(w.GetSignal()), CoreDumped: w.GetCoreDumped(),
		Lifetime: time.Duration(w.GetLifetimeNs()),
	}
}

// nanos returns 0 for the zero time, and for one that nanoseconds since 1970
// cannot hold.
func nanos(t time.Time) int64 {
	if y := t.Year(); y < 1970 || y > 2261 {
		return 0
	}
	return t.UnixNano()
}

func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// texts returns ss itself when there is nothing to replace.
func texts(ss []string) []string {
	for i, s := range ss {
		if utf8.ValidString(s) {
			continue
		}
		out := append([]string(nil), ss...)
		for j := i; j < len(out); j++ {
			out[j] = text(out[j])
		}
		return out
	}
	return ss
}
