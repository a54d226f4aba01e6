package secret

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// sifting is one file on its way.
type sifting struct {
	e *Engine
	f *File

	buf  []byte
	held *[]byte // buf's memory, if it is the pool's
	// filled is how much of it was ever used.
	filled int
	// base is where buf begins in the file, line its line's number less one, col
	// how much of that line came before.
	base      int64
	line, col int
	// Keywords from lo up to hi are looked at; what is beside is for context.
	lo, hi int
	done   bool
	depth  int // of base64
	looks  int // of our own rules, in this piece
	// promising says that there is a name of a secret, or part of a login: what the
	// file says as a document may be one.
	promising bool
	// bareTo is where the value ends that was last read without quotes: names in it
	// are part of it.
	bareTo int64
	// docs are the texts for people of a program, once they were sought.
	docs      []window
	described bool

	windows [][]window // by rule
	touched []int
	found   []found
	binary  kind

	pathAllowed verdict
	forRule     map[int]bool // whether the file is for a rule
	lost        bool         // there may be more than was found: a limit was reached
}

// window is a part of buf that a rule's expression is run on.
type window struct{ from, to int }

// found is something that a rule found. It holds the value: it never leaves this
// package.
type found struct {
	rule    string
	generic bool
	value   string
	at      int64 // of the value in the file
	line    int   // of the match, counted from 0, as gitleaks does
	row     int   // of the value, counted from 1
	column  int
	name    string
	doubt   string
	account string
	key     inventory.KeyState
	own     bool
	check   string // that is about secrets at such a place
	// resolved says that the value does not stand there as it is: it was put together
	// of what does, or decoded.
	resolved bool
	expires  time.Time
	allowed  *allowance
}

type verdict uint8

const (
	unasked verdict = iota
	yes
	no
)

type kind uint8

const (
	unknownKind kind = iota
	textKind
	binaryKind
)

// buffers are for files that are longer than what is at hand.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, backward+chunkSize+overlap)
	return &b
}}

func (e *Engine) begin(f *File) *sifting {
	s, _ := e.siftings.Get().(*sifting)
	if s == nil {
		s = &sifting{e: e, windows: make([][]window, len(e.rules))}
	}
	s.f = f
	return s
}

// end gives back what was borrowed, without what was in it.
func (s *sifting) end() {
	for _, n := range s.touched {
		s.windows[n] = s.windows[n][:0]
	}
	if s.held != nil {
		clear((*s.held)[:min(s.filled, cap(*s.held))])
		buffers.Put(s.held)
	}
	s.e.siftings.Put(&sifting{e: s.e, windows: s.windows, touched: s.touched[:0]})
}

// fill reads until the buffer is full or the file at its end.
func (s *sifting) fill(r io.Reader) error {
	if s.held == nil {
		s.held = buffers.Get().(*[]byte)
		s.buf = (*s.held)[:0]
	}
	for len(s.buf) < cap(s.buf) {
		n, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if err == io.EOF {
			s.done = true
			break
		}
		if err != nil {
			return err
		}
	}
	s.filled = max(s.filled, len(s.buf))
	s.hi = len(s.buf)
	if !s.done {
		s.hi -= overlap
	}
	return nil
}

// advance forgets what is no longer needed.
func (s *sifting) advance() {
	gone := max(0, s.hi-backward)
	s.pass(s.buf[:gone])
	s.base += int64(gone)
	s.lo = s.hi - gone
	n := copy(s.buf, s.buf[gone:])
	s.buf = s.buf[:n]
}

// pass counts the lines of what goes by.
func (s *sifting) pass(b []byte) {
	s.line += bytes.Count(b, []byte{'\n'})
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		s.col = len(b) - i - 1
	} else {
		s.col += len(b)
	}
}

// longestWord bounds the keywords.
const longestWord = 64

// sift looks at the keywords of the piece.
func (s *sifting) sift() {
	if s.binary == unknownKind {
		s.binary = kindOf(s.buf)
	}
	for _, n := range s.touched {
		s.windows[n] = s.windows[n][:0]
	}
	s.touched, s.looks = s.touched[:0], 0
	from := s.lo
	to := min(len(s.buf), s.hi+longestWord)
	f := s.e.filter
	if s.binary == binaryKind {
		f = s.e.sure
	}
	f.each(s.buf[from:to], func(id, at int) {
		if at += from; at < s.hi {
			s.hit(id, at)
		}
	})
	for _, n := range s.touched {
		s.run(n)
	}
	if s.base == 0 && s.e.own {
		s.passwordFile()
	}
	s.encoded()
}

