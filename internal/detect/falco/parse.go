package falco

import (
	"fmt"
	"strings"
)

// Bounds of a condition: files come from anywhere.
const (
	maxCondition = 64 << 10 // bytes, macros not put in
	maxDepth     = 64
	maxNodes     = 20_000 // with macros put in
)

// node is one part of a condition.
type node struct {
	op    string // and, or, not; "" for a leaf, "macro" for a name alone
	kids  []*node
	field string
	cmp   string
	// values are those on the right side, names of lists among them.
	values  []string
	via     string // a function that the field's value goes through: tolower
	against string // the field that it is held against, in the place of values
}

// functions are those that values may go through.
var functions = map[string]bool{"tolower": true, "toupper": true, "basename": true, "val": true, "b64": true, "len": true, "concat": true, "join": true}

// parser reads a condition of Falco:
// https://falco.org/docs/concepts/rules/conditions/.
type parser struct {
	tokens []token
	at     int
	depth  int
}

type token struct {
	text   string
	quoted bool
}

// parse reads a condition.
func parse(text string) (*node, error) {
	if len(text) > maxCondition {
		return nil, fmt.Errorf("a condition of %d bytes: at most %d are read", len(text), maxCondition)
	}
	tokens, err := tokensOf(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	n, err := p.any()
	if err == nil && p.at < len(p.tokens) {
		err = fmt.Errorf("%.40q is not understood", p.tokens[p.at].text)
	}
	return n, err
}

// tokensOf splits a condition into names, values, signs and brackets.
func tokensOf(text string) (out []token, err error) {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')' || c == ',':
			out = append(out, token{text: string(c)})
			i++
		case c == '"' || c == '\'':
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(text) {
					return nil, fmt.Errorf("a text has no end: %.40q", b.String())
				}
				if text[i] == '\\' && i+1 < len(text) && (text[i+1] == c || text[i+1] == '\\') {
					i++
				} else if text[i] == c {
					i++
					break
				}
				b.WriteByte(text[i])
			}
			out = append(out, token{b.String(), true})
		case strings.IndexByte("=!<>", c) >= 0:
			n := 1
			if i+1 < len(text) && text[i+1] == '=' {
				n = 2
			}
			out = append(out, token{text: text[i : i+n]})
			i += n
		default:
			end := i
			for end < len(text) && strings.IndexByte(" \t\r\n(),=!<>\"'", text[end]) < 0 {
				end++
			}
			out = append(out, token{text: text[i:end]})
			i = end
		}
	}
	return out, nil
}

func (p *parser) peek() string {
	if p.at < len(p.tokens) && !p.tokens[p.at].quoted {
		return p.tokens[p.at].text
	}
	return ""
}

func (p *parser) next() token {
	if p.at >= len(p.tokens) {
		return token{}
	}
	p.at++
	return p.tokens[p.at-1]
}

// any reads parts that are joined by "or".
func (p *parser) any() (*node, error) { return p.joined("or", p.all) }

func (p *parser) all() (*node, error) { return p.joined("and", p.one) }

func (p *parser) joined(word string, part func() (*node, error)) (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("brackets are deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	first, err := part()
	if err != nil {
		return nil, err
	}
	n := &node{op: word, kids: []*node{first}}
	for strings.EqualFold(p.peek(), word) {
		p.at++
		more, err := part()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, more)
	}
	if len(n.kids) == 1 {
		return first, nil
	}
	return n, nil
}

func (p *parser) one() (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("a condition deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case strings.EqualFold(p.peek(), "not"):
		p.at++
		kid, err := p.one()
		return &node{op: "not", kids: []*node{kid}}, err
	case p.peek() == "(":
		p.at++
		n, err := p.any()
		if err == nil && p.peek() != ")" {
			err = fmt.Errorf("a bracket is not closed")
		}
		p.at++
		return n, err
	}
	return p.leaf()
}

// comparisons are what may stand between a field and a value.
var comparisons = map[string]bool{
	"=": true, "==": true, "!=": true, "<": true, "<=": true, ">": true, ">=": true, "contains": true, "icontains": true, "startswith": true,
	"endswith": true, "in": true, "intersects": true, "pmatch": true, "glob": true, "regex": true, "iglob": true, "bcontains": true, "bstartswith": true,
}

func (p *parser) leaf() (*node, error) {
	name := p.next()
	if name.quoted || name.text == "" || name.text == ")" || name.text == "," || comparisons[name.text] {
		return nil, fmt.Errorf("a condition ends where a field or a macro is wanted, at %.40q", name.text)
	}
	n := &node{field: name.text}
	if functions[name.text] && p.peek() == "(" {
		n.via = name.text
		var err error
		if n.field, err = p.inBrackets(); err != nil {
			return nil, err
		}
	}
	n.cmp = p.peek()
	switch {
	case n.cmp == "exists":
		p.at++
		return n, nil
	case !comparisons[n.cmp] && n.via != "":
		return nil, fmt.Errorf("%s() is held against nothing", n.via)
	case !comparisons[n.cmp]:
		return &node{op: "macro", field: name.text}, nil
	}
	p.at++
	if p.peek() != "(" {
		value := p.next()
		if value.text == "val" && !value.quoted && p.peek() == "(" {
			var err error
			n.against, err = p.inBrackets()
			return n, err
		}
		// Signed numbers, and "evt.dir = <", whose value is a sign.
		if value.text == "" && !value.quoted {
			return nil, fmt.Errorf("%s %s has no value", n.field, n.cmp)
		}
		n.values = []string{value.text}
		return n, nil
	}
	p.at++
	for p.peek() != ")" {
		if p.at >= len(p.tokens) {
			return nil, fmt.Errorf("the list of %s is not closed", n.field)
		}
		if v := p.next(); v.text != "," || v.quoted {
			n.values = append(n.values, v.text)
		}
	}
	p.at++
	return n, nil
}

// inBrackets reads a field in brackets.
func (p *parser) inBrackets() (string, error) {
	p.at++ // the bracket
	name := p.next()
	if name.quoted || name.text == "" || name.text == ")" || p.peek() != ")" {
		return "", fmt.Errorf("a function is not of one field, at %.40q", name.text)
	}
	p.at++
	return name.text, nil
}
