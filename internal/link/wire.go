package link

import (
	"cmp"
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
		Boot: text(r.Boot), Samples: samplesToWire(r.Samples), SentUnixNs: nanos(r.Sent),
		Uses: usesToWire(r.Uses), ThreatSeries: text(r.ThreatSeries),
	}
	if m.Threats, err = threatsToWire(r.Threats); err != nil {
		return nil, err
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
	n := amounts{
		events: len(m.GetEvents()), workloads: len(m.GetWorkloadsJson()), processes: len(m.GetProcesses()),
		samples: len(m.GetSamples()), uses: len(m.GetUses()), threats: len(m.GetThreats()),
	}
	for _, u := range m.GetUses() {
		n.use(len(u.GetPaths()))
	}
	if err := n.check(); err != nil {
		return Report{}, err
	}
	r := Report{
		Boot: m.GetBoot(), Samples: samplesFromWire(m.GetSamples()), Sent: at(m.GetSentUnixNs()),
		Uses:     usesFromWire(m.GetUses()),
		Snapshot: m.GetSnapshot(), Complete: m.GetComplete(), ThreatSeries: m.GetThreatSeries(),
	}
	var err error
	if r.Threats, err = threatsFromWire(m.GetThreats()); err != nil {
		return Report{}, err
	}
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
	r.Events = eventsFromWire(m.GetEvents(), r.Agent.ID, cmp.Or(r.Boot, r.Agent.Boot))
	r.Processes = runningFromWire(m.GetProcesses())
	return r, nil
}

// amounts are how many there are of what a report holds.
type amounts struct {
	events, workloads, processes, samples, uses int
	paths, pathsOfOne                           int // of uses, together and most of one
	threats                                     int
}

// use counts the paths of one more use.
func (n *amounts) use(paths int) {
	n.paths += paths
	n.pathsOfOne = max(n.pathsOfOne, paths)
}

// check holds the limits of one report.
func (n amounts) check() error {
	if n.events > MaxEvents || n.workloads > MaxWorkloads || n.processes > MaxProcesses || n.samples > MaxSamples {
		return fault.New(fault.Invalid, "report has %d events, %d workloads, %d processes, %d samples; at most %d, %d, %d, %d are taken",
			n.events, n.workloads, n.processes, n.samples, MaxEvents, MaxWorkloads, MaxProcesses, MaxSamples)
	}
	if n.uses > MaxUses || n.paths > MaxUsedPaths || n.pathsOfOne > asset.MaxUsePaths {
		return fault.New(fault.Invalid, "report has files in use of %d workloads, %d in all, %d of one; at most %d, %d, %d are taken",
			n.uses, n.paths, n.pathsOfOne, MaxUses, MaxUsedPaths, asset.MaxUsePaths)
	}
	if n.threats > MaxThreats {
		return fault.New(fault.Invalid, "report has %d threats; at most %d are taken", n.threats, MaxThreats)
	}
	return nil
}

// Check holds the limits of one report: Invalid when r is larger.
func (r Report) Check() error {
	n := amounts{events: len(r.Events), workloads: len(r.Workloads), processes: len(r.Processes), samples: len(r.Samples), uses: len(r.Uses), threats: len(r.Threats)}
	for i := range r.Uses {
		n.use(len(r.Uses[i].Paths))
	}
	return n.check()
}

func samplesToWire(samples []asset.Sample) []*linkv1.Sample {
	out := make([]*linkv1.Sample, len(samples))
	all := make([]linkv1.Sample, len(samples))
	for i := range samples {
		s, w := &samples[i], &all[i]
		w.WorkloadId = text(s.WorkloadID)
		w.TimeUnixNs = nanos(s.Time)
		w.CpuNs, w.ThrottledNs, w.CpuLimitMilli = int64(s.CPU), int64(s.Throttled), s.CPULimit
		w.Memory, w.MemoryLimit = s.Memory, s.MemoryLimit
		w.Pids, w.PidsLimit, w.Descriptors = s.Pids, s.PidsLimit, s.Descriptors
		w.DiskRead, w.DiskWritten = s.DiskRead, s.DiskWritten
		w.NetworkReceived, w.NetworkSent = s.NetworkReceived, s.NetworkSent
		w.OomKills, w.Missing = s.OOMKills, texts(s.Missing)
		out[i] = w
	}
	return out
}

func samplesFromWire(samples []*linkv1.Sample) []asset.Sample {
	if len(samples) == 0 {
		return nil
	}
	out := make([]asset.Sample, len(samples))
	for i, w := range samples {
		out[i] = asset.Sample{
			WorkloadID: w.GetWorkloadId(), Time: at(w.GetTimeUnixNs()),
			CPU: time.Duration(w.GetCpuNs()), Throttled: time.Duration(w.GetThrottledNs()), CPULimit: w.GetCpuLimitMilli(),
			Memory: w.GetMemory(), MemoryLimit: w.GetMemoryLimit(),
			Pids: w.GetPids(), PidsLimit: w.GetPidsLimit(), Descriptors: w.GetDescriptors(),
			DiskRead: w.GetDiskRead(), DiskWritten: w.GetDiskWritten(),
			NetworkReceived: w.GetNetworkReceived(), NetworkSent: w.GetNetworkSent(),
			OOMKills: w.GetOomKills(), Missing: w.GetMissing(),
		}
	}
	return out
}

func usesToWire(uses []asset.Use) []*linkv1.Use {
	out := make([]*linkv1.Use, len(uses))
	for i, u := range uses {
		out[i] = &linkv1.Use{WorkloadId: text(u.WorkloadID), Paths: texts(u.Paths)}
	}
	return out
}

func usesFromWire(uses []*linkv1.Use) []asset.Use {
	if len(uses) == 0 {
		return nil
	}
	out := make([]asset.Use, len(uses))
	for i, w := range uses {
		out[i] = asset.Use{WorkloadID: w.GetWorkloadId(), Paths: w.GetPaths()}
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

// nanos returns 0 for the zero time, and for one that nanoseconds since 1970
// cannot hold.
func nanos(t time.Time) int64 {
	if y := t.Year(); y < 1970 || y > 2261 {
		return 0
	}
	return t.UnixNano()
}

func at(ns int64) time.Time {
	if ns <= 0 {
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
