// Package arch_test is the law of the house: it reads the module's own source
// and fails with a sentence where a package is on no floor, imports what its
// floor may not, or grows out of hand. The map it holds is explained in
// docs/house.md.
package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/castellan-security/castellan/"

// floors lists who may import whom. Reading this table is reading the map.
var floors = []struct{ name, rooms, mayImport string }{
	{"ground", "internal/fault internal/need internal/untrusted internal/pull internal/pace internal/whole", ""},
	{"nouns", "internal/asset internal/event internal/inventory internal/advisory internal/finding internal/threat internal/notice internal/response internal/signature internal/admission internal/profile internal/written internal/sealed internal/access internal/grant", "ground nouns"},
	{"wire", "proto", ""},
	{"ports", "internal/store internal/link", "ground nouns wire"},
	{"rooms", "internal/scan internal/trust internal/admit internal/watch internal/detect internal/respond internal/harden internal/firewall internal/vault internal/posture", "ground nouns ports"},
	{"doors", "internal/adapter", "ground nouns ports"},
	{"halls", "internal/agent internal/server", "ground nouns ports rooms"},
	{"street", "cmd", "ground nouns ports rooms doors halls"},
	{"yard", "test", "ground nouns ports rooms doors halls"},
	{"fair", "demo", ""},
	{"law", "internal/arch", ""},
}

// fences name the only packages that may import a dependency.
var fences = map[string]string{
	"github.com/aws/aws-sdk-go-v2": "internal/adapter/aws",
	"github.com/cilium/ebpf":       "internal/adapter/bpf test",
	"github.com/moby/moby":         "internal/adapter/docker test",
	"github.com/coreos/go-systemd": "internal/adapter/systemd",
	"modernc.org/sqlite":           "internal/adapter/db demo",
	"database/sql":                 "internal/adapter/db demo",
	"os/exec":                      "internal/adapter internal/need test demo",
	"connectrpc.com/connect":       "internal/link proto",
	"testing":                      "internal/need internal/store/storetest test",
	"net/http/httptest":            "test",
	"unsafe":                       "internal/adapter test",
}

// neverNamed are package names that say nothing about what is inside.
const neverNamed = "util utils common helper helpers type types shared manager base misc core lib"

// room returns the floor a package is on and the room it is in.
// Each folder below internal/adapter is a room of its own.
func room(pkg string) (floor, name string) {
	for _, f := range floors {
		for r := range strings.FieldsSeq(f.rooms) {
			if under(pkg, r) {
				floor, name = f.name, r
			}
		}
	}
	if floor == "doors" {
		system, _, _ := strings.Cut(strings.TrimPrefix(pkg, name+"/"), "/")
		name += "/" + system
	}
	return floor, name
}

func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

func underAny(pkg, dirs string) bool {
	return slices.ContainsFunc(strings.Fields(dirs), func(d string) bool { return under(pkg, d) })
}

// broken returns, as sentences, what the import of imported by pkg breaks.
func broken(pkg, imported string) []string {
	var laws []string
	from, mine := room(pkg)
	if from == "" {
		return []string{"package " + pkg + " has no floor; add it to floors in internal/arch or move it to its room"}
	}
	for dep, home := range fences {
		if under(imported, dep) && !underAny(pkg, home) {
			laws = append(laws, imported+" may be imported only below "+home+": a door keeps its outside system to itself")
		}
	}
	target, ours := strings.CutPrefix(imported, module)
	if !ours {
		return laws
	}
	to, theirs := room(target)
	i := slices.IndexFunc(floors, func(f struct{ name, rooms, mayImport string }) bool { return f.name == from })
	switch {
	case mine == theirs:
	case !slices.Contains(strings.Fields(floors[i].mayImport), to):
		laws = append(laws, pkg+" ("+from+") may not import "+target+" ("+to+"): say what is needed as a small interface and let cmd introduce them")
	case to == "rooms" && target != theirs && path.Base(target) != "all":
		laws = append(laws, target+" is inside a room; enter by "+theirs)
	}
	return laws
}

func TestFloors(t *testing.T) {
	each(t, func(file, pkg string, f *ast.File, _ *token.FileSet) {
		for _, im := range f.Imports {
			p, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, law := range broken(pkg, p) {
				t.Errorf("%s: %s", file, law)
			}
		}
	})
}

