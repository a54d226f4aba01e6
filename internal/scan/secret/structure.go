package secret

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/check"
	"github.com/castellan-security/castellan/internal/scan/iac/field"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// Documents are looked through twice: as the text that they are, and, where that
// has a word that secrets have in their names, as what they say. Only their own
// readers join a name and a value that stand apart, are written through anchors,
// functions and references, or are encoded.

// maxDecoded bounds the texts of one document that are looked through because they
// do not stand there as they are.
const maxDecoded = 4 << 20

// widen makes room for all of a document, if it is one and not too long for its
// readers.
func (s *sifting) widen(r io.Reader) error {
	if s.done || s.base > 0 || len(s.buf) > cap(*s.held) || documentName(s.f) == "" {
		return nil
	}
	s.buf = append(make([]byte, 0, field.MaxBytes+overlap), s.buf...)
	return s.fill(r)
}

// maxSought bounds among how many bytes values are sought: in a document of one long
// line each of them is among all.
const maxSought = 128 << 20

// maxFolded is how far beyond its place a folded text may go on.
const maxFolded = 4 << 10

// documentName is the name by which a file's reader is found, "" for what is no
// document.
func documentName(f *File) string {
	switch {
	case field.Is(f.Path):
		return f.Path
	case f.Document:
		return "document.json"
	}
	return ""
}

// structure looks at what a document says. What its readers cannot read has been
// looked through as a text.
func (s *sifting) structure() {
	name := documentName(s.f)
	if name == "" || !s.done || s.base > 0 || s.depth > 0 || !s.promising || !s.e.own || s.binary == binaryKind || isShipped(s.f.Path) || s.allowedPath() {
		return
	}
	if c := classOf(s.f.Path); c == prose || c == inert {
		return
	}
	if doubtOfPath(s.f.Path) == doubtDocument || describes(s.buf) {
		return
	}
	fields, err := field.Read(s.buf, name)
	s.lost = s.lost || errors.Is(err, field.ErrMany)
	s.fields(fields, "")
}

// fields looks at what a document gives, or at what a module gives of which it is a
// file: then only what stands in it counts.
func (s *sifting) fields(fields field.Fields, file string) {
	d := document{sifting: s, file: file}
	for i := range fields.Fields {
		if len(s.found) >= maxFound {
			s.lost = true
			return
		}
		d.field(&fields.Fields[i])
	}
	for i := range fields.Commands {
		d.command(&fields.Commands[i])
	}
	for _, t := range fields.Texts {
		d.text(t)
	}
}

// FindInModule looks through a file of a module of which several files say what it
// has, and returns what only all of them tell. With ErrMany it returns what it found.
func (e *Engine) FindInModule(f File, text []byte, fields field.Fields) ([]inventory.Secret, error) {
	if isShipped(f.Path) {
		return nil, nil
	}
	alone := map[string]bool{}
	found, err := e.FindText(f, text)
	if err != nil {
		return nil, err
	}
	for i := range found {
		alone[found[i].Print] = true
	}
	found, err = e.findText(f, text, func(s *sifting) {
		if !s.allowedPath() {
			s.fields(fields, f.Path)
		}
	})
	return slices.DeleteFunc(found, func(s inventory.Secret) bool { return alone[s.Print] }), err
}

// describes says that a document is a schema or the description of an interface:
// large, and of no secrets.
func describes(b []byte) bool {
	const head = 1 << 10
	b = b[:min(len(b), head)]
	return bytes.Contains(b, []byte("json-schema.org")) || bytes.Contains(b, []byte(`"openapi"`)) || bytes.Contains(b, []byte("openapi:")) || bytes.Contains(b, []byte(`"swagger"`)) || bytes.Contains(b, []byte("swagger:"))
}

// document is a document that is looked through by what it says.
type document struct {
	*sifting
	file    string // of a module; empty: it is the document
	lines   []int  // where each begins
	decoded int    // bytes of texts that were looked through
	sought  int    // bytes among which values were sought
}

// Checks of secrets by the part that they stand in: among variables, and among the
// words of commands.
var (
	checksOf      = map[field.Part]string{field.Environment: check.SecretInEnvironment, field.Service: check.SecretInEnvironment}
	commandChecks = map[field.Part]string{field.Command: check.SecretInCommand, field.Service: check.SecretInCommand}
)

// elsewhere says that a place is in another file of the module.
func (d *document) elsewhere(at blueprint.Span) bool { return d.file != "" && at.File != d.file }

func (d *document) field(f *field.Field) {
	if d.elsewhere(f.At) {
		return
	}
	at := judge.Quoted
	if f.Part != field.Elsewhere {
		at = judge.Own
	}
	v, ok := judge.Pair(f.Name, f.Value, at)
	if !ok || v.Doubt == judge.DoubtWord && at == judge.Quoted {
		if f.Part != field.Elsewhere {
			d.mark(f.Value, f.At, checksOf[f.Part])
		}
		return
	}
	if f.Part == field.Variables || f.Part == field.Service {
		// A weak password of a database that people start for themselves is mostly
		// meant; what ECS runs is reached by others.
		if q, ok := judge.Pair(f.Name, f.Value, judge.Quoted); v.Doubt == "" && (!ok || q.Doubt != "") && judge.Weak(f.Value) {
			v.Doubt = judge.DoubtWord
		}
	}
	d.put(ruleOf(v.Kind, f.Name, f.Value), f.Name, f.Value, v.Doubt, f.At, checksOf[f.Part])
}

