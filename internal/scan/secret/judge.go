package secret

import (
	"strings"
)

// What is written where a password belongs is mostly none: a place holder, a
// lookup, a word of a form, an example. judge tells by its form.

const (
	leastPassword = 6 // shorter ones are guessed anyway, and most are none
	strongLength  = 8 // with which digits or signs among letters are no accident
	maxValue      = 512
)

// Doubts, in words that follow "but".
const (
	doubtWord     = "it looks like a word, not like a secret"
	doubtExample  = "it looks like an example"
	doubtDocument = "it stands in a text for people"
	doubtTest     = "it stands where tests and examples are"
	doubtShipped  = "it stands among the files of a distribution"
	doubtHash     = "it is a hash of a password"
	doubtDigest   = "it looks like a digest, or the number of a version"
	doubtExpired  = "it has expired"
	doubtNoKey    = "no key can be read from it"
)

// judge says whether a value that a name or a place makes a password is one, and
// what speaks against it. quoted says that it stood in quotes or in a place of
// its own, so that it is a text and no expression.
func judge(value, name string, quoted bool) (doubt string, ok bool) {
	if len(value) < leastPassword || len(value) > maxValue {
		return "", false
	}
	low := strings.ToLower(value)
	switch {
	case isTemplate(value), isLookup(low, quoted), isPlaceholder(low), isPath(value), strings.ContainsAny(value, " \t\n"), repeats(value):
		return "", false
	case isHash(value):
		return "", false
	case name != "" && sameWord(low, name):
		return "", false
	}
	letters, digits, signs := 0, 0, 0
	for i := range len(value) {
		switch c := value[i]; {
		case isLetter(c) || c >= 0x80:
			letters++
		case c >= '0' && c <= '9':
			digits++
		default:
			signs++
		}
	}
	switch {
	case !quoted && strings.ContainsAny(value, "()[]{}<>;,"):
		return "", false // an expression, or a piece of one
	case digits == 0 && onlyWordSigns(value):
		if hasMark(low) {
			return "", false
		}
		return doubtWord, true
	case letters == 0 && onlyNumberSigns(value), letters == 0 && digits == 0, strings.Contains(value, "_") && wordy(value):
		return doubtWord, true
	case hasMark(low):
		return doubtExample, true
	case len(value) < strongLength:
		return doubtWord, true
	}
	return "", true
}

// digestMarks are in the names of what is long and hexadecimal and no secret.
var digestMarks = []string{"version", "commit", "revision", "sha1", "sha2", "sha5", "_sha", "digest", "checksum", "hash", "gpg", "pgp", "fingerprint", "h1:", "integrity", "etag", "uuid", "guid", "build"}

// digestDoubt says of what the generic rule matched that it is a digest.
func digestDoubt(match, value string) string {
	low := strings.ToLower(strings.TrimSuffix(match, value))
	for _, m := range digestMarks {
		if strings.Contains(low, m) && (m == "h1:" || isHex(strings.ReplaceAll(value, "-", ""))) {
			return doubtDigest
		}
	}
	return ""
}

// onlyWordSigns says that beside letters there is only what joins words.
func onlyWordSigns(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && c < 0x80 && c != '_' && c != '-' && c != '.' && c != ':' && c != '/' && c != '@' && c != '!' && c != '?' && c != '*' && c != '#' && c != ',' {
			return false
		}
	}
	return true
}

// onlyNumberSigns says that beside digits there is only what versions, dates and
// addresses have.
func onlyNumberSigns(s string) bool { return strings.Trim(s, "0123456789.-:/_ ") == "" }

// isTemplate takes what is filled in by somebody else later.
func isTemplate(s string) bool {
	if strings.Contains(s, "${") || strings.Contains(s, "$(") || strings.Contains(s, "{{") || strings.Contains(s, "}}") || strings.Contains(s, "#{") ||
		strings.Contains(s, "<%") || strings.Contains(s, "%(") || strings.Contains(s, "$[") || strings.Contains(s, "@{") || strings.Contains(s, "!{") {
		return true
	}
	first, last := s[0], s[len(s)-1]
	switch {
	case first == '<' && last == '>', first == '{' && last == '}', first == '[' && last == ']', first == '%' && last == '%',
		first == '@' && last == '@', strings.HasPrefix(s, "__") && strings.HasSuffix(s, "__"), first == '*' && last == '*':
		return true
	case first == '$' && len(s) > 1 && (isLetter(s[1]) || s[1] == '_') && allWord(s[1:]):
		return true
	}
	return strings.HasSuffix(s, "...") || strings.Contains(s, "%s") || strings.Contains(s, "%d") || strings.Contains(s, "%v") || strings.Contains(s, "{}") || strings.HasPrefix(s, "!")
}

func allWord(s string) bool {
	for i := range len(s) {
		if !isWord(s[i]) {
			return false
		}
	}
	return true
}

// lookups are beginnings and parts of what fetches a value from elsewhere.
var lookups = []string{"os.environ", "getenv", "process.env", "system.get", "env.", "env[", "env(", "config.", "config[", "settings.", "vault:", "secret://",
	"arn:aws:", "resolve:", "ref:", "var.", "local.", "data.", "module.", "self.", "this.", "options.", "params", "args.", "request.", "req.", "ctx.",
	"!ref", "!sub", "fn::", "keyvault", "file(", "lookup(", "base64", "projects/", "op://", "ssm:", "awssm", "secretsmanager", "gopass", "keychain", "encrypted:", "enc["}

