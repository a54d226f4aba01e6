package bitnami_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse/bitnami"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

const bill = `{"SPDXID":"SPDXRef-a","packages":[
	{"name":"redis","versionInfo":"7.2.4-1","licenseDeclared":"BSD-3-Clause","externalRefs":[{"referenceType":"cpe23Type","referenceLocator":"cpe:2.3:*:redis:redis"},
		{"referenceType":"purl","referenceLocator":"pkg:bitnami/redis@7.2.4-1?arch=amd64&distro=debian-12"}]},
	{"name":"jemalloc","externalRefs":[{"referenceLocator":"pkg:generic/jemalloc@5.3.0"}]},
	{"name":"odd","externalRefs":[{"referenceLocator":"pkg:bitnami/odd"}]}]}`

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"bill", "opt/bitnami/redis/.spdx-redis.spdx", bill, []string{"bitnami:redis 7.2.4-1 installed [Bitnami] BSD-3-Clause"}},
		{"list", "opt/bitnami/.bitnami_components.json", `{"gosu":{"arch":"amd64","type":"NAMI","version":"1.14.0-1"},"none":{}}`,
			[]string{"bitnami:gosu 1.14.0-1 installed [Bitnami]"}},
		{"tags and values", "opt/bitnami/redis/.spdx-redis.spdx", "SPDXVersion: SPDX-2.3\n", nil},
		{"a bill elsewhere", "srv/.spdx-redis.spdx", bill, []string{"not wanted"}},
		{"no bill", "opt/bitnami/redis/readme.txt", "x", []string{"not wanted"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := analysetest.Lines(bitnami.Analyser{}, tc.path, tc.content)
			if err != nil {
				t.Errorf("Take() = %v", err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
	if got, err := analysetest.Lines(bitnami.Analyser{}, "opt/bitnami/a/.spdx-a.spdx", bill[:len(bill)-40]); err == nil || len(got) != 1 {
		t.Errorf("cut off: %q, %v, want one package and an error", got, err)
	}
}

func FuzzTake(f *testing.F) {
	f.Add(true, bill)
	f.Add(false, `{"gosu":{"version":"1.14.0-1"}}`)
	f.Fuzz(func(_ *testing.T, isBill bool, content string) {
		path := "opt/bitnami/.bitnami_components.json"
		if isBill {
			path = "opt/bitnami/a/.spdx-a.spdx"
		}
		_, _ = analysetest.Lines(bitnami.Analyser{}, path, content) // an error is as good as a package
	})
}
