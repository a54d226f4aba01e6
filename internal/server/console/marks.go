package console

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/query"
)

// The small decisions of the templates: which word, which tone, which address.

func (p page) nowMillis() string { return strconv.FormatInt(p.Now.UnixMilli(), 10) }

func eventHref(e event.Event) string { return "/events/" + strconv.FormatInt(e.ID, 10) }

// hot reports an event whose row stands out.
func hot(e event.Event) bool {
	switch {
	case e.File != nil:
		return e.File.Sensitive != "" || e.Kind == event.KindFileChmod && e.File.Mode&0o6000 != 0
	case e.Memory != nil:
		return e.Kind == event.KindExecMap
	case e.Privilege != nil:
		return slices.Contains(hotKinds, e.Kind)
	case e.Resource != nil:
		return e.Kind == event.KindOOM
	}
	return e.Exec != nil && (e.Exec.Entered || e.Exec.Origin == event.OriginWritten || e.Exec.Origin == event.OriginMemory)
}

// hotKinds are privileges that hardly any service uses, and escapes do.
var hotKinds = []event.Kind{
	event.KindSetns, event.KindPtrace, event.KindProcessWrite, event.KindModule, event.KindKexec, event.KindKernelKnob, event.KindDevice,
}

func sameDay(a, b time.Time) bool {
	return a.UTC().Format(time.DateOnly) == b.UTC().Format(time.DateOnly)
}

func setWords(x *event.Exec) string {
	switch {
	case x.SetUID && x.SetGID:
		return "set-uid and set-gid"
	case x.SetUID:
		return "set-uid"
	}
	return "set-gid"
}

func originWord(o event.Origin) string {
	word, _, _ := originMark(o)
	return word
}

// around is a moment near t as an address says it.
func around(t time.Time, d time.Duration) string { return t.Add(d).UTC().Format(time.RFC3339) }

// stood is when a workload came into its present state, as far as is known.
func stood(w asset.Workload) time.Time {
	if w.Finished != nil && w.State != asset.Running {
		return *w.Finished
	}
	return began(w)
}

// splitImage takes the registry off an image reference: what stands before the
// first slash, when it looks like a host.
func splitImage(reference string) (registry, name string) {
	host, rest, ok := strings.Cut(reference, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return host, rest
	}
	return "", reference
}

func foreignAddress() string {
	f := eventFilter(map[string][]string{
		"origin": {string(event.OriginWritten), string(event.OriginMount), string(event.OriginMemory)},
		"since":  {"24h"},
	})
	return f.address()
}

func someTone(n int, t tone) tone {
	if n > 0 {
		return t
	}
	return calm
}

func agentsTone(d overviewData) tone {
	if len(d.Agents) == 0 || d.unwell() > 0 {
		return warn
	}
	return good
}

func agentsWords(d overviewData) string {
	if len(d.Agents) == 0 {
		return "no agent reports"
	}
	return "agents are well"
}

func sensorTone(s asset.Sensor) tone {
	switch {
	case s.State == asset.SensorFailed:
		return danger
	case s.State == asset.SensorOff, s.Lost > 0:
		return warn
	}
	return good
}

// cpuWords is the share of one processor that the agent has used since it
// started.
func cpuWords(a asset.Agent) string {
	up := a.Seen.Sub(a.Started).Seconds()
	if up <= 0 {
		return "0.0 %"
	}
	return strconv.FormatFloat(a.Usage.CPUSeconds/up*100, 'f', 1, 64) + " %"
}

// partialWords says how far a search came that ended early.
func (d eventsData) partialWords() string {
	s := "The search stopped before the page was full"
	if d.Reached != nil {
		s += ", at events of " + moment(*d.Reached)
	}
	return s + ". Older ones may fit too: look further back, or narrow the time."
}

// moreOpen reports a filter in effect among those that are folded away.
func (d eventsData) moreOpen() bool {
	for _, name := range strings.Fields("group executable workload agent process path peer until") {
		if d.Filter.get(name) != "" {
			return true
		}
	}
	return len(d.singles()) > 0
}

// singles are the kinds in effect that the first row of the form does not offer.
func (d eventsData) singles() (out []string) {
	for _, k := range d.Filter.v["kind"] {
		if strings.Contains(k, ".") && k != string(event.KindExec) && !strings.HasSuffix(k, ".*") {
			out = append(out, k)
		}
	}
	return out
}

// hasSensor reports that all kinds of a sensor are asked for.
func (f filter) hasSensor(sensor string) bool {
	return f.has("kind", sensor) || f.has("kind", sensor+".*")
}

// kindsOf lists the kinds of one sensor.
func kindsOf(sensor string) []event.Kind { return query.Kinds(sensor) }
