package php_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse/php"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(php.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"lock file", "src/composer.lock", `{"packages":[{"name":"Symfony/Console","version":"v5.4.0","license":["MIT"],"require":{"php":">=7"}}],"packages-dev":[{"name":"phpunit/phpunit","version":"9.5.0"}],"aliases":[]}`,
			[]string{"composer:symfony/console v5.4.0 declared [Packagist] MIT", "composer:phpunit/phpunit 9.5.0 declared [Packagist] dev"}},
		{"installed", "src/vendor/composer/installed.json", `{"packages":[{"name":"a/b","version":"1.0.0","version_normalized":"1.0.0.0"},{"name":"c/d","version":"dev-main"}],"dev":true,"dev-package-names":["c/d"]}`,
			[]string{"composer:a/b 1.0.0 installed [Packagist]", "composer:c/d dev-main installed [Packagist] dev"}},
		{"installed by Composer 1", "vendor/composer/installed.json", `[{"name":"a/b","version":"1.0.0"}]`, []string{"composer:a/b 1.0.0 installed [Packagist]"}},
		{"lock file of a dependency", "src/vendor/a/b/composer.lock", "{}", []string{"not wanted"}},
		{"not a list", "composer.lock", `{"packages":{"a":1}}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(tc.path, tc.content)
			if err != nil {
				t.Errorf("Take() = %v", err)
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

func TestBrokenFiles(t *testing.T) {
	for path, content := range map[string]string{
		"composer.lock": `{"packages":[{"name":`, "vendor/composer/installed.json": "x",
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"composer.lock", "vendor/composer/installed.json"}
	f.Add(0, `{"packages":[{"name":"a/b","version":"1","license":["MIT"]}],"packages-dev":[]}`)
	f.Add(1, `[{"name":"a/b","version":"1.0.0"}]`)
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
