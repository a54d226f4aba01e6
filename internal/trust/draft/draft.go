// Package draft writes first policies: for what somebody has at hand, and from
// the policies of other tools. It writes text with comments, which people are
// meant to read and change.
//
// What another tool's policy says and ours can't is told line by line and makes
// the draft stricter, never wider: an image that ran may be denied, none that was
// denied may run.
package draft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/trust/policy"
)

// Remark is what a person must know of an import.
type Remark struct {
	Line   int    `json:"line"` // in the other tool's policy
	Text   string `json:"text"`
	Wanted bool   `json:"wanted,omitempty"` // the draft needs something before it can be used as it was meant
}

// Imported is a policy made of another tool's.
type Imported struct {
	Policy  []byte
	Remarks []Remark
}

// sheet is a policy on its way to text.
type sheet struct {
	intro      []string // comments at the top
	keys       []entry
	stores     []entry
	sigstore   []string // files
	signers    []entry
	rules      []rule
	remarks    []Remark
	taken      map[string]bool   // names of signers, keys and stores
	signerByIt map[string]string // names of signers by what they are
	keyByIt    map[string]string
}

// entry is something with a name; its lines are indented below it.
type entry struct {
	name     string
	comments []string
	lines    []string
}

// rule is one rule for images.
type rule struct {
	name     string
	comments []string
	match    []string
	deny     string
	require  []demand
	attest   []demand
	after    []string // comments at the end
}

// demand is one requirement, field by field.
type demand struct {
	comments []string
	fields   []field
}

type field struct{ name, value string } // the value as YAML

func newSheet(intro ...string) *sheet {
	return &sheet{intro: intro, taken: map[string]bool{}, signerByIt: map[string]string{}, keyByIt: map[string]string{}}
}

// remark tells something of the source.
func (s *sheet) remark(line int, wanted bool, format string, args ...any) string {
	r := Remark{line, fmt.Sprintf(format, args...), wanted}
	s.remarks = append(s.remarks, r)
	return fmt.Sprintf("line %d: %s", line, r.Text)
}

// free returns a name that can be one and is not taken yet, and takes it.
func (s *sheet) free(kind, name string) string {
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			return r
		}
		return '-'
	}, name)
	if name = strings.Trim(name, "-."); name == "" {
		name = kind
	}
	name = name[:min(len(name), 80)]
	for n, base := 2, name; s.taken[kind+" "+name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	s.taken[kind+" "+name] = true
	return name
}

// signer adds a signer, or returns the name of one that is the same.
func (s *sheet) signer(name string, comments []string, lines ...string) string {
	it := strings.Join(lines, "\n")
	if have := s.signerByIt[it]; have != "" {
		return have
	}
	name = s.free("signer", name)
	s.signerByIt[it] = name
	s.signers = append(s.signers, entry{name, comments, lines})
	return name
}

// key adds a key, or returns the name of one that is the same.
func (s *sheet) key(name string, comments []string, lines ...string) string {
	it := strings.Join(lines, "\n")
	if have := s.keyByIt[it]; have != "" {
		return have
	}
	name = s.free("key", name)
	s.keyByIt[it] = name
	s.keys = append(s.keys, entry{name, comments, lines})
	return name
}

// quote writes a text as YAML.
func quote(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") == "" &&
		strings.ContainsAny(s[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		plain = false
	}
	if plain {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a text can always be encoded
		return `""`
	}
	return strings.TrimSpace(b.String())
}

func list(items []string) string {
	quoted := make([]string, len(items))
	for i, x := range items {
		quoted[i] = quote(x)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// block writes a text of several lines below a name.
func block(name, text string) []string {
	out := []string{name + ": |"}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		out = append(out, "  "+strings.TrimRight(line, "\r\n "))
	}
	return out
}

// text writes the policy.
func (s *sheet) text() []byte {
	var b bytes.Buffer
	comment := func(indent string, lines []string) {
		for _, l := range lines {
			for part := range strings.SplitSeq(l, "\n") {
				fmt.Fprintf(&b, "%s# %s\n", indent, printable(part))
			}
		}
	}
	comment("", s.intro)
	fmt.Fprintf(&b, "\nversion: %s\n", policy.Version)
	entries := func(indent, title string, all []entry) {
		if len(all) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s%s:\n", indent, title)
		for _, e := range all {
			comment(indent+"  ", e.comments)
			fmt.Fprintf(&b, "%s  %s:\n", indent, e.name)
			for _, l := range e.lines {
				fmt.Fprintf(&b, "%s    %s\n", indent, l)
			}
		}
	}
	if len(s.keys)+len(s.stores)+len(s.sigstore) > 0 {
		b.WriteString("\n# What signatures are held against. Nothing else is trusted, and nothing is fetched.\nroots:\n")
		entries("  ", "keys", s.keys)
		entries("  ", "stores", s.stores)
		if len(s.sigstore) > 0 {
			fmt.Fprintf(&b, "  sigstore: %s\n", list(s.sigstore))
		}
	}
	if len(s.signers) > 0 {
		b.WriteString("\n# Who may vouch for images.\n")
		entries("", "signers", s.signers)
	}
	if len(s.rules) > 0 {
		b.WriteString("\n# What images need. Of the rules that match an image the most specific counts; an\n# image that no rule matches is denied.\nimages:\n")
	}
	for _, r := range s.rules {
		comment("  ", r.comments)
		r.write(&b, comment)
	}
	return b.Bytes()
}

func (r *rule) write(b *bytes.Buffer, comment func(string, []string)) {
	dash := "  - "
	line := func(format string, args ...any) {
		fmt.Fprintf(b, dash+format+"\n", args...)
		dash = "    "
	}
	if r.name != "" {
		line("name: %s", quote(r.name))
	}
	line("match: %s", list(r.match))
	defer func() { comment("    ", r.after) }()
	if r.deny != "" {
		line("deny: %s", quote(r.deny))
		return
	}
	writeDemands(b, "require", r.require, comment)
	writeDemands(b, "attestations", r.attest, comment)
}

func writeDemands(b *bytes.Buffer, title string, all []demand, comment func(string, []string)) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "    %s:\n", title)
	for _, d := range all {
		comment("      ", d.comments)
		dash := "      - "
		for _, f := range d.fields {
			fmt.Fprintf(b, "%s%s: %s\n", dash, f.name, f.value)
			dash = "        "
		}
	}
}

// printable keeps a comment on its line: the text is another's.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
}

// result is the text with the remarks in the order of the source's lines.
func (s *sheet) result() Imported {
	slices.SortStableFunc(s.remarks, func(a, b Remark) int { return a.Line - b.Line })
	return Imported{s.text(), s.remarks}
}
