package document

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/learn"
	"github.com/castellan-security/castellan/internal/written"
)

// Limits of a document: a profile with as much as rules can hold, and its evidence,
// is smaller.
const (
	MaxBytes   = 8 << 20
	maxDepth   = 6
	maxValues  = 200_000
	maxEntries = 10_000 // of one list
	maxWithin  = 500    // of a list within an entry
	maxText    = 1_000  // bytes of a name or a comment
)

// Document is a profile that was read.
type Document struct {
	// Profile has all entries as a person's: see Import.
	Profile *profile.Profile
	Name    string
	// Digest is what the text says is that of its entries; Edited says that it is
	// not: somebody changed it since it was written.
	Digest string
	Edited bool
}

// Read reads a profile; file is what it is called in problems. What is wrong with
// it is told as written.Problems.
func Read(b []byte, file string) (*Document, error) {
	r := &reader{Reader: written.Reader{File: file, Most: maxProblems}, d: &Document{Profile: &profile.Profile{}}}
	if len(b) > MaxBytes {
		r.WrongAt(written.Position{}, "", "%d bytes, and at most %d are read", len(b), MaxBytes)
	} else if n := r.Parse(b, written.Limits{Name: "profile", Depth: maxDepth, Values: maxValues}, "a profile is written by castellan watch profile"); n != nil {
		r.document(n)
	}
	if err := r.Err("profile"); err != nil {
		return nil, err
	}
	arrange(r.d.Profile)
	r.d.Edited = r.d.Digest != "" && r.d.Digest != Digest(r.d.Profile)
	return r.d, nil
}

// maxProblems is how many problems are told: more help nobody.
const maxProblems = 50

type reader struct {
	written.Reader
	d    *Document
	form string
}

// fields calls what is known for each key of a map.
func (r *reader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "write key: value", "%s is no map", what)
		return false
	}
	seen := map[string]bool{}
	good := true
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		do := known[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode || do == nil:
			var keys []string
			for name := range known {
				keys = append(keys, name)
			}
			slices.Sort(keys)
			r.Wrong(k, "there are "+strings.Join(keys, ", "), "%s has no %.80q", what, k.Value)
			good = false
		case seen[k.Value]:
			r.Wrong(k, "", "%s has %s twice", what, k.Value)
			good = false
		default:
			seen[k.Value] = true
			do(v)
		}
	}
	return good
}

func (r *reader) list(n *yaml.Node, what string, most int, each func(*yaml.Node)) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.Wrong(n, "begin each entry with -", "%s is no list", what)
		return
	}
	if len(n.Content) > most {
		r.Wrong(n, "write patterns for what belongs together", "%s has %d entries, at most %d are read", what, len(n.Content), most)
		return
	}
	for _, c := range n.Content {
		each(c)
	}
}

func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.Wrong(n, "", "%s is no text", what)
		return ""
	}
	if len(n.Value) > maxText && what != "path" && what != "script" && what != "program" && what != "parent" {
		r.Wrong(n, "", "%s is longer than %d bytes", what, maxText)
		return ""
	}
	return n.Value
}

func (r *reader) number(n *yaml.Node, what string, bits int) uint64 {
	v, err := strconv.ParseUint(n.Value, 10, bits)
	if n.Kind != yaml.ScalarNode || err != nil {
		r.Wrong(n, "", "%s is no number from 0 to %d", what, uint64(1)<<(bits-1)*2-1)
		return 0
	}
	return v
}

