// Package widen lets one pattern stand for many names, the way a person would
// write it: temporary names, numbers, dates and hashes within a path, many files
// of one folder, many names below one domain. It also says where that must not be
// done.
//
// What a name alone says is in Shape, what a place says in At. Both see nothing
// but their arguments: the same behaviour gives the same patterns.
package widen

import (
	"slices"
	"strings"
	"unicode"
)

// Lengths from which a part of a name is taken for one that changes. They are
// longer for programs: what may run is widened only where nobody would take it for
// a version that a person chose, such as the 15 of /usr/lib/postgresql/15/bin.
const (
	minDigits        = 4  // a counter, a pid, a year
	minDigitsProgram = 6  // a date, a build
	minHex           = 8  // a short hash, with at least one digit in it
	minHexProgram    = 12 // a hash
	minMixed         = 16 // letters of both cases and digits, as base64 has them
	minRandom        = 6  // the X of mkstemp, in folders for temporary files
)

// Shape returns the name with what changes in it as one "*", or as it is. temporary
// says that it lies in a folder for temporary files.
func Shape(name string, temporary bool) string {
	if strings.ContainsRune(name, '*') {
		return literal(name)
	}
	if allDigits(name) {
		return "*"
	}
	if p := temporaryName(name); p != "" {
		return p
	}
	if temporary && bare(name) || maildir(name) {
		return "*"
	}
	if p := ofProgram(name); p != "" && temporary {
		return p
	}
	if p := rotated(name); p != "" && !strings.ContainsRune(shape(p[:strings.IndexByte(p, '*')], minDigits, minHex, temporary), '*') {
		return p
	}
	return shape(name, minDigits, minHex, temporary)
}

// minKind is how many letters the names of one kind begin with at least.
const minKind = 3

// Kind returns the pattern of the files that differ from one in what its name has before
// the part that changes: export-*.csv of export-ann-*.csv. "" if there is no such part.
func Kind(name string) string {
	star := strings.IndexByte(name, '*')
	if star < minKind+len("-a-") || strings.IndexByte(name[star+1:], '*') >= 0 {
		return ""
	}
	separator := name[star-1]
	if separator != '-' && separator != '_' {
		return ""
	}
	at := strings.LastIndexByte(name[:star-1], separator)
	if at < minKind || at == star-len("--") || strings.ContainsFunc(name[:minKind], func(c rune) bool { return !unicode.IsLetter(c) }) {
		return ""
	}
	return name[:at+1] + name[star:]
}

// ShapeProgram is Shape for the folders of programs: less is taken for what
// changes.
func ShapeProgram(name string) string {
	if strings.ContainsRune(name, '*') {
		return literal(name)
	}
	return shape(name, minDigitsProgram, minHexProgram, false)
}

// literal keeps a name that has a "*" in it, which in a pattern stands for more
// than itself: everything from the first to the last of them is one.
func literal(name string) string {
	first, last := strings.IndexByte(name, '*'), strings.LastIndexByte(name, '*')
	return name[:first] + "*" + name[last+1:]
}

// shape puts one "*" from the first to the last part that changes.
func shape(name string, digits, hex int, temporary bool) string {
	first, last, files := -1, -1, digits < minDigitsProgram
	mark := func(from, to int) {
		if first < 0 {
			first = from
		}
		last = max(last, to)
	}
	for i := 0; i < len(name); {
		if n := uuid(name[i:]); n > 0 && (i == 0 || !alnum(name[i-1])) {
			mark(i, i+n)
			i += n
			continue
		}
		if n := date(name[i:], digits >= minDigitsProgram); n > 0 && (i == 0 || !alnum(name[i-1])) {
			mark(i, i+n)
			i += n
			continue
		}
		if n := address(name[i:]); n > 0 && files && (i == 0 || !alnum(name[i-1])) && (i < 2 || name[i-1] != '.' || !digit(name[i-2])) {
			mark(i, i+n)
			i += n
			continue
		}
		if n := message(name[i:]); n > 0 && files && (i == 0 || !alnum(name[i-1])) {
			mark(i, i+n)
			i += n
			continue
		}
		if !alnum(name[i]) {
			i++
			continue
		}
		end := i
		for end < len(name) && alnum(name[end]) {
			end++
		}
		word := name[i:end]
		switch {
		case files && long(word):
			mark(i+leadingWord(word), end)
		case changes(word, digits, hex), temporary && random(word), files && i > 0 && end == len(name) && tail(word), files && weekday(name, i, end),
			files && last > 0 && i == last+1 && allDigits(word),                    // a number behind what changes: app.2026-11-30.0.log
			files && first < 0 && i > 1 && allDigits(word) && name[end:] == ".log": // of an hour or a worker: jobs-12.log
			mark(i, end)
		case files && strings.HasPrefix(word, "pid") && allDigits(word[len("pid"):]): // hs_err_pid47.log
			mark(i+len("pid"), end)
		default:
			// A name with its number at the end: build20240101, core1234.
			if n := trailingDigits(word); n >= max(digits, minDigitsProgram) || temporary && n >= digits {
				mark(end-n, end)
			}
		}
		i = end
	}
	if first < 0 {
		return name
	}
	if files && first > 1 && allDigits(name[:first-1]) && !alnum(name[first-1]) {
		first = 0 // a number before what changes, too: the day of 30-0448.log
	}
	return name[:first] + "*" + name[last:]
}

