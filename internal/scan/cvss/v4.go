package cvss

import "math"

// Metrics of version 4.0, by their number.
const (
	av4 = iota
	ac4
	at4
	pr4
	ui4
	vc4
	vi4
	va4
	sc4
	si4
	sa4
	base4 // how many are of the base group
)

const (
	e4 = base4 + iota
	cr4
	ir4
	ar4
	modified4 // the base metrics once more, as modified
	extra4    = modified4 + base4
)

// metrics4 have their values in the order of severity, gravest first, so that a
// value's number is its distance from the gravest. SI and SA can be "safety"
// only when modified; SC shares their scale, hence the value that no vector has.
var metrics4 = []metric{
	{"AV", "N A L P"}, {"AC", "L H"}, {"AT", "N P"}, {"PR", "N L H"}, {"UI", "N P A"},
	{"VC", "H L N"}, {"VI", "H L N"}, {"VA", "H L N"}, {"SC", "- H L N"}, {"SI", "- H L N"}, {"SA", "- H L N"},
	{"E", "A P U"}, {"CR", "H M L"}, {"IR", "H M L"}, {"AR", "H M L"},
	{"MAV", "N A L P"}, {"MAC", "L H"}, {"MAT", "N P"}, {"MPR", "N L H"}, {"MUI", "N P A"},
	{"MVC", "H L N"}, {"MVI", "H L N"}, {"MVA", "H L N"}, {"MSC", "- H L N"}, {"MSI", "S H L N"}, {"MSA", "S H L N"},
	{"S", "N P"}, {"AU", "N Y"}, {"R", "A U I"}, {"V", "D C"}, {"RE", "L M H"}, {"U", "Clear Green Amber Red"},
}

// group4 is one of the equivalence sets (section 8.2), with EQ3 and EQ6 as one,
// because they depend on each other: the metrics in it; for each of its levels
// the gravest vectors, and how deep the level is.
type group4 struct {
	metrics []int
	gravest [][][]int8
	depth   []float64
}

// Levels of the group of EQ3 and EQ6, by their two numbers.
const (
	level00 = iota
	level01
	level10
	level11
	level21
)

