// Package bindshell finds shells that wait for who connects: a process opened a port
// and then started a shell that reads its commands.
//
// Neither dup2 nor an accept by io_uring is seen, so that it need not be known who
// connected: the port and the shell are enough.
package bindshell

import (
	"fmt"
	"strconv"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxListeners = 4096
	maxSteps     = 3 // from the shell up to who opened the port
	maxSpan      = 7 * 24 * time.Hour
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "shell-at-port", Theme: "shell", Title: "A process that opened a port started a shell that reads commands", Severity: finding.Critical,
		Tactic: threat.Execution, Techniques: []string{"T1059.004", "T1571", "T1205"}, Kinds: []event.Kind{event.KindListen, event.KindExec},
		Meaning:    "A process that is not the container's own server opened a port for other machines, and it, or what it started, runs a shell that has neither a script nor a command: whoever connects commands it.",
		FalseAlarm: "Web terminals and remote-shell servers that are not in servers.",
		Tuning:     "Add such servers to servers.",
		Remedy:     "Stop the task, look at who connected, and find how the program came in.",
	},
		pattern.Duration("within", 24*time.Hour, "how long after the port was opened"),
		pattern.List("servers", "programs that give people shells", "sshd", "sshd-session", "dropbear", "telnetd", "in.telnetd", "login", "ttyd", "gotty", "wetty", "mosh-server", "tmux", "screen", "session-worker", "ssm-session-worker", "amazon-ssm-agent", "execute-command-agent", "code-server", "jupyter-lab", "jupyter", "node-red", "su", "sudo"),
	)
}

type binders struct {
	within    time.Duration
	servers   map[string]bool
	listeners *keep.Map[pattern.Process, listener]
}

type listener struct {
	at    time.Time
	port  uint16
	trail pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &binders{within: v.Duration("within", maxSpan), servers: v.Set("servers")}
	d.listeners = keep.New[pattern.Process, listener](maxListeners, d.within)
	return pattern.Detector(about, pattern.On(d.listen, event.KindListen), pattern.On(d.exec, event.KindExec)), v.Err()
}

func (d *binders) listen(s *rule.Subject) *rule.Match {
	e, c := s.Event, s.Event.Connection
	// What only the container itself can reach is for its own programs.
	if c == nil || c.Error != "" || c.Protocol != "tcp" || c.Local.Addr().Unmap().IsLoopback() || s.Process.First || d.servers[s.Process.Program] {
		return nil
	}
	l := listener{at: e.Time, port: c.Local.Port()}
	l.trail.Add(e)
	d.listeners.Put(pattern.ProcessOf(e), l, e.Time)
	return nil
}

func (d *binders) exec(s *rule.Subject) *rule.Match {
	e := s.Event
	if d.listeners.Len() == 0 || e.Exec == nil || e.Exec.Entered || s.Process.Entered || !rule.Interactive(s.Process) {
		return nil
	}
	var found *listener
	who, steps := "", 0
	look := func(p *tree.Process) bool {
		if d.servers[p.Program] {
			return false
		}
		if l, ok := d.listeners.Get(pattern.Process{Agent: e.AgentID, Key: p.Key}, e.Time); ok && e.Time.Sub(l.at) <= d.within {
			found, who = l, pattern.Brief(p)
			return false
		}
		steps++
		return steps < maxSteps
	}
	if look(s.Process) {
		s.Tree.Ancestors(e.AgentID, s.Process, look)
	}
	if found == nil {
		return nil
	}
	port := strconv.Itoa(int(found.port))
	m := rule.MatchOf(s, fmt.Sprintf("%s was started by %s, which opened port %s", pattern.Who(s), who, port), port)
	m.Before = found.trail.Before(e)
	return m
}
