package seed_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/seed"
	"github.com/castellan-security/castellan/internal/scan/vulndb"
)

// namesOf returns the names of sources, sorted.
func namesOf(sources []vulndb.Source) []string {
	var names []string
	for _, s := range sources {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

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
	if names := namesOf(info.Sources); !slices.Equal(names, []string{"kev", "osv/Debian", "osv/Go", "osv/PyPI"}) {
		t.Errorf("made of %q: the licences of others are not in NOTICE", names)
	}
	for _, terms := range []string{"creativecommons.org/licenses/by/4.0/legalcode", "creativecommons.org/publicdomain/zero/1.0", "Permission is hereby granted", "Open Publication"} {
		if !strings.Contains(string(notice), terms) {
			t.Errorf("NOTICE lacks %q", terms)
		}
	}
	for _, ecosystem := range []string{"npm", "Maven", "NuGet", "Packagist"} {
		if releases := db.Releases(ecosystem); len(releases) > 0 {
			t.Errorf("holds advisories of %s, which may not be passed on", ecosystem)
		}
	}
	for _, p := range []struct{ ecosystem, name string }{{"Go", "golang.org/x/net"}, {"PyPI", "django"}, {"Debian:11", "openssl"}} {
		if _, ok := db.Lookup(p.ecosystem, p.name); !ok {
			t.Errorf("nothing about %s of %s", p.name, p.ecosystem)
		}
	}
}