func (r *reader) document(n *yaml.Node) {
	p := r.d.Profile
	known := map[string]func(*yaml.Node){
		"profile":  func(n *yaml.Node) { r.form = r.text(n, "profile") },
		"name":     func(n *yaml.Node) { r.d.Name = r.text(n, "name") },
		"group":    func(n *yaml.Node) { p.Group = asset.Group(r.text(n, "group")) },
		"revision": func(n *yaml.Node) { p.Revision = int64(r.number(n, "revision", 63)) },
		"digest":   func(n *yaml.Node) { r.d.Digest = r.text(n, "digest") },
		"images":   func(n *yaml.Node) { r.list(n, "images", maxEntries, r.image) },
		"writes":   func(n *yaml.Node) { r.list(n, "writes", maxEntries, func(n *yaml.Node) { r.filed(n, &p.Writes) }) },
		"reads":    func(n *yaml.Node) { r.list(n, "reads", maxEntries, func(n *yaml.Node) { r.filed(n, &p.Reads) }) },
		"peers":    func(n *yaml.Node) { r.list(n, "peers", maxEntries, func(n *yaml.Node) { r.peer(n, &p.Peers) }) },
		"callers":  func(n *yaml.Node) { r.list(n, "callers", maxEntries, func(n *yaml.Node) { r.peer(n, &p.Callers) }) },
		"limits":   r.limits,
	}
	known["executables"] = func(n *yaml.Node) { r.list(n, "executables", maxEntries, r.executable) }
	known["listens"] = func(n *yaml.Node) { r.list(n, "listens", maxEntries, r.listen) }
	known["names"] = func(n *yaml.Node) { r.list(n, "names", maxEntries, r.name) }
	known["capabilities"] = func(n *yaml.Node) { r.list(n, "capabilities", maxEntries, r.capability) }
	known["privileges"] = func(n *yaml.Node) { r.list(n, "privileges", maxEntries, r.privilege) }
	known["calls"] = func(n *yaml.Node) {
		r.list(n, "calls", maxEntries, func(n *yaml.Node) {
			p.Calls = append(p.Calls, profile.Call{Name: r.text(n, "call"), Evidence: person})
		})
	}
	if r.fields(n, "the profile", known) && r.form != Form {
		r.Wrong(n, "profile: "+Form, "the profile's form is %.20q, and %s is the only one that there is", r.form, Form)
	}
}

// person is what an entry rests on that somebody wrote.
var person = profile.Evidence{Source: profile.Person}

func (r *reader) image(n *yaml.Node) {
	v := profile.Version{}
	r.fields(n, "an image", map[string]func(*yaml.Node){
		"digest":    func(n *yaml.Node) { v.Digest = r.text(n, "digest") },
		"reference": func(n *yaml.Node) { v.Reference = r.text(n, "reference") },
	})
	r.d.Profile.Versions = append(r.d.Profile.Versions, v)
}

// pattern reads a path or pattern.
func (r *reader) pattern(n *yaml.Node, what string) profile.Pattern {
	p := profile.Pattern(r.text(n, what))
	if p == "" {
		return ""
	}
	if err := p.Check(); err != nil {
		r.Wrong(n, "* stands for a name or a part of one, ** at the end for all below", "%s: %v", what, err)
	}
	return p
}

func (r *reader) patterns(n *yaml.Node, what string, to *[]profile.Pattern) {
	r.list(n, what+"s", maxWithin, func(n *yaml.Node) {
		if what == "parent" && n.Value == engine {
			*to = append(*to, "")
			return
		}
		*to = append(*to, r.pattern(n, what))
	})
	slices.Sort(*to)
	*to = slices.Compact(*to)
}

func (r *reader) executable(n *yaml.Node) {
	x := profile.Executable{Origin: event.OriginImage, Evidence: person}
	ok := r.fields(n, "an executable", map[string]func(*yaml.Node){
		"path": func(n *yaml.Node) { x.Path = r.pattern(n, "path") },
		"origin": func(n *yaml.Node) {
			x.Origin = event.Origin(r.text(n, "origin"))
			if !slices.Contains([]event.Origin{event.OriginImage, event.OriginWritten, event.OriginMount, event.OriginMemory}, x.Origin) {
				r.Wrong(n, "origin: image, written, mount or memory", "there is no origin %.40q", x.Origin)
			}
		},
		"sha256": func(n *yaml.Node) {
			x.Digest = "sha256:" + r.text(n, "sha256")
			if len(x.Digest) != len("sha256:")+64 || strings.Trim(x.Digest[7:], "0123456789abcdef") != "" {
				r.Wrong(n, "", "sha256 has no 64 hexadecimal digits")
			}
		},
		"parents": func(n *yaml.Node) { r.patterns(n, "parent", &x.Parents) },
		"users": func(n *yaml.Node) {
			r.list(n, "users", maxWithin, func(n *yaml.Node) { x.Users = append(x.Users, uint32(r.number(n, "user", 32))) })
		},
		"scripts": func(n *yaml.Node) { r.patterns(n, "script", &x.Scripts) },
		"loose":   func(n *yaml.Node) { r.patterns(n, "script", &x.Loose) },
		"loads":   func(n *yaml.Node) { r.patterns(n, "load", &x.Loads) },
		"comment": func(n *yaml.Node) { x.Comment = r.text(n, "comment") },
	})
	slices.Sort(x.Users)
	if ok && x.Path == "" {
		r.Wrong(n, "path: /usr/sbin/nginx", "an executable has no path")
	}
	if x.Origin != event.OriginImage && x.Path != "" && x.Path.Check() == nil && tooWide(x.Path) {
		r.Wrong(n, "name the folder that only this program's files are in", "%s would let anything that was written run", x.Path)
	}
	r.d.Profile.Executables = append(r.d.Profile.Executables, x)
}

