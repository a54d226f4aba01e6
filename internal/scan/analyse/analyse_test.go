package analyse_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

func TestRuns(t *testing.T) {
	for path, want := range map[string]bool{
		"/usr/bin/openssl":                         true,
		"/usr/lib/x86_64-linux-gnu/libssl.so.3":    true,
		"/usr/lib/python3/dist-packages/_x.so":     true,
		"/opt/app/bin/server":                      true,
		"/usr/share/doc/openssl/README":            false,
		"/usr/share/x.solution":                    false,
		"/.so":                                     false,
		"/usr/lib/node_modules/npm/bin/npm-cli.js": false,
	} {
		t.Run(path, func(t *testing.T) {
			if got := analyse.Runs(path); got != want {
				t.Errorf("Runs() = %v, want %v", got, want)
			}
		})
	}
}

func TestReadAllIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name        string
		size, limit int64
		ok          bool
	}{
		{"as large as it may be", 4, 4, true},
		{"larger than it says", 2, 3, false},
		{"says that it is larger", 5, 4, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := analyse.ReadAll(strings.NewReader("four"), tc.size, tc.limit)
			if (err == nil) != tc.ok || tc.ok && string(b) != "four" {
				t.Errorf("ReadAll() = %q, %v, want ok: %v", b, err, tc.ok)
			}
		})
	}
}
