package judge

import (
	"bytes"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// MaxText bounds what is looked at for secrets that need no name: ECS takes
// 32 KiB of environment.
const MaxText = 64 << 10

// lazily compiles an expression when it is first used: most commands of the
// program judge nothing, and none should wait for it at its start.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// forms are secrets whatever their name: what they look like tells. An expression
// is run only where one of its marks stands.
var forms = []struct {
	what  string
	marks []string
	is    func() *regexp.Regexp
}{
	{"an AWS access key", []string{"AKIA", "ASIA"}, lazily(`\b(AKIA|ASIA)[A-Z2-7]{16}\b`)},
	{"a private key", []string{"PRIVATE KEY"}, lazily(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)},
	{"a token", []string{"ghp_", "github_pat_", "glpat-", "xox", "sk_live_", "SG."},
		lazily(`\b(ghp_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20}|xox[abprs]-[A-Za-z0-9-]{10,}|sk_live_[A-Za-z0-9]{20,}|SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,})`)},
}

// Form says by its form alone what kind of secret a value is or holds, "" for
// none: "an AWS access key". Of a text longer than MaxText it says nothing.
func Form(v string) string {
	if len(v) > MaxText {
		return ""
	}
	for i := range forms {
		f := &forms[i]
		if hasAny(v, f.marks) && f.is().MatchString(v) && (i > 0 || !strings.Contains(v, "EXAMPLE")) {
			return f.what
		}
	}
	counts := func(l Login) bool {
		doubt, ok := l.Judge(Own)
		return ok && doubt == ""
	}
	if hasLogin(v, counts) {
		return "an address with a password"
	}
	return ""
}

// hasLogin says whether there is such a login in a text.
func hasLogin(text string, such func(Login) bool) bool {
	const mark = "://"
	if !strings.Contains(text, mark) {
		return false
	}
	b := []byte(text)
	for at := 0; ; at += len(mark) {
		i := bytes.Index(b[at:], []byte(mark))
		if i < 0 {
			return false
		}
		at += i
		if l, ok := LoginAt(b, at); ok && such(l) {
			return true
		}
	}
}

const (
	maxScheme   = 32
	maxUserInfo = 512
	maxHost     = 256
)

// Login is a user with a password in an address.
type Login struct {
	User, Password string // as they stand there
	Plain          string // the password without escapes
	Host           string
	// UserAt and PasswordAt are where they stand.
	UserAt, PasswordAt int
}

// LoginAt reads scheme://user:password@host. b has "://" at the place at.
func LoginAt(b []byte, at int) (l Login, ok bool) {
	scheme := SpanBack(b, at, maxScheme, func(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' || c == '+' || c == '.' || c == '-' })
	if len(scheme) < 2 || !isLetter(scheme[0]) {
		return l, false
	}
	l.UserAt = at + len("://")
	info := Span(b, l.UserAt, maxUserInfo, isUserInfo)
	end := bytes.LastIndexByte(info, '@')
	if end < 0 {
		return l, false
	}
	colon := bytes.IndexByte(info[:end], ':')
	if colon < 0 || end-colon-1 < leastOwn || end+1 >= len(info) && l.UserAt+end+1 >= len(b) {
		return l, false
	}
	host := Span(b, l.UserAt+end+1, maxHost, isHost)
	if len(host) == 0 {
		return l, false
	}
	l.User, l.Password, l.Host, l.PasswordAt = string(info[:colon]), string(info[colon+1:end]), string(host), l.UserAt+colon+1
	plain, err := url.PathUnescape(l.Password)
	if err != nil {
		plain = l.Password
	}
	l.Plain = plain
	return l, true
}

// BeginsLogin says that a login may begin at the "://" at the place at, and go on
// somewhere else: postgres://shop:
func BeginsLogin(b []byte, at int) bool {
	const reach = 64
	info := Span(b, at+len("://"), reach, isUserInfo)
	return len(info) > 1 && info[len(info)-1] == ':'
}

// Judge says whether the password is one, and what speaks against it.
func (l Login) Judge(at Place) (doubt string, ok bool) {
	name := l.User
	if at == Own {
		name = ""
	}
	doubt, ok = Value(l.Plain, name, Password, at)
	if !ok || l.Plain == l.User && len(l.Plain) < strongLength {
		return "", false
	}
	if doubt == "" {
		doubt = doubtOfHost(l.Host)
	}
	return doubt, true
}

// TokenAsUser says that the user is a token, and the password a word.
func (l Login) TokenAsUser() bool {
	return len(l.User) >= LeastToken && LooksRandom(l.User) && (IsPlaceholder(l.Plain) || l.Plain == "x-oauth-basic" || Wordy(l.Plain))
}

// isUserInfo takes what may stand before a host; brackets and braces are of
// templates, which are known by them.
func isUserInfo(c byte) bool {
	switch c {
	case '"', '\'', '`', '<', '>', '/', '\\', ',', '|', ')', '(':
		return false
	}
	return c > ' ' && c < 0x7f
}

func isHost(c byte) bool {
	return isLetter(c) || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == '[' || c == ']' || c == '$' || c == '{' || c == '}'
}

// doubtOfHost says that nothing stands behind a host's name: examples, and the
// machine itself, where tests' databases run.
func doubtOfHost(host string) string {
	low := strings.ToLower(host)
	for _, suffix := range []string{"example.com", "example.org", "example.net", ".example", ".invalid", ".test", "localhost", "127.0.0.1", "0.0.0.0"} {
		if strings.HasSuffix(low, suffix) {
			return DoubtHost
		}
	}
	switch host {
	case "host", "hostname", "server", "myhost", "HOST", "domain.com", "proxy", "user":
		return DoubtHost
	}
	return ""
}

// Span is the run of bytes from i on, of at most n, for which in is true.
func Span(b []byte, i, n int, in func(byte) bool) []byte {
	end := min(len(b), i+n)
	k := i
	for k < end && in(b[k]) {
		k++
	}
	return b[i:k]
}

// SpanBack is the run of bytes that ends before i.
func SpanBack(b []byte, i, n int, in func(byte) bool) []byte {
	k := i
	for k > 0 && i-k < n && in(b[k-1]) {
		k--
	}
	return b[k:i]
}
