package taskdef

import (
	"fmt"
	"strings"
)

// edit is a line of a comparison.
type edit struct {
	line
	kind byte // ' ', '-' or '+'
}

// compare returns the lines of both in the fewest edits (Myers, 1986).
func compare(a, b []line) []edit {
	limit := len(a) + len(b)
	far := map[int]int{1: 0} // by diagonal, the furthest line of a
	var trace []map[int]int
	for d := 0; d <= limit; d++ {
		step := make(map[int]int, len(far))
		for k, v := range far {
			step[k] = v
		}
		trace = append(trace, step)
		for k := -d; k <= d; k += 2 {
			x := far[k-1] + 1
			if k == -d || k != d && far[k-1] < far[k+1] {
				x = far[k+1]
			}
			for x < len(a) && x-k < len(b) && a[x].text == b[x-k].text {
				x++
			}
			far[k] = x
			if x >= len(a) && x-k >= len(b) {
				return backward(a, b, trace)
			}
		}
	}
	return nil
}

// backward follows a comparison from its end.
func backward(a, b []line, trace []map[int]int) []edit {
	var edits []edit
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		far, k := trace[d], x-y
		from := k - 1
		if k == -d || k != d && far[k-1] < far[k+1] {
			from = k + 1
		}
		fromX := far[from]
		fromY := fromX - from
		for x > fromX && y > fromY && x > 0 && y > 0 {
			x, y = x-1, y-1
			edits = append(edits, edit{b[y], ' '})
		}
		switch {
		case d == 0:
		case x == fromX:
			y--
			edits = append(edits, edit{b[y], '+'})
		default:
			x--
			edits = append(edits, edit{a[x], '-'})
		}
	}
	for i, j := 0, len(edits)-1; i < j; i, j = i+1, j-1 {
		edits[i], edits[j] = edits[j], edits[i]
	}
	return edits
}

// around is how many lines are shown before and behind what changes.
const around = 3

// unified writes edits as a unified diff; empty if nothing changes.
func unified(edits []edit, before, after string) string {
	var b strings.Builder
	oldLine, newLine := 1, 1
	for i := 0; i < len(edits); {
		if edits[i].kind == ' ' {
			i, oldLine, newLine = i+1, oldLine+1, newLine+1
			continue
		}
		first := max(0, i-around)
		last, quiet := i, 0
		for j := i; j < len(edits) && quiet <= 2*around; j++ {
			if quiet++; edits[j].kind != ' ' {
				last, quiet = j, 0
			}
		}
		end := min(len(edits), last+1+around)
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", before, after)
		}
		oldLine, newLine = hunk(&b, edits[first:end], oldLine-(i-first), newLine-(i-first))
		i = end
	}
	return b.String()
}

// hunk writes a part of a diff, and returns the numbers of the lines behind it.
func hunk(b *strings.Builder, edits []edit, oldLine, newLine int) (oldNext, newNext int) {
	olds, news := 0, 0
	for _, e := range edits {
		if e.kind != '+' {
			olds++
		}
		if e.kind != '-' {
			news++
		}
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", oldLine, olds, newLine, news)
	for _, e := range edits {
		fmt.Fprintf(b, "%c%s\n", e.kind, e.text)
	}
	return oldLine + olds, newLine + news
}
