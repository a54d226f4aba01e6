package console

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// What the pages of one workload show at most; each leads to the whole list.
const (
	groupedEvents = 500 // read, newest first, to be grouped
	searches      = 2   // of the store, for them
	linesShown    = 200
)

// fileLine is what happened to one path.
type fileLine struct {
	Path      string
	Kinds     []event.Kind // in order of kinds
	Times     uint64
	Newest    event.Event
	Sensitive string
	Claimed   bool
	SetID     bool   // it was made to run with its owner's rights
	Refused   string // the newest error, when nothing came through
}

// byPath groups events of files, newest first, by the path they are about.
func byPath(events []event.Event) []fileLine {
	lines := map[string]*fileLine{}
	for _, e := range events {
		f := e.File
		if f == nil {
			continue
		}
		path := f.Path
		if f.To != "" {
			path = f.To // what it is called now
		}
		l := lines[path]
		if l == nil {
			l = &fileLine{Path: path, Newest: e, Refused: f.Error}
			lines[path] = l
		}
		l.Times += e.Times()
		if !slices.Contains(l.Kinds, e.Kind) {
			l.Kinds = append(l.Kinds, e.Kind)
		}
		l.Sensitive = orElse(l.Sensitive, f.Sensitive)
		l.Claimed = l.Claimed || f.Claimed
		l.SetID = l.SetID || e.Kind == event.KindFileChmod && f.Mode&0o6000 != 0
		if f.Error == "" {
			l.Refused = ""
		}
	}
	out := make([]fileLine, 0, len(lines))
	for _, l := range lines {
		slices.Sort(l.Kinds)
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b fileLine) int {
		return cmp.Or(cmp.Compare(first(b.Sensitive != ""), first(a.Sensitive != "")),
			b.Newest.Time.Compare(a.Newest.Time), strings.Compare(a.Path, b.Path))
	})
	return out
}

func first(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// did says what was done to a file: "read, written".
func (l fileLine) did() string {
	words := map[event.Kind]string{
		event.KindFileWrite: "written", event.KindFileCreate: "created", event.KindFileRead: "read",
		event.KindFileRename: "renamed", event.KindFileLink: "linked", event.KindFileDelete: "deleted",
		event.KindFileChmod: "made executable", event.KindFileChown: "given away",
	}
	var out []string
	for _, k := range event.Kinds() {
		if !slices.Contains(l.Kinds, k) {
			continue
		}
		word := words[k]
		if k == event.KindFileChmod && l.SetID {
			word = "made set-id"
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}

// nameLine is what was asked of the DNS about one name, and what it said.
type nameLine struct {
	Name    string
	Types   []string
	Asked   uint64
	Answers []string
	Failed  map[string]uint64 // by code
	Newest  event.Event
}

// answersShown bounds the answers in one line of the list.
const answersShown = 6

// byName groups events of the DNS, newest first, by the name.
func byName(events []event.Event) []nameLine {
	lines := map[string]*nameLine{}
	for _, e := range events {
		q := e.DNS
		if q == nil {
			continue
		}
		l := lines[q.Name]
		if l == nil {
			l = &nameLine{Name: q.Name, Newest: e, Failed: map[string]uint64{}}
			lines[q.Name] = l
		}
		if q.Type != "" && !slices.Contains(l.Types, q.Type) {
			l.Types = append(l.Types, q.Type)
		}
		if e.Kind == event.KindQuery {
			l.Asked += e.Times()
			continue
		}
		if failedCode(q.Code) {
			l.Failed[q.Code] += e.Times()
		}
		for _, a := range q.Answers {
			if len(l.Answers) < answersShown && !slices.Contains(l.Answers, a) {
				l.Answers = append(l.Answers, a)
			}
		}
	}
	out := make([]nameLine, 0, len(lines))
	for _, l := range lines {
		slices.Sort(l.Types)
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b nameLine) int {
		return cmp.Or(b.Newest.Time.Compare(a.Newest.Time), strings.Compare(a.Name, b.Name))
	})
	return out
}

// failures says how often which error came: "NXDOMAIN ×3".
func (l nameLine) failures() string {
	var out []string
	for _, code := range slices.Sorted(maps.Keys(l.Failed)) {
		out = append(out, code+" "+times(l.Failed[code]))
	}
	return strings.Join(out, ", ")
}

// flowWord says which way a flow goes.
func flowWord(k event.Kind) string {
	switch k {
	case event.KindConnect:
		return "to"
	case event.KindAccept:
		return "from"
	case event.KindListen:
		return "listens"
	case event.KindRaw:
		return "raw socket"
	}
	return kindWord(k)
}

// flowPort is the port that a flow is about, with its protocol.
func flowPort(f store.Flow) string {
	if f.Port == 0 {
		return f.Protocol
	}
	return f.Protocol + " " + strconv.Itoa(int(f.Port))
}

// flowPeer is what the list of events is asked for the peer of a flow.
func flowPeer(f store.Flow) string {
	if f.Address.IsValid() {
		return f.Address.String()
	}
	return f.Name
}

// window is one choice of a time to look at.
type window struct {
	Word string // as the address says it
	Long time.Duration
	Says string
}

// flowWindows and sampleWindows are what the pages offer; the first is taken
// unless the address says another one.
func flowWindows() []window {
	return []window{{"24h", 24 * time.Hour, "24 hours"}, {"1h", time.Hour, "1 hour"}, {"7d", 7 * 24 * time.Hour, "7 days"}}
}

func sampleWindows() []window {
	return []window{{"15m", 15 * time.Minute, "15 minutes"}, {"3h", 3 * time.Hour, "3 hours"}, {"24h", 24 * time.Hour, "24 hours"}}
}

// pick returns the window that a word names, else the first.
func pick(all []window, word string) window {
	for _, w := range all {
		if w.Word == word {
			return w
		}
	}
	return all[0]
}
