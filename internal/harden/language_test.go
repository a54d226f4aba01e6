package harden_test

import (
	"fmt"
	"strings"
)

// What follows reads outputs as those for whom they are written do: written anew
// from their manuals, so that a mistake of a translator is not repeated here.

// aaRule is one rule of an AppArmor profile that is about a file.
type aaRule struct {
	deny   bool
	glob   string // as it stands behind the quotes, escapes for globs included
	access string
}

// aaProfile is what an AppArmor profile says.
type aaProfile struct {
	files []aaRule
	other []string // all other rules, without comments
}

// parseAppArmor reads the body of a profile, a rule a line.
func parseAppArmor(text string) (p aaProfile, err error) {
	_, body, ok := strings.Cut(text, "flags=(attach_disconnected,mediate_deleted) {\n")
	if !ok {
		return p, fmt.Errorf("no profile in %q", text)
	}
	for line := range strings.SplitSeq(body, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case line == "}":
			return p, nil
		}
		rule := aaRule{}
		rest, deny := strings.CutPrefix(line, "deny ")
		rule.deny = deny
		if strings.HasPrefix(rest, `"`) {
			var quotedText string
			if quotedText, rest, err = unquote(rest); err != nil {
				return p, err
			}
			access, after, ok := strings.Cut(strings.TrimSpace(rest), ",")
			if !ok || strings.Trim(access, "rwklmixa") != "" || !comment(after) {
				return p, fmt.Errorf("no access in %q", line)
			}
			rule.glob, rule.access = quotedText, access
			p.files = append(p.files, rule)
			continue
		}
		said, after, ok := strings.Cut(line, ",")
		if ok && strings.Contains(said, "(") && !strings.Contains(said, ")") { // (send, receive)
			var more string
			more, after, _ = strings.Cut(after, ",")
			said += "," + more
		}
		if !ok || !comment(after) {
			return p, fmt.Errorf("no rule in %q", line)
		}
		p.other = append(p.other, said)
	}
	return p, fmt.Errorf("the profile does not end")
}

func comment(s string) bool {
	s = strings.TrimSpace(s)
	return s == "" || strings.HasPrefix(s, "#")
}

// unquote reads a quoted text: octal numbers and \" are read, other escapes stay
// for globs.
func unquote(s string) (text, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\n':
			return "", "", fmt.Errorf("a line ends within %q", s)
		case c == '\\' && i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '3':
			var n int
			if _, err := fmt.Sscanf(s[i+1:i+4], "%o", &n); err != nil {
				return "", "", err
			}
			if strings.IndexByte(`*?[]{}^\,`, byte(n)) >= 0 {
				return "", "", fmt.Errorf("%q has a number that is a glob", s)
			}
			b.WriteByte(byte(n))
			i += 3
		case c == '\\' && i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case c == '\\' && i+2 < len(s) && s[i+1] == '\\' && s[i+2] == '"':
			return "", "", fmt.Errorf("%q has a quote behind a backslash, which does not end it", s)
		case c == '\\' && i+1 < len(s):
			b.WriteString(s[i : i+2])
			i++
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%q does not end", s)
}

// permits tells whether a file may be accessed in that way.
func (p aaProfile) permits(path, access string) bool {
	allowed := false
	for _, r := range p.files {
		if !strings.Contains(r.access, access) || !aaMatch(r.glob, path, false) {
			continue
		}
		if r.deny {
			return false
		}
		allowed = true
	}
	return allowed
}

// aaMatch matches a glob of AppArmor. deep is whether a "*" that stands where a
// name begins has had its first letter.
func aaMatch(glob, path string, begun bool) bool {
	if glob == "" {
		return path == ""
	}
	switch glob[0] {
	case '\\':
		return path != "" && path[0] == glob[1] && aaMatch(glob[2:], path[1:], glob[1] == '/')
	case '?':
		return path != "" && path[0] != '/' && aaMatch(glob[1:], path[1:], false)
	case '[':
		end := classEnd(glob)
		return path != "" && inClass(glob[1:end], path[0]) && aaMatch(glob[end+1:], path[1:], false)
	case '{':
		choices, rest := alternatives(glob)
		for _, c := range choices {
			if aaMatch(c+rest, path, begun) {
				return true
			}
		}
		return false
	case '*':
		rest, deep := glob[1:], false
		if strings.HasPrefix(rest, "*") {
			rest, deep = rest[1:], true
		}
		// Where a whole name is "*", it has a letter at least.
		least := 0
		if begun && (rest == "" || rest[0] == '/') {
			least = 1
		}
		for n := 0; ; n++ {
			if n >= least && aaMatch(rest, path[n:], false) {
				return true
			}
			if n >= len(path) || path[n] == '/' && (!deep || n < least) {
				return false
			}
		}
	}
	return path != "" && path[0] == glob[0] && aaMatch(glob[1:], path[1:], glob[0] == '/')
}

func classEnd(glob string) int {
	for i := 1; i < len(glob); i++ {
		if glob[i] == '\\' {
			i++
		} else if glob[i] == ']' {
			return i
		}
	}
	return len(glob) - 1
}

func inClass(class string, c byte) bool {
	class, not := strings.CutPrefix(class, "^")
	found := false
	for i := 0; i < len(class); i++ {
		if class[i] == '\\' {
			i++
		}
		found = found || class[i] == c
	}
	return found != not
}

func alternatives(glob string) (choices []string, rest string) {
	start := 1
	for i := 1; i < len(glob); i++ {
		switch glob[i] {
		case '\\':
			i++
		case '[':
			i += classEnd(glob[i:])
		case ',':
			choices = append(choices, glob[start:i])
			start = i + 1
		case '}':
			return append(choices, glob[start:i]), glob[i+1:]
		}
	}
	return nil, ""
}
