package secret

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

const (
	// leastEncoded is the shortest run that is decoded: shorter ones hold no name
	// with a value.
	leastEncoded = 32
	// maxEncoded bounds what is decoded of one run: user data has at most 16 KB.
	maxEncoded = overlap
	// maxDepth is how often what was decoded is decoded again.
	maxDepth = 2
)

// encoded looks through what is written in base64: user data of machines, fields
// of Kubernetes, whole documents within others. Every run of thirty-two bytes has
// one at a multiple of that, so that few bytes are looked at.
func (s *sifting) encoded() {
	if s.binary == binaryKind || s.depth >= maxDepth || !s.e.own {
		return
	}
	last := s.lo // where the run before ended
	for i := s.lo + leastEncoded - 1; i < s.hi; {
		if !isEncoded(s.buf[i]) {
			i += leastEncoded
			continue
		}
		from := i - len(judge.SpanBack(s.buf, i, min(maxEncoded, i-last), isEncoded))
		run := judge.Span(s.buf, from, maxEncoded, isEncoded)
		if len(run) >= leastEncoded && !s.isSourceMap(from) {
			s.decode(run, from)
		}
		last = max(i, from+len(run))
		i = last + leastEncoded
	}
}

// isSourceMap says that what begins at a place is the text that a program was made
// of, which stands beside it.
func (s *sifting) isSourceMap(from int) bool {
	const reach = 80
	return bytes.Contains(s.buf[max(0, from-reach):from], []byte("sourceMappingURL=data:"))
}

func isEncoded(c byte) bool { return isWord(c) || c == '+' || c == '/' || c == '-' }

// decode looks through one run, if it is text. What is found stands where its
// signs do.
func (s *sifting) decode(run []byte, from int) {
	encoding := base64.RawStdEncoding
	text := string(run)
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	const probe = 16 // signs, of which twelve bytes come
	head, err := encoding.DecodeString(text[:probe])
	if err != nil || !printable(head) {
		return
	}
	if len(text)%4 == 1 {
		text = text[:len(text)-1]
	}
	b, err := encoding.DecodeString(text)
	if err != nil || !printable(b) {
		return
	}
	s.promising = true // it may go on in the next line
	inner := s.e.begin(s.f)
	defer inner.end()
	inner.depth = s.depth + 1
	inner.buf, inner.hi, inner.done = b, len(b), true
	inner.sift()
	inner.settle()
	s.lost = s.lost || inner.lost
	for _, f := range inner.found {
		f.generic = false                           // it is not within what stands in the line
		at := from + min(int(f.at)/3*4, len(run)-1) // three bytes are four signs
		s.keep(f, at, at)
	}
}

// printable says that bytes are text for people.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}