func (d *document) command(w *field.Words) {
	for _, word := range judge.Words(w.Texts) {
		if d.elsewhere(w.At[word.At]) {
			continue
		}
		if word.Of == "" { // by its form: a rule has found it
			d.mark(word.Value, w.At[word.At], commandChecks[w.Part])
			continue
		}
		doubt := ""
		if w.Part != field.Command && judge.Weak(word.Value) {
			doubt = judge.DoubtWord
		}
		d.put(ruleOf(word.Of, word.Name, word.Value), word.Name, word.Value, doubt, w.At[word.At], commandChecks[w.Part])
	}
}

// put keeps a value that a document gives.
func (d *document) put(rule, name, value, doubt string, at blueprint.Span, id string) {
	offset, literal := d.locate(value, at)
	if literal && d.known(value, offset, id) || !literal && d.escaped(value, offset, at, id) {
		return
	}
	line := d.lineAround(offset, offset)
	d.keep(found{rule: rule, own: true, name: name, value: value, doubt: doubt, allowed: allowanceIn(line), check: id, resolved: !literal}, offset, offset)
}

// known says that the text has told a value already, and gives it its check.
func (d *document) known(value string, offset int, id string) bool {
	is := false
	for i := range d.found {
		o := &d.found[i]
		if o.resolved || o.at >= int64(offset+len(value)) || o.at+int64(len(o.value)) <= int64(offset) {
			continue
		}
		if id != "" {
			o.check = id
		}
		is = is || !o.generic && (strings.Contains(value, o.value) || strings.Contains(o.value, value))
	}
	return is
}

// escaped says that the text has told a value as it is written there, with escapes.
func (d *document) escaped(value string, offset int, at blueprint.Span, id string) bool {
	for i := range d.found {
		o := &d.found[i]
		if o.at < int64(offset) || o.row > max(at.End.Line, at.Start.Line) || !strings.Contains(o.value, `\`) {
			continue
		}
		if plain, err := strconv.Unquote(`"` + o.value + `"`); err == nil && plain == value {
			o.check = cmp.Or(id, o.check)
			return true
		}
	}
	return false
}

// mark gives what the text has told within a value its check.
func (d *document) mark(value string, at blueprint.Span, id string) {
	if id == "" {
		return
	}
	if offset, literal := d.locate(value, at); literal {
		d.known(value, offset, id)
	}
}

// text looks through one that does not stand in the document as it is.
func (d *document) text(t field.Text) {
	if d.elsewhere(t.At) {
		return
	}
	if _, literal := d.locate(t.Text, t.At); literal {
		return
	}
	if d.decoded += len(t.Text); d.decoded > maxDecoded {
		d.lost = true
		return
	}
	f := *d.f
	if isScript(t.Text) {
		f.Path += ".sh" // in which values stand without quotes
	}
	inner := d.e.begin(&f)
	defer inner.end()
	inner.depth = 1
	inner.buf, inner.hi, inner.done = []byte(t.Text), len(t.Text), true
	inner.sift()
	inner.settle()
	d.lost = d.lost || inner.lost
	for _, f := range inner.found {
		offset, literal := d.locate(f.value, t.At)
		if literal && d.known(f.value, offset, "") {
			continue
		}
		f.generic, f.resolved = false, !literal
		d.keep(f, offset, offset)
	}
}

// isScript says that a text is one for a shell, or for what sets machines up.
func isScript(text string) bool {
	return strings.HasPrefix(text, "#!") || strings.HasPrefix(text, "#cloud-config") || strings.Contains(text, "export ")
}

// locate is where a value stands in the lines of a place, and whether it stands
// there as it is; else where the place begins.
func (d *document) locate(value string, at blueprint.Span) (offset int, literal bool) {
	if d.lines == nil {
		d.lines = []int{0}
		for i, c := range d.buf {
			if c == '\n' {
				d.lines = append(d.lines, i+1)
			}
		}
	}
	first := min(max(at.Start.Line, 1), len(d.lines)) - 1
	last := min(max(at.End.Line, at.Start.Line), len(d.lines)) - 1
	from, to := d.lines[first], len(d.buf)
	if last+1 < len(d.lines) {
		to = d.lines[last+1]
	}
	exact := min(from+max(0, at.Start.Column-1), to)
	if bytes.HasPrefix(d.buf[exact:], []byte(value)) || exact+1 < to && bytes.HasPrefix(d.buf[exact+1:], []byte(value)) {
		return exact + bytes.Index(d.buf[exact:], []byte(value)), true
	}
	if d.sought += to - from; d.sought > maxSought {
		d.lost = true
		return exact, false
	}
	if i := bytes.Index(d.buf[exact:to], []byte(value)); i >= 0 {
		return exact + i, true
	}
	if i := bytes.Index(d.buf[from:to], []byte(value)); i >= 0 {
		return from + i, true
	}
	if at.End.Line > at.Start.Line { // a folded text has fewer lines than it is written in
		further := d.buf[to:min(to+maxFolded, len(d.buf))]
		if i := bytes.Index(further, []byte(value)); i >= 0 {
			return to + i, true
		}
	}
	return exact, false
}
