// Package yara_test holds the reader of YARA's rules against YARA itself: the same
// rules, the same files, the same matches.
package yara_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/scan"
)

// rules use what is known of the language.
const rules = `
rule text { strings: $a = "socket" nocase fullword $b = "connect" wide ascii condition: $a and #b > 1 }
rule widened { strings: $a = "needle" wide nocase condition: $a }
rule xored { strings: $a = "secret needle" xor(1-255) condition: $a }
rule based { strings: $a = "a secret needle" base64 condition: $a }
rule hex { strings: $a = { 6E 65 65 ( 64 | 74 ) [0-6] 6C ?? } $b = { 7F 45 4C 46 0? 01 } condition: any of them }
rule elf { strings: $a = { 7F 45 4C 46 } condition: $a at 0 and uint16(16) >= 2 and uint8(4) == 2 }
rule jumps { strings: $a = { 48 89 E5 [2-40] C9 C3 } condition: #a > 0 }
rule expression { strings: $a = /\b(im|ex)port[a-z]{0,3} [a-z_.]{3,20}\b/ $b = /^#![ \/a-z]+/ condition: #a > 2 or $b }
rule borders { strings: $a = /needle$/ $b = /\bneedles?\b/ fullword condition: any of them }
rule places { strings: $a = "needle" condition: for any i in (1..#a) : ( @a[i] % 7 == 3 and uint8(@a[i] + 6) != 0x73 ) }
rule several { strings: $a1 = "need" $a2 = "needle" $a3 = "needles" $b = "never so there" condition: 2 of ($a*) and not $b and for all of ($a1, $a2) : ( # >= 1 ) }
rule share { strings: $a = "alpha" $b = "beta" $c = "gamma" $d = "delta" condition: any of them in (0..filesize \ 2) and filesize < 4KB }
rule refers { condition: (several or text) and not widened and filesize > 10 }
rule open_end { strings: $a = "delta" condition: @a[1] > 20 or #a in (0..50) == 2 }
`

// words are what files are made of.
var words = []string{"needle", "NEEDLE", "needles", "neet--lx", "secret needle", "a secret needle", "YSBzZWNyZXQgbmVlZGxl", "IGEgc2VjcmV0IG5lZWRsZSA", "n\x00e\x00e\x00d\x00l\x00e\x00",
	"socket", "sockets", "connect", "c\x00o\x00n\x00n\x00e\x00c\x00t\x00", "import os.path", "export some_thing", "importing a_name", "#!/bin/sh", "\x7fELF\x02\x01\x01", "\x48\x89\xe5\x90\x90\x90\xc9\xc3",
	"alpha", "beta", "gamma", "delta", "\x00\x00", "\xff", "\n", " ", "_", ".", strings.Repeat("x", 37)}

// fill writes files: made ones, and programs and scripts of this system.
func fill(t *testing.T, folder string) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 8))
	for n := range 1500 {
		var b strings.Builder
		for range 1 + r.IntN(14) {
			w := words[r.IntN(len(words))]
			if r.IntN(12) == 0 {
				key := byte(1 + r.IntN(255))
				w = strings.Map(func(c rune) rune { return rune(byte(c) ^ key&0x7f) }, w)
			}
			b.WriteString(w)
			if n%500 == 0 { // some reach over what is held of a file at once
				b.WriteString(strings.Repeat("y", 40_000))
			}
		}
		write(t, filepath.Join(folder, fmt.Sprintf("made-%d", n)), []byte(b.String()))
	}
	for _, pattern := range []string{"/bin/*", "/usr/bin/[a-d]*", "/usr/lib/python3*/[a-e]*.py"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names[:min(len(names), 120)] {
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && info.Size() < 4<<20 {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(folder, strings.ReplaceAll(strings.Trim(name, "/"), "/", "-")), b)
			}
		}
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if len(b) < 8 {
		return // of which Castellan takes no notice
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheSameAsYARA(t *testing.T) {
	program := need.Program(t, "yara", "apt-get install yara")
	dir := t.TempDir()
	folder, file := filepath.Join(dir, "files"), filepath.Join(dir, "rules.yar")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	fill(t, folder)
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), program, "--no-warnings", "--recursive", file, folder)
	var said, complained strings.Builder
	c.Stdout, c.Stderr = &said, &complained
	if err := c.Run(); err != nil {
		t.Fatalf("yara: %v: %s", err, complained.String())
	}
	theirs := strings.Split(strings.TrimSpace(strings.ReplaceAll(said.String(), folder, "")), "\n")
	slices.Sort(theirs)

	e, refused, err := scan.NewMalware(scan.MalwareOptions{Rules: []scan.MalwareRules{{Name: "rules.yar", Text: rules}}})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	inv, err := scan.New(scan.Options{Malware: e}).Tree(t.Context(), os.DirFS(folder), scan.Target{Kind: inventory.KindSource, Name: folder})
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	met := map[string]int{}
	for _, m := range inv.Malware {
		if !strings.Contains(m.Rule, "-") { // else it is built in
			ours = append(ours, m.Rule+" "+m.Path)
			met[m.Rule]++
		}
	}
	slices.Sort(ours)
	if d := cmp.Diff(ours, theirs); d != "" {
		t.Errorf("differs from YARA (-ours +theirs):\n%s", d)
	}
	t.Logf("%d matches of %d rules in both: %v", len(ours), len(met), met)
	if want := strings.Count(rules, "\nrule "); len(met) != want {
		t.Errorf("%d rules of %d are met anywhere: the files do not try the others", len(met), want)
	}
}
