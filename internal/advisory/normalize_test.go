package advisory_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/advisory"
)

func TestNormalize(t *testing.T) {
	for _, tc := range []struct{ ecosystem, name, want string }{
		{"PyPI", "Flask_Login", "flask-login"},
		{"PyPI", "zope..interface-_x", "zope-interface-x"},
		{"NuGet", "Newtonsoft.Json", "newtonsoft.json"},
		{"Packagist", "Symfony/HTTP-Kernel", "symfony/http-kernel"},
		{"npm", "JSONStream", "JSONStream"},
		{"Debian:12", "OpenSSL", "OpenSSL"},
		{"PyPI", "", ""},
	} {
		t.Run(tc.ecosystem+" "+tc.name, func(t *testing.T) {
			if got := advisory.Normalize(tc.ecosystem, tc.name); got != tc.want {
				t.Errorf("Normalize() = %q, want %q", got, tc.want)
			}
		})
	}
}
