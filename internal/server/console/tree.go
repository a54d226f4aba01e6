package console

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Limits of a process tree in a page. A fork bomb makes thousands of
// processes; nobody reads them one by one, and the page says how many there are.
const (
	maxNodes = 400
	maxDepth = 24
	// maxEnded is how many ended children of one process are shown: a health
	// check that runs every second would bury what still runs.
	maxEnded = 5
)

// tree is the processes of a workload as a forest: more than one root when
// processes came in from outside.
type tree struct {
	Known   bool // false: the agent has not told yet
	Roots   []*node
	Running int
	Ended   int
	Hidden  int // not shown, for maxNodes
	agentID string
}

// node is one process and those it started.
type node struct {
	event.Running
	Children []*node
	Folded   int // ended children that are only counted, for maxEnded
	depth    int
}

// id names the node in the page, so that an update finds it again.
func (n *node) id() string { return "p" + n.Process.Key.String() }

// pid is the number that a person in the container would see, or that on the
// host where the two are the same or the first is unknown.
func (n *node) pid() string {
	if n.Process.ContainerPID != 0 {
		return strconv.FormatUint(uint64(n.Process.ContainerPID), 10)
	}
	return strconv.FormatUint(uint64(n.Process.Key.PID), 10)
}

// command is the command line, or what is known instead.
func (n *node) command() string {
	switch {
	case len(n.Args) > 0:
		return untrusted.CommandLine(n.Args)
	case n.Process.Executable != "":
		return n.Process.Executable
	}
	return "[" + n.Process.Name + "]"
}

// newTree links processes to their parents. A process is a root when its parent
// is not among those that started before it, which also breaks the circles that
// only a lie could make, or when it would hang deeper than maxDepth.
func newTree(procs []event.Running, known bool, agentID string) tree {
	t := tree{Known: known, agentID: agentID}
	procs, t.Hidden = mostTelling(procs)
	nodes := make(map[event.Key]*node, len(procs))
	for _, p := range procs {
		if p.Ended == nil {
			t.Running++
		} else {
			t.Ended++
		}
		n := &node{Running: p}
		parent := nodes[p.Process.Parent]
		if parent == nil || parent.depth == maxDepth {
			t.Roots = append(t.Roots, n)
		} else {
			n.depth = parent.depth + 1
			parent.Children = append(parent.Children, n)
		}
		nodes[p.Process.Key] = n
	}
	for _, n := range nodes {
		n.fold()
	}
	return t
}

// fold keeps the newest ended children and counts the others. What came in
// from outside, what is not from the image, and what has children of its own
// is always shown.
func (n *node) fold() {
	room := maxEnded
	kept := make([]*node, 0, len(n.Children))
	for i := len(n.Children) - 1; i >= 0; i-- {
		c := n.Children[i]
		plain := c.Ended != nil && !c.Entered && !foreign(c.Origin) && len(c.Children) == 0 && c.Folded == 0
		if plain && room == 0 {
			n.Folded++
			continue
		}
		if plain {
			room--
		}
		kept = append(kept, c)
	}
	slices.Reverse(kept)
	n.Children = kept
}

// tally says how many processes there are.
func (t tree) tally() string {
	s := plural(t.Running, "process runs", "processes run")
	if t.Ended > 0 {
		s += ", " + count(t.Ended) + " ended a short while ago"
	}
	if t.Hidden > 0 {
		s += ", " + count(t.Hidden) + " more are not shown"
	}
	return s
}

// mostTelling keeps the running processes before the ended ones, the older
// before the younger, up to maxNodes, in the order in which they started.
func mostTelling(procs []event.Running) (kept []event.Running, hidden int) {
	kept = once(procs)
	byStart := func(a, b event.Running) int {
		return cmp.Or(cmp.Compare(a.Process.Key.Start, b.Process.Key.Start), cmp.Compare(a.Process.Key.PID, b.Process.Key.PID))
	}
	slices.SortFunc(kept, byStart)
	if len(kept) <= maxNodes {
		return kept, 0
	}
	slices.SortStableFunc(kept, func(a, b event.Running) int {
		return cmp.Compare(ended(a), ended(b))
	})
	hidden = len(kept) - maxNodes
	kept = kept[:maxNodes]
	slices.SortFunc(kept, byStart)
	return kept, hidden
}

// once keeps one of each process. Of two that are the same, one running and one
// ended, the end came later.
func once(procs []event.Running) []event.Running {
	kept := make([]event.Running, 0, len(procs))
	at := make(map[event.Key]int, len(procs))
	for _, p := range procs {
		i, ok := at[p.Process.Key]
		switch {
		case !ok:
			at[p.Process.Key] = len(kept)
			kept = append(kept, p)
		case p.Ended != nil:
			kept[i] = p
		}
	}
	return kept
}

func ended(p event.Running) int {
	if p.Ended != nil {
		return 1
	}
	return 0
}
