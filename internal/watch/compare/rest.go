package compare

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
	"github.com/castellan-security/castellan/internal/watch/widen"
)

func (x *Index) file(e *event.Event) *outside {
	f := e.File
	if f.PathTruncated {
		return nil
	}
	if e.Kind == event.KindFileRead {
		return x.path(e, x.reads, f.Path, func(p profile.File) *profile.Profile { return &profile.Profile{Reads: []profile.File{p}} })
	}
	writes := func(p profile.File) *profile.Profile { return &profile.Profile{Writes: []profile.File{p}} }
	if e.Kind == event.KindFileRename || e.Kind == event.KindFileLink {
		if o := x.path(e, x.writes, f.To, writes); o != nil || learn.IsSymbolic(e) {
			return o
		}
	}
	if e.Kind == event.KindFileDelete && ofSocket(f.Path) {
		return nil
	}
	return x.path(e, x.writes, f.Path, writes)
}

// ofSocket reports whether a name is one by which programs call sockets: no sensor tells
// what it was that lost its name. Who binds one takes away what a former process left,
// which there was nothing of while it was learned, and guards hold neither.
func ofSocket(file string) bool {
	name := path.Base(file)
	return strings.HasSuffix(name, ".sock") || strings.HasSuffix(name, ".socket") || name == "socket" || strings.HasPrefix(name, ".s.PGSQL.")
}

func (x *Index) path(e *event.Event, known *patterns, file string, permit func(profile.File) *profile.Profile) *outside {
	if !strings.HasPrefix(file, "/") || known.has(file) || e.File.Claimed && known.has(byUsualLinks(file)) {
		return nil
	}
	shape := learn.FilePattern(file)
	o := &outside{control: profile.ControlFile, subject: file, alike: shape, did: deed(e)}
	list, change, none := x.p.Writes, "change", "change nothing"
	if e.Kind == event.KindFileRead {
		list, change, none = x.p.Reads, "read of sensitive files", "read no sensitive files"
	}
	if near := nearest(list, file); len(near) > 0 {
		o.instead = fmt.Sprintf("the profile allows the group to %s %s", change, some(near))
	} else {
		o.instead = "the profile allows the group to " + none
		if len(list) > 0 {
			o.instead += " there"
		}
	}
	if p := profile.Pattern(shape); p.Check() == nil {
		entry := profile.File{Path: p, Evidence: person}
		if prog := profile.Pattern(e.Process.Executable); prog.Check() == nil {
			entry.Programs = []profile.Pattern{prog}
		}
		o.permit = permit(entry)
		if e.Kind != event.KindFileRead {
			o.folder = folderOf(known.depth(shape), p.Names())
		}
	}
	return o
}

// folderOf returns the folder of which a file that lies outside is told together with
// others: the first of its folders that the profile has nothing of, or the one that it is
// in. known is of how many of its names the profile has something. "" where every name
// counts.
func folderOf(known int, names []string) string {
	for n := min(known+1, len(names)-1); n < len(names); n++ {
		folder, p := "/"+strings.Join(names[:n], "/"), widen.At(names[:n])
		if p.Temporary && !widen.Temporary(folder) && n < len(names)-1 {
			continue // everybody's
		}
		if p.Total > 0 || p.Whole || p.Tree {
			return folder
		}
	}
	return ""
}

// usualLinks are symbolic links that nearly every image has, and where they lead (Linux
// Filesystem Hierarchy Standard 3.0, 5.13; merged /usr).
var usualLinks = []struct{ from, to string }{
	{"/var/run/", "/run/"}, {"/var/lock/", "/run/lock/"}, {"/bin/", "/usr/bin/"}, {"/sbin/", "/usr/sbin/"}, {"/lib/", "/usr/lib/"},
}

// byUsualLinks follows them in a path of which the kernel could not be asked where it
// leads: a container that ends is gone before its last deletions are looked at, such as
// that of /var/run/nginx.pid.
func byUsualLinks(file string) string {
	for _, l := range usualLinks {
		if rest, ok := strings.CutPrefix(file, l.from); ok {
			return l.to + rest
		}
	}
	return file
}

// deed says what was done, not how often, and not why it failed.
func deed(e *event.Event) string {
	once := *e
	once.Count = 0
	s := once.Words()
	if failed := e.Failed(); failed != "" {
		s = strings.TrimSuffix(s, ": "+failed)
	}
	return s
}

