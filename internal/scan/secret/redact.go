package secret

import (
	"maps"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
)

const (
	// redacted stands where a value was.
	redacted = "***"
	// leastShared is the length from which on a value is looked for in all texts: a
	// shorter one is part of too many words.
	leastShared = 4
)

// Redact returns an image as it may be shown and kept: every value that is found in
// a text of its configuration or its history is replaced in all of them. Where a
// value does not stand as it is, or a text is too long to be looked through, all of
// it is replaced but its name. i itself stays as it is; nil is nil.
func (e *Engine) Redact(i *inventory.Image) *inventory.Image {
	if i == nil {
		return nil
	}
	out := *i
	c := &out.Config
	c.Env, c.Entrypoint, c.Cmd, c.Healthcheck = slices.Clone(c.Env), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd), slices.Clone(c.Healthcheck)
	out.Layers, out.History = slices.Clone(out.Layers), slices.Clone(out.History)
	r := redaction{e: e, shared: map[string]bool{}}
	for n := range c.Env {
		name, _, named := strings.Cut(c.Env[n], "=")
		if !named {
			r.look(&c.Env[n], variablePart(c.Env[n]), 0)
			continue
		}
		r.look(&c.Env[n], variablePart(c.Env[n]), len(name)+1)
	}
	labels := labelsOf(c.Labels)
	for n := range labels {
		r.text(&labels[n].name)
		r.look(&labels[n].value, labelPart(labels[n].name, labels[n].value), 0)
	}
	for _, list := range [][]string{c.Entrypoint, c.Cmd, c.Healthcheck} {
		r.list(list)
	}
	for n := range out.History {
		s := &out.History[n]
		r.text(&s.Instruction)
		r.text(&s.Comment)
		r.text(&s.Author)
	}
	for n := range out.Layers {
		r.text(&out.Layers[n].Instruction)
	}
	r.replace()
	if c.Labels != nil {
		c.Labels = make(map[string]string, len(labels))
		for _, l := range labels {
			for _, taken := c.Labels[l.name]; taken; _, taken = c.Labels[l.name] {
				l.name += "'"
			}
			c.Labels[l.name] = l.value
		}
	}
	return &out
}

// label is a label, whose name may tell a secret, too.
type label struct{ name, value string }

func labelsOf(m map[string]string) []label {
	out := make([]label, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, label{name, m[name]})
	}
	return out
}

// redaction is what is known of an image's texts while they are looked through.
type redaction struct {
	e        *Engine
	passages []passage
	shared   map[string]bool // values to be replaced wherever they stand
}

// passage is one text, and which parts of it are to go.
type passage struct {
	text *string
	keep int // how much of it is a name
	all  bool
	gone []window
}

// text looks through a text that has no name; of a build step the first word is
// kept.
func (r *redaction) text(text *string) {
	keep := 0
	if word, _, ok := strings.Cut(*text, " "); ok && strings.ToUpper(word) == word && len(word) <= len("HEALTHCHECK") {
		keep = len(word) + 1
	}
	r.look(text, stepPart(*text, ""), keep)
}

// list looks through words as they are run: a value may be named by the word
// before.
func (r *redaction) list(words []string) {
	values, all := r.e.values(commandPart(words))
	for _, v := range values {
		all = all || !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, v.value) })
	}
	for n := range words {
		r.look(&words[n], part{text: words[n]}, 0)
		p := &r.passages[len(r.passages)-1]
		p.all = p.all || all
		for _, v := range values {
			p.find(v.value)
		}
	}
	r.share(values)
}

// find marks each place at which a value stands.
func (p *passage) find(value string) {
	for at := 0; ; {
		i := strings.Index((*p.text)[at:], value)
		if i < 0 || value == "" {
			return
		}
		p.gone = append(p.gone, window{at + i, at + i + len(value)})
		at += i + len(value)
	}
}

// look looks through a text as the part that it ends; its first keep bytes are its
// name.
func (r *redaction) look(text *string, of part, keep int) {
	lead := of.text[:len(of.text)-len(*text)]
	values, all := r.e.values(of)
	p := passage{text: text, keep: keep, all: all}
	for i := range values {
		v := &values[i]
		from := int(v.at) - len(lead)
		to := from + len(v.value)
		switch {
		case from < 0 || to > len(*text) || (*text)[from:to] != v.value:
			p.all = true
			continue
		case from == keep && keep+len(lead) > 0:
			// The value ends where its reader saw an end: a variable's is all of it.
			if lead != "" || (*text)[keep-1] == '=' {
				to = len(*text)
				v.value = (*text)[from:]
			}
		}
		p.gone = append(p.gone, window{from, to})
	}
	if p.all && len(*text)-keep <= maxText {
		r.add((*text)[keep:])
	}
	r.share(values)
	r.passages = append(r.passages, p)
}

func (r *redaction) share(values []found) {
	for i := range values {
		r.add(values[i].value)
	}
}

func (r *redaction) add(value string) {
	if len(value) >= leastShared && !isWordAlone(value) {
		r.shared[value] = true
	}
}

// isWordAlone says of a password that it is a word that texts have for other
// reasons: it goes where it is one, and "postgres" stays in the names of packages.
func isWordAlone(value string) bool {
	const longest = 12
	return len(value) <= longest && strings.IndexFunc(value, func(r rune) bool { return r > 0x7f || !isLetter(byte(r)) }) < 0
}

// replace replaces in all texts what was found in any.
func (r *redaction) replace() {
	var pairs, long []string
	for _, v := range slices.SortedFunc(maps.Keys(r.shared), func(a, b string) int { return len(b) - len(a) }) {
		const many = 4 << 10 // a longer one is sought by itself, so that no text makes it dear
		if len(v) > many {
			long = append(long, v)
			continue
		}
		pairs = append(pairs, v, redacted)
	}
	others := strings.NewReplacer(pairs...)
	for i := range r.passages {
		p := &r.passages[i]
		if p.all {
			*p.text = others.Replace((*p.text)[:min(p.keep, len(*p.text))]) + redacted
			continue
		}
		for _, v := range long {
			p.find(v)
		}
		*p.text = p.without(others)
	}
}

// without is the text without what is to go.
func (p *passage) without(others *strings.Replacer) string {
	slices.SortFunc(p.gone, func(a, b window) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for n := 0; n < len(p.gone); {
		w := p.gone[n]
		for n++; n < len(p.gone) && p.gone[n].from <= w.to; n++ {
			w.to = max(w.to, p.gone[n].to)
		}
		b.WriteString(others.Replace((*p.text)[at:w.from]))
		b.WriteString(redacted)
		at = w.to
	}
	b.WriteString(others.Replace((*p.text)[at:]))
	return b.String()
}

// values are all values that any rule finds in a text, and whether there may be
// more than it can tell.
func (e *Engine) values(p part) (values []found, more bool) {
	if len(p.text) > maxText || strings.IndexByte(p.text, 0) >= 0 { // such a text is no text to the rules
		return nil, true
	}
	s := e.begin(&p.file)
	defer s.end()
	s.buf, s.hi, s.done = []byte(p.text), len(p.text), true
	s.sift()
	if p.more != nil {
		p.more(s)
	}
	return slices.Clone(s.found), s.lost
}
