package console

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// linesOf is a difference as diff writes it.
func linesOf(all []diffLine) string {
	var b strings.Builder
	for _, l := range all {
		if l.Mark == skipped {
			fmt.Fprintf(&b, "…%d ", l.Count)
			continue
		}
		fmt.Fprintf(&b, "%s%s ", map[diffMark]string{same: "=", taken: "-", put: "+"}[l.Mark], l.Text)
	}
	return strings.TrimSpace(b.String())
}

func lined(s string) string { return strings.ReplaceAll(s, " ", "\n") }

func TestDiffLines(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"nothing", "", "", ""},
		{"alike", "a b c", "a b c", "=a =b =c"},
		{"all new", "", "a b", "+a +b"},
		{"all gone", "a b", "", "-a -b"},
		{"put in", "a c", "a b c", "=a +b =c"},
		{"taken out", "a b c", "a c", "=a -b =c"},
		{"changed", "a b c", "a x c", "=a -b +x =c"},
		{"moved", "a b c d", "b c d a", "-a =b =c =d +a"},
		{"as the paper has it", "a b c a b b a", "c b a b a c", "-a -b =c +b =a =b -b =a +c"},
		{"nothing alike", "a b", "x y z", "-a -b +x +y +z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, linesOf(diffLines(lined(c.from), lined(c.to)))); d != "" {
				t.Error(d)
			}
		})
	}
}

// holds fails unless a difference has both texts in it, in order, with their
// numbers.
func holds(t *testing.T, from, to string) {
	t.Helper()
	var a, b []string
	for _, l := range diffLines(from, to) {
		if l.Mark != put {
			if a = append(a, l.Text); l.Old != len(a) {
				t.Fatalf("%q is line %d of the former text, want %d", l.Text, l.Old, len(a))
			}
		}
		if l.Mark != taken {
			if b = append(b, l.Text); l.New != len(b) {
				t.Fatalf("%q is line %d of the new text, want %d", l.Text, l.New, len(b))
			}
		}
	}
	if d := cmp.Diff(splitLines(from), a); d != "" {
		t.Errorf("the former text: %s", d)
	}
	if d := cmp.Diff(splitLines(to), b); d != "" {
		t.Errorf("the new text: %s", d)
	}
}

func TestDiffLinesHasBothTexts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func(n int) string {
		var b strings.Builder
		for range r.IntN(n) {
			b.WriteString(string(rune('a'+r.IntN(4))) + "\n")
		}
		return b.String()
	}
	for range 500 {
		holds(t, some(30), some(30))
	}
	far := func(s string) string {
		return strings.Repeat(s+"\n", 3) + strings.Repeat(s+s+"\n"+s+"x\n", maxEdits) + "end\n"
	}
	holds(t, far("a"), far("b")) // too far apart to be looked at closely
}

func TestFolded(t *testing.T) {
	from := strings.Repeat("l\n", 20)
	got := linesOf(folded(diffLines(from, from[:20]+"new\n"+from[20:])))
	if want := "…7 =l =l =l +new =l =l =l …7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := linesOf(folded(diffLines(from, from))); got != "…20" {
		t.Errorf("nothing changed: got %s", got)
	}
}

func FuzzDiffLines(f *testing.F) {
	f.Add("a\nb\n", "b\nc")
	f.Add("", "\n\n")
	f.Fuzz(func(t *testing.T, from, to string) {
		if len(from)+len(to) < 1<<16 {
			holds(t, from, to)
		}
	})
}
