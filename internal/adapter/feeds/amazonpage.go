package feeds

import (
	"bytes"
	"html"
	"strings"
)

const (
	// maxCells is how many cells of one row of a table are read: the page has five.
	maxCells = 32
	// maxMarkup is how much of one piece of text on a page is kept.
	maxMarkup = 64 << 10
)

// page reads the page of a CVE (https://explore.alas.aws.amazon.com/CVE-….html):
// a table with the columns Platform, Package, Release Date, Advisory and Status,
// and one with Score Type, Score and Vector. It stands in for the JSON document
// where that is not there or has another form.
func (z *amazonCVEReader) page(doc []byte, a *amazonCVE) error {
	m := markup{rest: doc}
	var header []string
	var failed error
	for failed == nil && m.next() {
		switch {
		case m.row == nil:
		case m.first:
			header = lowered(m.row)
			a.listed = a.listed || column(header, "platform") >= 0 && column(header, "package") >= 0 && column(header, "status") >= 0
		case column(header, "vector") >= 0:
			a.score(cell(m.row, header, "score type"), cell(m.row, header, "vector"))
		default:
			failed = z.row(a, cell(m.row, header, "platform"), cell(m.row, header, "package"), cell(m.row, header, "status"))
		}
	}
	for word := range strings.FieldsSeq(m.title) {
		if isCVE(word) && a.ID == "" {
			a.ID = word
		}
	}
	a.describe(m.description)
	for word := range strings.FieldsSeq(m.date) {
		if a.Published.IsZero() {
			a.Published = parseTime(word)
		}
	}
	return failed
}

func lowered(row []string) []string {
	out := make([]string, len(row))
	for i, s := range row {
		out[i] = strings.ToLower(s)
	}
	return out
}

// column returns which column has a name, -1 if none has.
func column(header []string, name string) int {
	for i, h := range header {
		if h == name {
			return i
		}
	}
	return -1
}

// cell returns what a row has in the column of that name.
func cell(row, header []string, name string) string {
	if i := column(header, name); i >= 0 && i < len(row) {
		return row[i]
	}
	return ""
}

// markup goes through a page row by row. It knows as much of HTML as a page needs
// that a program has written: tags, comments, and that scripts are no text.
type markup struct {
	rest []byte
	// row is a complete row of a table, nil for anything else that next came by;
	// first says that it is the first one of its table.
	row   []string
	first bool
	// What stands outside of tables.
	title, description, date string

	cells  []string
	inRow  bool
	into   *string // where text belongs, nil for nowhere
	text   string  // of the cell at hand
	ofElem string  // the tag that ends text outside of tables
	rows   int
}

// next goes on to the next tag and reports whether there is one.
func (m *markup) next() bool {
	m.row = nil
	open := bytes.IndexByte(m.rest, '<')
	if open < 0 {
		return false
	}
	m.take(m.rest[:open])
	m.rest = m.rest[open+1:]
	if bytes.HasPrefix(m.rest, []byte("!--")) {
		return m.past("-->")
	}
	shut := bytes.IndexByte(m.rest, '>')
	if shut < 0 {
		return false
	}
	tag := m.rest[:shut]
	m.rest = m.rest[shut+1:]
	name, attributes, _ := strings.Cut(strings.ToLower(string(tag[:min(len(tag), maxName)])), " ")
	switch name = strings.TrimSpace(name); name {
	case "script", "style":
		return m.past("</" + name)
	case "table", "/table":
		m.finish()
		m.rows = 0
	case "tr", "/tr":
		m.finish()
		m.inRow = name == "tr"
	case "td", "th", "/td", "/th":
		m.endCell()
		if m.inRow && name[0] != '/' {
			m.into = &m.text
		}
	default:
		m.outside(name, attributes)
	}
	return true
}

// past goes on behind a mark.
func (m *markup) past(mark string) bool {
	i := bytes.Index(m.rest, []byte(mark))
	if i < 0 {
		return false
	}
	m.rest = m.rest[i+len(mark):]
	return true
}

// take keeps a piece of text where it belongs.
func (m *markup) take(piece []byte) {
	if m.into != nil && len(*m.into) < maxMarkup {
		*m.into += string(piece[:min(len(piece), maxMarkup-len(*m.into))]) + " "
	}
}

// endCell ends the cell at hand.
func (m *markup) endCell() {
	if m.into != &m.text {
		return
	}
	if len(m.cells) < maxCells {
		m.cells = append(m.cells, plainText(m.text))
	}
	m.into, m.text = nil, ""
}

// finish ends the row at hand.
func (m *markup) finish() {
	m.endCell()
	if m.inRow && len(m.cells) > 0 {
		m.row, m.first = m.cells, m.rows == 0
		m.rows++
	}
	m.cells, m.inRow, m.into, m.ofElem = nil, false, nil, ""
}

// outside takes the title, the description and the date, which the page marks by
// their classes.
func (m *markup) outside(name, attributes string) {
	switch {
	case m.ofElem != "" && name == "/"+m.ofElem:
		*m.into = plainText(*m.into)
		m.into, m.ofElem = nil, ""
	case m.into != nil: // a tag within a text
	case name == "title":
		m.into, m.ofElem = &m.title, name
	case strings.Contains(attributes, "description-content") && m.description == "":
		m.into, m.ofElem = &m.description, name
	case strings.Contains(attributes, "date-display") && m.date == "":
		m.into, m.ofElem = &m.date, name
	}
}

// plainText returns text as it is shown: with its entities, and one blank for each
// stretch of them.
func plainText(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(html.UnescapeString(s), "\ufffd")), " ")
}
