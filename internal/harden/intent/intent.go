// Package intent is what a profile asks of any output, before it is said in the
// output's own language: whether it can be said at all, names, needed
// capabilities, what was learned, and the notes on what an output can't say.
//
// It is not for the languages: each has a package beside this one.
package intent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Effect says in which way an output is not the profile.
type Effect string

// The effects. The zero value is not one.
const (
	Wider    Effect = "wider"    // it permits more than the profile
	Narrower Effect = "narrower" // it refuses something that the profile has
	Advice   Effect = "advice"   // something that a person must do or know
)

// Note is one thing that an output can't say, or says in another way.
type Note struct {
	Effect  Effect          `json:"effect"`
	Control profile.Control `json:"control,omitempty"`
	// About is the entry of the profile, or the part of it, that the note is about.
	About string `json:"about,omitempty"`
	Text  string `json:"text"`
}

// maxEntries bounds each list of a profile that is translated.
const maxEntries = profile.MaxPatterns

// maxName bounds names of programs' calls and capabilities.
const maxName = 64

var (
	callName       = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
	capabilityName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
)

// Check returns an error of kind Invalid if something in the profile is not what
// profiles have, so that translators need not doubt it.
func Check(p *profile.Profile) error {
	if p.Group == "" {
		return invalid("the profile is of no group")
	}
	if n := max(len(p.Executables), len(p.Writes), len(p.Reads), len(p.Listens), len(p.Peers), len(p.Callers), len(p.Names), len(p.Calls), len(p.Privileges), len(p.Capabilities)); n > maxEntries {
		return invalid("a list of the profile has %d entries, want at most %d", n, maxEntries)
	}
	for _, part := range []func(*profile.Profile) error{checkPaths, checkNetwork, checkNames} {
		if err := part(p); err != nil {
			return err
		}
	}
	return nil
}

func checkPaths(p *profile.Profile) error {
	var all []profile.Pattern
	for _, e := range p.Executables {
		all = append(append(append(all, e.Path), e.Parents...), e.Scripts...)
	}
	for _, f := range append(slices.Clone(p.Writes), p.Reads...) {
		all = append(append(all, f.Path), f.Programs...)
	}
	for _, path := range all {
		if path == "" { // of a parent: the engine
			continue
		}
		if err := path.Check(); err != nil {
			return invalid("the profile has a path that is none: %w", err)
		}
	}
	for _, e := range p.Executables {
		if e.Path == "" {
			return invalid("the profile has a program without a path")
		}
	}
	for _, f := range append(slices.Clone(p.Writes), p.Reads...) {
		if f.Path == "" {
			return invalid("the profile has a file without a path")
		}
	}
	return nil
}

func checkNetwork(p *profile.Profile) error {
	for _, l := range p.Listens {
		if !slices.Contains([]string{"tcp", "udp"}, l.Protocol) || l.Port.First > l.Port.Last {
			return invalid("the profile listens at port %d to %d of protocol %q, want tcp or udp", l.Port.First, l.Port.Last, l.Protocol)
		}
	}
	for _, peer := range append(slices.Clone(p.Peers), p.Callers...) {
		if !slices.Contains([]string{"tcp", "udp", "icmp"}, peer.Protocol) || peer.Port.First > peer.Port.Last {
			return invalid("the profile has a peer at port %d to %d of protocol %q, want tcp, udp or icmp", peer.Port.First, peer.Port.Last, peer.Protocol)
		}
	}
	return nil
}

func checkNames(p *profile.Profile) error {
	for _, c := range p.Calls {
		if len(c.Name) > maxName || !callName.MatchString(c.Name) {
			return invalid("the profile has the system call %q, which is no name of one", c.Name)
		}
	}
	for _, c := range p.Capabilities {
		if len(c.Name) > maxName || !capabilityName.MatchString(c.Name) || strings.HasPrefix(c.Name, "CAP_") {
			return invalid("the profile has the capability %q, want one as NET_BIND_SERVICE, without CAP_", c.Name)
		}
	}
	for _, k := range p.Privileges {
		if !slices.Contains(event.Kinds(), k.Kind) {
			return invalid("the profile has the privileged call %q, which is no kind of event", k.Kind)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).With("correct the profile; castellan watch profile shows the one that the server has")
}

// Name returns what an output is called: castellan-, then the group, with between
// in place of its slashes; castellan_ if that is between. A group with letters that names can't have, or in
// which between could be either, has a number at its end that is its own.
func Name(g asset.Group, between byte) string {
	const longest, digits = 120, 8
	plain := true
	name := []byte("castellan-")
	if between == '_' {
		name = []byte("castellan_")
	}
	for i, part := range strings.Split(string(g), "/") {
		if i > 0 {
			name = append(name, between)
		}
		for i := range len(part) {
			c := part[i]
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			case (c == '_' || c == '.') && c != between && between != '_':
			default:
				c, plain = '_', false
			}
			name = append(name, c)
		}
	}
	if plain && len(name) <= longest {
		return string(name)
	}
	sum := sha256.Sum256([]byte(g))
	return string(name[:min(len(name), longest)]) + string(between) + hex.EncodeToString(sum[:digits/2])
}