// changes reports whether a word of letters and digits is a number, a hash or a
// long random text.
func changes(word string, digits, hex int) bool {
	if allDigits(word) {
		return len(word) >= digits
	}
	var lower, upper, digit int
	isHex := true
	for i := range len(word) {
		c := word[i]
		switch {
		case c >= '0' && c <= '9':
			digit++
		case c >= 'a' && c <= 'z':
			lower++
			isHex = isHex && c <= 'f'
		default:
			upper++
			isHex = isHex && c <= 'F'
		}
	}
	if isHex && len(word) >= hex && digit > 0 && (lower == 0 || upper == 0) {
		return true
	}
	return len(word) >= minMixed && lower > 0 && upper > 0 && digit > 0
}

// random reports whether a word looks like the X of mkstemp: between its characters
// the kind (small, large, digit) changes as often as chance has it, which no word
// of a language does.
func random(word string) bool {
	if len(word) < minRandom {
		return false
	}
	turns := 0
	for i := 1; i < len(word); i++ {
		if class(word[i]) != class(word[i-1]) {
			turns++
		}
	}
	return turns*5 >= (len(word)-1)*3
}

func class(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return 0
	case c >= 'a' && c <= 'z':
		return 1
	}
	return 2
}

// temporaryName knows the names that programs give to temporary files wherever they
// are: tmpAbCd12, tmp.XXXXXXXXXX, and what sed -i writes beside the file that it
// edits.
func temporaryName(name string) string {
	for _, start := range []string{"tmp", "temp", ".tmp", "Temp", "TMP"} {
		rest, ok := strings.CutPrefix(name, start)
		if !ok {
			continue
		}
		sep := ""
		if rest != "" && strings.ContainsRune(".-_", rune(rest[0])) {
			sep, rest = rest[:1], rest[1:]
		}
		if p := shape(rest, 1, minHex, false); sep != "" && strings.ContainsRune(p, '*') { // temp-47.rdb, tmp_obj_aB3dE9
			return start + sep + p
		}
		end := 0
		for end < len(rest) && (alnum(rest[end]) || rest[end] == '_') {
			end++
		}
		if end < minRandom || sep == "" && lowerWord(rest[:end]) && end != pythonRandom {
			continue
		}
		return start + sep + "*" + rest[end:]
	}
	for _, start := range numberedByKernel {
		if rest, ok := strings.CutPrefix(name, start); ok && allAlnum(rest) && leadingDigits(rest) > 0 {
			return start + "*"
		}
	}
	if rest, ok := strings.CutPrefix(name, "sed"); ok && len(rest) == minRandom && allAlnum(rest) {
		return "sed*"
	}
	if rest, ok := strings.CutPrefix(name, "Cu"); ok && len(rest) == minRandom && allAlnum(rest) && !lowerWord(rest) { // of ln -sf, before its rename
		return "Cu*"
	}
	return ""
}

// numberedByKernel are the beginnings of names that the kernel makes: of a core with its
// process, and of a file that was deleted and is open still.
var numberedByKernel = []string{"core.", ".nfs", ".fuse_hidden"}

// bare reports whether a name is nothing but what Python's tempfile makes by chance:
// it tries with such a file, at each start of a program, whether a folder can be
// written. Words with an underscore or a number at their end are none.
func bare(name string) bool {
	if len(name) != pythonRandom {
		return false
	}
	digit, within := false, false
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= '0' && c <= '9':
			digit = true
		case c >= 'a' && c <= 'z' || c == '_':
			within = within || digit
		default:
			return false
		}
	}
	return within || name[0] == '_' || name[len(name)-1] == '_'
}

// Replacing returns the name of the file that another is written to replace: editors
// and sed -i put six characters made by chance behind its name, and rename it then.
// "" if the name has none.
func Replacing(name string) string {
	i := len(name) - minRandom
	if i <= 0 || !allAlnum(name[i:]) || lowerWord(name[i:]) || strings.ContainsRune(name, '*') {
		return ""
	}
	return name[:i]
}

// pythonRandom is how many characters Python's tempfile puts behind "tmp".
const pythonRandom = 8

// lowerWord reports whether s has small letters alone: "template", "temperature".
func lowerWord(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return true
}

