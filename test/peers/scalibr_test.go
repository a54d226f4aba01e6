// Package peers_test holds Castellan against its peers. It is a module of its own, so
// that what the peers need is not needed to build or test Castellan itself.
package peers_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	config "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/cpp/conanlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dart/pubspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packagesconfig"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packageslockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/elixir/mixlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gomod"
	"github.com/google/osv-scalibr/extractor/filesystem/language/haskell/cabal"
	"github.com/google/osv-scalibr/extractor/filesystem/language/haskell/stacklock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/gradlelockfile"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/gradleverificationmetadataxml"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/pomxml"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/bunlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagelockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/pnpmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/yarnlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/php/composerlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pdmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pipfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/poetrylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/requirements"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/uvlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/r/renvlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargolock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/swift/packageresolved"
	"github.com/google/osv-scalibr/extractor/filesystem/language/swift/podfilelock"
	scalibrfs "github.com/google/osv-scalibr/fs"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/all"
)

// peers are osv-scalibr's extractors of the formats that are ours too, by the
// folder of their samples, with the name that such a file has in a project;
// empty for those known by their content or extension.
var peers = []struct {
	folder, name string
	make         func(*config.PluginConfig) (filesystem.Extractor, error)
}{
	{"cpp/conanlock", "conan.lock", conanlock.New},
	{"dart/pubspec", "pubspec.lock", pubspec.New},
	{"dotnet/depsjson", "a.deps.json", depsjson.New},
	{"dotnet/packagesconfig", "packages.config", packagesconfig.New},
	{"dotnet/packageslockjson", "packages.lock.json", packageslockjson.New},
	{"elixir/mixlock", "mix.lock", mixlock.New},
	{"golang/gobinary", "", gobinary.New},
	{"golang/gomod", "go.mod", gomod.New},
	{"haskell/cabal", "cabal.project.freeze", cabal.New},
	{"haskell/stacklock", "stack.yaml.lock", stacklock.New},
	{"java/archive", "", archive.New},
	{"java/gradlelockfile", "gradle.lockfile", gradlelockfile.New},
	{"java/gradleverificationmetadataxml", "gradle/verification-metadata.xml", gradleverificationmetadataxml.New},
	{"java/pomxml", "pom.xml", pomxml.New},
	{"javascript/bunlock", "bun.lock", bunlock.New},
	{"javascript/packagelockjson", "package-lock.json", packagelockjson.New},
	{"javascript/pnpmlock", "pnpm-lock.yaml", pnpmlock.New},
	{"javascript/yarnlock", "yarn.lock", yarnlock.New},
	{"php/composerlock", "composer.lock", composerlock.New},
	{"python/pdmlock", "pdm.lock", pdmlock.New},
	{"python/pipfilelock", "Pipfile.lock", pipfilelock.New},
	{"python/poetrylock", "poetry.lock", poetrylock.New},
	{"python/pylock", "pylock.toml", pylock.New},
	{"python/requirements", "requirements.txt", requirements.New},
	{"python/uvlock", "uv.lock", uvlock.New},
	{"r/renvlock", "renv.lock", renvlock.New},
	{"ruby/gemfilelock", "Gemfile.lock", gemfilelock.New},
	{"rust/cargoauditable", "", cargoauditable.New},
	{"rust/cargolock", "Cargo.lock", cargolock.New},
	{"swift/packageresolved", "Package.resolved", packageresolved.New},
	{"swift/podfilelock", "Podfile.lock", podfilelock.New},
}