// Has reports whether one of the kinds was learned.
func Has(p *profile.Profile, kinds ...event.Kind) bool {
	return slices.ContainsFunc(p.Privileges, func(x profile.Privilege) bool { return slices.Contains(kinds, x.Kind) })
}

// Origin says in words what an entry rests on, in one line without anything that
// could end it: for comments.
func Origin(e profile.Evidence) string {
	var s []string
	switch e.Source {
	case profile.Person:
		s = append(s, "permitted by "+orSomebody(e.Actor))
		if e.Comment != "" {
			s = append(s, `"`+e.Comment+`"`)
		}
	case profile.Initial:
		s = append(s, "of the starting profile")
	default:
		s = append(s, "learned")
	}
	if e.Count > 0 {
		s = append(s, fmt.Sprintf("seen %d times", e.Count))
	}
	if !e.Last.IsZero() {
		s = append(s, "last on "+e.Last.UTC().Format("2006-01-02"))
	}
	if e.Sample != "" {
		s = append(s, "as "+e.Sample)
	}
	return Line(strings.Join(s, ", "))
}

func orSomebody(s string) string {
	if s == "" {
		return "somebody"
	}
	return s
}

// Line returns s as what fits into a comment of one line.
func Line(s string) string {
	const longest = 200
	return untrusted.Clip(untrusted.Text(s), longest)
}

// scratch are folders for what programs leave: images bring no code in them.
var scratch = []profile.Pattern{
	"/tmp/**", "/var/tmp/**", "/run/**", "/var/run/**", "/dev/shm/**", "/dev/**", "/proc/**",
	"/var/log/**", "/var/cache/**", "/var/spool/**", "/var/lock/**",
}

// Scratch reports whether all that the pattern stands for lies in folders in
// which images bring no code.
func Scratch(p profile.Pattern) bool {
	return slices.ContainsFunc(scratch, func(s profile.Pattern) bool { return s.Covers(p) || s == p+"/**" })
}

// Folder is the lowest folder without a "*" in its path that holds all that the
// pattern stands for.
func Folder(p profile.Pattern) profile.Pattern {
	folder := "/"
	names := p.Names()
	for i, n := range names {
		if i == len(names)-1 || strings.Contains(n, "*") {
			break
		}
		folder = path.Join(folder, n)
	}
	return profile.Pattern(folder)
}

// Overlap reports whether there is a path that both stand for.
func Overlap(a, b profile.Pattern) bool {
	// Nearly all pairs differ before their first "*": a profile has millions of pairs.
	if n := min(literal(a), literal(b)); a[:n] != b[:n] {
		return false
	}
	an, bn := a.Names(), b.Names()
	for i := range max(len(an), len(bn)) {
		switch {
		case i < len(an) && an[i] == "**":
			return len(bn) > i
		case i < len(bn) && bn[i] == "**":
			return len(an) > i
		case i >= len(an) || i >= len(bn) || !overlapName(an[i], bn[i]):
			return false
		}
	}
	return true
}

// literal is how far a pattern stands for itself.
func literal(p profile.Pattern) int {
	if i := strings.IndexByte(string(p), '*'); i >= 0 {
		return i
	}
	return len(p)
}

func overlapName(a, b string) bool {
	aBefore, aAfter, aAny := strings.Cut(a, "*")
	bBefore, bAfter, bAny := strings.Cut(b, "*")
	switch {
	case !aAny && !bAny:
		return a == b
	case !aAny:
		return profile.Pattern("/" + b).Match("/" + a)
	case !bAny:
		return profile.Pattern("/" + a).Match("/" + b)
	}
	return (strings.HasPrefix(aBefore, bBefore) || strings.HasPrefix(bBefore, aBefore)) &&
		(strings.HasSuffix(aAfter, bAfter) || strings.HasSuffix(bAfter, aAfter))
}
