package policy

import (
	"fmt"
	"strings"
)

// maxPattern bounds one pattern in bytes; a repository's name is not longer.
const maxPattern = maxRepository

// Pattern is a set of repositories: a full name in which "*" stands for any
// letters within a part, and "**" for one or more whole parts. In the host, "*"
// does not go over a dot or a colon, so that "*.example.com" means one label.
//
// It is held as a small automaton over letters: matching takes time in proportion
// to name and pattern, whatever both are, and two patterns can be compared
// exactly.
type Pattern struct {
	Text string // as it was written
	Full string // as it is compared
	At   Position

	parts  []string
	edges  [][]edge // by state; 0 is the start
	final  int
	prefix string // what all that match begin with
	wild   bool
}

// edge is a step of the automaton.
type edge struct {
	on letters
	to int
}

// letters is a set of letters: one, or all but a few.
type letters struct {
	one  byte // 0: any that may be in a part
	host bool // neither a dot nor a colon
}

func (l letters) has(c byte) bool {
	if l.one != 0 {
		return l.one == c
	}
	return c != '/' && !(l.host && (c == '.' || c == ':'))
}

// ParsePattern compiles a pattern.
func ParsePattern(s string) (*Pattern, error) {
	if s == "" || len(s) > maxPattern {
		return nil, fmt.Errorf("a pattern has 1 to %d bytes, this one %d", maxPattern, len(s))
	}
	full, err := fullPattern(s)
	if err != nil {
		return nil, err
	}
	p := &Pattern{Text: s, Full: full, edges: make([][]edge, 1)}
	at := 0
	p.parts = strings.Split(full, "/")
	for i, part := range p.parts {
		if i > 0 {
			at = p.step(at, letters{one: '/'})
		}
		at = p.part(at, part, i == 0)
	}
	p.final = at
	p.prefix, _, p.wild = strings.Cut(full, "*")
	return p, nil
}

// fullPattern checks a pattern and returns it with its host.
func fullPattern(s string) (string, error) {
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if p != "**" && strings.Contains(p, "**") {
			return "", fmt.Errorf(`"%s": "**" stands for whole parts only: "%s/**" is all below %s, and "*" is any letters`, p, strings.ReplaceAll(p, "**", ""), strings.ReplaceAll(p, "**", ""))
		}
	}
	switch first := parts[0]; {
	case first == "**":
	case s == "*":
		return "", fmt.Errorf(`"*" could mean much: "**" is every image, "docker.io/library/*" are Docker Hub's own`)
	case strings.Contains(first, "*") && !strings.ContainsAny(first, ".:"):
		return "", fmt.Errorf(`"%s" may be a registry or an owner on Docker Hub: write "**/…" for any registry, or "docker.io/%s"`, first, s)
	case !strings.Contains(s, "*"):
		r, err := ParseRepository(s)
		return string(r), err
	default:
		if !isHost(first) {
			parts = append([]string{dockerHub}, parts...)
		}
		if len(parts) == 1 {
			return "", fmt.Errorf(`"%s" is a registry without a path: "%s/**" is all that is in it`, s, s)
		}
		host, err := cleanHost(strings.ReplaceAll(parts[0], "*", "1"))
		if err != nil {
			return "", err
		}
		if strings.Contains(parts[0], "*") { // well formed, as its stand-in was
			host = strings.TrimSuffix(strings.ToLower(parts[0]), ":443")
		}
		if parts[0] = host; host == dockerHub && len(parts) == 2 && parts[1] != "**" {
			return "", fmt.Errorf(`"%s" matches nothing: Docker Hub's own images are "%s/%s/…"`, s, dockerHub, dockerLibrary)
		}
	}
	for _, p := range parts[1:] {
		if p != "*" && p != "**" && !isComponent(strings.ReplaceAll(p, "*", "0")) {
			return "", fmt.Errorf(`"%s" can't be part of a path: lower-case letters, digits, and . _ - between them`, p)
		}
	}
	return strings.Join(parts, "/"), nil
}

func (p *Pattern) state() int {
	p.edges = append(p.edges, nil)
	return len(p.edges) - 1
}

func (p *Pattern) join(from int, on letters, to int) {
	p.edges[from] = append(p.edges[from], edge{on, to})
}

func (p *Pattern) step(from int, on letters) int {
	to := p.state()
	p.join(from, on, to)
	return to
}

// part adds one part of a name and returns the state after it.
func (p *Pattern) part(from int, part string, host bool) int {
	switch part {
	case "**":
		in := p.step(from, letters{})
		p.join(in, letters{}, in)
		p.join(p.step(in, letters{one: '/'}), letters{}, in)
		return in
	case "*":
		in := p.step(from, letters{host: host})
		p.join(in, letters{host: host}, in)
		return in
	}
	for i := 0; i < len(part); i++ {
		if part[i] == '*' {
			p.join(from, letters{host: host}, from)
			continue
		}
		from = p.step(from, letters{one: part[i]})
	}
	return from
}

// Matches reports whether a repository is one of those that are meant. What is in
// no registry is matched by "**" alone.
func (p *Pattern) Matches(r Repository) bool {
	name := string(r)
	switch {
	case name == "":
		return p.Full == "**"
	case !p.wild:
		return name == p.Full
	case !strings.HasPrefix(name, p.prefix):
		return false
	}
	now := []int{0}
	for i := 0; i < len(name) && len(now) > 0; i++ {
		now = p.next(now, name[i])
	}
	return contains(now, p.final)
}

// next returns the states after a letter, in order.
func (p *Pattern) next(now []int, c byte) []int {
	var to []int
	for _, s := range now {
		for _, e := range p.edges[s] {
			if e.on.has(c) && !contains(to, e.to) {
				to = append(to, e.to)
			}
		}
	}
	return sorted(to)
}

func contains(s []int, v int) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

// sorted orders a few states in place: two sets are alike if their lists are.
func sorted(s []int) []int {
	for i := 1; i < len(s); i++ {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return s
}
