package console

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// tone is how much something asks for attention. It chooses a colour and an
// icon; the words always say the same.
type tone string

const (
	calm   tone = "calm"
	good   tone = "good"
	warn   tone = "warn"
	danger tone = "danger"
)

// kindWord is a kind without its sensor: "exec".
func kindWord(k event.Kind) string {
	_, action, ok := strings.Cut(string(k), ".")
	if !ok {
		return untrusted.Text(string(k))
	}
	return untrusted.Text(strings.ReplaceAll(action, "_", " "))
}

// sensorWord is what a sensor watches, as a filter offers it.
func sensorWord(sensor string) string {
	switch sensor {
	case "process":
		return "processes"
	case "file":
		return "files"
	case "dns":
		return "DNS"
	case "resource":
		return "resources"
	}
	return sensor
}

// originMark is the short word, the icon and the tone of an origin.
func originMark(o event.Origin) (word, icon string, t tone) {
	switch o {
	case event.OriginImage:
		return "image", "image", calm
	case event.OriginWritten:
		return "written", "written", danger
	case event.OriginMount:
		return "mount", "mount", warn
	case event.OriginMemory:
		return "memory", "memory", danger
	case event.OriginHost:
		return "host", "host", calm
	}
	return "unknown", "unknown", calm
}

// originSentence says where an executed file came from and what that means,
// given the layers of the workload's image or none.
func originSentence(x *event.Exec, image []string) string {
	var s string
	switch x.Origin {
	case event.OriginImage:
		s = "The file came with " + orElse(x.Layer.Words(image), "the image") + " and is unchanged since."
	case event.OriginWritten:
		s = "The file did not come with the image: it was written or changed after the container was made."
	case event.OriginMount:
		s = "The file is not on the container's own root: it lies on a volume, a bind mount or a tmpfs, which the image does not vouch for."
	case event.OriginMemory:
		s = "The file never had a name on a file system: it was made in memory (memfd) and run from there. Ordinary programs hardly ever do this."
	case event.OriginHost:
		s = "The process belongs to the host, not to a container."
	default:
		s = "Where the file came from could not be found out (the container's root is no overlay, or the file had gone), so nothing may be concluded from it."
	}
	if x.Deleted {
		s += " It had been deleted by the time it ran."
	}
	return s
}

// about says in one sentence what an event is.
func about(e event.Event) string {
	name := untrusted.Text(e.Process.Name)
	switch {
	case e.Kind == event.KindCalls:
		return "The container " + untrusted.Text(says(e)) + "."
	case e.Kind == event.KindExec && e.Exec != nil && e.Exec.Entered:
		return name + " was started in the container from outside, as docker exec and ECS Exec do."
	case e.Kind == event.KindExec:
		return "A process began to run " + untrusted.Text(program(e)) + "."
	case e.Kind == event.KindFork:
		return name + " was created as a copy of its parent."
	case says(e) != "":
		return name + " " + untrusted.Text(says(e)) + "."
	case e.Kind == event.KindExit && e.Exit != nil:
		return name + " ended: " + exitWords(*e.Exit) + ", after " + lasted(e.Exit.Lifetime) + "."
	}
	return untrusted.Text(string(e.Kind)) + " of " + name
}

// program is the executable, or the kernel's name where the path is not known.
func program(e event.Event) string {
	if e.Process.Executable != "" {
		return e.Process.Executable
	}
	return e.Process.Name
}

// exitWords says how a process ended.
func exitWords(x event.Exit) string {
	if x.Signal != 0 {
		s := "killed by signal " + strconv.Itoa(x.Signal) + signalName(x.Signal)
		if x.CoreDumped {
			s += ", core dumped"
		}
		return s
	}
	return "exit code " + strconv.Itoa(x.Code)
}

// signalName names the signals that a person meets; signal(7), the numbers of
// amd64 and arm64.
func signalName(n int) string {
	names := map[int]string{
		1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL",
		11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM", 31: "SYS",
	}
	if s, ok := names[n]; ok {
		return " (SIG" + s + ")"
	}
	return ""
}

