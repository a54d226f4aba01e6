package secret

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// keyState says how much of a private key a text is: PEM in any of its forms, also
// with its line ends escaped, as in JSON, or PGP armour.
func keyState(text string) inventory.KeyState {
	text = bareLines(text)
	if strings.Contains(text, "PGP PRIVATE KEY") {
		return pgpState(text)
	}
	block := keyBlock(text)
	if block == nil {
		return inventory.KeyIncomplete
	}
	switch {
	case strings.Contains(block.Type, "ENCRYPTED"), strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return inventory.KeyEncrypted
	case block.Type == "OPENSSH PRIVATE KEY":
		return opensshState(block.Bytes)
	}
	return derState(block.Bytes)
}

// bareLines is a key's text as it is written to a file.
func bareLines(text string) string {
	text = strings.NewReplacer(`\r`, "", `\n`, "\n", "\r", "", `\/`, "/").Replace(text)
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = bare(lines[i])
	}
	return strings.Join(lines, "\n")
}

// keyBlock is what a text in PEM has; nil if that is no key.
func keyBlock(text string) *pem.Block {
	i := strings.Index(text, "-----BEGIN")
	if i < 0 {
		return nil
	}
	block, _ := pem.Decode([]byte(text[i:] + "\n"))
	if block == nil || len(block.Bytes) < leastKey {
		return nil
	}
	return block
}

// bare takes from a line of a key what a program's or document's text puts around
// it: quotes, what joins several, the marks of comments. Plus and slash are of the
// key where no quote is beside them.
func bare(line string) string {
	line = strings.TrimRight(strings.TrimSpace(line), ",\\;")
	if before := strings.TrimRight(line, " +."); strings.HasSuffix(before, `"`) || strings.HasSuffix(before, "'") {
		line = before[:len(before)-1]
	}
	if after := strings.TrimLeft(line, " +."); strings.HasPrefix(after, `"`) || strings.HasPrefix(after, "'") {
		line = after[1:]
	}
	for _, mark := range []string{"# ", "// ", "* ", "> "} {
		line = strings.TrimPrefix(line, mark)
	}
	return strings.TrimSpace(line)
}

// leastKey is how many bytes the smallest private key has: Ed25519 in PKCS #8.
const leastKey = 40

// derState says whether bytes are one whole element of ASN.1 with a private key in
// it.
func derState(b []byte) inventory.KeyState {
	var raw asn1.RawValue
	rest, err := asn1.Unmarshal(b, &raw)
	if err != nil || len(rest) > 0 {
		return inventory.KeyIncomplete
	}
	if _, err := x509.ParsePKCS8PrivateKey(b); err == nil {
		return inventory.KeyWhole
	}
	if _, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return inventory.KeyWhole
	}
	if _, err := x509.ParseECPrivateKey(b); err == nil {
		return inventory.KeyWhole
	}
	// Curves and algorithms that the library doesn't know: its form is that of a
	// key.
	var key struct {
		Version int
		Rest    asn1.RawValue
	}
	if _, err := asn1.Unmarshal(b, &key); err == nil && raw.Tag == asn1.TagSequence && key.Version <= 1 {
		return inventory.KeyWhole
	}
	return inventory.KeyIncomplete
}

// opensshState reads the head of OpenSSH's own form: the name of a cipher stands
// in it.
func opensshState(b []byte) inventory.KeyState {
	const magic = "openssh-key-v1\x00"
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < 4 {
		return inventory.KeyIncomplete
	}
	n := binary.BigEndian.Uint32(rest)
	if uint64(n)+4 > uint64(len(rest)) {
		return inventory.KeyIncomplete
	}
	if string(rest[4:4+n]) != "none" {
		return inventory.KeyEncrypted
	}
	return inventory.KeyWhole
}

// puttyKey finds a key of PuTTY: its head says how it is encrypted.
func (s *sifting) puttyKey(at int) {
	text := s.buf[at:min(len(s.buf), at+overlap)]
	i := bytes.Index(text, []byte("\nPrivate-MAC:"))
	if i < 0 {
		i = len(text)
	}
	text = text[:i]
	state := inventory.KeyIncomplete
	if bytes.Contains(text, []byte("\nPrivate-Lines:")) {
		state = inventory.KeyEncrypted
		if bytes.Contains(text, []byte("\nEncryption: none")) {
			state = inventory.KeyWhole
		}
	}
	if state == inventory.KeyIncomplete {
		return // the words alone, in a program that reads such keys
	}
	if f := s.add(rulePuTTY, "", string(text), "", at); f != nil {
		f.key = state
	}
}

// kubeKey finds the key of a client in a kubeconfig: a PEM in base64.
func (s *sifting) kubeKey(at int) {
	i := at + len("client-key-data")
	for i < len(s.buf) && i < at+maxBlanks && (s.buf[i] == ':' || s.buf[i] == '"' || s.buf[i] == ' ') {
		i++
	}
	value := judge.Span(s.buf, i, overlap, isBase64)
	b, err := base64.StdEncoding.DecodeString(string(value))
	if err != nil || !bytes.Contains(b, []byte("PRIVATE KEY")) {
		return
	}
	if f := s.add(ruleKubeKey, "client-key-data", string(value), "", i); f != nil {
		f.key = keyState(string(b))
	}
}

func isBase64(c byte) bool { return isWord(c) && c != '_' || c == '+' || c == '/' || c == '=' }

// tokenExpiry is when a JSON web token ends by its own word; zero if it does not
// say.
func tokenExpiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) < 2 {
		return time.Time{}
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp json.Number `json:"exp"`
	}
	if json.Unmarshal(b, &claims) != nil {
		return time.Time{}
	}
	f, err := claims.Exp.Float64()
	const latest = 253402300799 // the end of the year 9999
	if err != nil || f <= 0 || f > latest {
		return time.Time{}
	}
	return time.Unix(int64(f), 0).UTC()
}

// privateMember is the part of a JSON web key that is secret: of RSA and of curves,
// or of a key for both sides.
var privateMember = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`["'](?:d|k)["']\s{0,8}:\s{0,8}["']([A-Za-z0-9_-]{32,1000})={0,2}["']`)
})

// webKey finds the private part of a JSON web key. b has "kty" at the place at.
func (s *sifting) webKey(at int) {
	if c := classOf(s.f.Path); c == prose || c == inert {
		return
	}
	const reach = 6 << 10 // of a key of 4,096 bits with all its parts
	from, to := max(0, at-reach), min(len(s.buf), at+reach)
	from += bytes.LastIndexByte(s.buf[from:at], '{') + 1
	if i := bytes.IndexByte(s.buf[at:to], '}'); i >= 0 {
		to = at + i
	}
	m := privateMember().FindSubmatchIndex(s.buf[from:to])
	if m == nil || isMadeUp(string(s.buf[from+m[2]:from+m[3]])) || !judge.LooksRandom(string(s.buf[from+m[2]:from+m[3]])) {
		return
	}
	s.add(ruleWebKey, "", string(s.buf[from+m[2]:from+m[3]]), "", from+m[2])
}
