package secret

import (
	"bytes"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

// positionals are commands, calls and statements that take a password without naming
// it: an expression begins where one of its words stands, and its group is the
// password. Between the words of a command there may be what a list puts there.
func positionals() []look {
	var looks []look
	for _, p := range []struct {
		words []string
		re    string
	}{
		{[]string{"sshpass"}, `^sshpass[\s"',]{1,8}-p[\s"',]{0,8}([^\s"']{6,128})`},
		{[]string{"mysql"}, `^mysql(?:dump|admin|import|check)?(?:[\s"',][^\n|;&]{0,200}?)?[\s"']-p["']?([^\s"'-][^\s"']{5,127})`},
		{[]string{"identified"}, `(?i)^identified(?:\s{1,8}with\s{1,8}\S{1,64})?\s{1,8}by\s{1,8}(?:password\s{1,8})?["']([^"'\n]{6,128})["']`},
		{[]string{"convertto-securestring"}, `(?i)^convertto-securestring\s{1,8}(?:-string\s{1,8})?["']([^"'\n]{6,128})["']`},
		// How the CDK is handed a secret in the clear.
		{[]string{"unsafeplaintext", "secretvalue.plaintext"}, `(?i)^(?:secretvalue\.|unsafe)plaintext\(\s{0,16}["'\x60]([^"'\x60\n]{6,512})["'\x60]`},
		{[]string{"curl"}, `^curl(?:[\s"',][^\n|;&]{0,200}?)?[\s"']-[a-zA-Z]{0,6}u[\s"',]{0,4}[^\s"':$]{1,64}:([^\s"']{6,128})`},
		{[]string{"redis-cli"}, `^redis-cli(?:[\s"',][^\n|;&]{0,200}?)?[\s"']-a[\s"',]{1,8}([^\s"'-][^\s"']{5,127})`},
		{[]string{"login"}, `^login(?:[\s"',][^\n|;&]{0,200}?)?[\s"']-p[\s"',]{1,8}([^\s"'-][^\s"']{5,127})`},
		{[]string{"mongo"}, `^mongo(?:sh|dump|restore|export|import)?(?:[\s"',][^\n|;&]{0,200}?)?[\s"']-p[\s"',]{1,8}([^\s"'-][^\s"']{5,127})`},
		{[]string{"sqlcmd"}, `^sqlcmd(?:[\s"',][^\n|;&]{0,200}?)?[\s"']-P[\s"',]{1,8}([^\s"'-][^\s"']{5,127})`},
		{[]string{"htpasswd"}, `^htpasswd\s{1,8}-[a-zA-Z]{0,4}b[a-zA-Z]{0,4}\s{1,8}\S{1,128}\s{1,8}\S{1,64}\s{1,8}["']?([^\s"'-][^\s"']{5,127})`},
		{[]string{"requirepass", "masterauth"}, `^(?:requirepass|masterauth)[ \t]{1,8}"?([^\s"']{6,128})`},
		{[]string{"chpasswd"}, `^chpasswd:\s{1,16}(?:list:\s{1,16}(?:\|\s{1,16})?)?(?:- )?[\w-]{1,32}:([^\s"':]{6,128})`},
		{[]string{"mysqli_connect", "mysql_connect", "new mysqli", "new pdo", "getconnection"},
			`(?i)^(?:mysqli?_connect|new\s(?:mysqli|pdo)|getconnection)\s{0,4}\(\s{0,16}[^,()\n]{1,128},\s{0,16}[^,()\n]{1,64},\s{0,16}["']([^"'\n]{6,128})["']`},
		{[]string{"oracle:thin:"}, `^oracle:thin:[\w$#]{1,64}/([^\s"'@/]{6,128})@`},
		{[]string{"psk="}, `^psk="([^"\n]{8,63})"`},
	} {
		re := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(p.re) })
		looks = append(looks, look{p.words, func(s *sifting, at int) { s.positional(at, re()) }})
	}
	return looks
}

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
	s.password(at+m[2], at+m[3])
}

// machineLine is a line of a netrc file, wherever it stands: in a step that writes one.
var machineLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^machine\s{1,8}\S{1,128}\s{1,8}login\s{1,8}\S{1,64}\s{1,8}password\s{1,8}([^\s"'\\]{6,128})`)
})

func (s *sifting) netrcLine(at int) {
	const reach = 512
	m := machineLine().FindSubmatchIndex(s.buf[at:min(len(s.buf), at+reach)])
	if c := classOf(s.f.Path); m == nil || c == prose || c == inert {
		return
	}
	value := string(s.buf[at+m[2] : at+m[3]])
	if doubt, ok := judge.Value(value, "", judge.Password, judge.Quoted); ok && doubt != judge.DoubtWord {
		s.add(ruleNetrc, "password", value, doubt, at+m[2])
	}
}

// password keeps what stands from one place to another, if it is a password.
func (s *sifting) password(from, to int) {
	value := string(s.buf[from:to])
	doubt, ok := judge.Value(value, "", judge.Password, judge.Quoted)
	if !ok || doubt == judge.DoubtWord && (isShipped(s.f.Path) || classOf(s.f.Path) == code) {
		return
	}
	s.add(rulePassword, "", value, doubt, from)
}

// Ways in which a password stands before what tells that it is one.
var (
	sourceName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[\w.-]{1,64}:([^\s"'\x60@/]{6,128})$`) })
	piped      = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`["' ][\w-]{1,32}:([^\s"':|]{6,128})["']?\s{0,8}\|\s{0,8}(?:sudo\s)?$`)
	})
)

// before keeps the group of an expression that matches up to a place.
func (s *sifting) before(at int, re *regexp.Regexp) {
	if c := classOf(s.f.Path); c == prose || c == inert {
		return
	}
	const reach = 256
	from := max(0, at-reach)
	if m := re.FindSubmatchIndex(s.buf[from:at]); m != nil {
		s.password(from+m[2], from+m[3])
	}
}

// sourceNameAt reads what Go's driver of MySQL is given: user:password@tcp(host)/.
func (s *sifting) sourceNameAt(at int) { s.before(at, sourceName()) }

// pipedTo reads what is piped to chpasswd: user:password.
func (s *sifting) pipedTo(at int) { s.before(at, piped()) }

// Tokens that stand where nothing names them.
var (
	bearer = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^bearer\s{1,2}([A-Za-z0-9._~+/=-]{16,512})(?:["'\x60\\\s]|$)`)
	})
	webhook = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/api/webhooks/[0-9]{17,20}/([A-Za-z0-9_-]{60,80})`) })
)

// bearerToken reads the token of a header.
func (s *sifting) bearerToken(at int) { s.token(at, bearer()) }

// discordHook reads the address by which everybody may write to a channel of Discord.
func (s *sifting) discordHook(at int) { s.token(at, webhook()) }

func (s *sifting) token(at int, re *regexp.Regexp) {
	if c := classOf(s.f.Path); c == prose || c == inert {
		return
	}
	const reach = 600
	m := re.FindSubmatchIndex(s.buf[at:min(len(s.buf), at+reach)])
	if m == nil {
		return
	}
	value := string(s.buf[at+m[2] : at+m[3]])
	if doubt, ok := judge.Value(value, "", judge.Token, judge.Quoted); ok && (doubt == "" || !isShipped(s.f.Path)) {
		s.add(ruleToken, "", value, doubt, at+m[2])
	}
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