// nearest returns the entries in the folder of a file, or in one above it.
func nearest(list []profile.File, file string) []profile.Pattern {
	folder := file
	for {
		i := strings.LastIndexByte(folder, '/')
		if i <= 0 {
			return nil
		}
		folder = folder[:i]
		var out []profile.Pattern
		for _, f := range list {
			if strings.HasPrefix(string(f.Path), folder+"/") {
				out = append(out, f.Path)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
}

func (x *Index) connection(e *event.Event) *outside {
	c := e.Connection
	switch e.Kind {
	case event.KindListen:
		return x.listen(e)
	case event.KindConnect:
		return x.peer(e, &x.peers, x.p.Peers, false)
	case event.KindAccept:
		return x.peer(e, &x.callers, x.p.Callers, true)
	case event.KindRaw:
		o := x.call(e, c.Protocol)
		if o != nil {
			o.control, o.unheld = profile.ControlNetwork, false // each family is held by itself
		}
		return o
	}
	return nil
}

func (x *Index) listen(e *event.Event) *outside {
	c := e.Connection
	port := c.Local.Port()
	if port == 0 || slices.ContainsFunc(x.listens[c.Protocol], func(p profile.Ports) bool { return p.Has(port) }) {
		return nil
	}
	subject := fmt.Sprintf("%s port %d", c.Protocol, port)
	o := &outside{control: profile.ControlNetwork, subject: subject, alike: subject, did: "opened " + subject + " for others",
		permit: &profile.Profile{Listens: []profile.Listen{{Protocol: c.Protocol, Port: profile.Ports{First: port, Last: port}, Evidence: person}}}}
	var parts []string
	for _, l := range x.p.Listens {
		parts = append(parts, l.Protocol+" "+portWords(l.Port))
	}
	o.instead = "the profile opens no port"
	if n := min(len(parts), shown); n > 0 {
		o.instead = "the profile opens " + and(parts[:n], len(parts)-n)
	}
	return o
}

func portWords(p profile.Ports) string {
	if p.First == p.Last {
		return fmt.Sprintf("port %d", p.First)
	}
	return fmt.Sprintf("ports %d to %d", p.First, p.Last)
}

// peer holds a connection against those that are known, by every name that the
// other end has: its group, its DNS name, its address.
func (x *Index) peer(e *event.Event, known *ends, list []profile.Peer, incoming bool) *outside {
	c := e.Connection
	p, ok := learn.PeerOf(c, incoming)
	if !ok {
		return nil
	}
	at := c.Remote.Port()
	if incoming {
		at = c.Local.Port()
	}
	addr, name := c.Remote.Addr().Unmap().WithZone(""), ""
	if !incoming {
		name = learn.DNSName(c.Name)
	}
	if known.has(learn.End(p), name, addr, p.Protocol, p.Port.First) || at != p.Port.First && known.has("", name, addr, p.Protocol, at) {
		return nil
	}
	p.Evidence = person
	o := &outside{control: profile.ControlNetwork, unheld: incoming, subject: fmt.Sprintf("%s %s", endWords(p), portOf(p)), alike: learn.PeerKey(p)}
	o.permit = &profile.Profile{Peers: []profile.Peer{p}}
	o.did = fmt.Sprintf("connected to %s", o.subject)
	verb := "connections to"
	if incoming {
		o.permit = &profile.Profile{Callers: []profile.Peer{p}}
		o.did, verb = fmt.Sprintf("accepted a connection from %s at %s", endWords(p), portOf(p)), "connections from"
	}
	var parts []string
	for _, q := range list {
		if w := endWords(q) + " " + portOf(q); !slices.Contains(parts, w) {
			parts = append(parts, w)
		}
	}
	o.instead = "the profile allows no " + verb + " others"
	if n := min(len(parts), shown); n > 0 {
		o.instead = "the profile allows " + verb + " " + and(parts[:n], len(parts)-n)
	}
	return o
}

func portOf(p profile.Peer) string {
	if p.Port.IsZero() {
		return "by " + p.Protocol
	}
	return p.Protocol + " " + portWords(p.Port)
}

func endWords(p profile.Peer) string {
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
	case p.Kind == event.PeerHost:
		return "a host of the fleet"
	}
	return string(p.Kind)
}

func (x *Index) dns(e *event.Event) *outside {
	if e.Kind != event.KindQuery {
		return nil
	}
	name := learn.DNSName(e.DNS.Name)
	if name == "" || x.names.has(name) {
		return nil
	}
	o := &outside{control: profile.ControlNetwork, subject: name, alike: domainOf(name), did: "asked the DNS for " + name, unheld: true,
		permit: &profile.Profile{Names: []profile.Name{{Name: name, Evidence: person}}}}
	var parts []string
	for _, n := range x.p.Names {
		parts = append(parts, n.Name)
	}
	o.instead = "the profile has no names"
	if n := min(len(parts), shown); n > 0 {
		o.instead = "the profile has " + and(parts[:n], len(parts)-n)
	}
	return o
}

// domainOf is a name with what looks made by chance replaced: the thousand names of
// a tunnel are one violation.
func domainOf(name string) string {
	labels := strings.Split(name, ".")
	for i, l := range labels {
		labels[i] = widen.Shape(l, true)
	}
	return strings.Join(labels, ".")
}

func (x *Index) privilege(e *event.Event) *outside {
	if e.Kind != event.KindCapability {
		return x.call(e, learn.Detail(e))
	}
	more := e.Privilege.Gained &^ x.capabilities
	if more == 0 {
		return nil
	}
	o := &outside{control: profile.ControlPrivilege, subject: strings.Join(more.Names(), ", ")}
	o.alike, o.did, o.permit = o.subject, "gained the capabilities "+o.subject, &profile.Profile{}
	if slices.Contains(e.Privilege.Flags, event.CapabilityUsed) {
		o.did = "used the capability " + o.subject
	}
	for _, n := range more.Names() {
		o.permit.Capabilities = append(o.permit.Capabilities, profile.Capability{Name: n, Evidence: person})
	}
	o.instead = "the profile has no capabilities"
	if x.capabilities != 0 {
		o.instead = "the profile has " + strings.Join(x.capabilities.Names(), ", ")
	}
	return o
}

// call holds a privileged call against the profile.
func (x *Index) call(e *event.Event, detail string) *outside {
	have, known := x.privileges[e.Kind]
	if known && slices.ContainsFunc(have, func(d string) bool { return d == "" || d == detail }) {
		return nil
	}
	o := &outside{control: controlOf(e.Kind), subject: deed(e), alike: detail, did: deed(e), unheld: known,
		permit: &profile.Profile{Privileges: []profile.Privilege{{Kind: e.Kind, Detail: detail, Evidence: person}}}}
	switch {
	case known:
		o.instead = "the profile allows that for " + strings.Join(have[:min(len(have), shown)], ", ") + " alone"
	case len(x.privileges) == 0:
		o.instead = "the profile has no privileged calls"
	default:
		o.instead = "the profile does not have this call"
	}
	return o
}
