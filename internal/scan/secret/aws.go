package secret

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

// awsAccount is the account that an access key belongs to. Ids that were made
// since 2019 hold its number in their first bits (base32, 40 bits after the first
// four letters, the topmost left out); older ones, which begin with I or J, hold
// none.
func awsAccount(id string) string {
	const prefix = 4
	if len(id) < prefix+10 || id[prefix] == 'I' || id[prefix] == 'J' {
		return ""
	}
	b, err := base32.StdEncoding.DecodeString(id[prefix : prefix+(len(id)-prefix)/8*8])
	if err != nil || len(b) < 6 {
		return ""
	}
	var n uint64
	for _, c := range b[:6] {
		n = n<<8 | uint64(c)
	}
	const digits = 1_000_000_000_000
	account := n & 0x7fffffffff80 >> 7
	if account >= digits {
		return ""
	}
	return fmt.Sprintf("%012d", account)
}

const (
	awsSecretLength = 40
	// awsNear is how far a secret key may be from the id that it belongs to.
	awsNear = 400
)

// isAWSSecret says that a value has the form of a secret access key.
func isAWSSecret(v string) bool {
	const least = 4.0
	if len(v) != awsSecretLength {
		return false
	}
	for i := range len(v) {
		if !isBase64(v[i]) || v[i] == '=' {
			return false
		}
	}
	return judge.Entropy(v) > least && !isHex(v)
}

func isHex(v string) bool {
	for i := range len(v) {
		if c := lower(v[i]); (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// awsPair finds the secret key near an id.
func (s *sifting) awsPair(at int, account string) {
	from, to := max(0, at-awsNear), min(len(s.buf), at+awsNear)
	for i := from; i < to; {
		run := judge.Span(s.buf, i, awsNear, func(c byte) bool { return isBase64(c) && c != '=' })
		if len(run) == awsSecretLength && isAWSSecret(string(run)) {
			if f := s.add(ruleAWSSecret, "", string(run), "", i); f != nil {
				f.account = account
			}
			return
		}
		i += len(run) + 1
	}
}

// dockerAuth finds the credentials of a registry in a configuration of Docker:
// user and password in base64.
func (s *sifting) dockerAuth(at int) {
	base := path.Base(s.f.Path)
	near := s.buf[max(0, at-maxNested):at]
	if base != ".dockercfg" && base != ".dockerconfigjson" && !bytes.Contains(near, []byte(`"auths"`)) && base != "config.json" {
		return
	}
	n := named{to: at + len(`"auth"`), closed: at + len(`"auth"`)}
	value, _, from, ok := s.valueOf(&n, code)
	if !ok {
		return
	}
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok || password == "" || judge.IsTemplate(password) || judge.IsPlaceholder(password) {
		return
	}
	s.add(ruleDocker, shownUser(user), value, "", from)
}

// npmAuth finds what logs in to an npm registry.
func (s *sifting) npmAuth(at int) {
	if base := path.Base(s.f.Path); base != ".npmrc" && base != "npmrc" && base != ".yarnrc" {
		return
	}
	name := judge.Span(s.buf, at, maxName, isWord)
	n := named{to: at + len(name), closed: at + len(name)}
	value, _, from, ok := s.valueOf(&n, config)
	if !ok || len(value) < judge.LeastToken {
		return
	}
	if doubt, ok := judge.Value(value, string(name), judge.Password, judge.Quoted); ok {
		s.add(ruleNPM, string(name), value, doubt, from)
	}
}
