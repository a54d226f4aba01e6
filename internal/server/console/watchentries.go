package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch"
)

// section is one list of a profile.
type section struct {
	What    string // as the text of a profile calls it
	Title   string
	Entries []entry
	// Found is how many of Entries a search has found, before the list was cut.
	Found int
}

// entry is one entry of a profile, as it is shown.
type entry struct {
	What string
	Name string // what it is about, and by what it is told from others of its list
	Also string // what makes it another one with the same name: its origin
	More []string
	profile.Evidence
	only profile.Profile // with nothing else in it
}

// key names an entry within its profile.
func (e *entry) key() string { return e.Name + "\x00" + e.Also }

// sectionsOf lists what a profile permits, list by list.
func sectionsOf(p *profile.Profile) []section {
	all := [][]entry{
		entriesOf(p.Executables, executableEntry),
		entriesOf(p.Writes, fileEntry(func(f profile.File) profile.Profile { return profile.Profile{Writes: []profile.File{f}} })),
		entriesOf(p.Reads, fileEntry(func(f profile.File) profile.Profile { return profile.Profile{Reads: []profile.File{f}} })),
		entriesOf(p.Listens, func(l profile.Listen) entry {
			return entry{Name: portsWords(l.Protocol, l.Port), Evidence: l.Evidence, only: profile.Profile{Listens: []profile.Listen{l}}}
		}),
		entriesOf(p.Peers, peerEntry(func(q profile.Peer) profile.Profile { return profile.Profile{Peers: []profile.Peer{q}} })),
		entriesOf(p.Callers, peerEntry(func(q profile.Peer) profile.Profile { return profile.Profile{Callers: []profile.Peer{q}} })),
		entriesOf(p.Names, func(n profile.Name) entry {
			return entry{Name: n.Name, Evidence: n.Evidence, only: profile.Profile{Names: []profile.Name{n}}}
		}),
		entriesOf(p.Capabilities, func(n profile.Capability) entry {
			return entry{Name: n.Name, Evidence: n.Evidence, only: profile.Profile{Capabilities: []profile.Capability{n}}}
		}),
		entriesOf(p.Privileges, func(n profile.Privilege) entry {
			return entry{Name: string(n.Kind), Also: n.Detail, Evidence: n.Evidence, only: profile.Profile{Privileges: []profile.Privilege{n}}}
		}),
		entriesOf(p.Calls, func(n profile.Call) entry {
			return entry{Name: n.Name, Evidence: n.Evidence, only: profile.Profile{Calls: []profile.Call{n}}}
		}),
	}
	out := make([]section, len(all))
	for i, k := range kindTitles() {
		for j := range all[i] {
			all[i][j].What = k.Value
		}
		out[i] = section{What: k.Value, Title: k.Label, Entries: all[i], Found: len(all[i])}
	}
	return out
}

func entriesOf[T any](list []T, one func(T) entry) []entry {
	out := make([]entry, len(list))
	for i := range list {
		out[i] = one(list[i])
	}
	return out
}

func executableEntry(x profile.Executable) entry {
	e := entry{Name: string(x.Path), Evidence: x.Evidence, only: profile.Profile{Executables: []profile.Executable{x}}}
	switch x.Origin {
	case event.OriginWritten:
		e.Also = "written: it did not come with the image"
	case event.OriginMount:
		e.Also = "on a volume: it did not come with the image"
	case event.OriginMemory:
		e.Also = "in memory alone"
	}
	more := func(label string, words []string) {
		if len(words) > 0 {
			e.More = append(e.More, label+strings.Join(words, ", "))
		}
	}
	more("started by ", words(x.Parents, func(p profile.Pattern) string { return cmp.Or(string(p), "the engine") }))
	more("as user ", words(x.Users, func(u uint32) string { return strconv.FormatUint(uint64(u), 10) }))
	more("runs ", words(x.Scripts, func(p profile.Pattern) string { return string(p) }))
	more("runs what did not come with the image: ", words(x.Loose, func(p profile.Pattern) string { return string(p) }))
	more("loads code from ", words(x.Loads, func(p profile.Pattern) string { return string(p) }))
	if x.Digest != "" {
		e.More = append(e.More, "content "+shortImage(x.Digest))
	}
	return e
}

func words[T any](list []T, word func(T) string) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = word(x)
	}
	return out
}

func fileEntry(only func(profile.File) profile.Profile) func(profile.File) entry {
	return func(f profile.File) entry {
		e := entry{Name: string(f.Path), Evidence: f.Evidence, only: only(f)}
		if len(f.Programs) > 0 {
			e.More = []string{"by " + strings.Join(words(f.Programs, func(p profile.Pattern) string { return string(p) }), ", ")}
		}
		return e
	}
}

