package query

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// Events reads kind, agent, workload, group, host, executable, process, path,
// peer, origin, entered, text, since, until, before, after and limit. kind and
// origin may be repeated or hold several words with commas; a sensor ("file",
// "file.*") stands for all its kinds, the origin "unknown" is
// event.OriginUnknown. since and until are as in Time. The error is Invalid and
// names the parameter.
func Events(v url.Values, now time.Time) (store.EventQuery, error) {
	r := &reader{v: v}
	q := store.EventQuery{
		AgentID:    r.text("agent", maxName),
		WorkloadID: r.text("workload", maxName),
		Group:      r.text("group", maxName),
		HostOnly:   r.flag("host"),
		Executable: r.text("executable", maxName),
		Path:       r.text("path", maxPath),
		Peer:       r.text("peer", maxName),
		Entered:    r.flag("entered"),
		Text:       r.text("text", maxText),
		Since:      r.time("since", now),
		Until:      r.time("until", now),
		Before:     r.number("before", math.MaxInt64),
		After:      r.number("after", math.MaxInt64),
		Limit:      r.limit(),
	}
	for _, w := range r.words("kind") {
		kinds := Kinds(w)
		if len(kinds) == 0 {
			r.fail("kind", "%q is not a kind of event, nor a sensor; the kinds are %v", clip(w), event.Kinds())
		}
		for _, k := range kinds {
			if !slices.Contains(q.Kinds, k) {
				q.Kinds = append(q.Kinds, k)
			}
		}
	}
	for _, w := range r.words("origin") {
		o, ok := origin(w)
		if !ok {
			r.fail("origin", "%q is not an origin; the origins are %v", clip(w), OriginWords())
		}
		q.Origins = append(q.Origins, o)
	}
	if err := q.Process.UnmarshalText([]byte(r.text("process", maxName))); err != nil {
		r.fail("process", "want pid-start, as an event's process.key shows it")
	}
	check(r, q)
	if r.err != nil {
		return store.EventQuery{}, r.err
	}
	return q, nil
}

// Kinds returns the kinds that a word stands for: one kind ("file.write"), or
// all of a sensor ("file", "file.*"). It is empty for a word that is neither.
func Kinds(word string) []event.Kind {
	sensor := strings.TrimSuffix(word, ".*")
	var out []event.Kind
	for _, k := range event.Kinds() {
		if k == event.Kind(word) || k.Sensor() == sensor {
			out = append(out, k)
		}
	}
	return out
}

// Sensors lists the first parts of all kinds, in their order.
func Sensors() []string {
	var out []string
	for _, k := range event.Kinds() {
		if s := k.Sensor(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// check refuses combinations that can have no answer.
func check(r *reader, q store.EventQuery) {
	if !q.Process.IsZero() && q.AgentID == "" {
		r.fail("process", "needs the parameter agent too: a process belongs to one host")
	}
	if q.HostOnly && (q.WorkloadID != "" || q.Group != "") {
		r.fail("host", "excludes the parameters workload and group")
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since) {
		r.fail("until", "lies before since")
	}
}

// originUnknown is the word for event.OriginUnknown, which is empty.
const originUnknown = "unknown"

// OriginWords lists the words that the parameter origin takes.
func OriginWords() []string {
	return []string{
		string(event.OriginImage), string(event.OriginWritten), string(event.OriginMount),
		string(event.OriginMemory), string(event.OriginHost), originUnknown,
	}
}

func origin(word string) (event.Origin, bool) {
	if word == originUnknown {
		return event.OriginUnknown, true
	}
	return event.Origin(word), slices.Contains(OriginWords(), word)
}

// Workloads reads agent, group, cluster, image, state, text, after and limit; state
// may be repeated or hold several words with commas. The error is Invalid and
// names the parameter.
func Workloads(v url.Values) (store.WorkloadQuery, error) {
	r := &reader{v: v}
	q := store.WorkloadQuery{
		AgentID: r.text("agent", maxName),
		Group:   r.text("group", maxName),
		Cluster: r.text("cluster", maxName),
		ImageID: r.text("image", maxName),
		Text:    r.text("text", maxText),
		After:   r.text("after", maxName),
		Limit:   r.limit(),
	}
	for _, w := range r.words("state") {
		s := asset.State(w)
		if !slices.Contains(States(), s) {
			r.fail("state", "%q is not a state; the states are %v", clip(w), States())
		}
		q.States = append(q.States, s)
	}
	if r.err != nil {
		return store.WorkloadQuery{}, r.err
	}
	return q, nil
}

// States lists the words that the parameter state takes.
func States() []asset.State {
	return []asset.State{asset.Created, asset.Running, asset.Paused, asset.Exited, asset.Lost}
}
