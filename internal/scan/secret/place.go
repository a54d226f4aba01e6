package secret

import (
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/judge"
)

// class is what a file is for, as its name tells.
type class uint8

const (
	code   class = iota // values are in quotes
	config              // values may stand as they are
	prose               // for people to read: names and values are examples
	inert               // nothing of our own is looked for
)

var classes = map[string]class{
	".sh": config, ".bash": config, ".zsh": config, ".ksh": config, ".env": config, ".properties": config, ".ini": config, ".conf": config, ".cfg": config, ".cnf": config, ".config": config, ".yaml": config, ".yml": config,
	".toml": config, ".tfvars": config, ".envrc": config, ".rc": config, ".service": config, ".dockerfile": config, ".netrc": config, ".npmrc": config,
	".pypirc": config, ".secrets": config, ".credentials": config, ".prefs": config, ".desktop": inert,
	".md": prose, ".rst": prose, ".txt": prose, ".html": prose, ".htm": prose, ".adoc": prose, ".xhtml": prose, ".tex": prose, ".1": prose, ".2": prose, ".3": prose,
	".4": prose, ".5": prose, ".6": prose, ".7": prose, ".8": prose, ".markdown": prose, ".pod": prose, ".info": prose, ".changes": prose,
	".po": inert, ".pot": inert, ".css": inert, ".scss": inert, ".svg": inert, ".map": inert, ".lock": inert, ".sum": inert, ".pyi": inert, ".h": inert, ".hpp": inert,
	".proto": inert, ".strings": inert, ".resx": inert, ".xlf": inert, ".arb": inert, ".vim": inert, ".el": inert, ".symbols": inert, ".list": inert,
	".md5sums": inert, ".log": prose, ".patch": prose, ".diff": prose, ".bib": inert, ".ftl": inert, ".lang": inert, ".dtd": inert, ".xsd": inert, ".rnc": inert, ".wsdl": inert,
}

// classOf tells a file by its name.
func classOf(p string) class {
	if p == "" {
		return config
	}
	base := strings.ToLower(path.Base(p))
	switch {
	case strings.HasPrefix(base, ".env"), strings.HasPrefix(base, "dockerfile"), strings.HasPrefix(base, "docker-compose"), strings.HasPrefix(base, "containerfile"), base == "credentials", base == ".pgpass", base == "_netrc", base == "kubeconfig":
		return config
	case strings.HasSuffix(base, ".d.ts"), strings.HasSuffix(base, ".min.js"), base == "changelog", base == "copyright", base == "license", base == "readme", base == "news", base == "authors":
		return inert
	}
	ext := path.Ext(base)
	if c, ok := classes[ext]; ok {
		return c
	}
	if base == "pkg-info" || base == "metadata" && strings.Contains(p, ".dist-info/") {
		return prose // a package's description
	}
	if ext == "" && strings.HasPrefix(p, "etc/") || strings.Contains(base, ".conf.") || ext == base && isSettings(base) {
		return config
	}
	return code
}

// bare says that values are texts whether they stand in quotes or not.
func (c class) bare() bool { return c == config }

// tests are parts of paths where tests, examples and samples are.
var tests = []string{"/test/", "/tests/", "/testing/", "/testdata/", "/test_data/", "/test-data/", "/fixtures/", "/fixture/", "/spec/", "/specs/", "/__tests__/", "/__mocks__/", "/mock/", "/mocks/", "/example/", "/examples/",
	"/sample/", "/samples/", "/demo/", "/demos/", "/e2e/", "/benchmark/", "/benchmarks/", "/testsuite/", "/tutorial/", "/tutorials/", "/testutil/", "/testutils/", "/testcases/", "/unittest/", "/integration/", "/snippets/", "/quickstart/", "/molecule/"}

// shipped are folders that distributions fill; what an application puts of its own
// beside is left out.
var (
	shipped = []string{"usr/share/", "usr/lib/", "usr/lib64/", "usr/libexec/", "usr/include/", "usr/lib32/", "var/lib/dpkg/", "var/lib/apt/",
		"lib/x86_64-linux-gnu/", "lib/aarch64-linux-gnu/", "lib/systemd/", "lib/udev/", "lib/modules/", "lib/firmware/", "lib/apk/"}
	documents = []string{"/doc/", "/docs/", "/man/", "/locale/", "/gtk-doc/", "/help/", "/i18n/", "/intl/", "/l10n/", "/locales/", "/lang/", "/langs/", "/languages/", "/translations/"}
	served    = []string{"usr/share/nginx/html/", "usr/share/app/", "usr/lib/cgi-bin/"}
)