func peerEntry(only func(profile.Peer) profile.Profile) func(profile.Peer) entry {
	return func(q profile.Peer) entry {
		return entry{Name: peerWords(&q), Also: portsWords(q.Protocol, q.Port), Evidence: q.Evidence, only: only(q)}
	}
}

// peerWords name who is at the other end.
func peerWords(q *profile.Peer) string {
	switch {
	case q.Group != "":
		return string(q.Group)
	case q.Name != "":
		return q.Name
	case q.Network.IsSingleIP():
		return q.Network.Addr().String()
	case q.Network.IsValid():
		return q.Network.String()
	case q.Kind == event.PeerSelf:
		return "itself"
	}
	return string(q.Kind)
}

func portsWords(protocol string, p profile.Ports) string {
	switch {
	case p.IsZero():
		return protocol
	case p.First == p.Last:
		return fmt.Sprintf("%s/%d", protocol, p.First)
	}
	return fmt.Sprintf("%s/%d-%d", protocol, p.First, p.Last)
}

// older reports that only older versions of the image do what an entry permits.
func (e *entry) older(p *profile.Profile) bool {
	n := len(p.Versions)
	return n > 1 && e.Source == profile.Learned && e.Latest != "" && e.Latest != p.Versions[n-1].Digest
}

// fits reports whether an entry has the words and the source that are looked for.
func (e *entry) fits(text, source string) bool {
	if source != "" && string(e.Source) != source {
		return false
	}
	whole := strings.ToLower(e.Name + " " + e.Also + " " + strings.Join(e.More, " ") + " " + e.Comment + " " + e.Actor)
	for _, word := range strings.Fields(strings.ToLower(text)) {
		if !strings.Contains(whole, word) {
			return false
		}
	}
	return true
}

// addedWords say how an entry came into the profile.
func (e *entry) addedWords() string {
	switch e.Source {
	case profile.Learned:
		return "learned"
	case profile.Person:
		if e.Actor != "" {
			return "permitted " + whoWords(e.Actor)
		}
		return "permitted by a person"
	case profile.Initial:
		return "starting profile"
	}
	return string(e.Source)
}

// find returns the entry of a list with a key.
func find(p *profile.Profile, what, key string) (*entry, bool) {
	for _, s := range sectionsOf(p) {
		if s.What != what {
			continue
		}
		for i := range s.Entries {
			if s.Entries[i].key() == key {
				return &s.Entries[i], true
			}
		}
	}
	return nil, false
}

// newEntry is an entry that somebody writes into a form.
type newEntry struct {
	What, Value, Port, Origin, Comment string
}

// text writes it as a profile with nothing else in it, so that it is read and checked
// as every profile is.
func (n newEntry) text() (string, error) {
	if n.Value == "" && n.What != "listens" {
		return "", fault.New(fault.Invalid, "say what is to be permitted")
	}
	value, port := scalar(n.Value), scalar(n.Port)
	var lines []string
	switch n.What {
	case "executables":
		lines = []string{"path: " + value}
		if n.Origin != "" {
			lines = append(lines, "origin: "+scalar(n.Origin))
		}
	case "writes", "reads":
		lines = []string{"path: " + value}
	case "listens":
		lines = []string{"port: " + scalar(cmp.Or(n.Port, n.Value))}
	case "peers", "callers":
		lines = []string{peerField(n.Value) + ": " + value}
		if n.Port != "" {
			lines = append(lines, "port: "+port)
		}
	case "names", "capabilities":
		lines = []string{"name: " + value}
	case "privileges":
		kind, detail, narrowed := strings.Cut(n.Value, " ")
		if lines = []string{"kind: " + scalar(kind)}; narrowed {
			lines = append(lines, "detail: "+scalar(strings.TrimSpace(detail)))
		}
	case "calls":
		return "profile: 1\ncalls: [" + value + "]\n", nil
	default:
		return "", fault.New(fault.Invalid, "say of which kind it is")
	}
	return "profile: 1\n" + n.What + ":\n  - " + strings.Join(lines, "\n    ") + "\n", nil
}

// peerField is the key under which a profile's text has a peer that is named so.
func peerField(s string) string {
	_, prefix := netip.ParsePrefix(s)
	_, address := netip.ParseAddr(s)
	switch {
	case prefix == nil, address == nil:
		return "network"
	case s == string(event.PeerSelf), s == string(event.PeerHost), s == string(event.PeerService):
		return "kind"
	case strings.Contains(s, "/"):
		return "group"
	}
	return "name"
}

// scalar writes a text for YAML, whose quoted texts are those of JSON.
func scalar(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""` // a string always marshals
	}
	return string(b)
}

// permitted reads a profile with single entries in it.
func permitted(text string) (*profile.Profile, error) {
	d, err := watch.Read([]byte(text), "entry")
	if err != nil {
		return nil, fault.New(fault.Invalid, "it can't be permitted: %w", err)
	}
	return d.Profile, nil
}
