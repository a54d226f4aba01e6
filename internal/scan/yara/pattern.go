package yara

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// pattern is one string of a rule: texts as they may stand, or an expression.
type pattern struct {
	name     string
	literals []literal
	programs []program

	uses, direct int  // how often the condition names it, and of these by "at" with a number
	counted      bool // how often and where it is found matters; else once is enough
	anchored     bool // is only asked for at a number: it is not searched
}

// settle decides what a pattern is searched for, when its rule is known.
func (x *pattern) settle() {
	x.anchored = x.uses > 0 && x.uses == x.direct
}

// literal is a text as it may stand in a file.
type literal struct {
	text     string // in lower case if fold is set
	fold     bool
	fullword bool
	wide     bool // for fullword
}

// program is an expression.
type program struct {
	prog     *syntax.Prog
	atoms    []atom
	step     int // bytes from one character to the next: 2 where it is wide
	fullword bool
}

var errShort = errors.New("it has no two fixed bytes next to each other by which it could be looked for")

const leastLiteral = 2

// setText makes all forms of a text.
func (x *pattern) setText(s string, m modifiers) error {
	if s == "" {
		return errors.New("it is empty")
	}
	if m.xor && (m.nocase || m.base64 || m.base64wide) || (m.base64 || m.base64wide) && (m.nocase || m.fullword) {
		return errors.New("its modifiers do not go together")
	}
	if m.base64 || m.base64wide {
		return x.setBase64(s, m)
	}
	forms := []string{s}
	if m.wide {
		forms = []string{widen(s)}
		if m.ascii {
			forms = append(forms, s)
		}
	}
	for i, f := range forms {
		wide := m.wide && i == 0
		if !m.xor {
			x.addLiteral(f, m.nocase, m.fullword, wide)
			continue
		}
		if m.xorTo < m.xorFrom {
			return errors.New("the keys of xor are in the wrong order")
		}
		for key := m.xorFrom; key <= m.xorTo; key++ {
			b := []byte(f)
			for k := range b {
				b[k] ^= byte(key)
			}
			x.addLiteral(string(b), false, m.fullword, wide)
		}
	}
	return x.checkLiterals()
}

func (x *pattern) addLiteral(s string, fold, fullword, wide bool) {
	if fold {
		s = lower(s)
	}
	x.literals = append(x.literals, literal{s, fold, fullword, wide})
}

func (x *pattern) checkLiterals() error {
	if len(x.literals) > maxVariants {
		return fmt.Errorf("it stands for more than %d texts", maxVariants)
	}
	for _, l := range x.literals {
		if len(l.text) < leastLiteral {
			return errShort
		}
	}
	return nil
}

// setBase64 makes the three forms that a text has within base64, without the
// signs at its ends that other bytes share.
func (x *pattern) setBase64(s string, m modifiers) error {
	enc := base64.RawStdEncoding
	if m.alphabet != "" {
		for i := range len(m.alphabet) {
			if c := m.alphabet[i]; c == '\n' || c == '\r' || c >= 0x80 || strings.IndexByte(m.alphabet[i+1:], c) >= 0 {
				return errors.New("its alphabet has a sign twice, or one that it must not have")
			}
		}
		enc = base64.NewEncoding(m.alphabet).WithPadding(base64.NoPadding)
	}
	plain := []string{s}
	if m.wide {
		plain = []string{widen(s)}
		if m.ascii {
			plain = append(plain, s)
		}
	}
	for _, text := range plain {
		for shift := range 3 {
			e := enc.EncodeToString(append(make([]byte, shift), text...))
			from := (shift*8 + 5) / 6
			to := (shift + len(text)) * 8 / 6
			if to-from < 4 {
				return errors.New("it is too short for base64")
			}
			e = e[from:to]
			if m.base64 {
				x.addLiteral(e, false, false, false)
			}
			if m.base64wide {
				x.addLiteral(widen(e), false, false, false)
			}
		}
	}
	return x.checkLiterals()
}

func widen(s string) string {
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return string(b)
}

// lower makes lower case of ASCII letters alone.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lowerByte(c)
	}
	return string(b)
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// setHex makes an expression of a hexadecimal string, or a text if it is one.
func (x *pattern) setHex(s string, m modifiers) error {
	if m != (modifiers{}) {
		return errors.New("a hexadecimal string has no modifier but private")
	}
	h := hexReader{src: s}
	source, err := h.read()
	if err != nil {
		return err
	}
	if h.plain != nil {
		x.addLiteral(string(h.plain), false, false, false)
		return x.checkLiterals()
	}
	return x.compile(source, syntax.DotNL|syntax.OneLine|syntax.PerlX, false, 1)
}

// setExpression makes programs of a regular expression.
func (x *pattern) setExpression(s string, fold, dotAll bool, m modifiers) error {
	if m.xor || m.base64 || m.base64wide {
		return errors.New("an expression has no xor or base64")
	}
	flags := syntax.ClassNL | syntax.OneLine | syntax.PerlX
	if fold || m.nocase {
		flags |= syntax.FoldCase
	}
	if dotAll {
		flags |= syntax.DotNL
	}
	source, err := goSource(s)
	if err != nil {
		return err
	}
	if m.wide {
		if err := x.compile(source, flags, m.fullword, 2); err != nil {
			return err
		}
		if !m.ascii {
			return nil
		}
	}
	return x.compile(source, flags, m.fullword, 1)
}

func (x *pattern) compile(source string, flags syntax.Flags, fullword bool, step int) error {
	re, err := syntax.Parse(source, flags)
	if err != nil {
		return fmt.Errorf("its expression cannot be had: %w", err)
	}
	atoms, ok := atomsOf(re)
	if !ok || slices.ContainsFunc(atoms, func(a atom) bool { return len(a.text)*step < leastLiteral }) {
		return errShort
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return fmt.Errorf("its expression cannot be had: %w", err)
	}
	if len(prog.Inst) > maxProgram {
		return fmt.Errorf("its expression takes %d steps, more than %d", len(prog.Inst), maxProgram)
	}
	for i := range atoms {
		if step == 2 {
			atoms[i].text = widen(atoms[i].text)
			atoms[i].least, atoms[i].most = 2*atoms[i].least, min(2*atoms[i].most, reach)
		}
	}
	x.programs = append(x.programs, program{prog, atoms, step, fullword})
	return nil
}

// goSource writes a regular expression of YARA as Go reads them: each character
// is a byte.
func goSource(s string) (string, error) {
	var b strings.Builder
	class := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 0x80:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c == '\\' && i+1 < len(s):
			i++
			switch e := s[i]; {
			case e == '/' || e == '"' || e == '\'' || e >= 0x80:
				fmt.Fprintf(&b, `\x%02x`, e)
			case strings.IndexByte("pPQEAzZCGXkK", e) >= 0:
				return "", fmt.Errorf(`\%c in its expression is not known`, e)
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
		case c == '[' && !class:
			class = true
			b.WriteByte(c)
			if i+1 < len(s) && s[i+1] == '^' {
				i++
				b.WriteByte('^')
			}
			if i+1 < len(s) && s[i+1] == ']' {
				i++
				b.WriteString(`\]`)
			}
		case c == '[':
			b.WriteString(`\[`)
		case c == ']':
			class = false
			b.WriteByte(c)
		case c == '{' && !class && i+1 < len(s) && s[i+1] == ',':
			b.WriteString("{0")
		case c == '(' && !class && i+1 < len(s) && s[i+1] == '?':
			return "", errors.New("(? in its expression is not known")
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func isAlnum(c byte) bool { return isWord(c) && c != '_' }
