package widen

import "strings"

// Lengths of texts made by chance that need more than a look at their letters.
const (
	minLong  = 20 // letters of one case and digits: a session of PHP, a ULID
	minWord  = 5  // that chance does not make
	minStem  = 3  // of a name that something made by chance is put right behind
	minQueue = 11 // letters of both cases and digits, none of them together: a queue id of Postfix
)

// long reports whether a word is a text made by chance for its length and for where its
// digits are: between its letters, and more than once.
func long(word string) bool {
	lower, upper, groups, turns := false, false, 0, 0
	for i := range len(word) {
		c := class(word[i])
		if i > 0 && c != class(word[i-1]) {
			turns++
		}
		switch c {
		case 0:
			if i == 0 || class(word[i-1]) != 0 {
				groups++
			}
		case 1:
			lower = true
		default:
			upper = true
		}
	}
	if groups < 2 || !lower && !upper {
		return false
	}
	if lower && upper {
		return len(word) >= minQueue && turns*5 >= (len(word)-1)*2
	}
	return len(word) >= minLong && groups > 2
}

// leadingWord returns the length of the word of a language that a text begins with:
// Container8Fq2Lz0.
func leadingWord(text string) int {
	n := 0
	for n < len(text) && (class(text[n]) == 1 || n == 0 && class(text[n]) == 2) {
		n++
	}
	if n < minWord {
		return 0
	}
	return n
}

// weekday reports whether a part of a name is a day of the week, as in backup-Mon.sql.
func weekday(name string, from, to int) bool {
	if from == 0 || !strings.ContainsRune("-_", rune(name[from-1])) {
		return false
	}
	word := strings.ToLower(name[from:to])
	for _, day := range []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"} {
		if word == day || word == day[:3] {
			return true
		}
	}
	return false
}

// tail reports whether the last word of a name is what mkstemp made: as random, and no
// name of a class, such as MyBean.
func tail(word string) bool {
	if len(word) != minRandom && len(word) != pythonRandom || !random(word) {
		return false
	}
	turns, digits := 0, 0
	for i := range len(word) {
		if i > 0 && class(word[i]) != class(word[i-1]) {
			turns++
		}
		if class(word[i]) == 0 {
			digits++
		}
	}
	return digits > 0 || turns*5 >= (len(word)-1)*4
}

// message returns how much of s is the id of a message of Exim that it begins with:
// 1vPabc-0001Xy-0A, and longer since 4.97. The first character counts time: until 2028
// it is a 1, and then for decades a 2.
func message(s string) int {
	if s == "" || s[0] != '1' && s[0] != '2' {
		return 0
	}
	for _, parts := range [][]int{{6, 6, 2}, {6, 11, 4}} {
		if n := grouped(s, parts); n > 0 {
			return n
		}
	}
	return 0
}

// grouped returns the length of words of those lengths with a "-" between them that s
// begins with, which have letters of both cases.
func grouped(s string, parts []int) int {
	lower, upper, at := false, false, 0
	for i, n := range parts {
		if i > 0 {
			if at >= len(s) || s[at] != '-' {
				return 0
			}
			at++
		}
		if at+n > len(s) || !allAlnum(s[at:at+n]) {
			return 0
		}
		for j := at; j < at+n; j++ {
			lower, upper = lower || class(s[j]) == 1, upper || class(s[j]) == 2
		}
		at += n
	}
	if at < len(s) && alnum(s[at]) || !lower || !upper {
		return 0
	}
	return at
}

// address returns how much of s is the IPv4 address of a client or a container, which
// another one has tomorrow, that it begins with: 172.18.0.6. Versions begin with less.
func address(s string) int {
	const parts, first, most = 4, 10, 255
	at := 0
	for i := range parts {
		if i > 0 {
			if at >= len(s) || s[at] != '.' {
				return 0
			}
			at++
		}
		n, value := leadingDigits(s[at:]), 0
		for _, c := range s[at : at+min(n, 4)] {
			value = value*10 + int(c-'0')
		}
		if n == 0 || n > 3 || value > most || i == 0 && value < first {
			return 0
		}
		at += n
	}
	if at < len(s) && (alnum(s[at]) || s[at] == '.' && at+1 < len(s) && digit(s[at+1])) {
		return 0
	}
	return at
}

// maildir reports whether a name is one of a maildir: the second, what tells messages of
// that second apart, and the host, which is another with each container:
// 1764465600.M5P47V0I1.host,S=812:2,S.
func maildir(name string) bool {
	n := leadingDigits(name)
	if n != 10 || n == len(name) || name[n] != '.' {
		return false
	}
	apart, host, found := strings.Cut(name[n+1:], ".")
	if !found || host == "" || len(apart) < 2 {
		return false
	}
	digits := 0
	for i := range len(apart) {
		switch c := apart[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'A' && c <= 'Z', c == '_':
		default:
			return false
		}
	}
	return digits > 0
}

// Written returns the pattern of the names under which a file is written before it is
// renamed to its own, seen one of them: "state.json.*" of state.json.47.1z14g, ".a.html.*"
// of the .a.html.Xy3abC of rsync. "" if the name is always the same (state.json.new), or
// says nothing of the file. Who writes that may write the file, too.
func Written(name, file string) string {
	before, after, found := strings.Cut(name, file)
	if !found || file == "" || len(before) > 1 || before != "" && alnum(before[0]) || strings.ContainsRune(name, '*') {
		return ""
	}
	sep := 0
	for sep < len(after) && !alnum(after[sep]) {
		sep++
	}
	if sep == 0 && (len(after) != minRandom || len(file) < minStem) {
		return "" // the pattern would stand for other files, too
	}
	if rest := after[sep:]; rest == "" || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz.-_") == "" || Shape(file, false) != file {
		return ""
	}
	return before + file + after[:sep] + "*"
}

// ofPrograms are the beginnings of names that well-known programs give to their temporary
// files, before the six characters of mkstemp: PHP's uploads, sort, and compilers.
var ofPrograms = []string{"php", "sort", "cc"}

// ofPython are those before the eight of Python's tempfile, which are letters alone often.
var ofPython = []string{"pymp-", "wgunicorn-"}

// ofProgram returns the pattern of a name in a folder for temporary files that a program
// made of its own beginning and of what chance gave it: php8yen1d, pymp-zhjxebvl. "" if it
// has none.
func ofProgram(name string) string {
	for _, start := range ofPrograms {
		rest, ok := strings.CutPrefix(name, start)
		stem, _, _ := strings.Cut(rest, ".")
		if ok && len(stem) == minRandom && allAlnum(stem) && !lowerWord(stem) {
			return start + "*" + rest[len(stem):]
		}
	}
	at := len(name) - pythonRandom
	if at < 2 {
		return ""
	}
	for _, start := range ofPython {
		if name[:at] == start && strings.Trim(name[at:], pythonLetters) == "" {
			return start + "*"
		}
	}
	if strings.IndexByte("-_.", name[at-1]) >= 0 && bare(name[at:]) {
		return name[:at] + "*"
	}
	return ""
}

// pythonLetters are those of which Python's tempfile makes names.
const pythonLetters = "abcdefghijklmnopqrstuvwxyz0123456789_"
