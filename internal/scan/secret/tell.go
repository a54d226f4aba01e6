package secret

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
)

// binaryHead is how much of a file is looked at to tell what it is.
const binaryHead = 8 << 10

// kindOf says what a file is by its beginning: one with a zero byte is a program
// or data.
func kindOf(b []byte) kind {
	if bytes.IndexByte(b[:min(len(b), binaryHead)], 0) >= 0 {
		return binaryKind
	}
	return textKind
}

// settle drops what a better rule found too: the generic one's findings within
// others of the same line, and our own within those of gitleaks that know what it
// is.
func (s *sifting) settle() {
	kept := s.found[:0:0]
	for i := range s.found {
		f := &s.found[i]
		dropped := false
		for k := range s.found {
			o := &s.found[k]
			dropped = dropped || i != k && f.yields(o, i > k)
		}
		if !dropped {
			kept = append(kept, *f)
		}
	}
	s.found = kept
}

// yields says whether f is told by o already.
func (f *found) yields(o *found, later bool) bool {
	switch {
	case f.resolved || o.resolved:
		return f.resolved && strings.Contains(o.value, f.value) && (!o.resolved || later && o.value == f.value || len(o.value) > len(f.value))
	case f.generic && !o.generic:
		return f.line == o.line && strings.Contains(o.value, f.value)
	case f.own != o.own:
		return f.own && !o.generic && f.at < o.at+int64(len(o.value)) && o.at < f.at+int64(len(f.value)) && !f.better(o)
	case f.own:
		return f.at < o.at+int64(len(o.value)) && o.at < f.at+int64(len(f.value)) && (o.better(f) || later && !f.better(o))
	}
	return false
}

// better says that one of our own knows more about the same thing.
func (f *found) better(o *found) bool {
	return f.own && (o.key == "" && f.key != "" || o.account == "" && f.account != "")
}

// told is what leaves this package of something that was found.
func (e *Engine) told(f *File, x *found, values shown) inventory.Secret {
	s := inventory.Secret{Rule: x.rule, Source: f.Source, Name: x.name, Line: x.row, Column: x.column, Length: len(x.value),
		Doubt: doubtOf(x, f.Path), Account: x.account, Key: x.key, Expires: x.expires, Check: x.check}
	if f.Name != "" {
		s.Name = f.Name
	}
	if values.tellsAny(s.Name) {
		s.Name = ""
	}
	if f.Path != "" {
		s.Path = "/" + f.Path
	}
	if f.Source != "" {
		s.Line, s.Column = 0, 0
	}
	if x.allowed != nil {
		s.Allowed = &inventory.Allowed{Reason: x.allowed.reason, Expires: x.allowed.expires}
		if values.tellsAny(x.allowed.reason) || values.partOfAny(x.allowed.reason) {
			s.Allowed.Reason = ""
		}
	}
	s.Same = e.print("value", x.value)
	s.Print = e.print("finding", x.rule, f.Path, string(f.Source), s.Name, x.value)
	return s
}

// shown are the values that were found, against which what is to be shown is held.
type shown []found

// tellsAny says that a text has a value in it.
func (v shown) tellsAny(text string) bool {
	return text != "" && slices.ContainsFunc(v, func(f found) bool { return f.value != "" && strings.Contains(text, f.value) })
}

// partOfAny says that a word of a text is part of a value.
func (v shown) partOfAny(text string) bool {
	const least = 4 // shorter words tell nothing
	for w := range strings.FieldsSeq(text) {
		if len(w) >= least && slices.ContainsFunc(v, func(f found) bool { return strings.Contains(f.value, w) }) {
			return true
		}
	}
	return false
}

// print is the salted print of texts.
func (e *Engine) print(texts ...string) string {
	const enough = 12 // bytes: no two secrets of a fleet meet by chance
	h := hmac.New(sha256.New, e.salt)
	for _, t := range texts {
		h.Write([]byte(t))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:enough])
}

// allowance is a comment that lets something stand.
type allowance struct {
	reason  string
	expires time.Time
}

// Marks of comments that let a secret in the same line stand.
const (
	allowMark   = "castellan:allow"
	foreignMark = "gitleaks:allow"
	maxReason   = 200
)

// allowanceIn finds such a comment: the words after the mark are its reason, and
// "until 2026-12-31" among them is the last day on which it holds. Whether they
// may be shown is known when all is found: see told.
func allowanceIn(line string) *allowance {
	_, rest, ok := strings.Cut(line, allowMark)
	if !ok {
		if strings.Contains(line, foreignMark) {
			return &allowance{reason: foreignMark}
		}
		return nil
	}
	// The comment may end before the line does, and what follows may be the value:
	// a reason has no signs that a value is given with.
	if i := strings.IndexAny(rest, "\n=\"'`<>{}*:@"); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.Index(rest, "--"); i >= 0 {
		rest = rest[:i]
	}
	a := &allowance{}
	words := strings.Fields(rest)
	for i := 0; i < len(words); i++ {
		if words[i] == "until" && i+1 < len(words) {
			if day, err := time.Parse(time.DateOnly, strings.Trim(words[i+1], ".,;)")); err == nil {
				a.expires = day.AddDate(0, 0, 1)
				i++
				continue
			}
		}
		a.reason = strings.TrimSpace(a.reason + " " + words[i])
	}
	a.reason = strings.ToValidUTF8(a.reason[:min(len(a.reason), maxReason)], "")
	return a
}
