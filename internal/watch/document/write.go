// Package document writes profiles as YAML that people read, edit and review, and
// reads them back.
//
// The text of a profile is canonical: one profile always gives the same bytes, so
// that they can be signed. What an entry rests on stands in comments: it is for
// people, and is found again by the entry when a text is imported.
package document

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/profile"
)

// Form is the version of the form that this program writes and reads.
const Form = "1"

// engine is how the parent of a container's first process is written.
const engine = "engine"

// Write writes a profile. name is what people call it, and may be empty.
func Write(p *profile.Profile, name string) []byte {
	var w writer
	p = arranged(p)
	w.line("# What %s normally does.", commented(string(p.Group)))
	w.line("# Everything that is not in it lies outside. The comments say what an entry rests on; they are not read.")
	w.line("profile: %s", Form)
	if name != "" {
		w.line("name: %s", scalar(name))
	}
	w.line("group: %s", scalar(string(p.Group)))
	w.line("revision: %d", p.Revision)
	w.line("digest: %s", Digest(p))
	w.evidence = true
	w.body(p)
	return w.b.Bytes()
}

// Digest names what a profile permits, "sha256:HEX": it is the same whatever the
// evidence, the revision and the comments.
func Digest(p *profile.Profile) string {
	w := writer{bare: true}
	w.body(arranged(p))
	sum := sha256.Sum256(w.b.Bytes())
	return "sha256:" + hex.EncodeToString(sum[:])
}

type writer struct {
	b        bytes.Buffer
	evidence bool
	bare     bool // only what permits
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(&w.b, format, args...)
	w.b.WriteByte('\n')
}

// field is one line of an entry.
type field struct{ name, value string }

// entry writes an entry of a list; fields without a value are left out.
func (w *writer) entry(e profile.Evidence, fields ...field) {
	if w.evidence {
		if c := evidence(e); c != "" {
			w.line("  # %s", c)
		}
	}
	if e.Comment != "" && !w.bare {
		fields = append(fields, field{"comment", scalar(e.Comment)})
	}
	start := "  - "
	for _, f := range fields {
		if f.value != "" {
			w.line("%s%s: %s", start, f.name, f.value)
			start = "    "
		}
	}
}

func (w *writer) body(p *profile.Profile) {
	if len(p.Versions) > 0 && !w.bare {
		w.line("\nimages:")
		for _, v := range p.Versions {
			if w.evidence {
				w.line("  # %s", spell(v.First, v.Last))
			}
			w.line("  - digest: %s", scalar(v.Digest))
			if v.Reference != "" {
				w.line("    reference: %s", scalar(v.Reference))
			}
		}
	}
	w.section("executables", "programs that run", len(p.Executables))
	for _, x := range p.Executables {
		origin := string(x.Origin)
		if origin == "image" {
			origin = ""
		}
		w.entry(x.Evidence, field{"path", scalar(string(x.Path))}, field{"origin", origin}, field{"sha256", scalarIf(strings.TrimPrefix(x.Digest, "sha256:"))},
			field{"parents", list(parents(x.Parents))}, field{"users", numbers(x.Users)}, field{"scripts", list(x.Scripts)}, field{"loose", list(x.Loose)}, field{"loads", list(x.Loads)})
	}
	w.files("writes", "files and folders that are made, changed, renamed or deleted", p.Writes)
	w.files("reads", "sensitive files that are read", p.Reads)
	w.section("listens", "ports that are opened for others", len(p.Listens))
	for _, l := range p.Listens {
		w.entry(l.Evidence, field{"port", portText(l.Protocol, l.Port)})
	}
	w.peers("peers", "who is connected to", p.Peers)
	w.peers("callers", "whose connections are accepted, at the own port", p.Callers)
	w.section("names", "what the DNS is asked for", len(p.Names))
	for _, n := range p.Names {
		w.entry(n.Evidence, field{"name", scalar(n.Name)})
	}
	w.section("capabilities", "", len(p.Capabilities))
	for _, c := range p.Capabilities {
		w.entry(c.Evidence, field{"name", scalar(c.Name)})
	}
	w.section("privileges", "privileged calls", len(p.Privileges))
	for _, v := range p.Privileges {
		w.entry(v.Evidence, field{"kind", scalar(string(v.Kind))}, field{"detail", scalarIf(v.Detail)})
	}
	w.calls(p.Calls)
	w.limits(p.Limits)
}

func (w *writer) section(name, words string, n int) {
	if n == 0 {
		return
	}
	if words != "" && w.evidence {
		w.line("\n%s: # %s", name, words)
		return
	}
	w.line("\n%s:", name)
}

func (w *writer) files(name, words string, files []profile.File) {
	w.section(name, words, len(files))
	for _, f := range files {
		w.entry(f.Evidence, field{"path", scalar(string(f.Path))}, field{"programs", list(f.Programs)})
	}
}

func (w *writer) peers(name, words string, peers []profile.Peer) {
	w.section(name, words, len(peers))
	for _, p := range peers {
		network := ""
		if p.Network.IsValid() {
			network = p.Network.String()
			if p.Network.IsSingleIP() {
				network = p.Network.Addr().String()
			}
		}
		w.entry(p.Evidence, field{"group", scalarIf(string(p.Group))}, field{"name", scalarIf(p.Name)}, field{"network", scalarIf(network)},
			field{"kind", scalarIf(string(p.Kind))}, field{"port", portText(p.Protocol, p.Port)})
	}
}

// callsWidth is how long a line of system calls gets.
const callsWidth = 110

