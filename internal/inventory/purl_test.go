package inventory_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/inventory"
)

func TestPURL(t *testing.T) {
	debian := inventory.OS{ID: "debian", Version: "12"}
	for _, tc := range []struct {
		name   string
		p      inventory.Package
		distro inventory.OS
		want   string
	}{
		{"deb with its source", inventory.Package{Type: "deb", Namespace: "debian", Name: "libssl3", Version: "3.0.11-1~deb12u2",
			Arch: "amd64", Source: inventory.Source{Name: "openssl", Version: "3.0.11-1~deb12u2"}}, debian,
			"pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl"},
		{"deb whose source has another version", inventory.Package{Type: "deb", Namespace: "debian", Name: "libgcc-s1", Version: "12.2.0-14",
			Source: inventory.Source{Name: "gcc-12", Version: "12.2.0-14+b1"}}, debian,
			"pkg:deb/debian/libgcc-s1@12.2.0-14?distro=debian-12&upstream=gcc-12%4012.2.0-14%2Bb1"},
		{"rpm with an epoch", inventory.Package{Type: "rpm", Namespace: "amzn", Name: "bind-libs", Version: "32:9.16.42-1.amzn2023", Arch: "x86_64"},
			inventory.OS{ID: "amzn", Version: "2023"},
			"pkg:rpm/amzn/bind-libs@9.16.42-1.amzn2023?arch=x86_64&distro=amzn-2023&epoch=32"},
		{"scope of npm", inventory.Package{Type: "npm", Namespace: "@babel", Name: "core", Version: "7.1.0"}, debian, "pkg:npm/%40babel/core@7.1.0"},
		{"group of maven", inventory.Package{Type: "maven", Namespace: "org.apache.logging.log4j", Name: "log4j-core", Version: "2.14.1"}, debian,
			"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"},
		{"Go module", inventory.Package{Type: "golang", Name: "github.com/docker/docker", Version: "v20.10.24+incompatible"}, debian,
			"pkg:golang/github.com/docker/docker@v20.10.24%2Bincompatible"},
		{"name of PyPI", inventory.Package{Type: "pypi", Name: "Flask_Login", Version: "0.6"}, debian, "pkg:pypi/flask-login@0.6"},
		{"composer", inventory.Package{Type: "composer", Namespace: "symfony", Name: "http-kernel", Version: "v5.1.0"}, debian,
			"pkg:composer/symfony/http-kernel@v5.1.0"},
		{"no version", inventory.Package{Type: "gem", Name: "rails"}, debian, "pkg:gem/rails"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.p.PURL(tc.distro); got != tc.want {
				t.Errorf("PURL() = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestCheckDigest(t *testing.T) {
	const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, tc := range []struct {
		name, digest string
		ok           bool
	}{
		{"sha256", "sha256:" + digits, true},
		{"sha512", "sha512:" + digits + digits, true},
		{"short", "sha256:" + digits[1:], false},
		{"upper case", "sha256:ABCDEF" + digits[6:], false},
		{"a path", "sha256:../../../../../../../../../../../../../etc/passwd0000000000000000", false},
		{"another algorithm", "md5:" + digits[:32], false},
		{"none", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := inventory.CheckDigest(tc.digest); (err == nil) != tc.ok {
				t.Errorf("CheckDigest(%q) = %v, want ok: %v", tc.digest, err, tc.ok)
			}
		})
	}
}

func TestParsePURL(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		want      inventory.PackageURL
		ok        bool
	}{
		{"deb", "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl",
			inventory.PackageURL{Type: "deb", Namespace: "debian", Name: "libssl3", Version: "3.0.11-1~deb12u2",
				Qualifiers: map[string]string{"arch": "amd64", "distro": "debian-12", "upstream": "openssl"}}, true},
		{"escapes", "pkg:npm/%40babel/core@7%2B1", inventory.PackageURL{Type: "npm", Namespace: "@babel", Name: "core", Version: "7+1"}, true},
		{"subpath", "pkg:golang/github.com/docker/cli@v1#/cmd/x/", inventory.PackageURL{Type: "golang", Namespace: "github.com/docker", Name: "cli", Version: "v1", Subpath: "cmd/x"}, true},
		{"slashes and capitals", "pkg://GEM//rails", inventory.PackageURL{Type: "gem", Name: "rails"}, true},
		{"scope that is not escaped", "pkg:npm/@babel/core", inventory.PackageURL{Type: "npm", Namespace: "@babel", Name: "core"}, true},
		{"broken escape", "pkg:gem/a%zz", inventory.PackageURL{Type: "gem", Name: "a%zz"}, true},
		{"no name", "pkg:gem/@1", inventory.PackageURL{Type: "gem", Version: "1"}, false},
		{"no type", "pkg:/rails", inventory.PackageURL{}, false},
		{"another scheme", "https://example.org/x", inventory.PackageURL{}, false},
		{"nothing", "", inventory.PackageURL{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := inventory.ParsePURL(tc.url)
			if ok != tc.ok {
				t.Fatalf("ok = %v, want %v", ok, tc.ok)
			}
			if diff := cmp.Diff(got, tc.want); ok && diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

// What a URL names is written as a URL that names the same.
func FuzzPURL(f *testing.F) {
	f.Add("pkg:golang/github.com/docker/docker@v1%2Bincompatible")
	f.Add("pkg:npm/%40babel/core@7.1.0")
	f.Add("pkg:rpm/redhat/bind@9.16-1?epoch=32&upstream=bind-9.16-1.src.rpm")
	f.Add("pkg:generic/a%2Fb/c%3Fd%23e%40f")
	f.Fuzz(func(t *testing.T, s string) {
		u, ok := inventory.ParsePURL(s)
		if !ok {
			return
		}
		p := u.Package()
		first := p.PURL(inventory.OS{})
		again, ok := inventory.ParsePURL(first)
		if !ok {
			return // its name is nothing but slashes, or its type is none
		}
		q := again.Package()
		if second := q.PURL(inventory.OS{}); p.Name == q.Name && p.Namespace == q.Namespace && p.Version == q.Version && first != second {
			t.Errorf("%q is written %q, and that %q", s, first, second)
		}
		if !p.FromDistribution() && p.Type != "golang" && p.Version != q.Version {
			t.Errorf("%q has the version %q, and written as %q the version %q", s, p.Version, first, q.Version)
		}
	})
}