// riskyCapability reports the capabilities with which a process can leave its
// container or take over the host's kernel, network or devices.
func riskyCapability(name string) bool {
	name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	return event.LeadsToHost(name) || name == "SYS_TIME" // the clock is the host's
}

// roleWords says what a role may do.
func roleWords(r access.Role) string {
	switch r {
	case access.Viewer:
		return "sees workloads, events and agents"
	case access.Operator:
		return "also changes what Castellan does"
	case access.Administrator:
		return "also manages users, tokens and reads the audit log"
	}
	return "may do nothing"
}

// scopeWords says what a scope permits.
func scopeWords(s access.Scope) string {
	switch s {
	case access.ReadWorkloads:
		return "read workloads"
	case access.ReadEvents:
		return "read events"
	case access.ReadAgents:
		return "read agents"
	case access.ReadImages:
		return "read images and their vulnerabilities"
	case access.ManageImages:
		return "accept vulnerabilities, have images scanned anew"
	case access.ManageRegistries:
		return "say which registries are watched"
	case access.ManageAgents:
		return "change the settings of agents"
	case access.EnrolAgents:
		return "invite and revoke agents"
	case access.InviteAgents:
		return "invite agents, as hosts do that join by themselves"
	case access.ReadNotify:
		return "read who is told of what happens"
	case access.ManageNotify:
		return "decide who is told of what happens"
	case access.ManageTrust:
		return "say who must have signed images"
	case access.ReadAdmission:
		return "read what may be deployed, and what was"
	case access.DecideAdmission:
		return "ask whether something may be deployed"
	case access.ManageAdmission:
		return "say what may be deployed, make exceptions"
	case access.ReadBehaviour:
		return "read how groups behave, and what lay outside"
	case access.ManageBehaviour:
		return "say what groups are held to, make violations normal"
	case access.ReadIncidents:
		return "read incidents"
	case access.WriteIncidents:
		return "assign, comment and resolve incidents"
	case access.ManageUsers:
		return "manage users"
	case access.ManageTokens:
		return "manage everyone's tokens"
	case access.ReadAudit:
		return "read the audit log"
	}
	return untrusted.Text(string(s))
}

// count writes a number with thin groups of three: 12,431.
func count[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(min(uint64(max(n, 0)), math.MaxInt64)), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes "1 event" and "2 events".
func plural[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// size writes bytes in the unit that reads best: 1.5 GiB.
func size(b uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(b), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// lasted writes a duration with the two units that matter.
func lasted(d time.Duration) string {
	switch {
	case d < 0:
		return "no time (the clock was set)"
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// ago writes how long before now t was, in one unit. The script keeps it
// current with the same words.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < 0:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d d ago", int(d.Hours())/24)
}

// moment and clockTime write times in UTC, which the pages say once.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func exactly(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000 UTC") }

func clockTime(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func day(t time.Time) string { return t.UTC().Format("2 Jan 2006") }

// stateTone says how a workload's state looks.
func stateTone(w asset.Workload) tone {
	switch {
	case w.State == asset.Running:
		return good
	case w.State == asset.Lost, w.OOMKilled:
		return warn
	}
	return calm
}

// stateWords says how a workload is, with its end.
func stateWords(w asset.Workload) string {
	s := string(w.State)
	if w.State == asset.Exited && w.ExitCode != nil {
		s = "exited " + strconv.Itoa(*w.ExitCode)
	}
	if w.OOMKilled {
		s += ", out of memory"
	}
	return untrusted.Text(s)
}

// workloadName is the name a person knows a workload by: that of the task
// definition, else the container's own.
func workloadName(w asset.Workload) string {
	switch {
	case w.ECS.Container != "":
		return w.ECS.Container
	case w.Name != "":
		return w.Name
	}
	return asset.ShortID(w.ID)
}
