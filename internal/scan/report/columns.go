package report

import (
	"strings"
	"unicode/utf8"
)

// columns writes rows under titles, each column as wide as its widest cell. On a
// narrow terminal the last column is cut, because it says least.
func (p *page) columns(titles []string, rows [][]string) {
	widths := make([]int, len(titles))
	for i, t := range titles {
		widths[i] = visible(t)
	}
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], visible(c))
		}
	}
	head := make([]string, len(titles))
	for i, t := range titles {
		head[i] = p.paint(styleFaint, t)
	}
	p.row(head, widths)
	for _, row := range rows {
		p.row(row, widths)
	}
}

func (p *page) row(cells []string, widths []int) {
	var b strings.Builder
	used := 0
	for i, c := range cells {
		if i == len(cells)-1 {
			if p.o.Width > 0 {
				c = cut(c, p.o.Width-used)
			}
			b.WriteString(c)
			break
		}
		b.WriteString(c)
		b.WriteString(strings.Repeat(" ", widths[i]-visible(c)+2))
		used += widths[i] + 2
	}
	p.line("%s", strings.TrimRight(b.String(), " "))
}

// visible counts the characters that a cell takes on the screen: colours none.
func visible(s string) int {
	n := 0
	for {
		before, rest, ok := strings.Cut(s, "\x1b[")
		n += utf8.RuneCountInString(before)
		if !ok {
			return n
		}
		if _, s, ok = strings.Cut(rest, "m"); !ok {
			return n
		}
	}
}

// cut shortens an uncoloured cell to n characters.
func cut(s string, n int) string {
	if n < 2 || strings.Contains(s, "\x1b") || utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}