// isLookup says that a value is an expression that fetches one.
func isLookup(low string, quoted bool) bool {
	for _, l := range lookups {
		if strings.HasPrefix(low, l) {
			return true
		}
	}
	if quoted {
		return strings.Contains(low, "os.environ") || strings.Contains(low, "process.env") || strings.Contains(low, "getenv(")
	}
	return strings.Contains(low, "(") || strings.Contains(low, ").") || strings.Contains(low, "->") || strings.Contains(low, "::") || strings.Contains(low, "&&")
}

// placeholders are words that stand for a value. Whole ones must be all of it but
// for signs and digits, parts may be anywhere.
var (
	wholePlaceholders = map[string]bool{"changeme": true, "changeit": true, "change": true, "password": true, "passwd": true, "pass": true, "pwd": true, "secret": true,
		"token": true, "string": true, "none": true, "null": true, "nil": true, "true": true, "false": true, "undefined": true, "default": true, "required": true,
		"optional": true, "empty": true, "unset": true, "hidden": true, "value": true, "username": true, "user": true, "root": true, "admin": true, "mypassword": true,
		"yourpassword": true, "thepassword": true, "newpassword": true, "oldpassword": true, "userpassword": true, "dbpassword": true, "testpassword": true,
		"mysecret": true, "yoursecret": true, "mytoken": true, "yourtoken": true, "apikey": true, "yourapikey": true, "secretkey": true, "accesskey": true,
		"secretaccesskey": true, "clientsecret": true, "accesstoken": true, "refreshtoken": true, "authtoken": true, "bearer": true, "bearertoken": true,
		"passphrase": true, "credentials": true, "basic": true, "integer": true, "boolean": true, "object": true, "number": true, "array": true, "text": true,
		"foobar": true, "foo": true, "bar": true, "baz": true, "hunter": true, "disabled": true, "enabled": true, "prompt": true, "confirm": true, "invalid": true,
		"incorrect": true, "missing": true, "expired": true, "unknown": true, "plain": true, "plaintext": true, "test": true, "testing": true, "sha": true, "md": true}
	partPlaceholders = []string{"changeme", "change_me", "change-me", "changethis", "change-this", "change_this", "your_", "your-", "yourown", "<your", "my_password", "my-password", "placeholder", "redacted",
		"xxxx", "****", "....", "____", "todo", "fixme", "insert_", "insert-", "replace_", "replace-", "replaceme", "enter_", "enter-", "example", "dummy", "sample", "notreal", "not-real",
		"not_real", "fake", "mock", "lorem", "generate_", "generated", "removed", "snip", "secret_here", "goes_here", "goes-here", "_here", "-here"}
)

func isPlaceholder(low string) bool {
	core := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, low)
	if len(core) > 0 && wholePlaceholders[core] && len(low)-len(core) <= 4 && !strings.ContainsAny(low, "0123456789!@#$%^&*") {
		return true
	}
	for _, p := range partPlaceholders {
		if strings.Contains(low, p) {
			return true
		}
	}
	return false
}

// marks are words that examples and tests have in their passwords.
var marks = []string{"test", "demo", "foo", "bar", "passw", "secret", "token", "abc123", "123456", "abcdef", "qwerty", "letmein", "admin", "temp", "invalid", "wrong", "hello", "user", "name", "string", "value", "default"}

func hasMark(low string) bool {
	for _, m := range marks {
		if strings.Contains(low, m) {
			return true
		}
	}
	return false
}

// isPath takes files, addresses and names of headers.
func isPath(s string) bool {
	if strings.HasPrefix(s, "/") && strings.Count(s, "/") > 1 || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || strings.HasPrefix(s, "~/") {
		return true
	}
	if i := strings.Index(s, "://"); i > 0 {
		return true
	}
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return false
	}
	switch strings.ToLower(s[i+1:]) {
	case "txt", "json", "yaml", "yml", "pem", "key", "crt", "env", "conf", "cfg", "ini", "xml", "html", "js", "ts", "py", "go", "rb", "php", "java", "sh", "md", "com", "org", "net", "io":
		return true
	}
	return false
}

// repeats says that there are hardly any different bytes.
func repeats(s string) bool {
	var seen byteSet
	n := 0
	for i := range len(s) {
		if !seen.has(s[i]) {
			seen.add(s[i])
			n++
		}
	}
	return n <= 3
}

// isHash takes what a password is stored as by those who do it right.
func isHash(s string) bool {
	for _, p := range []string{"$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$7$", "$argon2", "$pbkdf2", "$scrypt", "$apr1$", "pbkdf2_", "pbkdf2:", "scrypt:", "sha256:", "sha512:", "sha1:", "md5:", "{SHA", "{SSHA", "{CRYPT", "bcrypt"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// sameWord says that a value is but its name again, or a part of it.
func sameWord(low, name string) bool {
	v, n := squeezer.Replace(low), squeezer.Replace(strings.ToLower(name))
	return v == n || strings.HasSuffix(n, v) || strings.HasSuffix(v, n) || strings.HasPrefix(v, n)
}
