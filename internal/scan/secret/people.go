package secret

import (
	"bytes"
	"path"
	"strings"
)

// Programs have texts for people in them, and those have examples: what a name or
// its disorder alone would make a secret of is doubtful there. A token that a rule
// knows by its form is one in a comment, too.

// forPeople says that a place is within such a text.
func (s *sifting) forPeople(at int) bool {
	if classOf(s.f.Path) != code {
		return false
	}
	if inBlockComment(s.buf, at) {
		return true
	}
	if strings.ToLower(path.Ext(s.f.Path)) != ".py" || s.base > 0 {
		return false
	}
	if !s.described {
		s.described, s.docs = true, docstrings(s.buf)
	}
	for _, d := range s.docs {
		if at >= d.from && at < d.to {
			return true
		}
	}
	return false
}

// inBlockComment says that the line of a place begins as those of comments do that
// tools make documents of.
func inBlockComment(b []byte, at int) bool {
	const longest = 4 << 10
	head := b[max(0, at-longest):at]
	if i := bytes.LastIndexByte(head, '\n'); i >= 0 {
		head = head[i+1:]
	}
	head = bytes.TrimLeft(head, " \t")
	return bytes.HasPrefix(head, []byte("* ")) || bytes.HasPrefix(head, []byte("/** ")) || bytes.HasPrefix(head, []byte("/// "))
}

// docNames are how names of texts end that a program of Python has for people.
var docNames = []string{"DOCUMENTATION", "EXAMPLES", "EXAMPLE", "RETURN", "_DOC", "DOC", "USAGE", "HELP", "__doc__"}

// docstrings are the texts in triple quotes of a program of Python that stand by
// themselves or have a name that says that they are for people.
func docstrings(b []byte) (docs []window) {
	depth := 0 // of brackets: within them a text is an argument
	line := 0  // where the statement's line began
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '\n':
			line = i + 1
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth = max(0, depth-1)
		case '#':
			for i+1 < len(b) && b[i+1] != '\n' {
				i++
			}
		case '"', '\'':
			triple := []byte{c, c, c}
			if !bytes.HasPrefix(b[i:], triple) {
				for i++; i < len(b) && b[i] != c && b[i] != '\n'; i++ {
					if b[i] == '\\' {
						i++
					}
				}
				if i < len(b) && b[i] == '\n' {
					line = i + 1
				}
				continue
			}
			from := i + len(triple)
			n := bytes.Index(b[from:], triple)
			if n < 0 {
				n = len(b) - from
			}
			if depth == 0 && isDoc(b[line:i]) {
				docs = append(docs, window{from, from + n})
			}
			i = from + n + len(triple) - 1
		}
	}
	return docs
}

// isDoc says by what stands before a text in its line that the text is for people.
func isDoc(before []byte) bool {
	before = bytes.TrimSpace(bytes.TrimRight(before, "rRuUbBfF"))
	name, ok := bytes.CutSuffix(before, []byte("="))
	if !ok {
		return len(before) == 0
	}
	name = bytes.TrimSpace(name)
	for _, end := range docNames {
		if bytes.HasSuffix(name, []byte(end)) {
			return true
		}
	}
	return false
}

// isPiece says of what stands between quotes in a program that it is what stands
// between two texts: `"password='" + word + "'"`.
func isPiece(value string) bool {
	const (
		begins = ").,;+&|?:}]"
		within = "(){}$=;,+"
		enough = 3 // of such signs; a drawn password has fewer
	)
	v := value
	if v != "" && (v[0] == '"' || v[0] == '\'') {
		v = strings.TrimLeft(v[1:], " ")
	}
	if v == "" || strings.IndexByte(begins, v[0]) < 0 {
		return false
	}
	n := 0
	for i := range len(v) {
		if strings.IndexByte(within, v[i]) >= 0 {
			n++
		}
	}
	return n >= enough || v[0] == '.' && v[len(v)-1] == '.'
}
