package secret

import (
	"bytes"
	"net/url"
	"strings"
)

const (
	maxScheme   = 32
	maxUserInfo = 512
)

// urlCredentials finds scheme://user:password@host. b has "://" at the place at.
func (s *sifting) urlCredentials(at int) {
	scheme := spanBack(s.buf, at, maxScheme, func(c byte) bool { return isWord(c) && c != '_' || c == '+' || c == '.' || c == '-' })
	if len(scheme) < 2 || !isLetter(scheme[0]) {
		return
	}
	from := at + len("://")
	info := span(s.buf, from, maxUserInfo, isUserInfo)
	end := bytes.LastIndexByte(info, '@')
	if end < 0 {
		return
	}
	colon := bytes.IndexByte(info[:end], ':')
	if colon < 0 || end-colon-1 < leastPassword || end+1 >= len(info) && from+end+1 >= len(s.buf) {
		return
	}
	host := span(s.buf, from+end+1, 256, isHost)
	if len(host) == 0 {
		return
	}
	user, value := string(info[:colon]), string(info[colon+1:end])
	plain, err := url.PathUnescape(value)
	if err != nil {
		plain = value
	}
	if len(user) >= leastToken && looksRandom(user) && (isPlaceholder(strings.ToLower(plain)) || plain == "x-oauth-basic" || wordy(plain)) {
		// A token as the user, with a word for a password.
		s.add(ruleURL, "", user, "", from)
		return
	}
	doubt, ok := judge(plain, user, true)
	if !ok || plain == user && len(plain) < strongLength {
		return
	}
	if d := doubtOfHost(string(host)); d != "" && doubt == "" {
		doubt = d
	}
	if doubt == "" && classOf(s.f.Path) == prose {
		doubt = doubtDocument
	}
	s.add(ruleURL, shownUser(user), value, doubt, from+colon+1)
}

// shownUser is a user's name as it may be shown: not one that may be a secret
// itself.
func shownUser(user string) string {
	const longest = 32
	if len(user) > longest || len(user) >= leastToken && looksRandom(user) && !wordy(user) {
		return ""
	}
	return user
}

// isUserInfo takes what may stand before a host; brackets and braces are of
// templates, which the judge knows.
func isUserInfo(c byte) bool {
	switch c {
	case '"', '\'', '`', '<', '>', '/', '\\', ',', '|', ')', '(':
		return false
	}
	return c > ' ' && c < 0x7f
}

func isHost(c byte) bool {
	return isWord(c) || c == '.' || c == '-' || c == '[' || c == ']' || c == '$' || c == '{' || c == '}'
}

// doubtOfHost says that nothing stands behind a host's name: examples, and the
// machine itself, where tests' databases run.
func doubtOfHost(host string) string {
	for _, suffix := range []string{"example.com", "example.org", "example.net", ".example", ".invalid", ".test", "localhost", "127.0.0.1", "0.0.0.0"} {
		if len(host) >= len(suffix) && hasFold([]byte(host[len(host)-len(suffix):]), suffix) {
			return "its host is an example, or the machine itself"
		}
	}
	switch host {
	case "host", "hostname", "server", "myhost", "HOST", "domain.com", "proxy", "user":
		return "its host is an example, or the machine itself"
	}
	return ""
}
