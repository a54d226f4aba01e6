package console

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Measures of the drawing, in pixels.
const (
	nodeWidth   = 156.0
	nodeHeight  = 46.0
	columnGap   = 84.0
	rowGap      = 18.0
	mapMargin   = 14.0
	inColumn    = 22     // nodes; a longer column is broken into several
	maxColumns  = 6      // of services in a row that call each other
	fitsWidth   = 1160.0 // up to here the drawing may be shrunk to its box and is still read
	sweeps      = 6      // over the columns, to straighten the lines
	labelHeight = 15.0
	letterWidth = 6.8 // of a label, on average
)

// layOut places the nodes in columns, callers left of whom they call, and draws
// the lines. The same flows make the same map: nothing is left to chance.
func (m *netMap) layOut() {
	m.columns()
	columns := m.arranged()
	columns = broken(columns)
	tallest := 0
	for _, c := range columns {
		tallest = max(tallest, len(c))
	}
	m.Height = 2*mapMargin + float64(tallest)*(nodeHeight+rowGap) - rowGap
	for i, c := range columns {
		top := (m.Height - (float64(len(c))*(nodeHeight+rowGap) - rowGap)) / 2
		for j, n := range c {
			n.column = i
			n.X, n.Y = mapMargin+float64(i)*(nodeWidth+columnGap), top+float64(j)*(nodeHeight+rowGap)
		}
	}
	m.Width = 2*mapMargin + float64(len(columns))*(nodeWidth+columnGap) - columnGap
	m.draw()
}

// columns gives each node its column: services by the longest way of calls to
// them, circles broken where the search meets them again; outer nodes right
// of those who call them, or left of those they call.
func (m *netMap) columns() {
	calls := map[*netNode][]*netNode{}
	other := map[*netNode][]*netNode{}
	called, calling := map[*netNode]bool{}, map[*netNode]bool{}
	for _, e := range m.Edges {
		if e.From == e.To {
			continue
		}
		called[e.To], calling[e.From] = true, true
		other[e.From], other[e.To] = append(other[e.From], e.To), append(other[e.To], e.From)
		if e.From.Kind == serviceNode && e.To.Kind == serviceNode {
			calls[e.From] = append(calls[e.From], e.To)
		}
	}
	for _, list := range calls {
		slices.SortFunc(list, func(a, b *netNode) int { return strings.Compare(a.key, b.key) })
	}
	order := topological(m.Nodes, calls)
	place := map[*netNode]int{}
	for i, n := range order {
		place[n] = i
	}
	for _, n := range order {
		n.column = max(n.column, 1)
		for _, to := range calls[n] {
			if place[to] > place[n] { // else it closes a circle
				to.column = min(max(to.column, n.column+1), maxColumns)
			}
		}
	}
	for _, n := range m.Nodes {
		switch {
		case n.Kind == serviceNode:
		case called[n]: // right of all who call it
			n.column = 1
			for _, o := range other[n] {
				if o.Kind == serviceNode {
					n.column = max(n.column, o.column+1)
				}
			}
		case calling[n]: // left of all whom it calls
			n.column = maxColumns
			for _, o := range other[n] {
				if o.Kind == serviceNode {
					n.column = min(n.column, o.column-1)
				}
			}
		}
	}
}

// topological orders the services so that callers come first, as far as
// circles allow.
func topological(nodes []*netNode, calls map[*netNode][]*netNode) []*netNode {
	var order []*netNode
	seen := map[*netNode]bool{}
	var visit func(n *netNode)
	visit = func(n *netNode) { // as deep as there are services, which are bounded
		if seen[n] {
			return
		}
		seen[n] = true
		for _, to := range calls[n] {
			visit(to)
		}
		order = append(order, n)
	}
	called := map[*netNode]bool{}
	for _, list := range calls {
		for _, to := range list {
			called[to] = true
		}
	}
	for _, roots := range []bool{true, false} { // those whom nobody calls first
		for _, n := range nodes {
			if n.Kind == serviceNode && called[n] != roots {
				visit(n)
			}
		}
	}
	slices.Reverse(order)
	return order
}

// arranged returns the columns, each ordered so that lines cross little: by
// the mean place of the neighbours, over and over.
func (m *netMap) arranged() [][]*netNode {
	near := map[*netNode][]*netNode{}
	for _, e := range m.Edges {
		if e.From != e.To {
			near[e.From], near[e.To] = append(near[e.From], e.To), append(near[e.To], e.From)
		}
	}
	byColumn := map[int][]*netNode{}
	most := 0
	for _, n := range m.Nodes {
		byColumn[n.column] = append(byColumn[n.column], n)
		most = max(most, n.column)
	}
	var columns [][]*netNode
	for i := range most + 1 {
		if len(byColumn[i]) > 0 {
			columns = append(columns, byColumn[i])
		}
	}
	at := map[*netNode]float64{}
	remember := func(c []*netNode) {
		for i, n := range c {
			at[n] = float64(i) - float64(len(c)-1)/2
		}
	}
	for _, c := range columns {
		remember(c)
	}
	for sweep := range sweeps {
		for i := range columns {
			c := columns[i]
			if sweep%2 == 1 {
				c = columns[len(columns)-1-i]
			}
			want := map[*netNode]float64{}
			for _, n := range c {
				want[n] = at[n]
				if len(near[n]) > 0 {
					sum := 0.0
					for _, o := range near[n] {
						sum += at[o]
					}
					want[n] = sum / float64(len(near[n]))
				}
			}
			slices.SortStableFunc(c, func(a, b *netNode) int { return cmp.Or(cmp.Compare(want[a], want[b]), strings.Compare(a.key, b.key)) })
			remember(c)
		}
	}
	return columns
}