// hit asks all that want to know of a keyword.
func (s *sifting) hit(id, at int) {
	aims := s.e.byWord[id]
	for i := range aims {
		a := &aims[i]
		if a.look != nil {
			if s.binary == binaryKind {
				continue
			}
			if s.looks++; s.looks > max(maxLooks, len(s.buf)/bytesPerLook) || len(s.found) >= maxFound {
				s.lost = true
				continue
			}
			a.look(s, at)
			continue
		}
		r := s.e.rules[a.rule]
		if s.binary == binaryKind && (a.probe == nil || !a.probe.sure) {
			continue
		}
		if a.probe == nil {
			s.window(a.rule, 0, len(s.buf))
			continue
		}
		if !a.probe.meets(s.buf, at) {
			continue
		}
		end := -1
		if a.probe.names {
			var ok bool
			if end, ok = s.assigned(at+len(a.probe.word), r); !ok {
				continue
			}
		}
		s.around(a, at, end)
	}
}

// around adds the window of a keyword. end is where the match must end, if that
// is known.
func (s *sifting) around(a *aim, at, end int) {
	p := a.probe
	back := p.back
	if back < 0 || back > backward {
		back = backward
	}
	reach := p.reach
	if reach < 0 || reach > overlap {
		reach = overlap
		if p.lines >= 0 {
			reach = linesOn(s.buf[at:min(len(s.buf), at+overlap)], p.lines+1)
		}
	}
	to := at + reach
	if end >= 0 {
		to = end
	}
	const beside = 2 // so that the ends of the window are not taken for those of the text
	s.window(a.rule, at-back-beside, to+beside)
}

func (s *sifting) window(rule, from, to int) {
	if len(s.windows[rule]) == 0 {
		s.touched = append(s.touched, rule)
	}
	w := window{max(0, from), min(len(s.buf), to)}
	if n := len(s.windows[rule]); n > 0 {
		last := &s.windows[rule][n-1]
		if w.from >= last.from && w.from <= last.to {
			last.to = max(last.to, w.to)
			return
		}
	}
	s.windows[rule] = append(s.windows[rule], w)
}

// linesOn is where the n-th line from here ends.
func linesOn(b []byte, n int) int {
	at := 0
	for range n {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return len(b)
		}
		at += i + 1
	}
	return at
}

// run runs a rule's expression on its windows.
func (s *sifting) run(n int) {
	r := s.e.rules[n]
	if !s.isFor(n, r) {
		return
	}
	list := s.windows[n]
	slices.SortFunc(list, func(a, b window) int { return a.from - b.from })
	for i := 0; i < len(list); {
		w := list[i]
		for i++; i < len(list) && list[i].from <= w.to; i++ {
			w.to = max(w.to, list[i].to)
		}
		for _, m := range r.re().FindAllIndex(s.buf[w.from:w.to], -1) {
			if len(s.found) >= maxFound {
				s.lost = true
				return
			}
			s.match(r, w.from+m[0], w.from+m[1])
		}
	}
}

// allowedPath says whether no rule is for the file.
func (s *sifting) allowedPath() bool {
	if s.pathAllowed == unasked {
		s.pathAllowed = no
		if slices.ContainsFunc(s.e.global, func(a allowList) bool { return a.allowsFile(s.f) }) {
			s.pathAllowed = yes
		}
	}
	return s.pathAllowed == yes
}

// isFor says whether a rule is for the file, and the file not allowed.
func (s *sifting) isFor(n int, r *rule) bool {
	if s.allowedPath() {
		return false
	}
	if is, ok := s.forRule[n]; ok {
		return is
	}
	is := (r.path == "" || r.files().MatchString(s.f.Path)) &&
		!slices.ContainsFunc(r.allow, func(a allowList) bool { return a.allowsFile(s.f) })
	if s.forRule == nil {
		s.forRule = map[int]bool{}
	}
	s.forRule[n] = is
	return is
}

