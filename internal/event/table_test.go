package event_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

// page is the documentation of every event, made from the source.
const page = "../../docs/events.md"

// payloads are the parts of an event that its kind decides, in the order of
// the page.
var payloads = []struct{ typ, key, kinds string }{
	{"Exec", "exec", "process.exec"},
	{"Exit", "exit", "process.exit"},
	{"File", "file", "file.*"},
	{"Connection", "connection", "network.*"},
	{"DNS", "dns", "dns.*"},
	{"Privilege", "privilege", "privilege.*"},
	{"Memory", "memory", "memory.*"},
	{"Resource", "resource", "resource.*"},
	{"Calls", "calls", "process.calls"},
}

// TestTable holds docs/events.md to the source: a kind or a field without a
// word about it, or one that was added and not written down, fails.
// CASTELLAN_GOLDEN=write (make golden) writes the page.
func TestTable(t *testing.T) {
	src := read(t)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Events\n\n"+
		"<!-- Made from internal/event by make golden; change the comments there. -->\n\n"+
		"One event is one thing that a sensor saw. This is their form as the API, `castellan events -o json` and the\n"+
		"agent link give it, version %d: within a version fields are only added, and a reader ignores those that it\n"+
		"does not know. Text in events comes from programs that may be hostile.\n\n", event.Version)
	fmt.Fprintln(&b, "## Kinds")
	sensor := ""
	for _, k := range event.Kinds() {
		if k.Sensor() != sensor {
			sensor = k.Sensor()
			fmt.Fprint(&b, "\n| kind | what happened |\n|---|---|\n")
		}
		word := src.kinds[string(k)]
		if word == "" {
			t.Errorf("kind %s has no word of documentation", k)
		}
		low := ""
		if k.Low() {
			low = " (among the first to go where there is no room)"
		}
		fmt.Fprintf(&b, "| `%s` | %s%s |\n", k, cell(word), low)
	}
	fmt.Fprint(&b, "\n## Every event\n\n")
	src.fields(t, &b, "Event", "")
	fmt.Fprint(&b, "\n### process\n\n")
	src.fields(t, &b, "Process", "process.")
	for _, p := range payloads {
		fmt.Fprintf(&b, "\n## %s: %s\n\n", p.kinds, p.key)
		src.fields(t, &b, p.typ, p.key+".")
	}
	fmt.Fprint(&b, "\n### exec.ancestors[]\n\n")
	src.fields(t, &b, "Ancestor", "")
	fmt.Fprint(&b, "\n### exec.stdio[]\n\n")
	src.fields(t, &b, "Stream", "")
	fmt.Fprint(&b, "\n### exec.layer, file.layer, memory.layer\n\n")
	src.fields(t, &b, "Layer", "")
	fmt.Fprint(&b, "\n### connection.peer\n\n")
	src.fields(t, &b, "Peer", "connection.peer.")
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(page, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(have), b.String()); d != "" {
		t.Errorf("docs/events.md is not what the source says; make golden writes it (-page +source):\n%s", d)
	}
}

// Every payload of Event is on the page, and every kind is listed once.
func TestTableIsWhole(t *testing.T) {
	typ := reflect.TypeFor[event.Event]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Type.Kind() != reflect.Pointer || f.Tag.Get("json") == "-" {
			continue
		}
		if !slices.ContainsFunc(payloads, func(p struct{ typ, key, kinds string }) bool { return p.typ == f.Type.Elem().Name() }) {
			t.Errorf("payload %s is missing from the page", f.Name)
		}
	}
	seen := map[event.Kind]bool{}
	for _, k := range event.Kinds() {
		if seen[k] {
			t.Errorf("%s is listed twice", k)
		}
		seen[k] = true
	}
	declared := read(t).kinds
	delete(declared, string(event.KindCall)) // no agent tells it
	if n := len(declared); n != len(seen) {
		t.Errorf("%d kinds are declared, %d listed by Kinds", n, len(seen))
	}
}

// source is what the package's files say.
type source struct {
	kinds   map[string]string // kind to its comment
	structs map[string]*ast.StructType
}

func read(t *testing.T) source {
	t.Helper()
	s := source{kinds: map[string]string{}, structs: map[string]*ast.StructType{}}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				if st, ok := n.Type.(*ast.StructType); ok {
					s.structs[n.Name.Name] = st
				}
			case *ast.ValueSpec:
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "Kind" && len(n.Values) == 1 {
					s.kinds[strings.Trim(n.Values[0].(*ast.BasicLit).Value, `"`)] = comment(n.Doc, n.Comment)
				}
			}
			return true
		})
	}
	return s
}

// fields writes one row for each field of a struct that is in its JSON form.
func (s source) fields(t *testing.T, b *bytes.Buffer, name, prefix string) {
	t.Helper()
	st := s.structs[name]
	if st == nil {
		t.Fatalf("no struct is called %s", name)
	}
	fmt.Fprint(b, "| field | type | meaning |\n|---|---|---|\n")
	for _, f := range st.Fields.List {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		key, _, _ := strings.Cut(tag, ",")
		if key == "-" {
			continue
		}
		if slices.ContainsFunc(payloads, func(p struct{ typ, key, kinds string }) bool { return p.key == key && name == "Event" }) {
			continue
		}
		meaning := cell(comment(f.Doc, f.Comment))
		if meaning == "" {
			t.Errorf("field %s.%s has no word of documentation", name, key)
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, key, form(f.Type), meaning)
	}
}

func comment(groups ...*ast.CommentGroup) string {
	var parts []string
	for _, g := range groups {
		if text := strings.TrimSpace(g.Text()); text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " ")
}

func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// form returns what the JSON of a Go type is.
func form(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return form(x.X)
	case *ast.ArrayType:
		return "list of " + form(x.Elt)
	case *ast.SelectorExpr:
		return map[string]string{
			"Time": "time (RFC 3339)", "Duration": "nanoseconds", "AddrPort": "address:port", "Addr": "address",
		}[x.Sel.Name]
	case *ast.Ident:
		switch x.Name {
		case "string", "Kind", "Origin", "PeerKind", "Scope":
			return "text"
		case "bool":
			return "true or absent"
		case "int", "int64", "uint16", "uint32", "uint64":
			return "number"
		case "Key":
			return "pid-start"
		case "Capabilities":
			return "list of names"
		}
		return "object"
	}
	return ""
}