// tooWide reports whether a pattern for programs that did not come with the image
// stands for whole trees of the root.
func tooWide(p profile.Pattern) bool {
	names := p.Names()
	return len(names) == 0 || strings.HasPrefix(names[0], "*") || len(names) == 2 && names[1] == "**"
}

func (r *reader) filed(n *yaml.Node, to *[]profile.File) {
	f := profile.File{Evidence: person}
	ok := r.fields(n, "a file", map[string]func(*yaml.Node){
		"path":     func(n *yaml.Node) { f.Path = r.pattern(n, "path") },
		"programs": func(n *yaml.Node) { r.patterns(n, "program", &f.Programs) },
		"comment":  func(n *yaml.Node) { f.Comment = r.text(n, "comment") },
	})
	if ok && f.Path == "" {
		r.Wrong(n, "path: /var/log/nginx/*.log", "a file has no path")
	}
	*to = append(*to, f)
}

// port reads "tcp/80", "udp/32768-65535" or "icmp".
func (r *reader) port(n *yaml.Node) (string, profile.Ports) {
	s := r.text(n, "port")
	protocol, rest, has := strings.Cut(s, "/")
	var p profile.Ports
	if has {
		first, last, many := strings.Cut(rest, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && many {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || a == 0 || b < a {
			r.Wrong(n, "port: tcp/80, or tcp/8000-8010", "%.40q is no port", s)
			return "", p
		}
		p = profile.Ports{First: uint16(a), Last: uint16(b)}
	}
	const longest = 16
	if protocol == "" || len(protocol) > longest || strings.Trim(protocol, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		r.Wrong(n, "port: tcp/80, udp/53 or icmp", "%.40q has no protocol", s)
	}
	return protocol, p
}

func (r *reader) listen(n *yaml.Node) {
	l, before := profile.Listen{Evidence: person}, len(r.Problems)
	ok := r.fields(n, "a listen", map[string]func(*yaml.Node){
		"port":    func(n *yaml.Node) { l.Protocol, l.Port = r.port(n) },
		"comment": func(n *yaml.Node) { l.Comment = r.text(n, "comment") },
	})
	if ok && l.Port.IsZero() && len(r.Problems) == before {
		r.Wrong(n, "port: tcp/80", "a listen has no port")
	}
	r.d.Profile.Listens = append(r.d.Profile.Listens, l)
}

func (r *reader) peer(n *yaml.Node, to *[]profile.Peer) {
	p, before := profile.Peer{Evidence: person}, len(r.Problems)
	ok := r.fields(n, "a peer", map[string]func(*yaml.Node){
		"group": func(n *yaml.Node) { p.Group = asset.Group(r.text(n, "group")) },
		"name":  func(n *yaml.Node) { p.Name = r.dns(n) },
		"network": func(n *yaml.Node) {
			s := r.text(n, "network")
			var err error
			if p.Network, err = netip.ParsePrefix(s); err != nil {
				var a netip.Addr
				if a, err = netip.ParseAddr(s); err == nil {
					p.Network = netip.PrefixFrom(a.WithZone(""), a.BitLen())
				}
			}
			if err != nil || p.Network != p.Network.Masked() {
				r.Wrong(n, "network: 10.0.1.0/24, or 10.0.1.7", "%.60q is no network", s)
			}
		},
		"kind": func(n *yaml.Node) {
			p.Kind = event.PeerKind(r.text(n, "kind"))
			if !slices.Contains([]event.PeerKind{event.PeerSelf, event.PeerHost, event.PeerService}, p.Kind) {
				r.Wrong(n, "kind: self, host or service", "there is no kind %.40q of peers", p.Kind)
			}
		},
		"port":    func(n *yaml.Node) { p.Protocol, p.Port = r.port(n) },
		"comment": func(n *yaml.Node) { p.Comment = r.text(n, "comment") },
	})
	set := 0
	for _, is := range []bool{p.Group != "", p.Name != "", p.Network.IsValid(), p.Kind != ""} {
		if is {
			set++
		}
	}
	switch {
	case !ok || len(r.Problems) > before:
	case set != 1:
		r.Wrong(n, "one of group, name, network and kind", "a peer has %d of group, name, network and kind", set)
	case p.Protocol == "":
		r.Wrong(n, "port: tcp/5432", "a peer has no port")
	}
	*to = append(*to, p)
}

func (r *reader) dns(n *yaml.Node) string {
	s := r.text(n, "name")
	rest := strings.TrimPrefix(s, "*.")
	if learn.DNSName(rest) != rest || rest == "" {
		r.Wrong(n, "name: db.example.com, or *.example.com for those below", "%.80q is no DNS name", s)
	}
	return s
}

func (r *reader) name(n *yaml.Node) {
	x := profile.Name{Evidence: person}
	ok := r.fields(n, "a name", map[string]func(*yaml.Node){
		"name":    func(n *yaml.Node) { x.Name = r.dns(n) },
		"comment": func(n *yaml.Node) { x.Comment = r.text(n, "comment") },
	})
	if ok && x.Name == "" {
		r.Wrong(n, "name: db.example.com", "an entry of names has no name")
	}
	r.d.Profile.Names = append(r.d.Profile.Names, x)
}

func (r *reader) capability(n *yaml.Node) {
	x, before := profile.Capability{Evidence: person}, len(r.Problems)
	r.fields(n, "a capability", map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) {
			x.Name = strings.TrimPrefix(r.text(n, "name"), "CAP_")
			if _, ok := event.CapabilityOf(x.Name); !ok {
				r.Wrong(n, "as capabilities(7) has them: NET_BIND_SERVICE", "%.40q is no capability", x.Name)
			}
		},
		"comment": func(n *yaml.Node) { x.Comment = r.text(n, "comment") },
	})
	if x.Name == "" && len(r.Problems) == before {
		r.Wrong(n, "name: NET_BIND_SERVICE", "a capability has no name")
	}
	r.d.Profile.Capabilities = append(r.d.Profile.Capabilities, x)
}