// match judges what an expression matched, as gitleaks does.
func (s *sifting) match(r *rule, from, to int) {
	match := strings.Trim(string(s.buf[from:to]), "\n")
	value := match
	if groups := r.re().FindStringSubmatch(match); len(groups) >= 2 {
		if r.group > 0 {
			value = groups[min(r.group, len(groups)-1)]
		} else if i := slices.IndexFunc(groups[1:], func(g string) bool { return g != "" }); i >= 0 {
			value = groups[1+i]
		}
	}
	if r.entropy > 0 && judge.Entropy(value) <= r.entropy {
		return
	}
	line := s.lineAround(from, from+len(match))
	for _, list := range [...][]allowList{s.e.global, r.allow} {
		if slices.ContainsFunc(list, func(a allowList) bool { return a.allows(s.f, value, match, line) }) {
			return
		}
	}
	at := from + max(0, strings.Index(string(s.buf[from:to]), value))
	doubt := ""
	switch {
	case r.generic && (digestDoubt(match, value) != "" || from > 0 && s.buf[from-1] == '/' && isHex(value)): // behind a path: its sum
		doubt = doubtDigest
	case r.generic && isHex(value) && s.isKey(at, len(value)):
		doubt = doubtDigest
	case !r.generic && r.id != "private-key" && !strings.ContainsAny(value, "0123456789:") && judge.Named(value):
		doubt = judge.DoubtWord
	case r.id == "curl-auth-user" && weakLogin(value):
		doubt = judge.DoubtWord
	case r.generic && (judge.Named(value) || judge.IsWordInBase64(value) || classOf(s.f.Path) == code && isMember(value) && !s.inQuotes(at, len(value))):
		doubt = judge.DoubtWord
	case r.source == value, r.id != "private-key" && isMadeUp(value):
		doubt = judge.DoubtExample // what all keys of the kind begin with, and nothing of one
	}
	if s.binary == binaryKind && r.id == "private-key" && (keyState(value) == inventory.KeyIncomplete || isPublished(value)) {
		return // the words with which a program reads and writes keys, and what it tests itself with
	}
	f := s.keep(found{rule: r.id, generic: r.generic, value: value, doubt: doubt, allowed: allowanceIn(line)}, from, at)
	if f == nil {
		return
	}
	s.explain(f, at)
}

// inQuotes says that a value stands in some.
func (s *sifting) inQuotes(at, n int) bool {
	return at > 0 && strings.IndexByte("\"'`", s.buf[at-1]) >= 0 && at+n < len(s.buf) && s.buf[at+n] == s.buf[at-1]
}

// isKey says that a value in quotes is what a map has something under.
func (s *sifting) isKey(at, n int) bool {
	end := at + n
	if !s.inQuotes(at, n) {
		return false
	}
	end = s.blanks(end + 1)
	return end < len(s.buf) && s.buf[end] == ':'
}

// weakLogin says that a user with a password is one that programs come with:
// guest:guest.
func weakLogin(value string) bool {
	user, password, _ := strings.Cut(value, ":")
	doubt, ok := judge.Value(password, user, judge.Password, judge.Quoted)
	return password != "" && (!ok || doubt != "")
}

// explain says more of some kinds.
func (s *sifting) explain(f *found, at int) {
	switch f.rule {
	case "aws-access-token":
		f.account = awsAccount(f.value)
		if s.e.own {
			s.awsPair(at, f.account)
		}
	case "private-key":
		if f.key = keyState(f.value); f.key == inventory.KeyIncomplete {
			f.doubt = doubtNoKey
		}
	case "jwt":
		f.expires = tokenExpiry(f.value)
	}
}

// maxLine bounds what is looked at of a line.
const maxLine = 2 << 10

// maxLooks is how often our own rules look at something in one piece of a file: a
// name every 32 bytes, which no file has that people or programs write.
const (
	bytesPerLook = 32
	maxLooks     = chunkSize / bytesPerLook
)

// lineAround is the line, or lines, that hold a match.
func (s *sifting) lineAround(from, to int) string {
	head := s.buf[max(0, from-maxLine):from]
	if i := bytes.LastIndexByte(head, '\n'); i >= 0 {
		head = head[i+1:]
	}
	tail := s.buf[to:min(len(s.buf), to+maxLine)]
	if i := bytes.IndexByte(tail, '\n'); i >= 0 {
		tail = tail[:i]
	}
	return string(s.buf[from-len(head) : to+len(tail)])
}

// keep records what was found: from is where the match begins, at where the value
// does.
func (s *sifting) keep(f found, from, at int) *found {
	f.at = s.base + int64(at)
	for i := range s.found {
		if o := &s.found[i]; o.at == f.at && o.rule == f.rule && (!f.resolved || o.value == f.value) {
			return nil
		}
	}
	if len(s.found) >= maxFound {
		s.lost = true
		return nil
	}
	f.line = s.line + bytes.Count(s.buf[:from], []byte{'\n'})
	before := s.buf[:at]
	f.row = s.line + bytes.Count(before, []byte{'\n'}) + 1
	if i := bytes.LastIndexByte(before, '\n'); i >= 0 {
		f.column = at - i
	} else {
		f.column = s.col + at + 1
	}
	if f.check == "" {
		f.check = s.checkAt(at)
	}
	if f.doubt == "" && (f.own || f.generic || f.rule == "private-key") && f.account == "" && s.forPeople(at) {
		f.doubt = doubtDocument
	}
	s.promising = true
	s.found = append(s.found, f)
	return &s.found[len(s.found)-1]
}
