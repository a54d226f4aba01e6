package judge

import (
	"encoding/base64"
	"strings"
)

// What is written where a password belongs is mostly none: a place holder, a
// lookup, a word of a form, an example. Its form tells.

// How long values are.
const (
	// LeastPassword: shorter ones are guessed anyway, and most are none.
	LeastPassword = 6
	// LeastToken is how long a token or key is at least.
	LeastToken = 12
	// MaxValue bounds a value in a text.
	MaxValue = 512

	strongLength  = 8 // with which digits or signs among letters are no accident
	leastOwn      = 4 // of a password in a field of its own
	leastOwnToken = 6
	maxOwn        = 4 << 10
)

// Value says whether what a name or a place makes a secret of a kind is one, and
// what speaks against it. The name may be empty.
func Value(value, name string, kind Kind, at Place) (doubt string, ok bool) {
	if at == Own {
		return own(strings.TrimSpace(value), name, kind)
	}
	doubt, ok = written(value, name, at == Quoted)
	if ok && !kind.chosen() && (len(value) < LeastToken || doubt == DoubtWord || !LooksRandom(value) || Wordy(value) || Named(value) || strings.ContainsAny(value, "[]") || hasEscapes(value)) {
		return "", false
	}
	if ok && doubt == "" && IsWordInBase64(value) {
		return DoubtWord, true
	}
	return doubt, ok
}

// isType says that a value is a type with parameters: Optional[str].
func isType(v string) bool {
	open := strings.IndexByte(v, '[')
	return open > 0 && v[len(v)-1] == ']' && strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.,[]") == ""
}

// hasEscapes says that a value has bytes in it that are written by their numbers, as
// "\015\001": keys are made of signs.
func hasEscapes(v string) bool {
	for i := 0; i+1 < len(v); i++ {
		if v[i] == '\\' && (v[i+1] == 'x' || v[i+1] == 'u' || v[i+1] >= '0' && v[i+1] <= '9') {
			return true
		}
	}
	return false
}

// IsWordInBase64 says that a value is base64 of what is no secret, as documents of
// Kubernetes have words.
func IsWordInBase64(value string) bool {
	text := decoded(value)
	if text == "" {
		return false
	}
	doubt, ok := written(text, "", true)
	return !ok || doubt != ""
}

// decoded is the text that a value is in base64, "" if it is none.
func decoded(value string) string {
	const least = 8
	if len(value) < least || len(value)%4 != 0 {
		return ""
	}
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(string(b))
	for i := range len(text) {
		if text[i] < ' ' || text[i] >= 0x7f {
			return ""
		}
	}
	return text
}

// own judges what is used as it stands.
func own(value, name string, kind Kind) (doubt string, ok bool) {
	low := strings.ToLower(value)
	switch {
	case len(value) < leastOwn || len(value) > maxOwn, strings.Trim(low, "*x.-_") == "", settings[low]:
		return "", false
	case isTemplate(value), isLookup(low, true), isHash(value), isAlgorithm(low), isPath(value), value[0] == '/' && !LooksRandom(value), standsFor(low):
		return "", false
	case strings.ContainsAny(value, " \t\n"):
		if kind.chosen() && !strings.Contains(value, "\n") {
			return DoubtWord, true
		}
		return "", false
	case kind.chosen():
		return "", !publicDefaults[low] // a word is a weak password, and one for all that
	case len(value) < leastOwnToken, onlyNumberSigns(value), isPlaceholder(low), repeats(value), name != "" && sameWord(low, name):
		return "", false
	case !mixed(value) && !drawn(value), Wordy(value) && strings.ContainsAny(value, "-_./:@"):
		return DoubtWord, true
	case hasMark(low):
		return DoubtExample, true
	}
	return "", true
}

// written judges what stands in a text. quoted says that it is a text and no
// expression.
func written(value, name string, quoted bool) (doubt string, ok bool) {
	if len(value) < LeastPassword || len(value) > MaxValue {
		return "", false
	}
	low := strings.ToLower(value)
	switch {
	case isTemplate(value), isLookup(low, quoted), isPlaceholder(low), isPath(value), strings.ContainsAny(value, " \t\n"), repeats(value):
		return "", false
	case isHash(value), isAlgorithm(low), isType(value):
		return "", false
	case name != "" && sameWord(low, name):
		return "", false
	}
	letters, digits, signs, wide := 0, 0, 0, 0
	for i := range len(value) {
		switch c := value[i]; {
		case c >= 0x80:
			wide++
			letters++
		case isLetter(c):
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
	case digits == 0 && onlyWordSigns(value) && !drawn(value):
		if hasMark(low) {
			return "", false
		}
		return DoubtWord, true
	case 3*wide > len(value): // a text for people; passwords are typed everywhere
		return DoubtWord, true
	case letters == 0 && onlyNumberSigns(value), letters == 0 && digits == 0, strings.Contains(value, "_") && Wordy(value):
		return DoubtWord, true
	case hasMark(low):
		return DoubtExample, true
	case len(value) < strongLength:
		return DoubtWord, true
	}
	return "", true
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
		strings.Contains(s, "<%") || strings.Contains(s, "%(") || strings.Contains(s, "$[") || strings.Contains(s, "@{") || strings.Contains(s, "!{") || strings.HasPrefix(s, "%{") {
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
		if c := s[i]; !isLetter(c) && c != '_' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// lookups are beginnings of what fetches a value from elsewhere.
var lookups = []string{"os.environ", "getenv", "process.env", "system.get", "env.", "env[", "env(", "env:", "config.", "config[", "settings.", "vault:", "secret://", "secret:",
	"arn:aws", "resolve:", "ref:", "ref+", "var.", "local.", "data.", "module.", "self.", "this.", "options.", "params", "args.", "request.", "req.", "ctx.",
	"!ref", "!sub", "fn::", "keyvault", "file(", "file:", "lookup(", "urn:", "base64(", "base64.", "base64encode", "base64decode", "projects/", "op://", "sops:", "ssm:", "aws:", "awssm", "secretsmanager", "gopass", "keychain", "encrypted:", "enc["}

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
	var seen [256]bool
	n := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
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
	const mysql = 1 + 40 // an asterisk, and SHA-1
	return len(s) == mysql && s[0] == '*' && strings.Trim(s[1:], "0123456789ABCDEFabcdef") == ""
}

// algorithms are words of the names of algorithms, and of ways to prove who one is.
var algorithms = words("sha sha1 sha224 sha256 sha384 sha512 scram plus aes aes128 aes192 aes256 gcm cbc ctr hmac hs256 hs384 hs512 rs256 rs384 rs512 es256 es384 es512 ps256 rsa ecdsa ed25519 x25519 " +
	"pbkdf2 bcrypt scrypt argon2 argon2i argon2id chacha20 poly1305 md5 mysql native caching password kerberos")

// isAlgorithm takes such names: scram-sha-256.
func isAlgorithm(low string) bool {
	const longest = 32
	if len(low) > longest || algorithms[low] && len(low) < LeastPassword {
		return false
	}
	known := false
	for w := range strings.FieldsFuncSeq(low, func(r rune) bool { return r == '-' || r == '_' || r == '/' }) {
		is := algorithms[w]
		if !is && strings.Trim(w, "0123456789") != "" {
			return false
		}
		known = known || is && w != "password" && w != "mysql"
	}
	return known
}

// sameWord says that a value is but its name again, or a part of it.
func sameWord(low, name string) bool {
	v, n := joiners.Replace(low), joiners.Replace(strings.ToLower(name))
	return v == n || strings.HasSuffix(n, v) || strings.HasSuffix(v, n) || strings.HasPrefix(v, n)
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
