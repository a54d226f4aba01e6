package console

import (
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/server/respond"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// deedVerb is what a button says that does it: the container follows.
func deedVerb(k response.Kind, w *asset.Workload) string {
	switch k {
	case response.Kill:
		return "Kill"
	case response.Quarantine:
		return "Quarantine"
	case response.Release:
		return "Release"
	case response.Stop:
		if w != nil && w.ECS.TaskARN != "" {
			return "Stop the task"
		}
		return "Stop"
	case response.Snapshot:
		return "Take a snapshot"
	case response.Revoke:
		return "Revoke sessions"
	case response.Reinstate:
		return "Reinstate sessions"
	}
	return untrusted.Text(string(k))
}

// deedTitle is the question that the form of a deed asks.
func deedTitle(k response.Kind, w *asset.Workload) string {
	name := workloadName(*w)
	switch k {
	case response.Kill:
		return "Kill processes of " + name + "?"
	case response.Stop:
		if w.ECS.TaskARN != "" {
			return "Stop the task of " + name + "?"
		}
	case response.Snapshot:
		return "Take a snapshot of " + name + "?"
	case response.Revoke:
		return "Revoke the sessions of the role of " + name + "?"
	case response.Reinstate:
		return "Reinstate the sessions of the role of " + name + "?"
	}
	return deedVerb(k, nil) + " " + name + "?"
}

// deedNoun is a deed as the head of its page says it.
func deedNoun(k response.Kind) string {
	switch k {
	case response.Kill:
		return "Kill"
	case response.Stop:
		return "Stop"
	case response.Revoke:
		return "Sessions revoked"
	case response.Reinstate:
		return "Sessions reinstated"
	}
	return capital(untrusted.Text(string(k)))
}

func deedHeading(d *deedData) string {
	name := orElse(d.Name, asset.ShortID(d.Deed.Workload))
	if d.Known != nil {
		name = workloadName(*d.Known)
	}
	return deedNoun(d.Deed.Kind) + ": " + name
}

// deedSentence says what a deed does, and deedUndone what takes it back.
func deedSentence(k response.Kind, w *asset.Workload) string {
	switch k {
	case response.Kill:
		return "The processes end at once and get no chance to clean up. If the container's first process is among them, the container ends, and its engine or ECS may start it anew."
	case response.Quarantine:
		return "The container's whole network is cut: open connections, new ones, DNS, loopback. The cut stays when the agent restarts, and when the container does. What it serves, it serves no more."
	case response.Release:
		return "The container gets its network back, and processes that were frozen go on where they were."
	case response.Stop:
		if w.ECS.TaskARN != "" {
			return "All containers of the task end, through ECS; where the server lacks the right, the container through its engine. A service of ECS starts another task."
		}
		return "The container ends, through its engine."
	case response.Snapshot:
		return "What the container is and does is kept for whoever looks into it: processes, open files, connections, memory maps, what it has changed. It changes nothing."
	case response.Revoke:
		return "Within a minute AWS refuses the credentials that the role of the task has given out until now, wherever they are used. All tasks of that role are refused until ECS renews theirs or they start anew."
	case response.Reinstate:
		return "Within a minute AWS takes the credentials again that the role of the task has given out."
	}
	return ""
}

func deedUndone(k response.Kind) string {
	switch k {
	case response.Quarantine:
		return "Release undoes it."
	case response.Revoke:
		return "Reinstate undoes it."
	case response.Release:
		return "Quarantine cuts it off again."
	case response.Reinstate:
		return "Revoke has AWS refuse them again."
	case response.Snapshot:
		return "There is nothing to undo."
	}
	return "Nothing undoes it."
}

// harsh says that a deed takes something from what runs.
func harsh(k response.Kind) bool {
	return k == response.Kill || k == response.Quarantine || k == response.Stop || k == response.Revoke
}

// atHost says that the agent of its host has to do it.
func atHost(k response.Kind, w *asset.Workload) bool {
	return !k.AtServer() && (k != response.Stop || w.ECS.TaskARN == "")
}

// packetChoices are for how long a snapshot captures packets.
func packetChoices() []span {
	return []span{{"", "none"}, {"10s", "for 10 seconds"}, {"30s", "for 30 seconds"}, {"60s", "for a minute"}}
}

// runningCommand is the command line of a process that runs.
func runningCommand(p *event.Running) string {
	if len(p.Args) > 0 {
		return untrusted.Clip(untrusted.CommandLine(p.Args), 120)
	}
	return orElse(p.Process.Executable, "["+p.Process.Name+"]")
}

// deedProgress says how a deed stands, in a sentence.
func deedProgress(d *deedData) string {
	who := "The agent of " + d.Host
	if d.Deed.Kind.AtServer() {
		who = "The server"
	}
	switch a := &d.Answer; a.State {
	case response.Asked, response.Running:
		return who + " is asked to do it."
	case response.Done:
		if d.Deed.DryRun {
			return "It was tried only: nothing was changed."
		}
		if len(a.Lacks) > 0 {
			return "It is done, but not all of it."
		}
		return "It is done."
	case response.Refused:
		return "It was refused: nothing was changed."
	case response.Failed:
		return "It did not work as a whole."
	case response.Undone:
		return "It was done, and taken back since."
	case response.Over:
		return "It was done, and has ended: there is nothing left to undo."
	}
	return ""
}

// again is where the same is asked for that was tried only.
func (d *deedData) again() string {
	process := ""
	if d.Deed.Kind == response.Kill {
		process = allOfIt
	}
	if !d.Deed.Process.IsZero() {
		process = d.Deed.Process.String()
	}
	to := deedHref(d.Deed.Kind, d.Deed.Workload, d.Incident, process)
	if d.Deed.Freeze {
		to += "&freeze=true"
	}
	return to
}

// undo is the deed that takes it back now; "" for none.
func (d *deedData) undo() response.Kind { return undoOf(&d.Response) }

// undoOf is the deed that takes back what holds of a response; "" for none.
func undoOf(x *respond.Response) response.Kind {
	if !x.Answer.Holds() || x.Deed.DryRun {
		return ""
	}
	return x.Answer.Undo
}

// auditHref is where the audit log has what was done.
func auditHref(text string) string { return auditFilter(nil).address("text", text) }

// actOn is what may be done about one container, as buttons.
type actOn struct {
	Workload asset.Workload
	Incident int64
	Process  string // that Kill is about; "" for none in particular
	What     string // of that process
	// Cut says that it is in quarantine, Revoked that the sessions of its role were
	// revoked, as far as the server remembers.
	Cut, Revoked bool
}

// standing notes how a container stands after what was done lately, the newest first.
func (a *actOn) standing(list []respond.Response) {
	known := map[response.Kind]bool{}
	for i := range list {
		x := &list[i]
		if x.Deed.Workload != a.Workload.ID || x.Deed.DryRun || x.Answer.State != response.Done && !x.Answer.Holds() {
			continue
		}
		pair := x.Deed.Kind
		switch pair {
		case response.Release:
			pair = response.Quarantine
		case response.Reinstate:
			pair = response.Revoke
		}
		if known[pair] {
			continue
		}
		known[pair] = true
		a.Cut = a.Cut || x.Deed.Kind == response.Quarantine
		a.Revoked = a.Revoked || x.Deed.Kind == response.Revoke
	}
}

// worst is the process of an incident in a container that Kill is most likely about:
// the newest that a rule saw.
func worst(all []threat.Node, workload string) (key, what string) {
	for i := range all {
		if n := &all[i]; n.WorkloadID == workload && len(n.Rules) > 0 {
			key, what = n.Key.String(), fmt.Sprintf("%d %s", n.Key.PID, untrusted.Clip(nodeCommand(n), 60))
		}
	}
	return key, strings.TrimSpace(what)
}
