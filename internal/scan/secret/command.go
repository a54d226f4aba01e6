package secret

import (
	"bytes"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

// Commands and statements that take a password without naming it.
var (
	sshpass  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sshpass\s{1,8}-p\s{0,8}["']?([^\s"']{6,128})`) })
	mysqlRun = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^mysql(?:dump|admin|import|check)?\s[^\n|;&]{0,200}?\s-p["']?([^\s"'-][^\s"']{5,127})`)
	})
	identifiedBy = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^identified(?:\s{1,8}with\s{1,8}\S{1,64})?\s{1,8}by\s{1,8}(?:password\s{1,8})?["']([^"'\n]{6,128})["']`)
	})
	secureString = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^convertto-securestring\s{1,8}(?:-string\s{1,8})?["']([^"'\n]{6,128})["']`)
	})
)

// secretValue is how the CDK is handed a secret in the clear.
var secretValue = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(?:secretvalue\.|unsafe)plaintext\(\s{0,16}["'\x60]([^"'\x60\n]{6,512})["'\x60]`)
})

func (s *sifting) secretValueCall(at int)  { s.positional(at, secretValue()) }
func (s *sifting) sshpassCall(at int)      { s.positional(at, sshpass()) }
func (s *sifting) mysqlCall(at int)        { s.positional(at, mysqlRun()) }
func (s *sifting) identifiedBy(at int)     { s.positional(at, identifiedBy()) }
func (s *sifting) secureStringCall(at int) { s.positional(at, secureString()) }

// positional keeps the group of an expression that matches at a place.
func (s *sifting) positional(at int, re *regexp.Regexp) {
	if c := classOf(s.f.Path); c == prose || c == inert {
		return
	}
	const reach = 512
	m := re.FindSubmatchIndex(s.buf[at:min(len(s.buf), at+reach)])
	if m == nil {
		return
	}
	value := string(s.buf[at+m[2] : at+m[3]])
	doubt, ok := judge.Value(value, "", judge.Password, judge.Quoted)
	if !ok || doubt == judge.DoubtWord && isShipped(s.f.Path) {
		return
	}
	s.add(rulePassword, "", value, doubt, at+m[2])
}

// passwordFile reads a file of PostgreSQL's passwords: host:port:database:user:
// password, a line each.
func (s *sifting) passwordFile() {
	if path.Base(s.f.Path) != ".pgpass" {
		return
	}
	const fields = 5
	at := 0
	for line := range bytes.Lines(s.buf[:s.hi]) {
		parts := strings.SplitN(strings.TrimRight(string(line), "\r\n"), ":", fields)
		if len(parts) == fields && !strings.HasPrefix(parts[0], "#") {
			if doubt, ok := judge.Value(parts[4], parts[3], judge.Password, judge.Quoted); ok {
				s.add(rulePassword, shownUser(parts[3]), parts[4], doubt, at+len(strings.Join(parts[:4], ":"))+1)
			}
		}
		at += len(line)
	}
}