var groups4 = [...]group4{
	{[]int{av4, pr4, ui4}, [][][]int8{{{0, 0, 0}}, {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, {{3, 0, 0}, {1, 1, 1}}}, []float64{1, 4, 5}},
	{[]int{ac4, at4}, [][][]int8{{{0, 0}}, {{1, 0}, {0, 1}}}, []float64{1, 2}},
	{[]int{vc4, vi4, va4, cr4, ir4, ar4}, [][][]int8{
		{{0, 0, 0, 0, 0, 0}},
		{{0, 0, 1, 1, 1, 0}, {0, 0, 0, 1, 1, 1}},
		{{1, 0, 0, 0, 0, 0}, {0, 1, 0, 0, 0, 0}},
		{{1, 0, 1, 0, 1, 0}, {1, 0, 0, 0, 1, 1}, {0, 1, 0, 1, 0, 1}, {0, 1, 1, 1, 0, 0}, {1, 1, 0, 0, 0, 1}},
		{{1, 1, 1, 0, 0, 0}}}, []float64{7, 6, 8, 8, 10}},
	{[]int{sc4, si4, sa4}, [][][]int8{{{1, 0, 0}}, {{1, 1, 1}}, {{2, 2, 2}}}, []float64{6, 5, 4}},
}

// score4 is the scoring of section 8: the score of the macro vector, less the
// mean of how far the vector is on its way to the next lower macro vector in
// each direction.
func score4(vector string) (Score, error) {
	var levels [extra4 + 6]int8
	if err := read(vector, metrics4, "X", levels[:]); err != nil {
		return Score{}, err
	}
	if err := whole(metrics4, levels[:], base4); err != nil {
		return Score{}, err
	}
	for i := range base4 {
		if m := levels[modified4+i]; m != undefined {
			levels[i] = m
		}
	}
	for i := e4; i <= ar4; i++ {
		levels[i] = max(levels[i], 0) // not defined is the gravest
	}
	const noSystem, noSubsequent = 2, 3 // the values "none"
	if levels[vc4] == noSystem && levels[vi4] == noSystem && levels[va4] == noSystem &&
		levels[sc4] == noSubsequent && levels[si4] == noSubsequent && levels[sa4] == noSubsequent {
		return Score{"4.0", 0}, nil
	}
	at := macro4(&levels)
	value := float64(lookup4(at))
	sum, lower := 0.0, 0
	for i, g := range groups4 {
		if next := below4(at, i); next >= 0 {
			lower++
			sum += (value - float64(next)) * distance4(g, at[i], &levels) / g.depth[at[i]]
		}
	}
	if below4(at, 4) >= 0 {
		lower++ // EQ5 has one metric, so a vector is never on its way
	}
	if lower > 0 {
		value -= sum / float64(lower)
	}
	// A little more, because a half may come out as 0.4999…; FIRST's calculator
	// does the same.
	const ulp = 1e-5
	return Score{"4.0", math.Round(min(max(value, 0), 100)+ulp) / 10}, nil
}

// macro4 returns the levels of EQ1, EQ2, EQ3 with EQ6, EQ4 and EQ5.
func macro4(l *[extra4 + 6]int8) (at [5]int) {
	none := func(is ...int) bool { // none of them is at its gravest
		for _, i := range is {
			if l[i] == 0 {
				return false
			}
		}
		return true
	}
	switch {
	case l[av4] == 0 && l[pr4] == 0 && l[ui4] == 0:
	case l[av4] != 3 && !none(av4, pr4, ui4):
		at[0] = 1
	default:
		at[0] = 2
	}
	if l[ac4] != 0 || l[at4] != 0 {
		at[1] = 1
	}
	wanted := l[cr4] == 0 && l[vc4] == 0 || l[ir4] == 0 && l[vi4] == 0 || l[ar4] == 0 && l[va4] == 0
	switch {
	case none(vc4, vi4, va4):
		at[2] = level21
	case l[vc4] == 0 && l[vi4] == 0:
		at[2] = level01
		if wanted {
			at[2] = level00
		}
	default:
		at[2] = level11
		if wanted {
			at[2] = level10
		}
	}
	switch {
	case !none(si4, sa4):
	case l[sc4] == 1 || l[si4] == 1 || l[sa4] == 1:
		at[3] = 1
	default:
		at[3] = 2
	}
	at[4] = int(l[e4])
	return at
}

// below4 returns the score of the next lower macro vector in a direction, or -1.
func below4(at [5]int, group int) int {
	next := func(level int) int {
		at[group] = level
		return lookup4(at)
	}
	if group != 2 {
		return next(at[group] + 1)
	}
	switch at[2] {
	case level00:
		return max(next(level01), next(level10))
	case level01, level10:
		return next(level11)
	case level11:
		return next(level21)
	}
	return -1
}

// distance4 is how far the vector is from the gravest of its level that is not
// less grave in any metric.
func distance4(g group4, level int, l *[extra4 + 6]int8) float64 {
	for _, gravest := range g.gravest[level] {
		sum, fits := 0, true
		for i, m := range g.metrics {
			d := l[m] - gravest[i]
			fits = fits && d >= 0
			sum += int(d)
		}
		if fits {
			return float64(sum)
		}
	}
	return 0
}

// lookup4 returns the score of a macro vector in tenths, or -1 if there is none.
func lookup4(at [5]int) int {
	if at[0] >= len(scores4) || at[1] >= len(scores4[0]) || at[2] >= len(scores4[0][0]) ||
		at[3] >= len(scores4[0][0][0]) || at[4] >= len(scores4[0][0][0][0]) {
		return -1
	}
	return int(scores4[at[0]][at[1]][at[2]][at[3]][at[4]])
}
