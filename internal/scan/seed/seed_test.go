package seed_test

import (
	"os"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/seed"
)

// What the program carries can be used, says whose it is and how old, and knows
// weaknesses that everybody knows.
func TestOpen(t *testing.T) {
	db, err := seed.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	info := db.Info()
	if info.Advisories < 5_000 || info.Exploited == 0 {
		t.Errorf("%d advisories, %d exploited", info.Advisories, info.Exploited)
	}
	notice, err := os.ReadFile("NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Sources {
		if !strings.Contains(string(notice), s.Attribution) || !strings.Contains(string(notice), s.License) {
			t.Errorf("NOTICE does not tell of %s: %s, %s; make seed writes it", s.Name, s.Attribution, s.License)
		}
		if s.Attribution == "" || s.License == "" {
			t.Errorf("source %s: attribution %q, licence %q", s.Name, s.Attribution, s.License)
		}
	}
	for _, p := range []struct{ ecosystem, name string }{{"Go", "golang.org/x/net"}, {"PyPI", "django"}, {"Debian:11", "openssl"}} {
		if _, ok := db.Lookup(p.ecosystem, p.name); !ok {
			t.Errorf("nothing about %s of %s", p.name, p.ecosystem)
		}
	}
}
