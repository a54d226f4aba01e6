package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
)

// Change is one difference between two profiles.
type Change struct {
	What     string          `json:"what"` // executables, writes, …, as the text has them
	Control  profile.Control `json:"control,omitempty"`
	Added    bool            `json:"added"`    // what it is about is permitted now; else it is no more
	Subject  string          `json:"subject"`  // a path, a peer, a name, …
	Sentence string          `json:"sentence"` // "runs /bin/sh, started by nginx"
}

// Diff says in plain words what after permits that before does not, and the other
// way round; what is added first.
func Diff(before, after *profile.Profile) []Change {
	a, b := statements(before), statements(after)
	var out []Change
	for _, pair := range []struct {
		from, against []statement
		added         bool
	}{{b, a, true}, {a, b, false}} {
		have := map[string]bool{}
		for _, s := range pair.against {
			have[s.key()] = true
		}
		for _, s := range pair.from {
			if !have[s.key()] {
				s.Added = pair.added
				out = append(out, s.Change)
			}
		}
	}
	return out
}

// Changes says what one version of the image does that earlier ones did not, and
// what only earlier ones did. p has learned from it; version is its digest.
func Changes(p *profile.Profile, version string) []Change {
	i := slices.IndexFunc(p.Versions, func(v profile.Version) bool { return v.Digest == version })
	if i < 0 {
		return nil
	}
	older := map[string]bool{}
	for _, v := range p.Versions[:i] {
		older[v.Digest] = true
	}
	var added, dropped []Change
	for _, s := range statements(p) {
		switch {
		case s.evidence.Source != profile.Learned:
		case s.evidence.Version == version && i > 0:
			s.Added = true
			added = append(added, s.Change)
		case older[s.evidence.Latest]:
			dropped = append(dropped, s.Change)
		}
	}
	return append(added, dropped...)
}

type statement struct {
	Change
	detail   string
	evidence *profile.Evidence
}

func (s statement) key() string { return s.What + "\x00" + s.Subject + "\x00" + s.detail }

// statements lists what a profile permits, each in words.
func statements(p *profile.Profile) []statement {
	var out []statement
	add := func(what string, c profile.Control, e *profile.Evidence, detail, subject, format string, args ...any) {
		out = append(out, statement{Change{What: what, Control: c, Subject: subject, Sentence: fmt.Sprintf(format, args...)}, detail, e})
	}
	for i := range p.Executables {
		executable(&p.Executables[i], add)
	}
	for i := range p.Writes {
		f := &p.Writes[i]
		add("writes", profile.ControlFile, &f.Evidence, "", string(f.Path), "writes %s", f.Path)
	}
	for i := range p.Reads {
		f := &p.Reads[i]
		add("reads", profile.ControlFile, &f.Evidence, "", string(f.Path), "reads %s", f.Path)
	}
	for i := range p.Listens {
		l := &p.Listens[i]
		add("listens", profile.ControlNetwork, &l.Evidence, "", portText(l.Protocol, l.Port), "opens %s for others", portText(l.Protocol, l.Port))
	}
	for i := range p.Peers {
		q := &p.Peers[i]
		add("peers", profile.ControlNetwork, &q.Evidence, "", end(q)+" "+portText(q.Protocol, q.Port), "connects to %s at %s", end(q), portText(q.Protocol, q.Port))
	}
	for i := range p.Callers {
		q := &p.Callers[i]
		add("callers", profile.ControlNetwork, &q.Evidence, "", end(q)+" "+portText(q.Protocol, q.Port), "is connected to by %s at %s", end(q), portText(q.Protocol, q.Port))
	}
	for i := range p.Names {
		n := &p.Names[i]
		add("names", profile.ControlNetwork, &n.Evidence, "", n.Name, "asks the DNS for %s", n.Name)
	}
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		add("capabilities", profile.ControlPrivilege, &c.Evidence, "", c.Name, "has the capability %s", c.Name)
	}
	for i := range p.Privileges {
		v := &p.Privileges[i]
		what := string(v.Kind)
		if v.Detail != "" {
			what += " (" + v.Detail + ")"
		}
		add("privileges", profile.ControlPrivilege, &v.Evidence, "", what, "makes the privileged call %s", what)
	}
	for i := range p.Calls {
		c := &p.Calls[i]
		add("calls", profile.ControlPrivilege, &c.Evidence, "", c.Name, "makes the system call %s", c.Name)
	}
	return out
}

type adder func(what string, c profile.Control, e *profile.Evidence, detail, subject, format string, args ...any)

// executable says what is permitted about a program: that it runs, whose child it
// is, as whom, and what it runs.
func executable(x *profile.Executable, add adder) {
	add("executables", profile.ControlExec, &x.Evidence, string(x.Origin), string(x.Path), "runs %s%s", x.Path, originWords(x.Origin))
	if x.Digest != "" {
		add("executables", profile.ControlExec, &x.Evidence, "digest "+x.Digest, string(x.Path), "runs %s with the content %s", x.Path, short(x.Digest))
	}
	for _, p := range x.Parents {
		who := cmp.Or(string(p), "the engine")
		add("executables", profile.ControlExec, &x.Evidence, "parent "+string(p), string(x.Path), "runs %s, started by %s", x.Path, who)
	}
	for _, u := range x.Users {
		add("executables", profile.ControlExec, &x.Evidence, fmt.Sprint("user ", u), string(x.Path), "runs %s as user %d", x.Path, u)
	}
	for _, s := range x.Scripts {
		add("executables", profile.ControlExec, &x.Evidence, "script "+string(s), string(x.Path), "runs the script %s by %s", s, x.Path)
	}
	for _, s := range x.Loose {
		add("executables", profile.ControlExec, &x.Evidence, "loose "+string(s), string(x.Path), "runs the script %s by %s, which did not come with the image", s, x.Path)
	}
	for _, s := range x.Loads {
		add("executables", profile.ControlExec, &x.Evidence, "load "+string(s), string(x.Path), "has %s load code from %s", x.Path, s)
	}
}

func originWords(o event.Origin) string {
	switch o {
	case event.OriginWritten:
		return ", which was written and did not come with the image"
	case event.OriginMount:
		return ", which lies on a volume and did not come with the image"
	case event.OriginMemory:
		return ", which is in memory alone"
	}
	return ""
}

func end(p *profile.Peer) string {
	switch {
	case p.Group != "":
		return string(p.Group)
	case p.Name != "":
		return p.Name
	case p.Network.IsSingleIP():
		return p.Network.Addr().String()
	case p.Network.IsValid():
		return p.Network.String()
	case p.Kind == event.PeerSelf:
		return "itself"
	}
	return string(p.Kind)
}

func short(digest string) string {
	const hex = 12
	d := strings.TrimPrefix(digest, "sha256:")
	return "sha256:" + d[:min(len(d), hex)]
}
