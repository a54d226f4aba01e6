package learn

import (
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
)

// entered follows what comes into containers from outside: docker exec, ECS Exec,
// and the health checks of the engine, which come the same way.
//
// None of it is normal behaviour, unless it is the container's own health check, or
// the same command comes again and again at regular intervals, as only machines do
// it. So what each command did is kept beside, within bounds, and belongs to the
// profile from when the command has proved to be a machine's.
type entered struct {
	commands map[string]*command
	sessions map[sessionKey]*session
	strange  uint64 // commands for which there was no room
}

// command is one command line that came from outside.
type command struct {
	line  string
	check bool // the engine checks the health of a container by it
	runs  uint64
	times map[string][]int64 // by workload: the first maxTimes starts, sorted
	seen  *seen
}

// sessionKey is a process that came from outside, or its child.
type sessionKey struct {
	workload string
	process  event.Key
}

type session struct {
	*command
	last int64
}

// Bounds of what is kept of commands from outside.
const (
	maxCommands  = 24    // more different ones are people
	maxSessions  = 4_000 // processes of theirs that are followed at once
	maxTimes     = 48    // starts of one command in one container
	maxWorkloads = 64    // containers whose starts are kept for one command
	maxLine      = 512   // bytes of a command line
)

// A command is regular when it ran at least regularRuns times in one container, and
// most of the time the same while passed between two starts, at most regularGap.
// Health checks run every 5 seconds to 5 minutes; a person does not type the same
// line twenty times with a stopwatch.
const (
	regularRuns  = 20
	regularGap   = 15 * time.Minute
	regularShare = 0.8  // of the gaps lie
	regularApart = 0.25 // that close to the middle one
)

func newEntered() entered {
	return entered{commands: map[string]*command{}, sessions: map[sessionKey]*session{}}
}

// session returns the command from outside to which an event belongs, nil if it is
// the container's own doing.
func (n *entered) session(e *event.Event, w *asset.Workload) *session {
	if e.Process.Key.IsZero() {
		return nil // nobody knows whose doing it was, as of connections that were there before
	}
	key := sessionKey{e.WorkloadID, e.Process.Key}
	s := n.sessions[key]
	if e.Exec != nil && e.Exec.Entered {
		s = n.begin(e, w)
	}
	if s == nil && len(n.sessions) > 0 {
		s = n.sessions[sessionKey{e.WorkloadID, e.Process.Parent}]
		if s == nil && e.Exec != nil {
			for _, a := range e.Exec.Ancestors {
				if s = n.sessions[sessionKey{e.WorkloadID, a.Key}]; s != nil {
					break
				}
			}
		}
	}
	if s == nil {
		return nil
	}
	if e.Kind == event.KindExit {
		delete(n.sessions, key)
		return s
	}
	if n.sessions[key] == nil {
		n.follow(key, &session{command: s.command, last: e.Time.UnixNano()})
	}
	return s
}

// follow remembers a process. The one that began first makes room: its end was
// lost.
func (n *entered) follow(key sessionKey, s *session) {
	if len(n.sessions) >= maxSessions {
		var oldest sessionKey
		least := int64(0)
		for k, x := range n.sessions {
			if least == 0 || x.last < least {
				oldest, least = k, x.last
			}
		}
		delete(n.sessions, oldest)
	}
	n.sessions[key] = s
}

// begin counts a command that comes in. A second exec of the same process, by
// sh -c for example, goes on with the first.
func (n *entered) begin(e *event.Event, w *asset.Workload) *session {
	key := sessionKey{e.WorkloadID, e.Process.Key}
	if s := n.sessions[key]; s != nil {
		return s
	}
	line := e.Process.Executable + "\x00" + strings.Join(e.Exec.Args, "\x00")
	line = line[:min(len(line), maxLine)]
	c := n.commands[line]
	if c == nil {
		if len(n.commands) >= maxCommands {
			n.strange++
			s := &session{command: &command{}, last: e.Time.UnixNano()}
			n.follow(key, s)
			return s
		}
		c = &command{line: line, times: map[string][]int64{}, seen: newSeen()}
		n.commands[line] = c
	}
	c.check = c.check || healthCheck(e, w)
	c.runs += e.Times()
	c.at(e.WorkloadID, e.Time.UnixNano())
	s := &session{command: c, last: e.Time.UnixNano()}
	n.follow(key, s)
	return s
}

// healthCheck reports whether a command that comes in is the one by which the engine
// checks the health of the workload.
func healthCheck(e *event.Event, w *asset.Workload) bool {
	return w != nil && len(w.Settings.HealthCheck) > 0 && slices.Equal(e.Exec.Args, w.Settings.HealthCheck)
}

func (c *command) at(workload string, t int64) {
	times := c.times[workload]
	if times == nil && len(c.times) >= maxWorkloads {
		return
	}
	i, _ := slices.BinarySearch(times, t)
	times = slices.Insert(times, i, t)
	c.times[workload] = times[:min(len(times), maxTimes)]
}

// regular reports whether a machine runs the command.
func (c *command) regular() bool {
	if c.check {
		return true
	}
	for _, times := range c.times {
		if len(times) < regularRuns {
			continue
		}
		gaps := make([]int64, 0, len(times))
		for i := 1; i < len(times); i++ {
			gaps = append(gaps, times[i]-times[i-1])
		}
		slices.Sort(gaps)
		middle := gaps[len(gaps)/2]
		if middle <= 0 || middle > int64(regularGap) {
			continue
		}
		near := 0
		for _, g := range gaps {
			if float64(max(g-middle, middle-g)) <= regularApart*float64(middle) {
				near++
			}
		}
		if float64(near) >= regularShare*float64(len(gaps)) {
			return true
		}
	}
	return false
}

// words is the command line as a person types it.
func (c *command) words() string {
	parts := strings.Split(c.line, "\x00")
	if len(parts) > 1 {
		parts = parts[1:]
	}
	const shown = 80
	s := strings.Join(parts, " ")
	if len(s) > shown {
		s = s[:shown] + "…"
	}
	return s
}
