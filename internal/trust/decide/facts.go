package decide

import (
	"encoding/json"

	"github.com/castellan-security/castellan/internal/signature"
)

// Limits of what is kept of what was found, as JSON. Verdicts travel and are
// stored: what is beyond is left out, and told.
const (
	// MaxFacts bounds all facts of an image: those of a hundred signatures by keys,
	// or of some dozens with certificates and provenance.
	MaxFacts = 96 << 10
	// MaxFact bounds one without its predicate: a certificate with all that Fulcio
	// writes into it takes a quarter.
	MaxFact = 8 << 10
	// MaxFactPredicate bounds a predicate, in bytes: provenance takes a few
	// kilobytes; bills of materials and scans are not kept.
	MaxFactPredicate = 16 << 10
	// factsForm changes whenever facts are written so that they can't be read as
	// before.
	factsForm = 1
)

// Facts are what was found of an image, so that another policy can be held against
// it later; see Recall.
type Facts struct {
	Form int `json:"form"`
	// Opened is as long as Verdict.Signatures, each for the one at the same place;
	// nil for one that no door has found true, or of which too much would have to be
	// kept.
	Opened []*Fact `json:"opened"`

	bytes int
}

// Fact is what a door has found true of an envelope.
type Fact struct {
	Signed signature.Signed `json:"signed"`
	Cut    bool             `json:"cut,omitempty"` // the predicate is not kept: it is too large
}

// factOf copies what is kept of an envelope, nil if it is too large.
func factOf(s signature.Signed) *Fact {
	f := &Fact{Signed: s}
	size := 0
	if s.Statement != nil {
		statement := *s.Statement
		if size = len(statement.Body); size > MaxFactPredicate {
			statement.Body, f.Cut, size = nil, true, 0
		}
		f.Signed.Statement = &statement
	}
	if n, err := f.size(); err != nil || n-size*4/3 > MaxFact {
		return nil
	}
	return f
}

// size is how many bytes a fact takes.
func (f *Fact) size() (int, error) {
	b, err := json.Marshal(f)
	return len(b), err
}

// add keeps a fact if there is room for it, without its predicate if not.
func (f *Facts) add(one *Fact) {
	if one != nil {
		n, err := one.size()
		if err == nil && f.bytes+n > MaxFacts && one.Signed.Statement != nil && !one.Cut {
			short := *one
			short.Signed.Statement = &signature.Statement{Predicate: one.Signed.Statement.Predicate, Subjects: one.Signed.Statement.Subjects}
			one, short.Cut = &short, true
			n, err = one.size()
		}
		if err != nil || f.bytes+n > MaxFacts {
			one, n = nil, 0
		}
		f.bytes += n
	}
	f.Opened = append(f.Opened, one)
}
