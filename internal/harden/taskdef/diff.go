package taskdef

import (
	"fmt"
	"slices"
	"strings"
)

// edit is a line of a comparison.
type edit struct {
	line
	kind byte // ' ', '-' or '+'
}

// maxEdits bounds a comparison, whose cost grows with the square of the edits: more
// change in a document only if it has lists of thousands, which are shown whole.
const maxEdits = 2_000

// compare returns the lines of both in the fewest edits (Myers, 1986), or all of
// what differs if those are too many.
func compare(a, b []line) []edit {
	same := 0
	for same < min(len(a), len(b)) && a[same].text == b[same].text {
		same++
	}
	tail := 0
	for tail < min(len(a), len(b))-same && a[len(a)-1-tail].text == b[len(b)-1-tail].text {
		tail++
	}
	edits := kept(nil, b[:same], ' ')
	edits = append(edits, between(a[same:len(a)-tail], b[same:len(b)-tail])...)
	return kept(edits, b[len(b)-tail:], ' ')
}

func kept(edits []edit, lines []line, kind byte) []edit {
	for _, l := range lines {
		edits = append(edits, edit{l, kind})
	}
	return edits
}

// between compares lines that differ at both ends.
func between(a, b []line) []edit {
	limit := min(len(a)+len(b), maxEdits)
	far := make([]int, 2*limit+3) // by diagonal, the furthest line of a
	at := func(k int) *int { return &far[k+limit+1] }
	var trace [][]int // far before each step, as far as it was used
	for d := 0; d <= limit; d++ {
		trace = append(trace, slices.Clone(far[limit-d:limit+d+3]))
		for k := -d; k <= d; k += 2 {
			x := *at(k - 1) + 1
			if k == -d || k != d && *at(k - 1) < *at(k + 1) {
				x = *at(k + 1)
			}
			for x < len(a) && x-k < len(b) && a[x].text == b[x-k].text {
				x++
			}
			*at(k) = x
			if x >= len(a) && x-k >= len(b) {
				return backward(a, b, trace)
			}
		}
	}
	return kept(kept(nil, a, '-'), b, '+')
}

// backward follows a comparison from its end.
func backward(a, b []line, trace [][]int) []edit {
	var edits []edit
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		at := func(k int) int { return trace[d][k+d+1] }
		k := x - y
		from := k - 1
		if k == -d || k != d && at(k-1) < at(k+1) {
			from = k + 1
		}
		fromX := at(from)
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
	slices.Reverse(edits)
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