// rotated knows rotated logs: access.log.1, access.log.2.gz, error.log-20240101.
func rotated(name string) string {
	i := strings.Index(name, ".log")
	if i < 0 || i+len(".log") >= len(name) {
		return ""
	}
	head, rest := name[:i+len(".log")], name[i+len(".log"):]
	if !strings.ContainsRune(".-_", rune(rest[0])) {
		return ""
	}
	end := 1
	for end < len(rest) && (rest[end] >= '0' && rest[end] <= '9' || end > 1 && rest[end] == '-') {
		end++
	}
	end = max(end, 1+date(rest[1:], false)) // a.log.2026-11-30_14-05
	if end == 1 {
		return ""
	}
	return head + rest[:1] + "*" + rest[end:]
}

// Rotating returns the pattern that stands for a log and for all that it becomes when
// it is rotated, whichever of them the path or pattern names: "/x/a.log*" for
// /x/a.log, /x/a.log.1 and "/x/a.log-*". The first rotation may come weeks after the
// log was seen first. All else is returned as it is, and so is what lies where every
// name counts.
func Rotating(path string) string {
	i := strings.LastIndexByte(path, '/') + 1
	folder, name := path[:i], path[i:]
	if log := logName(folder, name); log != "" && At(strings.Split(strings.Trim(folder, "/"), "/")).Total > 0 {
		return folder + log + "*"
	}
	log := name
	if !strings.HasSuffix(name, ".log") {
		rest := ""
		if log, rest, _ = strings.Cut(name, ".log"); !slices.Contains([]string{".*", "-*", "_*", ".*.gz"}, rest) {
			return path
		}
		log += ".log"
	}
	if log == ".log" || strings.ContainsRune(log, '*') || At(strings.Split(strings.Trim(folder, "/"), "/")).Total == 0 {
		return path
	}
	return folder + log + "*"
}

// logName returns the name of a log that is not called so, in a folder of logs, "" for
// what is none: of syslog and syslog.2.gz it is syslog. What was rotated is a log, and so
// is what everybody knows as one.
func logName(folder, name string) string {
	if !strings.HasPrefix(folder, "/var/log/") && !strings.HasSuffix(folder, "/log/") && !strings.HasSuffix(folder, "/logs/") {
		return ""
	}
	for _, packed := range []string{".gz", ".xz", ".bz2", ".zst"} {
		name = strings.TrimSuffix(name, packed)
	}
	stem := strings.TrimSuffix(strings.TrimSuffix(name, ".*"), "-*")
	if n := trailingDigits(name); n > 0 && n < minDigits && strings.HasSuffix(name[:len(name)-n], ".") {
		stem = name[:len(name)-n-1]
	}
	known := slices.Contains(logs, stem) || slices.ContainsFunc(logEndings, func(e string) bool { return strings.HasSuffix(stem, e) && len(stem) > len(e) })
	if stem == "" || strings.ContainsRune(stem, '*') || strings.HasSuffix(stem, ".log") || stem == name && !known {
		return ""
	}
	return stem
}

// logs are names of logs, and logEndings what further ones end with.
var (
	logs       = []string{"syslog", "messages", "secure", "maillog", "debug", "wtmp", "btmp", "lastlog", "dmesg"}
	logEndings = []string{"_log", ".err", ".out"}
)

// uuid returns 36 if s begins with a UUID.
func uuid(s string) int {
	const length = 36
	if len(s) < length || len(s) > length && alnum(s[length]) {
		return 0
	}
	for i := range length {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return 0
			}
			continue
		}
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return 0
		}
	}
	return length
}

// date returns how much of s is a date that it begins with, and the time behind it:
// 2024-01-02, 2024-01, 20240102T030405Z. full: a month alone is none.
func date(s string, full bool) int {
	const year, month, day = 4, 2, 2
	if !strings.HasPrefix(s, "19") && !strings.HasPrefix(s, "20") || leadingDigits(s) < year {
		return 0
	}
	end := leadingDigits(s)
	parts := 1
	switch {
	case end == year+month+day || end == year+month+day+6: // 20240102, 20240102030405
		parts = 3
	case end != year:
		return 0
	}
	for end+1+month <= len(s) && strings.IndexByte("-_.:T", s[end]) >= 0 {
		n := leadingDigits(s[end+1:])
		if n < month || parts < 3 && n != month {
			break
		}
		end += 1 + n
		parts++
	}
	if parts > 3 && end < len(s) && s[end] == 'Z' {
		end++
	}
	if parts == 1 || full && parts < 3 || end < len(s) && alnum(s[end]) {
		return 0
	}
	return end
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func trailingDigits(s string) int {
	n := 0
	for n < len(s) && s[len(s)-1-n] >= '0' && s[len(s)-1-n] <= '9' {
		n++
	}
	return n
}

func allDigits(s string) bool { return s != "" && trailingDigits(s) == len(s) }

func allAlnum(s string) bool {
	for i := range len(s) {
		if !alnum(s[i]) {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
