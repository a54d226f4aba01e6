// Package yara reads rules in YARA's language and holds files against them as
// they pass: no file is held whole, and each byte is looked at once by a filter
// for the fixed bytes of all strings.
//
//	rules, refused, err := yara.Compile([]yara.Source{{Name: "own.yar", Text: text}})
//	matches, err := rules.Scan(ctx, yara.File{Path: "app/run.sh", Size: n}, r, nil)
//
// It knows what most rules use: text with nocase, wide, ascii, fullword, xor and
// base64; hexadecimal strings with wildcards, jumps and alternatives; regular
// expressions; conditions with counts, offsets, of, for, filesize, the integers
// of a file, other rules, and the external variables filename, filepath and
// extension. A rule that uses anything else, as the modules pe, elf or math, is
// refused with its line and a reason, and the rest of its file stands.
//
// It differs from YARA where a file would have to be held whole: a match of an
// expression is at most 2,048 bytes long, jumps are bounded, and what integers
// can be read of is the beginning and the end of a file. It is not for deciding
// which files are looked at and what a match means (see malware).
package yara

import (
	"fmt"

	"github.com/castellan-security/castellan/internal/fault"
)

// Source is one file of rules: its own name space, as YARA's are.
type Source struct{ Name, Text string }

// Rule is one rule.
type Rule struct {
	Name   string
	Source string // the file that has it
	Line   int
	Tags   []string
	Meta   []Meta

	private, global bool
	space           int   // number of the source
	patterns        []int // its strings
	condition       expr
}

// Meta is one entry of a rule's meta section, in its order.
type Meta struct{ Name, Value string }

// MetaOf returns the value of the first entry of that name, "" if there is none.
func (r *Rule) MetaOf(name string) string {
	for _, m := range r.Meta {
		if m.Name == name {
			return m.Value
		}
	}
	return ""
}

// Refusal is a rule that was left out.
type Refusal struct {
	Source string
	Line   int
	Rule   string // "" where it has no name yet
	Why    string
}

// String says which rule was refused, and why.
func (r Refusal) String() string {
	if r.Rule == "" {
		return fmt.Sprintf("%s:%d: %s", r.Source, r.Line, r.Why)
	}
	return fmt.Sprintf("%s:%d: rule %s: %s", r.Source, r.Line, r.Rule, r.Why)
}

// Limits of what is read. The largest public collections have 6,000 rules with
// 40,000 strings in 12 MB.
const (
	maxSource   = 32 << 20 // bytes of one file
	maxRules    = 20_000   // in all
	maxPatterns = 100_000  // in all
	maxText     = 4096     // bytes of one text
	maxVariants = 2_000    // of one text: xor has 256
	maxHex      = 4096     // bytes of one hexadecimal string as it is written
	maxDepth    = 200      // of brackets in conditions and strings
	maxTerms    = 20_000   // of one condition
	maxProgram  = 8_000    // instructions of one expression
	maxAtoms    = 32       // fixed bytes that one expression is looked for by
	maxLoop     = 1 << 16  // rounds of one for
)

// Reach of what is looked for.
const (
	// maxMatch is how long the match of an expression may be.
	maxMatch = 2048
	// reach is how far from its fixed bytes a match may begin or end.
	reach = max(maxMatch, maxText)
)

// Rules are compiled rules. They are for several goroutines at once.
type Rules struct {
	rules    []*Rule
	patterns []*pattern
	filter   *filter
	spaces   int
	headSize int // how much of a file's beginning is kept
	pool     scanPool
}

// Compile reads rules. Rules that cannot be had are returned with the reason; an
// error means that a limit was reached.
func Compile(sources []Source) (*Rules, []Refusal, error) {
	r := &Rules{headSize: smallHead}
	var refused []Refusal
	for i, s := range sources {
		if len(s.Text) > maxSource {
			return nil, nil, fault.New(fault.Exhausted, "%s has more than %d bytes", s.Name, maxSource).With("split it, or leave out what is for other systems")
		}
		p := newParser(r, i, s)
		refused = append(refused, p.file()...)
		if p.fatal != nil {
			return nil, nil, p.fatal
		}
	}
	r.spaces = len(sources)
	r.filter = newFilter(r.patterns)
	r.pool.rules = r
	return r, refused, nil
}

// Len is how many rules there are, private ones among them.
func (r *Rules) Len() int { return len(r.rules) }

// Rules returns the rules that can be told of.
func (r *Rules) Rules() []*Rule {
	var out []*Rule
	for _, rule := range r.rules {
		if !rule.private {
			out = append(out, rule)
		}
	}
	return out
}

// Stride says at how few places of a file the filter looks: at every so many; 0 if
// strings of two or three bytes have it look at each of them a second time.
func (r *Rules) Stride() int {
	if r.filter.short != nil {
		return 0
	}
	return r.filter.stride
}