func (r *reader) privilege(n *yaml.Node) {
	x, before := profile.Privilege{Evidence: person}, len(r.Problems)
	r.fields(n, "a privilege", map[string]func(*yaml.Node){
		"kind": func(n *yaml.Node) {
			x.Kind = event.Kind(r.text(n, "kind"))
			if s := x.Kind.Sensor(); !slices.Contains(event.Kinds(), x.Kind) || s != "privilege" && s != "memory" && x.Kind != event.KindRaw {
				r.Wrong(n, "docs/events.md lists the kinds", "there is no kind %.40q of privileged calls", x.Kind)
			}
		},
		"detail":  func(n *yaml.Node) { x.Detail = r.text(n, "detail") },
		"comment": func(n *yaml.Node) { x.Comment = r.text(n, "comment") },
	})
	if x.Kind == "" && len(r.Problems) == before {
		r.Wrong(n, "kind: privilege.ptrace", "a privilege has no kind")
	}
	r.d.Profile.Privileges = append(r.d.Profile.Privileges, x)
}

func (r *reader) limits(n *yaml.Node) {
	l := &r.d.Profile.Limits
	count := func(name string, to *uint64) func(*yaml.Node) {
		return func(n *yaml.Node) { *to = r.number(n, name, 63) }
	}
	bytes := func(name string, to *uint64) func(*yaml.Node) {
		return func(n *yaml.Node) { *to = r.size(n, name) }
	}
	r.fields(n, "limits", map[string]func(*yaml.Node){
		"processes": count("processes", &l.Processes), "memory": bytes("memory", &l.Memory), "cpuMillis": count("cpuMillis", &l.CPU),
		"descriptors": count("descriptors", &l.Descriptors), "writesPerSecond": bytes("writesPerSecond", &l.WriteBytes),
		"connectionsPerSecond": count("connectionsPerSecond", &l.NewConnections),
	})
	if *l != (profile.Limits{}) {
		l.Source = profile.Person
	}
}

// size reads "512 MiB".
func (r *reader) size(n *yaml.Node, what string) uint64 {
	digits, unit, _ := strings.Cut(n.Value, " ")
	v, err := strconv.ParseUint(digits, 10, 64)
	i := slices.Index(units, cmp.Or(unit, "B"))
	if n.Kind != yaml.ScalarNode || err != nil || i < 0 || v > 1<<62>>(10*i) {
		r.Wrong(n, what+": 512 MiB", "%s is no size", what)
		return 0
	}
	return v << (10 * i)
}