// doubtOfPath says that a place is one where secrets are mostly none.
func doubtOfPath(p string) string {
	low := "/" + strings.ToLower(p)
	for _, t := range tests {
		if strings.Contains(low, t) {
			return doubtTest
		}
	}
	for folder := range strings.SplitSeq(path.Dir(low), "/") {
		if ofTests(folder) {
			return doubtTest
		}
	}
	named := path.Base(p)
	switch path.Ext(named) {
	case ".ejs", ".erb", ".hbs", ".mustache", ".tpl", ".tmpl", ".j2": // what is made of it has its name without that
		named = strings.TrimSuffix(named, path.Ext(named))
	}
	if isTestName(named) {
		return doubtTest
	}
	base := path.Base(low)
	stem := strings.TrimSuffix(base, path.Ext(base))
	for _, mark := range []string{".example", ".sample", ".template", ".dist", ".tmpl", ".tpl", "-example", "-sample", ".j2"} {
		if strings.HasSuffix(base, mark) || strings.HasSuffix(stem, mark) {
			return doubtTest
		}
	}
	if strings.Contains(stem, "example") || strings.Contains(stem, "snakeoil") {
		return doubtTest
	}
	if strings.HasPrefix(stem, "swagger") || strings.HasPrefix(stem, "openapi") {
		return doubtDocument
	}
	for _, d := range documents {
		if strings.Contains(low, d) {
			return doubtDocument
		}
	}
	return ""
}

// testWords are what words begin with that folders and files of tests have in
// their names: testfiles, testonly, e2eutil, servicemocks.
var (
	testWords = []string{"test", "e2e", "mock", "fixture", "fuzz", "fake"}
	noTests   = []string{"testament", "testimon", "testify", "mockup"}
)

// ofTests says of a folder's name, in lower case, that one of its words is of tests.
func ofTests(folder string) bool {
	for word := range strings.FieldsFuncSeq(folder, func(r rune) bool { return r == '-' || r == '_' || r == '.' || r == '@' }) {
		for _, t := range testWords {
			if strings.HasPrefix(word, t) || t != "test" && strings.HasSuffix(word, t+"s") {
				return !hasAnyPrefix(word, noTests)
			}
		}
	}
	return false
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// isTestName says that a file's name is one of tests: the word stands alone, at an
// end behind a sign, or with a capital, as in ShopTest. It is not latest.
func isTestName(base string) bool {
	stem := strings.TrimSuffix(base, path.Ext(base))
	low := strings.ToLower(stem)
	if strings.HasPrefix(low, "test_") || strings.HasPrefix(low, "test-") || strings.HasPrefix(low, "test.") {
		return true
	}
	if strings.Contains(low, "_test_") || strings.Contains(low, "-test-") || strings.HasPrefix(low, "test") && hasAny(low, "cert", "key") {
		return true
	}
	for _, word := range []string{"test", "tests", "spec", "specs"} {
		rest, ok := strings.CutSuffix(low, word)
		if !ok {
			continue
		}
		capital := stem[len(rest)] < 'a' && strings.ToUpper(stem) != stem
		if rest == "" || capital || strings.ContainsRune("_-.", rune(rest[len(rest)-1])) {
			return true
		}
	}
	return false
}

// doubtOf says what speaks against something that was found, by what it is and
// where it stands.
func doubtOf(x *found, p string) string {
	if x.doubt != "" {
		return x.doubt
	}
	if d := doubtOfPath(p); d != "" {
		return d
	}
	if (x.own || x.rule == "jwt" || strings.HasPrefix(x.rule, "curl-")) && classOf(p) == prose {
		return doubtDocument
	}
	if x.generic {
		switch c := classOf(p); {
		case judge.Wordy(x.value):
			return judge.DoubtWord
		case c == prose:
			return doubtDocument
		case c == inert:
			return doubtDigest
		}
	}
	// What a distribution ships is public. A cloud's key is worth a look even there.
	if isShipped(p) && x.account == "" {
		return doubtShipped
	}
	return ""
}

// isShipped says that a distribution, or a package manager of a language, most
// likely put the file there.
func isShipped(p string) bool {
	for _, s := range served {
		if strings.HasPrefix(p, s) {
			return false
		}
	}
	for _, s := range shipped {
		if strings.HasPrefix(p, s) {
			return true
		}
	}
	return strings.Contains(p, "/site-packages/") || strings.Contains(p, "/dist-packages/") || strings.Contains(p, "node_modules/") || strings.Contains(p, "/pkg/mod/") || strings.Contains(p, "/gems/")
}
