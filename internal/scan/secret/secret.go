// Package secret finds secrets: keys, tokens, passwords and credentials that stand
// where they can be read. It takes bytes as they pass, a file at a time, and says
// where something stands, of what kind it is and how long; the value itself
// leaves the package in no form but a salted print.
//
//	e, err := secret.New(secret.Options{Salt: salt})
//	found, err := e.Find(ctx, secret.File{Path: "etc/app.conf"}, r)
//
// The rules are those of gitleaks (see gitleaks.toml and NOTICE), and our own for
// what those don't see: passwords by their names, URLs with credentials, keys
// that are whole. All bytes go through one filter for the keywords of all rules;
// a rule's expression is run only around keywords that stand as the expression
// wants them to. Nothing is missed by that: see shape.go.
//
// It is not for putting layers together (package scan), and not for deciding what
// a finding is worth to a user (Finding does that once it is known where it stands).
package secret

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/castellan-security/castellan/internal/inventory"
)

// Options say how secrets are looked for.
type Options struct {
	// Salt makes prints that only whoever has it can compare; it should be the
	// installation's own. Empty is a salt that everybody has.
	Salt []byte
	// Gitleaks leaves out all rules but those of gitleaks, for comparison.
	Gitleaks bool
}

// File is what is known of the bytes that are looked at.
type File struct {
	Path   string // without a leading slash; empty: none
	Commit string // of a repository
	// Document says that it is a document in JSON, whatever its path.
	Document bool
	// Source and Name are kept in what is found where the bytes are no file.
	Source inventory.SecretSource
	Name   string
}

// Engine finds secrets. It is for several goroutines at once.
type Engine struct {
	rules  []*rule
	global []allowList
	filter *filter
	sure   *filter // for programs
	words  []string
	byWord [][]aim
	salt   []byte
	own    bool

	siftings sync.Pool
}

// aim is what is to be asked where a keyword stands.
type aim struct {
	rule  int
	probe *probe // nil for a loose rule
	look  func(s *sifting, at int)
}

// New returns an engine.
func New(o Options) (*Engine, error) {
	rules, global := newRules()
	e := &Engine{rules: rules, global: global, salt: o.Salt, own: !o.Gitleaks}
	ids := map[string]int{}
	word := func(w string) int {
		id, ok := ids[w]
		if !ok {
			id = len(e.words)
			ids[w] = id
			e.words = append(e.words, w)
			e.byWord = append(e.byWord, nil)
		}
		return id
	}
	for n, r := range rules {
		for i := range r.probes {
			id := word(r.probes[i].word)
			e.byWord[id] = append(e.byWord[id], aim{rule: n, probe: &r.probes[i]})
		}
		for _, w := range r.keywords {
			if r.loose {
				id := word(w)
				e.byWord[id] = append(e.byWord[id], aim{rule: n})
			}
		}
	}
	if e.own {
		for _, l := range ownLooks() {
			for _, w := range l.words {
				id := word(w)
				e.byWord[id] = append(e.byWord[id], aim{look: l.look})
			}
		}
	}
	e.filter = newFilter(e.words)
	e.sure = newSparseFilter(e.words, func(id int) bool {
		return slices.ContainsFunc(e.byWord[id], func(a aim) bool { return a.probe != nil && a.probe.sure })
	})
	return e, nil
}

const (
	// chunkSize is how much of a file is looked at at once.
	chunkSize = 256 << 10
	// overlap is how far a match may reach from its keyword: a private key of
	// 16,384 bits takes 13 KB, a key ring a little more.
	overlap = 32 << 10
	// context is how much before a keyword may belong to a match.
	backward = 4 << 10
	// maxFound bounds what is kept of one file: whoever plants more hides nothing
	// by it.
	maxFound = 500
)

// ErrMany says that there may be more secrets in a file than were found: a limit
// was reached.
var ErrMany = errors.New("not all of it was looked at")

// Find looks through a file and returns what it found, in the order of the file.
// It returns the errors of r and ctx; what was found until then is lost. With
// ErrMany it returns what it found.
func (e *Engine) Find(ctx context.Context, f File, r io.Reader) ([]inventory.Secret, error) {
	s := e.begin(&f)
	defer s.end()
	for !s.done {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.fill(r); err != nil {
			return nil, err
		}
		if err := s.widen(r); err != nil {
			return nil, err
		}
		s.sift()
		s.structure()
		if len(s.found) >= maxFound && !s.done {
			s.lost = true // what follows would not be kept
			break
		}
		s.advance()
	}
	return s.answer()
}

// answer is what was found, with ErrMany if there may be more.
func (s *sifting) answer() ([]inventory.Secret, error) {
	found := s.results()
	if s.lost {
		return found, fmt.Errorf("%d secrets, and maybe more: it names more than %d, or more things that may be some than any file does: %w", len(found), maxFound, ErrMany)
	}
	return found, nil
}

// FindText looks through a text that is at hand. With ErrMany it returns what it
// found.
func (e *Engine) FindText(f File, text []byte) ([]inventory.Secret, error) {
	return e.findText(f, text, nil)
}

// findText lets more be looked at before it is decided what is told.
func (e *Engine) findText(f File, text []byte, more func(*sifting)) ([]inventory.Secret, error) {
	s := e.begin(&f)
	defer s.end()
	s.buf, s.hi, s.done = text, len(text), true
	s.sift()
	s.structure()
	if more != nil {
		more(s)
	}
	return s.answer()
}

// results are what is to be told, without what another rule says better.
func (s *sifting) results() []inventory.Secret {
	all := shown(slices.Clone(s.found)) // also what is not told hides what would show it
	s.settle()
	out := make([]inventory.Secret, 0, len(s.found))
	for i := range s.found {
		out = append(out, s.e.told(s.f, &s.found[i], all))
	}
	slices.SortStableFunc(out, func(a, b inventory.Secret) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out
}
