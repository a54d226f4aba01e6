package ruby_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/ruby"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(ruby.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"specification", "usr/local/bundle/specifications/rails-7.0.4.gemspec", "# -*- encoding: utf-8 -*-\n# stub: rails 7.0.4 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"rails\".freeze\n  s.version = \"7.0.4\"\n\n  s.required_rubygems_version = Gem::Requirement.new(\">= 1.8.11\".freeze) if s.respond_to? :required_rubygems_version=\n  s.licenses = [\"MIT\".freeze, 'Ruby']\nend\n",
			[]string{"gem:rails 7.0.4 installed [RubyGems] MIT Ruby"}},
		{"of a platform", "gems/specifications/nokogiri-1.15.0-x86_64-linux.gemspec", "# stub: nokogiri 1.15.0 x86_64-linux lib\nGem::Specification.new do |s|\n  s.version = VERSION\nend\n",
			[]string{"gem:nokogiri 1.15.0 installed [RubyGems]"}},
		{"old", "gems/specifications/default/rake-0.8.7.gemspec", "Gem::Specification.new do |s|\n  s.name = %q{rake}\n  s.version = Gem::Version.new(\"0.8.7\")\nend\n",
			[]string{"gem:rake 0.8.7 installed [RubyGems]"}},
		{"a project's own", "src/x.gemspec", "x", []string{"not wanted"}},
		{"no version", "specifications/x.gemspec", "s.name = \"x\"\n", nil},
		{"lock file", "app/Gemfile.lock", "GIT\n  remote: https://example.com/g.git\n  revision: abc\n  specs:\n    g (0.1.0)\n\nPATH\n  remote: .\n  specs:\n    own (1.0.0)\n\nGEM\n  remote: https://example.com/\n  specs:\n    nokogiri (1.15.4-x86_64-linux)\n      racc (~> 1.4)\n    nokogiri (1.15.4-arm64-darwin)\n    racc (1.7.1)\n\nPLATFORMS\n  x86_64-linux\n\nDEPENDENCIES\n  g!\n  nokogiri (~> 1.15)\n\nBUNDLED WITH\n   2.4.10\n",
			[]string{"gem:g 0.1.0 declared [RubyGems]", "gem:nokogiri 1.15.4 declared [RubyGems]", "gem:racc 1.7.1 declared [RubyGems] indirect"}},
		{"lock file of a gem", "usr/local/bundle/gems/a-1/Gemfile.lock", "x", []string{"not wanted"}},
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
	var many strings.Builder
	many.WriteString("GEM\n")
	for i := range analyse.MaxPackages + 1 {
		fmt.Fprintf(&many, "    g%d (1.0)\n", i)
	}
	for path, content := range map[string]string{
		"Gemfile.lock":             many.String(),
		"specifications/x.gemspec": "s.name = \"" + strings.Repeat("a", 2000) + "\"\ns.version = \"1\"\n",
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"specifications/a.gemspec", "Gemfile.lock"}
	f.Add(0, "# stub: rails 7.0.4 ruby lib\ns.name = %q{a}\ns.licenses = [\"MIT\".freeze]\n")
	f.Add(1, "GEM\n  specs:\n    a (1.0-java)\nDEPENDENCIES\n  a!\n")
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
