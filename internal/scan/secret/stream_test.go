package secret_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/secret"
)

// whole is what is found in a text that is at hand, streamed what is found in the
// same text as it passes.
func whole(t testing.TB, e *secret.Engine, text []byte) []inventory.Secret {
	t.Helper()
	found, err := e.FindText(secret.File{Path: "app/a.conf"}, text)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func streamed(t testing.TB, e *secret.Engine, r io.Reader) []inventory.Secret {
	t.Helper()
	found, err := e.Find(context.Background(), secret.File{Path: "app/a.conf"}, r)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func privateKey(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b}))
}

// Files are looked at in pieces of 256 KiB: what stands on a border is found once,
// where it is.
func TestBordersOfPieces(t *testing.T) {
	e := engine(t)
	key := privateKey(t)
	planted := "password = " + strong + "\n" + awsID + "\n" + key
	// The lines between are not of the width of a piece, so that everything stands
	// on each border in turn.
	for shift := 0; shift < len(planted)+40; shift += 17 {
		var b bytes.Buffer
		line := strings.Repeat("x", 63) + "\n"
		for b.Len() < 1<<20 {
			for range 256<<10/len(line) - 8 {
				b.WriteString(line)
			}
			b.WriteString(strings.Repeat("y", shift%97) + "\n")
			b.WriteString(planted)
		}
		want := whole(t, e, b.Bytes())
		if len(want) < 9 {
			t.Fatalf("%d found at hand", len(want))
		}
		if d := cmp.Diff(lines(streamed(t, e, &b)), lines(want)); d != "" {
			t.Fatalf("shifted by %d (-streamed +at hand):\n%s", shift, d)
		}
	}
}

// How bytes come does not matter; an error of the reader is returned.
func TestReaders(t *testing.T) {
	e := engine(t)
	text := []byte("a\npassword = " + strong + "\n" + privateKey(t))
	want := lines(whole(t, e, text))
	if len(want) != 2 {
		t.Fatalf("found %v at hand", want)
	}
	for name, r := range map[string]io.Reader{"bytes": iotest.OneByteReader(bytes.NewReader(text)), "halves": iotest.HalfReader(bytes.NewReader(text)),
		"with the end": iotest.DataErrReader(bytes.NewReader(text))} {
		if d := cmp.Diff(lines(streamed(t, e, r)), want); d != "" {
			t.Errorf("%s (-got +want):\n%s", name, d)
		}
	}
	broken := errors.New("broken")
	if _, err := e.Find(context.Background(), secret.File{}, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("Find = %v, want the reader's error", err)
	}
	gone, stop := context.WithCancel(context.Background())
	stop()
	if _, err := e.Find(gone, secret.File{}, bytes.NewReader(text)); !errors.Is(err, context.Canceled) {
		t.Errorf("Find = %v, want the context's error", err)
	}
}

// Programs are looked through for what can be nothing else.
func TestPrograms(t *testing.T) {
	text := "\x7fELF\x00\x00 password = " + strong + " " + awsID + "\x00" + "https://shop:" + strong + "@db.internal/\x00" +
		"ghp_" + "q8Zr4Lw2Vn7Xc1Bm5Ty9Kd3q8Zr4Lw2Vn7Xc" + "\x00"
	found := streamed(t, engine(t), strings.NewReader(text))
	if d := cmp.Diff(lines(found), []string{"aws-access-token 1:34  #20 [029608264753]", "github-pat 1:96  #40"}); d != "" {
		t.Errorf("differs (-got +want):\n%s", d)
	}
}

// Whoever plants many hides none by it, and memory stays bounded.
func TestManySecrets(t *testing.T) {
	var b bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&b, "password%d = %s\n", i, drawn(i))
	}
	found, err := engine(t).Find(t.Context(), secret.File{Path: "a.env"}, &b)
	if len(found) != 500 || !errors.Is(err, secret.ErrMany) {
		t.Errorf("%d are listed, %v, want 500 and that there are more", len(found), err)
	}
}

func FuzzFind(f *testing.F) {
	e := engine(f)
	for name, text := range documents {
		f.Add(name, []byte(strings.ReplaceAll(text, "§", drawn(1))))
	}
	f.Add("id_rsa", []byte(privateKey(f)))
	f.Add("a", []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nabc\n-----END PGP PRIVATE KEY BLOCK-----"))
	f.Add("a.ppk", []byte("PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 00"))
	f.Add("config.json", []byte(`{"auths":{"r":{"auth":"YTpi"}}}`))
	f.Add("a", []byte("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjF9.c2lnbmF0dXJl"))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if len(text) > 64<<10 {
			return // what crosses pieces has a test of its own
		}
		file := secret.File{Path: name}
		found, err := e.Find(context.Background(), file, iotest.HalfReader(bytes.NewReader(text)))
		if err != nil && !errors.Is(err, secret.ErrMany) {
			t.Fatal(err)
		}
		atHand, textErr := e.FindText(file, text)
		if d := cmp.Diff(found, atHand); d != "" || (err == nil) != (textErr == nil) {
			t.Errorf("streamed and at hand differ: %v, %v\n%s", err, textErr, d)
		}
		for _, s := range found {
			if s.Rule == "" || s.Length <= 0 && s.Rule != "pkcs12-file" || s.Line < 1 || s.Column < 1 || s.Line > bytes.Count(text, []byte("\n"))+1 {
				t.Errorf("found %+v in %d bytes", s, len(text))
			}
		}
	})
}

// The rules themselves hold no secret, also not where they are part of a program.
func TestRulesAreNoSecrets(t *testing.T) {
	rules, err := os.ReadFile("gitleaks.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range streamed(t, engine(t), bytes.NewReader(append([]byte("\x7fELF\x00"), rules...))) {
		if s := secret.Finding(f, time.Now()); s.Severity >= finding.Medium {
			t.Errorf("%s at %d:%d is %v", f.Rule, f.Line, f.Column, s.Severity)
		}
	}
}

// Texts that are nothing but what rules look for cost no more than a small multiple
// of others: a megabyte each, which a quadratic search takes minutes for.
func TestHostileTexts(t *testing.T) {
	e := engine(t)
	for name, piece := range map[string]string{"a.conf": "password=", "b.conf": `password = "aB3$xY9zQw" `, "c.conf": "x://a:b@", "d.py": `name="password" value= `,
		"e.yaml": "password:\n  default: \n", "f.txt": "curl -u ", "g.txt": "facebook ", "h.txt": "-----BEGIN PRIVATE KEY-----\n", "i.txt": "ey",
		"j.txt": "token=ABCDEFabcdef0123456789xyzQ ", "l.txt": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo", "m.sh": "mysql -u a -p", "n.json": `"value": "aB3$xY9zQw", "name": "password`} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if _, err := e.Find(ctx, secret.File{Path: name}, strings.NewReader(strings.Repeat(piece, 1<<20/len(piece)))); err != nil && !errors.Is(err, secret.ErrMany) {
				t.Errorf("Find = %v", err)
			}
		})
	}
}
