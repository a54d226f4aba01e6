package link

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// AppendEvent appends one event to b in the form of the link (the message
// Event of proto/linkv1) and returns the longer slice. What a report says once
// for all its events (AgentID, Boot) and what the server finds out (ID,
// Received, Group, Connection.Peer) is not in it.
func AppendEvent(b []byte, e *event.Event) []byte {
	var w wireEvent
	w.fill(e)
	// Text was made valid, which is all that marshalling can refuse.
	out, err := proto.MarshalOptions{}.MarshalAppend(b, &w.event)
	if err != nil {
		return b
	}
	return out
}

// DecodeEvent reads what AppendEvent appended, in this version or another; the
// fields that AppendEvent leaves out are zero. Any bytes are safe to read: the
// error is Corrupt when they are no event.
func DecodeEvent(b []byte) (event.Event, error) {
	var w linkv1.Event
	if err := proto.Unmarshal(b, &w); err != nil {
		return event.Event{}, fault.New(fault.Corrupt, "read event: %w", err)
	}
	return eventFromWire(&w), nil
}

// wireEvent has the messages that every event needs in one piece of memory: at
// 20,000 events a second allocations are what a link costs.
type wireEvent struct {
	event       linkv1.Event
	process     linkv1.Process
	key, parent linkv1.Key
}

func (w *wireEvent) fill(e *event.Event) {
	m := &w.event
	m.Version, m.Seq = uint32(e.Version), e.Seq
	m.TimeUnixNs = nanos(e.Time)
	m.Kind, m.WorkloadId = text(string(e.Kind)), text(e.WorkloadID)
	m.Count, m.LastUnixNs = e.Count, nanos(e.Last)
	m.Process = &w.process
	w.fillProcess(&e.Process)
	m.Exec, m.Exit = execToWire(e.Exec), exitToWire(e.Exit)
	m.File, m.Connection = fileToWire(e.File), connectionToWire(e.Connection)
	m.Dns, m.Privilege = dnsToWire(e.DNS), privilegeToWire(e.Privilege)
	m.Memory, m.Resource = memoryToWire(e.Memory), resourceToWire(e.Resource)
	m.Reaction = text(string(e.Reaction))
	if e.Calls != nil {
		m.Calls = &linkv1.Calls{Names: texts(e.Calls.Names), Capabilities: uint64(e.Calls.Capabilities), CapabilitiesSeen: e.Calls.CapabilitiesSeen}
	}
}

func (w *wireEvent) fillProcess(p *event.Process) {
	m := &w.process
	if !p.Key.IsZero() {
		w.key.Pid, w.key.Start = p.Key.PID, p.Key.Start
		m.Key = &w.key
	}
	if !p.Parent.IsZero() {
		w.parent.Pid, w.parent.Start = p.Parent.PID, p.Parent.Start
		m.Parent = &w.parent
	}
	m.ContainerPid = p.ContainerPID
	m.Name, m.Executable = text(p.Name), text(p.Executable)
	m.Uid, m.Euid, m.Gid = p.UID, p.EUID, p.GID
}

func eventsToWire(events []event.Event) []*linkv1.Event {
	out := make([]*linkv1.Event, len(events))
	all := make([]wireEvent, len(events)) // one allocation for all
	for i := range events {
		all[i].fill(&events[i])
		out[i] = &all[i].event
	}
	return out
}

func eventsFromWire(events []*linkv1.Event, agentID, boot string) []event.Event {
	if len(events) == 0 {
		return nil
	}
	out := make([]event.Event, len(events))
	for i, w := range events {
		out[i] = eventFromWire(w)
		out[i].AgentID, out[i].Boot = agentID, boot
	}
	return out
}

func eventFromWire(w *linkv1.Event) event.Event {
	return event.Event{
		Version: int(w.GetVersion()), Seq: w.GetSeq(),
		Time: at(w.GetTimeUnixNs()), Kind: event.Kind(w.GetKind()), WorkloadID: w.GetWorkloadId(),
		Count: w.GetCount(), Last: at(w.GetLastUnixNs()),
		Process: processFromWire(w.GetProcess()), Exec: execFromWire(w.GetExec()), Exit: exitFromWire(w.GetExit()),
		File: fileFromWire(w.GetFile()), Connection: connectionFromWire(w.GetConnection()),
		DNS: dnsFromWire(w.GetDns()), Privilege: privilegeFromWire(w.GetPrivilege()),
		Memory: memoryFromWire(w.GetMemory()), Resource: resourceFromWire(w.GetResource()),
		Reaction: event.Reaction(w.GetReaction()), Calls: callsFromWire(w.GetCalls()),
	}
}

func callsFromWire(w *linkv1.Calls) *event.Calls {
	if w == nil {
		return nil
	}
	return &event.Calls{Names: w.GetNames(), Capabilities: event.Capabilities(w.GetCapabilities()), CapabilitiesSeen: w.GetCapabilitiesSeen()}
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
		Capabilities: uint64(x.Capabilities), Entered: x.Entered, Layer: layerToWire(x.Layer),
		Digest: text(x.Digest), EnvironmentTruncated: x.EnvironmentTruncated,
	}
	if len(x.Environment) > 0 {
		w.Environment = texts(x.Environment)
	}
	for _, s := range x.Stdio {
		w.Stdio = append(w.Stdio, &linkv1.Stream{Kind: text(string(s.Kind)), Remote: addressToWire(s.Remote), Inode: s.Inode})
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
		Capabilities: event.Capabilities(w.GetCapabilities()), Entered: w.GetEntered(), Layer: layerFromWire(w.GetLayer()),
		Digest: w.GetDigest(), Environment: w.GetEnvironment(), EnvironmentTruncated: w.GetEnvironmentTruncated(),
	}
	for _, s := range w.GetStdio() {
		x.Stdio = append(x.Stdio, event.Stream{Kind: event.StreamKind(s.GetKind()), Remote: addressFromWire(s.GetRemote()), Inode: s.GetInode()})
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
