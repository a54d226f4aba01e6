package answer_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/test/peers/answer"
)

func TestParsePURL(t *testing.T) {
	for _, tc := range []struct {
		purl string
		want answer.Package
	}{
		{"pkg:deb/debian/libssl3@3.0.9-1?arch=amd64&distro=debian-12&upstream=openssl%403.0.8",
			answer.Package{Type: "deb", Name: "libssl3", Version: "3.0.9-1", Arch: "amd64", Source: "openssl", SourceVersion: "3.0.8"}},
		{"pkg:deb/debian/git@1%3A2.30.2-1?arch=amd64", answer.Package{Type: "deb", Name: "git", Version: "1:2.30.2-1", Arch: "amd64", Source: "git", SourceVersion: "1:2.30.2-1"}},
		{"pkg:rpm/almalinux/openssl-libs@3.0.1-23.el9_0?arch=x86_64&epoch=1&upstream=openssl-3.0.1-23.el9_0.src.rpm",
			answer.Package{Type: "rpm", Name: "openssl-libs", Version: "1:3.0.1-23.el9_0", Arch: "x86_64", Source: "openssl", SourceVersion: "3.0.1-23.el9_0"}},
		{"pkg:npm/%40hapi/hoek@8.5.0", answer.Package{Type: "npm", Name: "@hapi/hoek", Version: "8.5.0"}},
		{"pkg:maven/commons-io/commons-io@2.6", answer.Package{Type: "maven", Name: "commons-io:commons-io", Version: "2.6"}},
		{"pkg:pypi/ruamel.yaml@0.16.0", answer.Package{Type: "pypi", Name: "ruamel-yaml", Version: "0.16.0"}},
		{"pkg:golang/golang.org/x/net@v0.7.0#html", answer.Package{Type: "golang", Name: "golang.org/x/net", Version: "0.7.0"}},
		{"pkg:nuget/app", answer.Package{Type: "nuget", Name: "app"}},
	} {
		got, err := answer.ParsePURL(tc.purl)
		if err != nil {
			t.Errorf("%s: %v", tc.purl, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.purl, diff)
		}
	}
	for _, bad := range []string{"deb/debian/a@1", "pkg:deb/debian/a@%zz"} {
		if _, err := answer.ParsePURL(bad); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