// broken splits columns that are too long to be looked at.
func broken(columns [][]*netNode) (out [][]*netNode) {
	for _, c := range columns {
		parts := (len(c) + inColumn - 1) / inColumn
		for part := range slices.Chunk(c, max(1, (len(c)+parts-1)/parts)) {
			out = append(out, part)
		}
	}
	return out
}

// side is a place where lines meet a node.
type side struct {
	node  *netNode
	right bool
}

// draw makes the lines, each with its own place at the side of its nodes, and
// finds room for their labels.
func (m *netMap) draw() {
	meets := map[side][]*netEdge{}
	for _, e := range m.Edges {
		if e.From == e.To {
			continue
		}
		from, to := e.sides()
		meets[from] = append(meets[from], e)
		meets[to] = append(meets[to], e)
	}
	place := map[side]map[*netEdge]float64{}
	for s, list := range meets {
		slices.SortStableFunc(list, func(a, b *netEdge) int { return cmp.Compare(a.other(s.node).Y, b.other(s.node).Y) })
		place[s] = map[*netEdge]float64{}
		for i, e := range list {
			place[s][e] = s.node.Y + nodeHeight*(0.12+0.76*(float64(i)+0.5)/float64(len(list)))
		}
	}
	var taken []box
	for _, n := range m.Nodes {
		taken = append(taken, box{n.X, n.Y, n.X + nodeWidth, n.Y + nodeHeight})
	}
	for _, failed := range []bool{true, false} { // what failed gets its label first
		for _, e := range m.Edges {
			if e.From == e.To || (e.Failed > 0) != failed {
				continue
			}
			from, to := e.sides()
			c := newCurve(from, to, place[from][e], place[to][e])
			e.path = c.path()
			taken = e.name(c, taken)
		}
	}
}

func (e *netEdge) other(n *netNode) *netNode {
	if e.From == n {
		return e.To
	}
	return e.From
}

// sides are where the line begins and ends: at the sides that face each other.
func (e *netEdge) sides() (from, to side) {
	switch {
	case e.From.column < e.To.column:
		return side{e.From, true}, side{e.To, false}
	case e.From.column > e.To.column:
		return side{e.From, false}, side{e.To, true}
	}
	return side{e.From, true}, side{e.To, true}
}

// curve is a cubic one.
type curve [4][2]float64

func newCurve(from, to side, y1, y2 float64) curve {
	x := func(s side) (at, out float64) {
		if s.right {
			return s.node.X + nodeWidth, 1
		}
		return s.node.X, -1
	}
	x1, out1 := x(from)
	x2, out2 := x(to)
	bend := max(46, math.Abs(x2-x1)/2)
	if from.node.column == to.node.column {
		bend = 54 + math.Abs(y2-y1)/12
	}
	return curve{{x1, y1}, {x1 + out1*bend, y1}, {x2 + out2*bend, y2}, {x2, y2}}
}

func (c curve) path() string {
	return fmt.Sprintf("M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f",
		c[0][0], c[0][1], c[1][0], c[1][1], c[2][0], c[2][1], c[3][0], c[3][1])
}

// at is the point of the curve at t of its way.
func (c curve) at(t float64) (x, y float64) {
	u := 1 - t
	a, b, d, e := u*u*u, 3*u*u*t, 3*u*t*t, t*t*t
	return a*c[0][0] + b*c[1][0] + d*c[2][0] + e*c[3][0], a*c[0][1] + b*c[1][1] + d*c[2][1] + e*c[3][1]
}

type box struct{ x1, y1, x2, y2 float64 }

func (b box) meets(o box) bool { return b.x1 < o.x2 && o.x1 < b.x2 && b.y1 < o.y2 && o.y1 < b.y2 }

// labels are what may stand at a line, the most telling first.
func (e *netEdge) labels() []string {
	if e.Failed == 0 {
		return []string{e.ports(2), e.ports(1)}
	}
	failed := "✕ " + count(e.Failed)
	return []string{strings.TrimSpace(e.ports(2) + " " + failed), strings.TrimSpace(e.ports(1) + " " + failed), failed}
}

// name puts the label where it covers neither a node nor another label, else
// leaves it out: the line's title and the table have it.
func (e *netEdge) name(c curve, taken []box) []box {
	for _, text := range e.labels() {
		if text == "" {
			continue
		}
		wide := float64(len([]rune(text)))*letterWidth + 6
		for _, t := range []float64{0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.2, 0.8} {
			x, y := c.at(t)
			b := box{x - wide/2, y - labelHeight/2, x + wide/2, y + labelHeight/2}
			if !slices.ContainsFunc(taken, b.meets) {
				e.label, e.labelX, e.labelY = text, x, y
				return append(taken, b)
			}
		}
	}
	return taken
}

// weight is how thick a line is: by the order of magnitude of its connections.
func (e *netEdge) weight() string {
	return fmt.Sprintf("w%d", min(4, int(math.Log10(float64(max(e.Count, 1))))+1))
}

// shortened cuts a text to what fits into a node.
func shortened(s string) string {
	const fits = 19
	r := []rune(s)
	if len(r) <= fits {
		return s
	}
	return string(r[:fits-1]) + "…"
}

func px(v float64) string { return fmt.Sprintf("%.1f", v) }
