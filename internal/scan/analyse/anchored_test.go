package analyse_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

func TestKeeps(t *testing.T) {
	for path, want := range map[string]bool{
		"/usr/bin/openssl": true,
		"/usr/lib/python3/dist-packages/requests-2.28.1.egg-info/PKG-INFO": true,
		"/usr/lib/python3/dist-packages/six-1.16.0.egg-info":               true,
		"/usr/share/nodejs/semver/package.json":                            true,
		"/usr/share/java/commons-io-2.11.0.jar":                            true,
		"/usr/share/doc/libssl3/copyright":                                 false,
		"/usr/lib/python3/dist-packages/six.py":                            false,
	} {
		t.Run(path, func(t *testing.T) {
			if got := analyse.Keeps(path); got != want {
				t.Errorf("Keeps() = %v, want %v", got, want)
			}
		})
	}
}
