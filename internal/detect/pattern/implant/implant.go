// Package implant finds programs that somebody brought in and commands from afar: they
// hold a connection and start shells.
//
// No sensor sees dup2, so that it is not known whether a socket became a shell's
// standard input. What is seen is who started the shell, and what that had open.
package implant

import (
	"fmt"

	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/detect/tree"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "shell-by-implant", Theme: "shell", Title: "A program that was brought in runs commands while it is connected", Severity: finding.High,
		Tactic: threat.CommandAndControl, Techniques: []string{"T1095", "T1059.004", "T1105"}, Kinds: []event.Kind{event.KindExec},
		Meaning:    "A program that did not come with the image holds a connection with another machine, and it, or what it started, runs a shell or a tool; whoever is at the other end commands it.",
		FalseAlarm: "Agents that are downloaded at the start and run commands as their work, such as those of CI; applications that are compiled in the container in which they run, while they are developed.",
		Tuning:     "Build such agents into the image, or add them to programs.",
		Remedy:     "Cut the container's network, take a snapshot, look at the peer and at where the program came from.",
	},
		pattern.List("programs", "programs that may: agents", "Runner.Listener", "Runner.Worker", "gitlab-runner", "buildkite-agent", "agent.jar", "amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "execute-command-agent"),
		pattern.List("tools", "what is run, beside shells", "id", "whoami", "uname", "hostname", "cat", "ls", "ps", "find", "env", "printenv", "curl", "wget", "nc", "ncat", "python", "perl", "base64", "chmod", "crontab", "ip", "ifconfig", "netstat", "ss", "mount", "busybox"),
	)
}

const maxSteps = 4 // from a command up to the program that has it run

type implants struct {
	programs, tools map[string]bool
	foreign         *pattern.Foreign
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &implants{programs: v.Set("programs"), tools: v.Set("tools"), foreign: pattern.NewForeign()}
	return pattern.Detector(about, pattern.On(d.look, event.KindExec)), v.Err()
}

func (d *implants) look(s *rule.Subject) *rule.Match {
	e := s.Event
	d.foreign.Exec(e)
	if e.Exec == nil || e.Exec.Entered || !rule.Shell(s.Process.Program) && !d.tools[s.Process.Program] {
		return nil
	}
	var by *tree.Process
	steps := 0
	s.Tree.Ancestors(e.AgentID, s.Process, func(p *tree.Process) bool {
		if steps++; steps > maxSteps {
			return false
		}
		// A shell script that was written is what runs a shell anyway.
		if d.foreign.Is(s.Tree, e.AgentID, p, e.Time) && !rule.Shell(p.Program) {
			by = p
			return false
		}
		return true
	})
	if by == nil || d.programs[by.Program] {
		return nil
	}
	peer, connected := by.Connected(e.Time)
	if !connected {
		return nil
	}
	m := rule.MatchOf(s, fmt.Sprintf("%s was run by %s, which did not come with the image and has a connection with %s", pattern.Who(s), by.Executable, peer), by.Executable, peer.Addr().String())
	m.Peers = []threat.Peer{{Address: peer, Peer: event.Peer{Kind: rule.Place(peer.Addr())}}}
	return m
}
