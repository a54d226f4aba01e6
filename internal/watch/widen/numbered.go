package widen

import "strings"

// mostAttached is how many digits a number has at most that stands right behind
// letters, as in worker12: sha256 is a word.
const mostAttached = 2

// Numbered returns the pattern of the names that differ from this one in a number
// alone: "invoice-*.json" of invoice-07.json. It is the last one before the ending. ""
// if there is none, or if it may be a version, which somebody chose: python3.11,
// libssl.so.3, v2, schema-1.2.json. A name that begins with its number has none either,
// because the pattern would stand for anything, nor one with a "-" behind it: Alike tells
// those apart.
func Numbered(name string) string {
	if strings.ContainsRune(name, '*') || strings.Contains(name+".", ".so.") {
		return ""
	}
	stem := name
	if i := strings.LastIndexByte(name, '.'); i > 0 && i < len(name)-1 {
		if digit(name[i+1]) {
			if allDigits(name[i+1:]) && counted(name[:i]) {
				return name[:i+1] + "*"
			}
			return ""
		}
		stem = name[:i]
	}
	end := len(stem)
	for end > 0 && !digit(stem[end-1]) {
		end--
	}
	start := end - trailingDigits(stem[:end])
	if start <= 0 || end < len(stem) && alnum(stem[end]) || strings.Contains(stem[end:], "-") {
		return ""
	}
	switch before := stem[start-1]; {
	case before == '.':
		return ""
	case alnum(before) && !attached(stem[:start], end-start):
		return ""
	}
	return name[:start] + "*" + name[end:]
}

// counted reports whether a number behind the dot counts files of that name, as in
// binlog.7: versions are of libraries, and of names that have digits already.
func counted(name string) bool {
	return len(name) >= minStem && !strings.HasPrefix(name, "lib") && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz-_") == ""
}

// attached reports whether a number of so many digits counts what the word is that s
// ends with: not the v of a version, nor a word with digits of its own, as hashes are.
func attached(s string, digits int) bool {
	from := len(s)
	for from > 0 && alnum(s[from-1]) {
		if from--; digit(s[from]) {
			return false
		}
	}
	return digits <= mostAttached && len(s)-from > 1
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// AlikeNumbered is Alike of the names that a pattern of Numbered stands for.
func AlikeNumbered(pattern string) string { return Alike(strings.Replace(pattern, "*", "0", 1)) }

// Version reports whether a name has a number that may be one of a version, which somebody
// chose: v2, python3.11.
func Version(name string) bool {
	return !strings.ContainsRune(name, '*') && strings.ContainsAny(name, "0123456789") && Numbered(name) == ""
}
