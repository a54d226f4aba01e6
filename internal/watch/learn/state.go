package learn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// MaxState is how large a state may be that is read, uncompressed: what the bounds
// of a learner come to at most.
const MaxState = 64 << 20

// stateVersion is of the form in which learners are kept.
const stateVersion = 1

// state is a learner as it is kept.
type state struct {
	Version  int                  `json:"version"`
	Group    asset.Group          `json:"group"`
	Given    *profile.Profile     `json:"given,omitempty"`
	Hosts    []string             `json:"hosts,omitempty"`
	Versions []version            `json:"versions,omitempty"`
	Main     seenState            `json:"main"`
	Usage    usage                `json:"usage,omitzero"`
	First    int64                `json:"first,omitempty"`
	Last     int64                `json:"last,omitempty"`
	Events   uint64               `json:"events,omitempty"`
	Lives    map[string]*workload `json:"lives,omitempty"`
	Commands []commandState       `json:"commands,omitempty"`
	Sessions []sessionState       `json:"sessions,omitempty"`
	Strange  uint64               `json:"strange,omitempty"`
	Set      int64                `json:"set,omitempty"`
	Before   time.Duration        `json:"before_ns,omitempty"`
}

type commandState struct {
	Line  string             `json:"line"`
	Check bool               `json:"check,omitempty"`
	Runs  uint64             `json:"runs"`
	Times map[string][]int64 `json:"times"`
	Seen  seenState          `json:"seen"`
}

type sessionState struct {
	Workload string    `json:"workload"`
	Process  event.Key `json:"process"`
	Command  string    `json:"command"`
	Last     int64     `json:"last"`
}

type seenState struct {
	Execs        []execState       `json:"execs,omitempty"`
	Writes       *nodeState        `json:"writes,omitempty"`
	Reads        *nodeState        `json:"reads,omitempty"`
	Listens      []portState       `json:"listens,omitempty"`
	Peers        []peerState       `json:"peers,omitempty"`
	Callers      []peerState       `json:"callers,omitempty"`
	Names        map[string]*mark  `json:"names,omitempty"`
	Capabilities map[string]*mark  `json:"capabilities,omitempty"`
	Used         map[string]*mark  `json:"used,omitempty"`
	UsesSeen     bool              `json:"uses_seen,omitempty"`
	Privileges   []privilegeState  `json:"privileges,omitempty"`
	Calls        map[string]*mark  `json:"calls,omitempty"`
	Dropped      map[string]uint64 `json:"dropped,omitempty"`
}

type execState struct {
	Path    string       `json:"path"`
	Origin  event.Origin `json:"origin"`
	Digest  string       `json:"digest,omitempty"`
	Several bool         `json:"several,omitempty"`
	Parents []string     `json:"parents,omitempty"`
	Users   []uint32     `json:"users,omitempty"`
	Scripts []string     `json:"scripts,omitempty"`
	Loose   []string     `json:"loose,omitempty"`
	Loads   []string     `json:"loads,omitempty"`
	More    bool         `json:"more,omitempty"`
	// Contents came later than the form: a state without them was learned by an
	// older server.
	Contents []profile.Content `json:"contents,omitempty"`
	Mark     mark              `json:"mark"`
}

type portState struct {
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	Mark     mark   `json:"mark"`
}

type peerState struct {
	Protocol string         `json:"protocol"`
	Port     uint16         `json:"port"`
	Group    asset.Group    `json:"group,omitempty"`
	Name     string         `json:"name,omitempty"`
	Address  netip.Addr     `json:"address,omitzero"`
	Kind     event.PeerKind `json:"kind,omitempty"`
	Mark     mark           `json:"mark"`
}

type privilegeState struct {
	Kind   event.Kind `json:"kind"`
	Detail string     `json:"detail,omitempty"`
	Mark   mark       `json:"mark"`
}

type nodeState struct {
	Mark   *mark                 `json:"m,omitempty"`
	Deep   *mark                 `json:"d,omitempty"`
	Any    bool                  `json:"a,omitempty"`
	Joined []string              `json:"j,omitempty"`
	Number []string              `json:"n,omitempty"`
	Signs  []string              `json:"s,omitempty"`
	Kids   map[string]*nodeState `json:"k,omitempty"`
}

// Save returns the learner as bytes, from which Load makes it again. The same
// learner gives the same bytes.
func (l *Learner) Save() ([]byte, error) {
	s := state{
		Version: stateVersion, Group: l.group, Given: l.given, Hosts: l.hosts, Versions: l.versions, Main: l.main.state(), Usage: l.usage,
		First: l.life.first, Last: l.life.last, Events: l.life.events, Lives: l.life.workloads, Strange: l.entered.strange,
		Set: l.life.set, Before: l.life.before,
	}
	s.Commands, s.Sessions = l.entered.state()
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("save what was learned of %s: %w", l.group, err)
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("save what was learned of %s: %w", l.group, err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil), nil
}

// Load makes a learner of what Save returned.
func Load(b []byte) (*Learner, error) {
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxState), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("load what was learned: %w", err)
	}
	defer r.Close()
	text, err := r.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("load what was learned: %w", err)
	}
	var s state
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("load what was learned: %w", err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("load what was learned of %s: it is of form %d, this program reads %d", s.Group, s.Version, stateVersion)
	}
	if len(s.Hosts) > maxHosts || len(s.Versions) > maxVersions || len(s.Commands) > maxCommands || len(s.Lives) > maxLives || len(s.Sessions) > maxSessions {
		return nil, fmt.Errorf("load what was learned of %s: there is more of it than a learner keeps", s.Group)
	}
	l := New(s.Group)
	l.given, l.hosts, l.versions, l.usage = s.Given, s.Hosts, s.Versions, s.Usage
	l.life.first, l.life.last, l.life.events = s.First, s.Last, s.Events
	l.life.set, l.life.before = s.Set, s.Before
	for id, w := range s.Lives {
		if w != nil {
			l.life.workloads[id] = w
		}
	}
	l.main = s.Main.seen()
	l.entered = enteredOf(s)
	return l, nil
}

func enteredOf(s state) entered {
	n := newEntered()
	n.strange = s.Strange
	for _, c := range s.Commands {
		times := c.Times
		if times == nil {
			times = map[string][]int64{}
		}
		n.commands[c.Line] = &command{line: c.Line, check: c.Check, runs: c.Runs, times: times, seen: c.Seen.seen()}
	}
	for _, x := range s.Sessions {
		c := n.commands[x.Command]
		if c == nil {
			c = &command{}
		}
		n.sessions[sessionKey{x.Workload, x.Process}] = &session{command: c, last: x.Last}
	}
	return n
}
