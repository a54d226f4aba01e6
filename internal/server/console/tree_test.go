package console

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
)

func proc(pid, parent uint32, more ...func(*event.Running)) event.Running {
	r := event.Running{Process: event.Process{
		Key: event.Key{PID: pid, Start: uint64(pid)}, Parent: event.Key{PID: parent, Start: uint64(parent)}, Name: fmt.Sprint("p", pid),
	}}
	for _, f := range more {
		f(&r)
	}
	return r
}

func over(r *event.Running)  { t := time.Unix(1, 0); r.Ended = &t }
func enter(r *event.Running) { r.Entered = true }

// outline writes a tree as pids in brackets.
func outline(nodes []*node) string {
	var b strings.Builder
	for i, n := range nodes {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, n.Process.Key.PID)
		if n.Ended != nil {
			b.WriteByte('x')
		}
		if len(n.Children)+n.Folded > 0 {
			fmt.Fprintf(&b, "(%s", outline(n.Children))
			if n.Folded > 0 {
				fmt.Fprintf(&b, " +%d", n.Folded)
			}
			b.WriteByte(')')
		}
	}
	return b.String()
}

func TestTree(t *testing.T) {
	for _, tc := range []struct {
		name  string
		procs []event.Running
		want  string
	}{
		{"empty", nil, ""},
		{"children in order of start", []event.Running{proc(3, 1), proc(2, 1), proc(1, 0)}, "1(2 3)"},
		{"entered from outside is a root", []event.Running{proc(1, 0), proc(9, 77, enter), proc(10, 9)}, "1 9(10)"},
		{"parent has gone", []event.Running{proc(1, 0), proc(5, 4)}, "1 5"},
		{"a circle", []event.Running{proc(1, 2), proc(2, 1)}, "1(2)"},
		{"its own parent", []event.Running{proc(1, 1)}, "1"},
		{"told twice", []event.Running{proc(1, 0), proc(2, 1), proc(2, 1, over), proc(2, 1)}, "1(2x)"},
		{"ended ones fold", []event.Running{
			proc(1, 0), proc(2, 1, over), proc(3, 1, over), proc(4, 1, over), proc(5, 1), proc(6, 1, over), proc(7, 1, over), proc(8, 1, over), proc(9, 1, over),
		}, "1(4x 5 6x 7x 8x 9x +2)"},
		{"what entered never folds", []event.Running{
			proc(1, 0), proc(2, 1, over, enter), proc(3, 1, over), proc(4, 1, over), proc(5, 1, over), proc(6, 1, over), proc(7, 1, over),
		}, "1(2x 3x 4x 5x 6x 7x)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(outline(newTree(tc.procs, true, "a").Roots), tc.want); diff != "" {
				t.Errorf("tree (-got +want):\n%s", diff)
			}
		})
	}
}

func TestTreeIsBounded(t *testing.T) {
	var deep, wide []event.Running
	for pid := range uint32(5_000) {
		deep = append(deep, proc(pid+1, pid))
		wide = append(wide, proc(pid+2, 1, func(r *event.Running) {
			if pid < 4_900 {
				over(r)
			}
		}))
	}
	wide = append(wide, proc(1, 0))
	for name, procs := range map[string][]event.Running{"deep": deep, "wide": wide} {
		got := newTree(procs, true, "a")
		if got.Running+got.Ended != maxNodes || got.Hidden != len(procs)-maxNodes {
			t.Errorf("%s: got %d shown and %d hidden of %d", name, got.Running+got.Ended, got.Hidden, len(procs))
		}
		if n := depth(got.Roots); n > maxDepth+1 {
			t.Errorf("%s: got %d levels, want at most %d", name, n, maxDepth+1)
		}
	}
	if got := newTree(wide, true, "a"); got.Running != 101 {
		t.Errorf("got %d running shown, want all 101: they come before ended ones", got.Running)
	}
}

func depth(nodes []*node) (n int) {
	for _, c := range nodes {
		n = max(n, 1+depth(c.Children))
	}
	return n
}
