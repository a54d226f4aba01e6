package harden_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/profile"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func nginx(t testing.TB) profile.Profile {
	t.Helper()
	p, err := harden.ReadProfile(read(t, "nginx.json"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each output of the profile in testdata is as in the golden files, which
// `make golden` writes anew.
func TestOutputsAreAsInTheGoldenFiles(t *testing.T) {
	p := nginx(t)
	r, err := harden.Compile(&p, harden.Options{Outputs: harden.Outputs(), TaskDefinition: read(t, "task.json"), File: "task.json", Module: harden.AppArmor})
	if err != nil {
		t.Fatal(err)
	}
	report, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	files := append(r.Files, harden.File{Name: "report.json", Content: string(report) + "\n"})
	if len(files) != len(harden.Outputs())+1 {
		t.Errorf("%d files, want one for each output", len(files)-1)
	}
	for _, f := range files {
		golden := filepath.Join("testdata", "golden", f.Name)
		if os.Getenv("CASTELLAN_GOLDEN") == "write" {
			if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, []byte(f.Content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if f.Content != string(want) {
			t.Errorf("%s differs from %s:\n%s", f.Name, golden, f.Content)
		}
	}
}

// The same profile gives the same text, whatever the order of maps.
func TestOneProfileGivesOneText(t *testing.T) {
	p := nginx(t)
	o := harden.Options{Outputs: harden.Outputs(), TaskDefinition: read(t, "task.json")}
	first, err := harden.Compile(&p, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := harden.Compile(&p, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range again.Files {
			if f.Content != first.Files[i].Content {
				t.Fatalf("%s differs from one time to the next", f.Name)
			}
		}
		if !slices.Equal(again.Notes, first.Notes) {
			t.Fatal("the notes differ from one time to the next")
		}
	}
}

func TestWhatIsNoProfileIsRefused(t *testing.T) {
	for name, p := range map[string]profile.Profile{
		"no group":             {},
		"relative program":     {Group: "a/b/c", Executables: []profile.Executable{{Path: "bin/x"}}},
		"program without path": {Group: "a/b/c", Executables: []profile.Executable{{}}},
		"path that goes up":    {Group: "a/b/c", Writes: []profile.File{{Path: "/a/../b"}}},
		"zero byte":            {Group: "a/b/c", Writes: []profile.File{{Path: "/a\x00b"}}},
		"** in the middle":     {Group: "a/b/c", Reads: []profile.File{{Path: "/a/**/b"}}},
		"call with a quote":    {Group: "a/b/c", Calls: []profile.Call{{Name: `open"`}}},
		"call with a line":     {Group: "a/b/c", Calls: []profile.Call{{Name: "open\n"}}},
		"capability":           {Group: "a/b/c", Capabilities: []profile.Capability{{Name: "chown,\n capability sys_admin"}}},
		"CAP_ in front":        {Group: "a/b/c", Capabilities: []profile.Capability{{Name: "CAP_CHOWN"}}},
		"kind":                 {Group: "a/b/c", Privileges: []profile.Privilege{{Kind: "privilege.all"}}},
		"protocol":             {Group: "a/b/c", Listens: []profile.Listen{{Protocol: "sctp"}}},
		"ports backwards":      {Group: "a/b/c", Peers: []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 2, Last: 1}}}},
		"too many":             {Group: "a/b/c", Writes: make([]profile.File, profile.MaxPatterns+1)},
	} {
		_, err := harden.Compile(&p, harden.Options{Outputs: []harden.Output{harden.AppArmor}})
		if fault.Of(err) != fault.Invalid || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want that it is invalid, with a remedy", name, err)
		}
	}
}

func TestRulesForLandlockAreReadAsTheyAreWritten(t *testing.T) {
	p := nginx(t)
	r, err := harden.Compile(&p, harden.Options{Outputs: []harden.Output{harden.Landlock}})
	if err != nil {
		t.Fatal(err)
	}
	text := r.Files[0].Content
	if l, err := harden.ReadLandlock([]byte(text)); err != nil || l.Group != p.Group || len(l.Paths) == 0 {
		t.Errorf("got %+v, %v", l, err)
	}
	for name, damaged := range map[string]string{
		"cut off":         text[:len(text)/2],
		"unknown field":   strings.Replace(text, `"paths"`, `"pathes"`, 1),
		"another version": strings.Replace(text, `"version": 1`, `"version": 2`, 1),
		"something after": text + "{}",
		"unknown right":   strings.Replace(text, `"list"`, `"everything"`, 1),
	} {
		if _, err := harden.ReadLandlock([]byte(damaged)); fault.Of(err) != fault.Invalid {
			t.Errorf("%s: got %v, want that it is invalid", name, err)
		}
	}
}

func FuzzReadLandlock(f *testing.F) {
	f.Add([]byte(`{"version":1,"group":"a","paths":[{"path":"/","rights":["read"]}],"tcp_bind":[{"first":1,"last":2}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := harden.ReadLandlock(b); err == nil && l.Check() != nil {
			t.Errorf("%q is read and can't be applied", b)
		}
	})
}
