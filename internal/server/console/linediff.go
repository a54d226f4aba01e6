package console

import (
	"slices"
	"strings"
)

const (
	// maxEdits bounds how many lines two texts may differ by for the shortest way
	// from one to the other to be looked for, which takes room for the square of it:
	// some megabytes. Beyond, what differs is told as taken out and put in whole.
	maxEdits = 1_000
	// contextLines are shown around what has changed.
	contextLines = 3
)

// diffMark says what became of a line.
type diffMark int

const (
	same diffMark = iota
	taken
	put
	skipped // lines that are the same and not shown
)

// diffLine is a line of one text, the other, or both; numbers count from 1, 0 for
// none. Of skipped lines, Text is empty and Count says how many.
type diffLine struct {
	Mark     diffMark
	Old, New int
	Text     string
	Count    int
}

// diffLines returns how one text becomes the other, line by line. All lines are in
// it: see folded.
func diffLines(from, to string) []diffLine {
	a, b := splitLines(from), splitLines(to)
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	d := differ{a: a, b: b}
	for i := range head {
		d.keep(i, i)
	}
	d.middle(head, len(a)-tail, head, len(b)-tail)
	for i := tail; i > 0; i-- {
		d.keep(len(a)-i, len(b)-i)
	}
	return d.out
}

// splitLines takes a text apart; the end of its last line is none of its own.
func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// differ writes what it finds.
type differ struct {
	a, b []string
	out  []diffLine
}

func (d *differ) keep(i, j int) { d.out = append(d.out, diffLine{same, i + 1, j + 1, d.a[i], 1}) }
func (d *differ) take(i int)    { d.out = append(d.out, diffLine{taken, i + 1, 0, d.a[i], 1}) }
func (d *differ) put(j int)     { d.out = append(d.out, diffLine{put, 0, j + 1, d.b[j], 1}) }

// middle tells lines i to m of a and j to n of b, by the greedy algorithm of Myers
// (An O(ND) Difference Algorithm, 1986): steps has for each number of edits how far
// each diagonal reaches.
func (d *differ) middle(i, m, j, n int) {
	a, b := d.a[i:m], d.b[j:n]
	steps := reach(a, b)
	if steps == nil {
		for k := range a {
			d.take(i + k)
		}
		for k := range b {
			d.put(j + k)
		}
		return
	}
	type move struct {
		mark diffMark
		x, y int
	}
	var back []move
	x, y := len(a), len(b)
	for edits := len(steps) - 1; edits >= 0; edits-- {
		k := x - y
		down := edits > 0 && (k == -edits || k != edits && at(steps, edits-1, k-1) < at(steps, edits-1, k+1))
		px, py := 0, 0
		if edits > 0 {
			if down {
				px = at(steps, edits-1, k+1)
				py = px - k - 1
			} else {
				px = at(steps, edits-1, k-1)
				py = px - k + 1
			}
		}
		for x > px && y > py && (edits == 0 || x > px+first(!down) || y > py+first(down)) {
			x, y = x-1, y-1
			back = append(back, move{same, x, y})
		}
		if edits == 0 {
			break
		}
		if down {
			back = append(back, move{put, px, py})
		} else {
			back = append(back, move{taken, px, py})
		}
		x, y = px, py
	}
	for _, v := range slices.Backward(back) {
		switch v.mark {
		case same:
			d.keep(i+v.x, j+v.y)
		case taken:
			d.take(i + v.x)
		case put:
			d.put(j + v.y)
		}
	}
}

// at returns how far diagonal k reaches with so many edits; steps hold every second
// diagonal, from the lowest on.
func at(steps [][]int32, edits, k int) int { return int(steps[edits][(k+edits)/2]) }

// reach returns for each number of edits, up to as many as it takes, how far in a
// each diagonal reaches; nil if it takes too many.
func reach(a, b []string) [][]int32 {
	var steps [][]int32
	for edits := 0; edits <= maxEdits; edits++ {
		now := make([]int32, edits+1)
		for k := -edits; k <= edits; k += 2 {
			x := 0
			switch {
			case edits == 0:
			case k == -edits || k != edits && at(steps, edits-1, k-1) < at(steps, edits-1, k+1):
				x = at(steps, edits-1, k+1)
			default:
				x = at(steps, edits-1, k-1) + 1
			}
			y := x - k
			for x < len(a) && y >= 0 && y < len(b) && a[x] == b[y] {
				x, y = x+1, y+1
			}
			now[(k+edits)/2] = int32(x)
			if x >= len(a) && y >= len(b) {
				return append(steps, now)
			}
		}
		steps = append(steps, now)
	}
	return nil
}

// folded leaves out lines that are the same and far from all that changed.
func folded(all []diffLine) (out []diffLine) {
	near := make([]bool, len(all))
	for i, l := range all {
		if l.Mark == same {
			continue
		}
		for j := max(0, i-contextLines); j <= min(len(all)-1, i+contextLines); j++ {
			near[j] = true
		}
	}
	for i, l := range all {
		switch last := len(out) - 1; {
		case near[i]:
			out = append(out, l)
		case last >= 0 && out[last].Mark == skipped:
			out[last].Count++
		default:
			out = append(out, diffLine{Mark: skipped, Count: 1})
		}
	}
	return out
}

// changed counts the lines that were taken out and put in.
func changed(all []diffLine) (takenOut, putIn int) {
	for _, l := range all {
		switch l.Mark {
		case taken:
			takenOut++
		case put:
			putIn++
		}
	}
	return takenOut, putIn
}
