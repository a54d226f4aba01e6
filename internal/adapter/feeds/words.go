package feeds

import "bytes"

// maxWords bounds how many words are remembered: a feed has some dozens of
// ecosystems, releases and kinds of reference.
const maxWords = 4096

// words keeps one copy of text that comes again in every document. The zero value
// is ready.
type words struct {
	known map[string]string
}

func (w *words) of(b []byte) string {
	if s, ok := w.known[string(b)]; ok { // does not allocate
		return s
	}
	s := string([]rune(string(b))) // valid UTF-8
	if len(s) > maxName {
		return s
	}
	if w.known == nil || len(w.known) >= maxWords {
		w.known = map[string]string{}
	}
	w.known[string(b)] = s
	return s
}

func (w *words) lower(b []byte) string {
	if bytes.ContainsFunc(b, func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
		return w.of(bytes.ToLower(b))
	}
	return w.of(b)
}
