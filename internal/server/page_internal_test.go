package server

import "testing"

func TestPages(t *testing.T) {
	for _, tc := range []struct {
		name                string
		asked, offset, rows int
		size, next          int
		after               string
	}{
		{"none", 0, 0, 0, 100, 0, ""},
		{"less than a page", 3, 6, 2, 3, 0, ""},
		{"a full page", 3, 6, 3, 3, 9, "c"},
		{"none of a full one", 0, 100, 0, 100, 0, ""},
	} {
		size := pageOf(tc.asked)
		rows := []string{"a", "b", "c"}[:tc.rows]
		next, after := nextOffset(tc.offset, size, len(rows)), nextAfter(rows, size, func(s *string) string { return *s })
		if size != tc.size || next != tc.next || after != tc.after {
			t.Errorf("%s: a page of %d, then %d and %q; want %d, %d and %q", tc.name, size, next, after, tc.size, tc.next, tc.after)
		}
	}
}