func (w *writer) calls(calls []profile.Call) {
	w.section("calls", "system calls", len(calls))
	row := "  ["
	for i, c := range calls {
		row += scalar(c.Name)
		if i == len(calls)-1 {
			w.line("%s]", row)
			return
		}
		if row += ","; len(row) > callsWidth {
			w.line("%s", row)
			row = "   "
			continue
		}
		row += " "
	}
}

func (w *writer) limits(l profile.Limits) {
	if l == (profile.Limits{}) || l == (profile.Limits{Source: l.Source}) {
		return
	}
	w.section("limits", "how much a container may take", 1)
	for _, f := range []struct {
		name  string
		value uint64
		bytes bool
	}{
		{"processes", l.Processes, false}, {"memory", l.Memory, true}, {"cpuMillis", l.CPU, false}, {"descriptors", l.Descriptors, false},
		{"writesPerSecond", l.WriteBytes, true}, {"connectionsPerSecond", l.NewConnections, false},
	} {
		switch {
		case f.value == 0:
		case f.bytes:
			w.line("  %s: %s", f.name, size(f.value))
		default:
			w.line("  %s: %d", f.name, f.value)
		}
	}
}

var units = []string{"B", "KiB", "MiB", "GiB", "TiB"}

// size writes bytes with the largest unit that loses nothing.
func size(n uint64) string {
	i := 0
	for i < len(units)-1 && n%1024 == 0 && n > 0 {
		n /= 1024
		i++
	}
	return strconv.FormatUint(n, 10) + " " + units[i]
}

func portText(protocol string, p profile.Ports) string {
	switch {
	case p.IsZero():
		return scalar(protocol)
	case p.First == p.Last:
		return scalar(fmt.Sprintf("%s/%d", protocol, p.First))
	}
	return scalar(fmt.Sprintf("%s/%d-%d", protocol, p.First, p.Last))
}

func parents(list []profile.Pattern) []profile.Pattern {
	out := slices.Clone(list)
	for i, p := range out {
		if p == "" {
			out[i] = engine
		}
	}
	return out
}

func list(patterns []profile.Pattern) string {
	if len(patterns) == 0 {
		return ""
	}
	var parts []string
	for _, p := range patterns {
		parts = append(parts, scalar(string(p)))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func numbers(n []uint32) string {
	if len(n) == 0 {
		return ""
	}
	var parts []string
	for _, u := range n {
		parts = append(parts, strconv.FormatUint(uint64(u), 10))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func scalarIf(s string) string {
	if s == "" {
		return ""
	}
	return scalar(s)
}

// scalar writes a text: as it is where YAML can't read anything else into it, or
// between quotes.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string always can be
		return strconv.Quote(s)
	}
	return escaped(strings.TrimSuffix(b.String(), "\n"))
}

// escaped writes what YAML doesn't take between quotes, or what would not be seen,
// as its number.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && !strconv.IsPrint(r) || r == 0xfeff {
			if r > 0xffff {
				fmt.Fprintf(&b, `\U%08x`, r)
			} else {
				fmt.Fprintf(&b, `\u%04x`, r)
			}
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plain(s string) bool {
	if s == "" || len(s) > 1 && s[0] == '/' && s[1] == '/' {
		return false
	}
	first := s[0]
	if first != '/' && !(first >= 'a' && first <= 'z' || first >= 'A' && first <= 'Z' || first >= '0' && first <= '9') {
		return false
	}
	digits := first >= '0' && first <= '9'
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		case c >= '0' && c <= '9', strings.IndexByte("/._-+@*=", c) >= 0:
		case c == ':' && i < len(s)-1 && !digits: // sha256:HEX, never a time or a number
		default:
			return false
		}
	}
	if digits {
		// Numbers, dates and times: what only looks like a text.
		return strings.ContainsAny(s, "/") || strings.Count(s, ".") == 3 && !strings.ContainsAny(s, "eExXoO_+-=@*")
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		return false
	}
	return true
}

// commented makes a text fit for a comment.
func commented(s string) string {
	if plain(s) {
		return s
	}
	return scalar(s)
}

// shownSample bounds a sample within a comment.
const shownSample = 100

// evidence says what an entry rests on.
func evidence(e profile.Evidence) string {
	var parts []string
	switch e.Source {
	case profile.Person:
		s := "by a person"
		if e.Actor != "" {
			s = "by " + commented(e.Actor)
		}
		parts = append(parts, s)
	case profile.Initial:
		parts = append(parts, "from the starting profile")
	}
	switch {
	case e.Count > 0:
		s := spell(e.First, e.Last) + ", "
		if e.Count == 1 {
			s += "once"
		} else {
			s += strconv.FormatUint(e.Count, 10) + " times"
		}
		if len(e.Hosts) == 1 {
			s += " on 1 host"
		} else if len(e.Hosts) == profile.MaxHosts {
			s += fmt.Sprintf(" on %d hosts or more", len(e.Hosts))
		} else if len(e.Hosts) > 1 {
			s += fmt.Sprintf(" on %d hosts", len(e.Hosts))
		}
		parts = append(parts, s)
	case e.Source != profile.Learned && e.Source != "":
		parts = append(parts, "not seen yet")
	}
	if e.Sample != "" && len(e.Sample) <= shownSample {
		parts = append(parts, "such as "+commented(e.Sample))
	}
	return strings.Join(parts, "; ")
}

// spell writes from when to when, by days.
func spell(first, last time.Time) string {
	a, b := first.UTC().Format(time.DateOnly), last.UTC().Format(time.DateOnly)
	if a == b {
		return a
	}
	return a + " to " + b
}
