package secret_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

// Documents that are made to cost much cost little, and it is said where not all of
// one was looked at.
func TestHostileDocuments(t *testing.T) {
	escaped := func(i int) string { return fmt.Sprintf(`{"name": "X", "environment": {"A": "\u0041 b=%d"}}`, i) }
	var line, passwords strings.Builder
	for i := range 15_000 {
		line.WriteString(escaped(i) + ",")
	}
	for i := range 12_000 {
		fmt.Fprintf(&passwords, `{"name": "DB_PASSWORD", "value": "\u005a%s%d"},`, strong, i)
	}
	for name, text := range map[string]string{
		"one line":  `[{"password": "x"}, ` + line.String() + `1]`,
		"passwords": `[` + passwords.String() + `1]`,
		"aliases":   "AWS::X: &a \"password=" + strings.Repeat("x=1 ", 20<<10) + "\"\npassword: x\nb: [" + strings.TrimSuffix(strings.Repeat("*a,", 150), ",") + "]\n",
		"nested":    `{"password": ` + strings.Repeat(`"[`, 50_000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			file := "a.json"
			if name == "aliases" {
				file = "a.yaml"
			}
			_, err := engine(t).Find(t.Context(), secret.File{Path: file}, strings.NewReader(text))
			if err != nil && !errors.Is(err, secret.ErrMany) {
				t.Error(err)
			}
			if took := time.Since(begun); took > 20*time.Second { // a second on a machine that does nothing else
				t.Errorf("%d bytes took %v", len(text), took)
			}
			if (name == "passwords" || name == "aliases") && !errors.Is(err, secret.ErrMany) {
				t.Errorf("nobody is told that not all of it was looked at: %v", err)
			}
		})
	}
}

// A file that is full of secrets is not looked through to its end for more than are
// kept.
func TestFullFilesAreNotReadOn(t *testing.T) {
	var b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&b, "db_password = \"%s%d\"\n", strong, i)
	}
	r := strings.NewReader(b.String())
	found, err := engine(t).Find(t.Context(), secret.File{Path: "srv/app.conf"}, r)
	if !errors.Is(err, secret.ErrMany) || len(found) == 0 {
		t.Errorf("%d found, error %v", len(found), err)
	}
	if read := b.Len() - r.Len(); read > 1<<20 {
		t.Errorf("%d bytes of %d were read", read, b.Len())
	}
}
