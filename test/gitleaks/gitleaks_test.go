// Package gitleaks_test holds the search for secrets against gitleaks' own
// library, on gitleaks' own rules: what it finds, Castellan must find too, and
// faster. It is a module of its own, so that what gitleaks needs stays out of the
// program's go.mod.
package gitleaks_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp/syntax"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/zricethezav/gitleaks/v8/detect"
	"github.com/zricethezav/gitleaks/v8/logging"
	"github.com/zricethezav/gitleaks/v8/sources"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

func detector(t testing.TB) *detect.Detector {
	t.Helper()
	logging.Logger = logging.Logger.Level(zerolog.Disabled)
	d, err := detect.NewDetectorDefaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func engine(t testing.TB) *secret.Engine {
	t.Helper()
	e, err := secret.New(secret.Options{Gitleaks: true})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// print is what the engine prints of a value when it has no salt.
func print(value string) string {
	h := hmac.New(sha256.New, nil)
	h.Write([]byte("value\x00" + value + "\x00"))
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// theirs and ours are what was found, as rule and print of the value.
func theirs(d *detect.Detector, path, text string) []string {
	var out []string
	for _, f := range d.Detect(detect.Fragment(sources.Fragment{Raw: text, FilePath: path})) {
		out = append(out, f.RuleID+" "+print(f.Secret))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func ours(t testing.TB, e *secret.Engine, path, text string) []string {
	t.Helper()
	found, err := e.Find(context.Background(), secret.File{Path: path}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range found {
		if f.Allowed == nil {
			out = append(out, f.Rule+" "+f.Same)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func missing(all, of []string) (out []string) {
	for _, s := range of {
		if !slices.Contains(all, s) {
			out = append(out, s)
		}
	}
	return out
}

// write makes a text that an expression matches.
func write(r *rand.Rand, re *syntax.Regexp, b *strings.Builder) {
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 && r.IntN(2) == 0 {
				c = []rune(strings.ToLower(string(c)))[0]
			}
			b.WriteRune(c)
		}
	case syntax.OpCharClass:
		var of []rune
		for i := 0; i < len(re.Rune); i += 2 {
			for c := re.Rune[i]; c <= re.Rune[i+1] && c < 127; c++ {
				if c >= ' ' || c == '\n' || c == '\t' {
					of = append(of, c)
				}
			}
		}
		if len(of) > 0 {
			b.WriteRune(of[r.IntN(len(of))])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte("abcdefghijk xyz0123456789"[r.IntN(25)])
	case syntax.OpCapture:
		write(r, re.Sub[0], b)
	case syntax.OpConcat:
		for _, s := range re.Sub {
			write(r, s, b)
		}
	case syntax.OpAlternate:
		write(r, re.Sub[r.IntN(len(re.Sub))], b)
	case syntax.OpQuest, syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		lo, hi := re.Min, re.Max
		switch re.Op {
		case syntax.OpQuest:
			lo, hi = 0, 1
		case syntax.OpStar:
			lo, hi = 0, -1
		case syntax.OpPlus:
			lo, hi = 1, -1
		}
		if hi < 0 {
			hi = lo + 40
		}
		for range lo + r.IntN(hi-lo+1) {
			write(r, re.Sub[0], b)
		}
	}
}

// filler is text between secrets, with words that keywords are.
func filler(r *rand.Rand, b *strings.Builder) {
	words := []string{"the", "key", "token", "api", "= ", "secret:", "\n", "auth", " ", "password", "value", "\"", "return", "if", "access", ";", "0123", "-", "facebook", "curl -H ", "BEGIN", "ey", "data:\n", "kind: Secret\n", "x", "https://", "{", "}"}
	for range r.IntN(60) {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
}

// filesOf names files for the rules that are for some alone.
var filesOf = map[string]string{"hashicorp-tf-password": "main.tf", "nuget-config-password": "nuget.config", "freemius-secret-key": "index.php"}

// TestGeneratedSecrets writes what each rule's expression matches into text, many
// times, and wants all that gitleaks finds.
func TestGeneratedSecrets(t *testing.T) {
	d, e := detector(t), engine(t)
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]string, 0, len(d.Config.Rules))
	for id := range d.Config.Rules {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	found, more := 0, 0
	for _, id := range ids {
		rule := d.Config.Rules[id]
		if rule.Regex == nil {
			continue
		}
		re, err := syntax.Parse(rule.Regex.String(), syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 6 {
			var b strings.Builder
			filler(r, &b)
			if n%3 == 0 && len(rule.Keywords) > 0 {
				b.WriteString(rule.Keywords[0] + " ")
			}
			for range 1 + r.IntN(3) {
				write(r, re, &b)
				if n%2 == 0 {
					b.WriteByte('\n')
				}
			}
			filler(r, &b)
			for _, path := range []string{"config/app.yaml", filesOf[id]} {
				want, got := theirs(d, path, b.String()), ours(t, e, path, b.String())
				found += len(want)
				if extra := missing(want, got); len(extra) > 0 {
					more += len(extra)
					t.Logf("%s: more %v", id, extra)
				}
				if lost := missing(got, want); len(lost) > 0 {
					t.Errorf("%s in %q: lost %v of\n%q", id, path, lost, b.String())
				}
			}
		}
	}
	t.Logf("%d found by gitleaks, %d more by Castellan", found, more)
	if found < 1000 {
		t.Errorf("gitleaks found %d secrets: the texts are no test", found)
	}
}

// corpus are the files of real source code on this machine, up to a size.
func corpus(t testing.TB, limit int64) map[string]string {
	t.Helper()
	root := os.Getenv("CASTELLAN_SECRET_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..")
	}
	files := map[string]string{}
	var size int64
	err := filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || size > limit {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Size() > 90_000 {
			return err // gitleaks cuts longer ones where it likes
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if bytes.IndexByte(b, 0) < 0 {
			rel, _ := filepath.Rel(root, p)
			files[rel] = string(b)
			size += int64(len(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestRealFiles wants what gitleaks finds in real files; CASTELLAN_SECRET_CORPUS
// names a folder other than this repository.
func TestRealFiles(t *testing.T) {
	d, e := detector(t), engine(t)
	files := corpus(t, 20<<20)
	found, more := 0, 0
	for path, text := range files {
		want, got := theirs(d, path, text), ours(t, e, path, text)
		found += len(want)
		if lost := missing(got, want); len(lost) > 0 {
			t.Errorf("%s: lost %v", path, lost)
		}
		if extra := missing(want, got); len(extra) > 0 {
			more += len(extra)
			t.Logf("%s: more %v", path, extra)
		}
	}
	t.Logf("%d files, %d found by gitleaks, %d more by Castellan", len(files), found, more)
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestSpeed compares both on the same files in the same run.
func TestSpeed(t *testing.T) {
	d, e := detector(t), engine(t)
	files := corpus(t, 8<<20)
	var size int64
	for _, text := range files {
		size += int64(len(text))
	}
	begun := cpu(t)
	for path, text := range files {
		theirs(d, path, text)
	}
	slow := cpu(t) - begun
	const rounds = 5
	begun = cpu(t)
	for range rounds {
		for path, text := range files {
			ours(t, e, path, text)
		}
	}
	fast := (cpu(t) - begun) / rounds
	times := float64(slow) / float64(fast)
	fmt.Printf("%d files, %.1f MB: gitleaks %.1f MB, Castellan %.1f MB a CPU second: %.0f times\n", len(files), float64(size)/1e6,
		float64(size)/1e6/slow.Seconds(), float64(size)/1e6/fast.Seconds(), times)
	if times < 20 {
		t.Errorf("only %.1f times as fast as gitleaks, want 20", times)
	}
}
