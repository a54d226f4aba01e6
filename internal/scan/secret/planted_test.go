package secret_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// planter writes what the marks of testdata/planted.txt stand for.
type planter struct {
	r    *mathrand.Rand
	keys map[string]string
}

var mark = regexp.MustCompile(`§|«([a-z]+)([0-9]*)»`)

// alphabets are the signs that marks with a length draw from.
var alphabets = map[string]string{
	"hex": "0123456789abcdef", "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "lower": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "digit": "123456789",
	"alnum": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "url": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
	"aws": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "bech": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}

func (p *planter) draw(signs string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = signs[p.r.IntN(len(signs))]
	}
	return string(b)
}

// value is what a mark stands for.
func (p *planter) value(t testing.TB, m string) string {
	parts := mark.FindStringSubmatch(m)
	kind := parts[1]
	length := parts[2]
	switch kind {
	case "":
		return drawn(p.r.IntN(1 << 20))
	case "login":
		return base64.StdEncoding.EncodeToString([]byte("shop:" + drawn(p.r.IntN(1<<20))))
	case "keydata":
		return base64.StdEncoding.EncodeToString([]byte(p.keys["ec"]))
	case "escaped":
		b, err := json.Marshal(p.keys["pkcs8"])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Trim(string(b), `"`)
	case "uuid":
		return p.draw(alphabets["hex"], 8) + "-" + p.draw(alphabets["hex"], 4) + "-4" + p.draw(alphabets["hex"], 3) + "-a" + p.draw(alphabets["hex"], 3) + "-" + p.draw(alphabets["hex"], 12)
	case "jwt":
		part := func(v any) string {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString(b)
		}
		return part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(map[string]any{"sub": "shop-robot-1", "iat": 1700000000}) + "." + p.draw(alphabets["url"], 43)
	}
	if key, ok := p.keys[kind+length]; ok {
		return strings.TrimSpace(key)
	}
	n, err := strconv.Atoi(length)
	if err != nil || alphabets[kind] == "" && kind != "bytes" {
		t.Fatalf("no such mark: %s", m)
	}
	if kind == "bytes" {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(p.r.IntN(256))
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	return p.draw(alphabets[kind], n)
}

// keysOf makes one key of each kind.
func keysOf(t testing.TB) map[string]string {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	text := func(typ string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}))
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	_, d, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(r)
	check(err)
	ec, err := x509.MarshalECPrivateKey(e)
	check(err)
	plain, err := ssh.MarshalPrivateKey(d, "")
	check(err)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(d, "", []byte("x"))
	check(err)
	return map[string]string{"rsa": text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), "ec": text("EC PRIVATE KEY", ec),
		"pkcs8": text("PRIVATE KEY", pkcs8), "encrypted": text("ENCRYPTED PRIVATE KEY", pkcs8), "openssh": string(pem.EncodeToMemory(plain)), "locked": string(pem.EncodeToMemory(locked))}
}

// planted is one file of testdata/planted.txt with its marks filled in.
type planted struct {
	path, text string
	lines      []int // where something stands
}

func plants(t testing.TB) (files []planted) {
	t.Helper()
	b, err := os.ReadFile("testdata/planted.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := &planter{r: mathrand.New(mathrand.NewPCG(7, 7)), keys: keysOf(t)}
	_, rest, _ := strings.Cut(string(b), "\n== ")
	for one := range strings.SplitSeq(rest, "\n== ") {
		name, text, _ := strings.Cut(one, "\n")
		f := planted{path: name}
		var out strings.Builder
		at := 0
		for _, m := range mark.FindAllStringIndex(text, -1) {
			out.WriteString(text[at:m[0]])
			if line := strings.Count(out.String(), "\n") + 1; len(f.lines) == 0 || f.lines[len(f.lines)-1] != line {
				f.lines = append(f.lines, line)
			}
			out.WriteString(p.value(t, text[m[0]:m[1]]))
			at = m[1]
		}
		f.text = out.String() + text[at:] + "\n"
		files = append(files, f)
	}
	return files
}

// TestPlanted wants everything that testdata/planted.txt plants, at the line where it
// stands, as of medium severity or more. CASTELLAN_PLANT names a folder to which the
// files are written, for trying others on them.
func TestPlanted(t *testing.T) {
	e := engine(t)
	total := 0
	for _, f := range plants(t) {
		t.Run(f.path, func(t *testing.T) {
			found, err := e.Find(context.Background(), secret.File{Path: f.path}, strings.NewReader(f.text))
			if err != nil {
				t.Fatal(err)
			}
			told := map[int]bool{}
			for _, s := range found {
				told[s.Line] = told[s.Line] || secret.Finding(s, time.Now()).Severity >= finding.Medium
			}
			texts := strings.Split(f.text, "\n")
			for _, line := range f.lines {
				if total++; !told[line] {
					t.Errorf("line %d is not told: %s; found %v", line, texts[line-1], lines(found))
				}
				delete(told, line)
			}
			for line, is := range told {
				if is {
					t.Errorf("line %d is told: %s", line, texts[line-1])
				}
			}
		})
		write(t, f)
	}
	if total < 150 {
		t.Errorf("%d lines have secrets", total)
	}
	t.Logf("%d lines with secrets", total)
}

// write writes a file for others to try.
func write(t *testing.T, f planted) {
	dir := os.Getenv("CASTELLAN_PLANT")
	if dir == "" {
		return
	}
	name := dir + "/" + f.path
	if err := os.MkdirAll(name[:strings.LastIndexByte(name, '/')], 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(f.text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".lines", fmt.Append(nil, f.lines), 0o600); err != nil {
		t.Fatal(err)
	}
}
