package intake

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Limits of one text from an agent. The sensors stay below them; more comes
// only from an agent that is not ours.
const (
	maxPath     = 4_096    // PATH_MAX
	maxName     = 64       // comm has 15
	maxArgs     = 1_024    // arguments of one exec
	maxArgBytes = 64 << 10 // all arguments of one exec together
	// maxText and maxItems bound what descriptions of agents and workloads hold.
	maxText  = 4_096
	maxItems = 512
)

// cleanEvent bounds what an event holds and reports whether it makes sense at
// all. It changes no payload in place: the agent in this process shares it.
func cleanEvent(e *event.Event, now time.Time) bool {
	if e.WorkloadID != "" && !asset.IsContainerID(e.WorkloadID) {
		return false
	}
	if ofAll := e.Kind == event.KindCalls && e.WorkloadID != ""; e.Process.Key.IsZero() && !ofAll {
		return false // first system calls are those of all processes of a workload
	}
	if !cleanPayload(e) {
		return false
	}
	cleanProcess(&e.Process)
	e.ID, e.Version = 0, event.Version
	if !sane(e.Time) {
		e.Time = now // the agent's clock says nothing; the server's says when it came
	}
	cleanCount(e)
	return true
}

// sane reports whether t can be stored as nanoseconds since 1970 and belongs to
// a clock that was ever set.
func sane(t time.Time) bool { return t.Year() >= 2000 && t.Year() < 2200 }

func cleanProcess(p *event.Process) {
	p.Name = untrusted.Clip(p.Name, maxName)
	p.Executable = untrusted.Clip(p.Executable, maxPath)
}

func cleanExec(x *event.Exec) *event.Exec {
	c := *x
	c.Requested = untrusted.Clip(x.Requested, maxPath)
	c.Cwd = untrusted.Clip(x.Cwd, maxPath)
	c.Args, c.ArgsTruncated = cleanArgs(x.Args, x.ArgsTruncated)
	c.Origin = cleanOrigin(x.Origin)
	c.Layer = cleanLayer(x.Layer, c.Origin)
	c.Digest = cleanDigest(x.Digest)
	c.Environment, c.EnvironmentTruncated = cleanEnvironment(x.Environment, x.EnvironmentTruncated)
	c.Stdio = slices.Clone(x.Stdio[:min(len(x.Stdio), event.Streams)])
	for i := range c.Stdio {
		if !c.Stdio[i].Kind.Valid() {
			c.Stdio[i].Kind = event.StreamUnknown
		}
	}
	c.Ancestors = slices.Clone(x.Ancestors[:min(len(x.Ancestors), event.MaxAncestors)])
	for i := range c.Ancestors {
		a := &c.Ancestors[i]
		a.Name, a.Executable = untrusted.Clip(a.Name, maxName), untrusted.Clip(a.Executable, maxPath)
	}
	return &c
}

// cleanEnvironment keeps what an agent of this build would tell: a secret that another
// one sends is not stored.
func cleanEnvironment(all []string, truncated bool) ([]string, bool) {
	var out []string
	for _, v := range all {
		if len(out) == event.MaxVariables {
			return out, true
		}
		if kept, ok := event.Variable(v); ok {
			out = append(out, untrusted.Clip(kept, event.MaxVariable*2)) // what is not UTF-8 has become longer
		}
	}
	return out, truncated
}

// cleanDigest lets a SHA-256 in its one form through.
func cleanDigest(s string) string {
	digits, ok := strings.CutPrefix(s, "sha256:")
	if !ok || !asset.IsContainerID(digits) { // 64 lower-case hex digits, too
		return ""
	}
	return s
}

// cleanArgs returns args itself when there is nothing to change.
func cleanArgs(args []string, truncated bool) ([]string, bool) {
	bytes, bad := 0, len(args) > maxArgs
	for _, a := range args {
		bytes += len(a)
		bad = bad || !untrusted.Storable(a)
	}
	if !bad && bytes <= maxArgBytes {
		return args, truncated
	}
	out := make([]string, 0, min(len(args), maxArgs))
	room := maxArgBytes
	for _, a := range args {
		if len(out) == maxArgs || room <= 0 {
			return out, true
		}
		c := untrusted.Clip(a, room)
		truncated = truncated || len(a) > room
		room -= len(c)
		out = append(out, c)
	}
	return out, truncated
}

func cleanOrigin(o event.Origin) event.Origin {
	switch o {
	case event.OriginImage, event.OriginWritten, event.OriginMount, event.OriginMemory, event.OriginHost:
		return o
	}
	return event.OriginUnknown
}

// cleanLayer leaves a layer only where there can be one.
func cleanLayer(l event.Layer, o event.Origin) event.Layer {
	if o != event.OriginImage || l.Number == 0 || l.Number > l.Of {
		return event.Layer{}
	}
	return l
}

// cleanProcesses does for a process table what takeEvents does for events.
func (in *Intake) cleanProcesses(ctx context.Context, r *link.Report, now time.Time) ([]event.Running, error) {
	out := make([]event.Running, 0, len(r.Processes))
	own := map[string]bool{}
	for _, p := range r.Processes {
		if p.WorkloadID != "" && !asset.IsContainerID(p.WorkloadID) || p.Process.Key.IsZero() {
			continue
		}
		mine, asked := own[p.WorkloadID]
		if !asked {
			var err error
			if _, mine, err = in.known.group(ctx, in, p.WorkloadID, r.Agent.ID, now); err != nil {
				return nil, err
			}
			own[p.WorkloadID] = mine
		}
		if !mine {
			continue
		}
		cleanProcess(&p.Process)
		p.Args, _ = cleanArgs(p.Args, false)
		p.Origin = cleanOrigin(p.Origin)
		out = append(out, p)
	}
	if n := len(r.Processes) - len(out); n > 0 {
		in.log.Warn("processes left out of a table", "agent_id", r.Agent.ID, "count", n)
	}
	return out, nil
}

// bound clips every text and every list in what v points to: descriptions of
// agents and workloads, whose fields only ever become more.
func bound(v any) { boundValue(reflect.ValueOf(v).Elem()) }

func boundValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(untrusted.Clip(v.String(), maxText))
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct {
			boundValue(v.Elem())
		}
	case reflect.Slice:
		boundSlice(v)
	case reflect.Struct:
		if v.Type().PkgPath() == assetPkg {
			for i := range v.NumField() {
				boundValue(v.Field(i))
			}
		}
	}
}

// assetPkg is where the structs come from that have fields to bound; times and
// addresses bound themselves.
var assetPkg = reflect.TypeFor[asset.Agent]().PkgPath()

func boundSlice(v reflect.Value) {
	if v.IsNil() || !v.CanSet() {
		return
	}
	n := min(v.Len(), maxItems)
	c := reflect.MakeSlice(v.Type(), n, n) // a copy: the agent in this process shares it
	reflect.Copy(c, v)
	for i := range n {
		boundValue(c.Index(i))
	}
	v.Set(c)
}