func TestTheLawCatches(t *testing.T) {
	for _, tc := range []struct {
		name, pkg, imported string
		breaks              bool
	}{
		{"room imports noun", "internal/scan", module + "internal/asset", false},
		{"room imports room", "internal/scan", module + "internal/trust", true},
		{"room imports door", "internal/scan", module + "internal/adapter/oci", true},
		{"door imports door", "internal/adapter/bpf", module + "internal/adapter/kernel", true},
		{"door inside itself", "internal/adapter/bpf", module + "internal/adapter/bpf/gen", false},
		{"hall imports door", "internal/agent", module + "internal/adapter/bpf", true},
		{"hall imports hall", "internal/server", module + "internal/agent", true},
		{"cmd imports door", "cmd/castellan", module + "internal/adapter/bpf", false},
		{"noun imports port", "internal/asset", module + "internal/store", true},
		{"demo imports product", "demo/shop", module + "internal/asset", true},
		{"SQL outside its door", "internal/server", "database/sql", true},
		{"SQL in its door", "internal/adapter/db", "database/sql", false},
		{"eBPF outside its door", "internal/agent", "github.com/cilium/ebpf/ringbuf", true},
		{"processes started by a hall", "internal/server", "os/exec", true},
		{"a package without a floor", "internal/misc", "fmt", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := broken(tc.pkg, tc.imported); (len(got) > 0) != tc.breaks {
				t.Errorf("broken(%s, %s) = %q, want broken: %v", tc.pkg, tc.imported, got, tc.breaks)
			}
		})
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string]int{}
	each(t, func(_, pkg string, f *ast.File, _ *token.FileSet) {
		docs[pkg] += 0
		if f.Doc != nil {
			docs[pkg]++
		}
	})
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("%s: %d package comments, want exactly one", pkg, n)
		}
	}
}

func TestNamesSayTheThing(t *testing.T) {
	each(t, func(file, _ string, f *ast.File, _ *token.FileSet) {
		if slices.Contains(strings.Fields(neverNamed), f.Name.Name) {
			t.Errorf("%s: a package called %s says nothing about what is inside", file, f.Name.Name)
		}
	})
}

func TestFunctionsFitOnAScreen(t *testing.T) {
	const limit = 80 // nine in ten functions of well-read code bases fit in 37 to 56 lines
	each(t, func(file, _ string, f *ast.File, fset *token.FileSet) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
				if n > limit {
					t.Errorf("%s: %s is %d lines, want at most %d", file, fn.Name.Name, n, limit)
				}
			}
		}
	})
}

func TestFilesHoldOneSubject(t *testing.T) {
	const limit = 600
	each(t, func(file, _ string, f *ast.File, fset *token.FileSet) {
		if n := fset.Position(f.FileEnd).Line; n > limit {
			t.Errorf("%s has %d lines, want at most %d: split it by subject", file, n, limit)
		}
	})
}

func TestNoInitAndNoChangingPackageState(t *testing.T) {
	each(t, func(file, _ string, f *ast.File, _ *token.FileSet) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init() runs without being called; register in an explicit list", file)
			}
		}
	})
}

func TestExportedNamesAreDocumented(t *testing.T) {
	each(t, func(file, pkg string, f *ast.File, _ *token.FileSet) {
		if f.Name.Name == "main" {
			return
		}
		for _, name := range undocumented(f) {
			t.Errorf("%s: %s has no doc comment", file, name)
		}
	})
}

// undocumented lists the exported functions, methods of exported types, and
// types of a file that have no doc comment.
func undocumented(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
					names = append(names, ts.Name.Name)
				}
			}
		}
	}
	return names
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func TestTheHouseStaysShallow(t *testing.T) {
	const deep, wide = 4, 8
	folders := map[string]bool{}
	each(t, func(file, pkg string, _ *ast.File, _ *token.FileSet) {
		if n := strings.Count(pkg, "/") + 1; n > deep {
			t.Errorf("%s is %d folders deep, want at most %d", file, n, deep)
		}
		top, _, _ := strings.Cut(pkg, "/")
		folders[top] = true
	})
	if len(folders) > wide {
		t.Errorf("%d folders at the root, want at most %d", len(folders), wide)
	}
}

// each calls fn for every hand-written, non-test Go file of the module.
func each(t *testing.T, fn func(file, pkg string, f *ast.File, fset *token.FileSet)) {
	t.Helper()
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || p != "." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, src, parser.ParseComments)
		if err != nil {
			return err
		}
		if !ast.IsGenerated(f) {
			fn(p, path.Dir(p), f, fset)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