// differences explains each package that only one of the two finds: the
// sample, the package with its version, and why it is right.
var differences = []struct{ sample, pkg, why string }{
	{`^golang/`, `^(go|stdlib) |\(devel\)$|^\./`, "what is being built has no version and is no package; a version of the language is no release"},
	{`^golang/gomod/testdata/indirect-1.16`, ` `, "go.sum lists what was looked at, not what is used"},
	{`^golang/gobinary/testdata/binary_with_module`, `^binary_with`, "what is being built"},
	{`(files?|local|source-path|source-directory|workspaces?(-object)?|exclude-root)[^/]*$|/(source-sdk|has-local-gem|exotic).*`, ` `, "of the project's own folders, or of an SDK"},
	{`^python/requirements/`, ` $`, "a requirement that allows several versions has none"},
	{`^python/requirements/testdata/(example|with_versions)`, `^(keyring|newspaper3k|pkg|combination|mopidy|pandas)`, "the lowest or highest version that is allowed is not what is installed; other files are read by themselves"},
	{`^python/requirements/testdata/per_req`, `^foo`, "options behind a requirement, or text that is an error"},
	{`^(python/pipfilelock|python/pylock|dotnet/packagesconfig|dotnet/csproj)/`, ` $`, "named without a version, which is shown"},
	{`^java/archive/testdata/no_pom_properties|^java/archive/testdata/pom_missing`, ` `, "a group is not made up"},
	{`^java/archive/testdata/(com\.google\.src|org\.eclipse)`, ` `, "a group is not cut out of a file's name"},
	{`^java/archive/testdata/nested_at_100`, ` `, "deeper than is read"},
	{`^java/pomxml/testdata/interpolation`, `ranged-package`, "a range has no version"},
	{`^java/pomxml/testdata/multi-version`, ` `, "both versions are asked for"},
	{`^java/pomxml/testdata/with-parent`, ` `, "of a parent that is another file"},
	{`^java/gradleverification.*missing`, ` `, "no name or no group"},
	{`^javascript/packagelockjson/testdata/both/`, ` `, "theirs leaves the file to a newer one beside it"},
	{`^r/renvlock/`, ` `, "from elsewhere than CRAN: shown, and looked up nowhere"},
	{`^dotnet/depsjson/`, `^TestLibrary `, "the project itself"},
}

func explained(sample, pkg string) bool {
	for _, d := range differences {
		if regexp.MustCompile(d.sample).MatchString(sample) && regexp.MustCompile(d.pkg).MatchString(pkg) {
			return true
		}
	}
	return false
}

// TestAgainstScalibr compares what is found in osv-scalibr's own samples.
func TestAgainstScalibr(t *testing.T) {
	dir := moduleDir(t, "github.com/google/osv-scalibr")
	root := filepath.Join(dir, "extractor/filesystem/language")
	if _, err := os.Stat(filepath.Join(root, "golang/gomod/testdata")); err != nil {
		t.Skip("the module's samples are not on this machine")
	}
	samples, same := 0, 0
	for _, p := range peers {
		x, err := p.make(&config.PluginConfig{})
		if err != nil {
			t.Fatal(err)
		}
		err = fs.WalkDir(os.DirFS(root), p.folder+"/testdata", func(sample string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			samples++
			theirs, ours := extract(t, x, root, sample), analysed(t, root, sample, p.name)
			only := append(without(theirs, ours), without(ours, theirs)...)
			if len(only) == 0 {
				same += len(ours)
			}
			for _, pkg := range only {
				if !explained(sample, pkg) {
					t.Errorf("%s: %q only in one; theirs %q, ours %q", sample, pkg, theirs, ours)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d samples, %d packages in those that are the same", samples, same)
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Skipf("the go command can't tell where %s is: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}

// extract returns what an extractor finds. Versions of Go modules are compared
// without their v, names of PyPI in lower case.
func extract(t *testing.T, x filesystem.Extractor, root, sample string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, sample))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	found, err := x.Extract(context.Background(), &filesystem.ScanInput{FS: scalibrfs.DirFS(root), Path: sample, Root: root, Info: info, Reader: f})
	var all []string
	for _, p := range found.Packages {
		all = append(all, comparable(sample, p.Name, p.Version))
	}
	if err != nil && len(all) > 0 {
		t.Logf("%s: theirs: %v", sample, err)
	}
	return all
}

func analysed(t *testing.T, root, sample, name string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, sample))
	if err != nil {
		t.Fatal(err)
	}
	e := &analyse.Entry{Path: path.Join("src", name), Mode: 0o755, Size: int64(len(b))}
	if name == "" {
		e.Path = sample
	}
	var found []string
	for _, a := range all.Analysers() {
		if !a.Wants(e, b[:min(len(b), analyse.HeadSize)]) {
			continue
		}
		var shown analyse.Shown
		if err := a.Take(context.Background(), e, bytes.NewReader(b), &shown); err != nil {
			t.Logf("%s: ours: %v", sample, err)
		}
		for _, p := range shown.Packages {
			found = append(found, comparable(sample, p.FullName(), p.Version))
		}
	}
	return found
}

func comparable(sample, name, version string) string {
	switch {
	case strings.HasPrefix(sample, "golang/"):
		version = strings.TrimPrefix(version, "v")
	case strings.HasPrefix(sample, "python/"):
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	return name + " " + version
}

// without returns what is in a and not in b.
func without(a, b []string) []string {
	var only []string
	for _, s := range a {
		if !slices.Contains(b, s) && !slices.Contains(only, s) {
			only = append(only, s)
		}
	}
	return only
}
