package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/report"
)

// made is when all reports here were made.
var made = time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)

// hostile is what somebody could write into any text of an image or a feed.
const hostile = "\x1b[2Jx|`<script>alert(1)</script>\u202e [a](javascript:x) @all ]]> \x00"

func pkg(kind, name, version, source string, layer int, path string) inventory.Package {
	p := inventory.Package{Type: kind, Name: name, Version: version, Found: inventory.Installed, Places: []inventory.Place{{Path: path, Layer: layer}}}
	if source != "" {
		p.Source = inventory.Source{Name: source, Version: version}
		p.Ecosystem, p.Namespace, p.Arch = "Debian:12", "debian", "amd64"
	}
	return p
}

func vulnerability(id string, p inventory.Package, s finding.Severity, state finding.State, fixed string) finding.Vulnerability {
	v := finding.Vulnerability{ID: id, Package: p, Severity: s, SeverityBy: "nvd", State: state, Fixed: fixed, Summary: "Something overflows in " + p.Name,
		Remedy: "no fix is out yet", References: []string{"https://example.org/" + id}, Weaknesses: []string{"CWE-787"},
		Advisories: []finding.Statement{{ID: id, Source: "debian", Fixed: fixed}}, Published: made.AddDate(0, -2, 0), Modified: made.AddDate(0, -1, 0),
		Scores: []finding.Score{{Version: "3.1", Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", Base: 9.8, By: "nvd"}}}
	if fixed != "" {
		v.Remedy = "upgrade " + p.Name + " to " + fixed
	}
	v.Print()
	return v
}

func example() report.Report {
	ssl := pkg("deb", "libssl3", "3.0.9-1", "openssl", 1, "/var/lib/dpkg/status")
	cli := pkg("deb", "openssl", "3.0.9-1", "openssl", 2, "/var/lib/dpkg/status")
	zlib := pkg("deb", "zlib1g", "1:1.2.13.dfsg-1", "zlib", 1, "/var/lib/dpkg/status")
	lodash := pkg("npm", "lodash", "4.17.20", "", 3, "/app/node_modules/lodash/package.json")
	lodash.Ecosystem, lodash.Licenses = "npm", []string{"MIT"}
	twice := lodash
	twice.Places = []inventory.Place{{Path: "/app/old/node_modules/lodash/package.json", Layer: 3}}
	odd := pkg("pypi", hostile, "1.0", "", 3, "/app/"+hostile)

	kev := vulnerability("CVE-2023-0001", ssl, finding.High, finding.Fixable, "3.0.11-1~deb12u2")
	kev.KEV = &advisory.Exploited{CVE: kev.ID, Added: made.AddDate(0, -3, 0)}
	kev.EPSS = &advisory.Probability{CVE: kev.ID, EPSS: 0.94, Percentile: 0.99}
	kev.InUse = true
	accepted := vulnerability("CVE-2023-0005", zlib, finding.Critical, finding.WontFix, "")
	accepted.Accepted = &finding.Acceptance{Reason: "contrib/minizip is not built", By: "castellan.yaml", Expires: made.AddDate(0, 1, 0)}
	bad := vulnerability("CVE-2024-0009", odd, finding.Low, finding.Fixable, "2.0")
	bad.Summary, bad.Note, bad.References = hostile, hostile, []string{"javascript:alert(1)", "https://example.org/" + hostile}
	return report.Report{
		Inventory: inventory.Inventory{
			Subject: inventory.Subject{Kind: inventory.KindImage, Name: "registry.example/shop:1.4"},
			Image: &inventory.Image{Reference: "registry.example/shop:1.4", Digest: "sha256:" + strings.Repeat("ab", 32), ID: "sha256:" + strings.Repeat("cd", 32),
				Platform: inventory.Platform{OS: "linux", Architecture: "amd64"},
				Layers: []inventory.Layer{{Size: 29_000_000, Instruction: "ADD rootfs.tar.xz /"}, {Size: 1_200_000, Instruction: "RUN apt-get install openssl"},
					{Size: 800, Instruction: "COPY . /app " + hostile}}},
			OS:       inventory.OS{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)"},
			Packages: []inventory.Package{ssl, zlib, cli, lodash, twice, odd},
			Files:    []inventory.File{{Place: inventory.Place{Path: "/usr/bin/passwd", Layer: 1}, Mode: 0o4755, Why: inventory.SetUID, Owner: "passwd"}},
			Problems: []inventory.Problem{{Place: inventory.Place{Path: "/app/broken.jar", Layer: 3}, What: "not a zip archive"}},
			Made:     made,
		},
		Vulnerabilities: []finding.Vulnerability{
			kev,
			vulnerability("CVE-2023-0001", cli, finding.High, finding.Fixable, "3.0.11-1~deb12u2"),
			vulnerability("CVE-2023-0002", ssl, finding.Medium, finding.Fixable, "3.0.13-1~deb12u1"),
			vulnerability("GHSA-35jh-r3h4-6jhm", lodash, finding.High, finding.Fixable, "4.17.21"),
			vulnerability("GHSA-35jh-r3h4-6jhm", twice, finding.High, finding.Fixable, "4.17.21"),
			vulnerability("CVE-2023-0003", zlib, finding.Critical, finding.WontFix, ""),
			vulnerability("CVE-2023-0004", ssl, finding.Negligible, finding.UnderInvestigation, ""),
			accepted, bad,
		},
		Secrets: exampleSecrets(),
		Database: report.Database{Built: made.AddDate(0, 0, -20), Seed: true,
			Sources: []report.DatabaseSource{{Name: "debian", Newest: made.AddDate(0, 0, -21), Attribution: "Debian security team"}}},
		Gaps: []report.Gap{{Why: "nothing is known of this language", Ecosystem: "Hex", Packages: 2}, {Why: "nothing is known of this language", Ecosystem: "npm", Packages: 30}},
		Gate: &report.Gate{Rule: "nothing high or worse", Violations: []string{kev.Fingerprint}},
		Made: made,
	}
}

// exampleSecrets are one of each kind of place and state.
func exampleSecrets() []finding.Secret {
	secret := func(rule string, s finding.Severity, in inventory.Secret) finding.Secret {
		in.Rule, in.Length, in.Same, in.Print = rule, 40, "00112233", rule+"-print"
		return finding.Secret{Secret: in, Title: "Kind of " + rule, Severity: s, Remedy: "revoke it", Fingerprint: in.Print}
	}
	at := func(path string, layer int) inventory.Secret {
		return inventory.Secret{Place: inventory.Place{Path: path, Layer: layer}, Line: 3, Column: 7}
	}
	hidden := at("/root/.aws/credentials", 2)
	hidden.Hidden, hidden.Account = &inventory.Hidden{Layer: 3, Deleted: true}, "029608264753"
	key := at("/app/id_rsa", 3)
	key.Key = inventory.KeyEncrypted
	doubtful := at("/app/tests/"+hostile, 3)
	doubtful.Doubt, doubtful.Name = "it stands where tests and examples are", hostile
	accepted := secret("password", finding.High, inventory.Secret{Source: inventory.InEnv, Name: "DB_PASSWORD"})
	accepted.Accepted = &finding.Acceptance{Reason: "of a test", By: "castellan.yaml"}
	old := secret("token", finding.Medium, at("/app/old.env", 3))
	old.Known = true
	committed := inventory.Secret{Place: inventory.Place{Path: "/deploy.sh"}, Line: 1, Column: 9,
		Commit: &inventory.Commit{Hash: strings.Repeat("ab", 20), Author: "A. Nonymous", When: made.AddDate(-1, 0, 0), Gone: true}}
	return []finding.Secret{secret("aws-secret-access-key", finding.Critical, hidden), secret("url-credentials", finding.High, committed),
		accepted, secret("private-key", finding.Medium, key), old, secret("generic-api-key", finding.Negligible, doubtful)}
}

func options() report.Options {
	return report.Options{Tool: "castellan", Version: "1.2.3", Compare: func(_, a, b string) int { return strings.Compare(a, b) }}
}

func write(t *testing.T, f report.Format, rs ...report.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, f, rs, options()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What people and programs get is compared with what a person has read once.
func TestGolden(t *testing.T) {
	for _, f := range report.Formats() {
		t.Run(string(f), func(t *testing.T) {
			compare(t, string(f), write(t, f, example()))
		})
	}
}

func compare(t *testing.T, golden string, got []byte) {
	t.Helper()
	name := filepath.Join("testdata", "golden", golden+".txt")
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(got), string(want)); d != "" {
		t.Errorf("differs (-got +want); make golden writes it anew:\n%s", d)
	}
}

// faulty is a report of documents alone, with faults of all kinds.
func faulty() report.Report {
	fault := func(check, title string, s finding.Severity, file, resource, container string, line int, evidence string) finding.Misconfiguration {
		m := finding.Misconfiguration{Check: check, Title: title, Severity: s, File: file, Resource: resource, Container: container, Evidence: evidence,
			Start: finding.Position{Line: line, Column: 3}, End: finding.Position{Line: line + 1, Column: 1}, Why: "It is bad.", Remedy: "Remove it.",
			Elsewhere: finding.Elsewhere{SecurityHub: []string{"ECS.4"}, Checkov: []string{"CKV_AWS_334"}}}
		m.Print(0)
		return m
	}
	ignored := fault("CAST-TASK-003", "Task shares the host's processes", finding.High, "infra/main.tf", "aws_ecs_task_definition.agent", "", 30, "process mode host")
	ignored.Accepted = &finding.Acceptance{Reason: "it watches them", By: "main.tf", Expires: made.AddDate(0, 1, 0)}
	bad := fault("CAST-TASK-001", "Container is privileged", finding.High, "infra/main.tf", "aws_ecs_task_definition.web", "web", 12, "privileged is true")
	return report.Report{
		Inventory: inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindIaC, Name: "infra"}, Made: made, Packages: []inventory.Package{},
			Problems: []inventory.Problem{{Place: inventory.Place{Path: "infra/broken.yaml"}, What: "yaml: line 3: did not find expected key"}}},
		Misconfigurations: []finding.Misconfiguration{
			bad, fault("CAST-TASK-019", "Image is named by latest, or by no tag", finding.Medium, "infra/main.tf", "aws_ecs_task_definition.web", "web", 9, "image shop/web has no tag"),
			ignored, fault("CAST-TASK-007", "Capabilities are not dropped", finding.Negligible, "infra/main.tf", "aws_ecs_task_definition.web", "web", 8, "no capability is dropped"),
			fault("CAST-TASK-016", "Secret stands in the environment", finding.High, "infra/"+hostile+".yaml", "Resources."+hostile, hostile, 3, "variable "+hostile+" holds a password of 9 characters"),
		},
		Documents: &report.Documents{Files: 4, Resources: 9, Checks: 75}, Since: &report.Since{Base: "base.json", Known: 3},
		Gate: &report.Gate{Rule: "nothing high or worse", Violations: []string{bad.Fingerprint}}, Made: made,
	}
}

// What is said of documents is compared with what a person has read once, too.
func TestGoldenDocuments(t *testing.T) {
	for _, f := range []report.Format{report.Table, report.JSON, report.SARIF, report.JUnit, report.Markdown, report.HTML, report.Trivy,
		report.SARIFGitHub, report.GitHub, report.GitLabQuality, report.Env} {
		t.Run(string(f), func(t *testing.T) {
			compare(t, "documents-"+string(f), write(t, f, faulty()))
		})
	}
}

// Faults of an image stand beside its vulnerabilities in every form that has them.
func TestFaultsOfImages(t *testing.T) {
	r := example()
	m := finding.Misconfiguration{Check: "CAST-IMAGE-001", Title: "Image runs as root", Severity: finding.Medium, Resource: "image", Evidence: "no USER is set", Why: "It is root.", Remedy: "Make a user.", Layer: 2}
	m.Print(0)
	r.Misconfigurations = []finding.Misconfiguration{m}
	r.Gate.Violations = append(r.Gate.Violations, m.Fingerprint)
	for f, want := range map[report.Format][]string{
		report.Table:    {"1 fault: 1 medium", "medium  layer 2  CAST-IMAGE-001  Image runs as root  no USER is set", "CAST-IMAGE-001  Make a user."},
		report.SARIF:    {`"ruleId": "CAST-IMAGE-001"`},
		report.JUnit:    {`name="CAST-IMAGE-001 Image runs as root"`, `<failure message="medium: no USER is set"`},
		report.Markdown: {"**1 fault**: 1 medium", "CAST-IMAGE-001"},
		report.HTML:     {"<h2>Faults</h2>", "Image runs as root"},
		report.Trivy:    {`"Class": "config"`, `"Class": "os-pkgs"`, `"Class": "lang-pkgs"`, `"ID": "CAST-IMAGE-001"`},
		report.JSON:     {`"check": "CAST-IMAGE-001"`},
	} {
		got := string(write(t, f, r))
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s lacks %q:\n%s", f, w, got)
			}
		}
	}
}

// Programs get what the published schemas say, from a full report and from an
// empty one.
func TestSchemas(t *testing.T) {
	empty := report.Report{Inventory: inventory.Inventory{Subject: inventory.Subject{Kind: inventory.KindRoot, Name: "/"}}, Made: made}
	unread := example()
	unread.Gate = &report.Gate{Rule: "nothing that could not be read", Problems: []string{unread.Inventory.Problems[0].String()}}
	for f, schema := range map[report.Format]string{report.SARIF: "sarif-2.1.0.json", report.SARIFGitHub: "sarif-2.1.0.json", report.CycloneDX: "bom-1.6.schema.json", report.SPDX: "spdx-schema-2.3.json",
		report.GitLabContainer: "gitlab-security-15.json", report.GitLabSecret: "gitlab-security-15.json", report.GitLabQuality: "gitlab-codequality.json"} {
		compiled := compile(t, schema)
		for name, r := range map[string]report.Report{"full": example(), "empty": empty, "unread": unread, "documents": faulty()} {
			t.Run(string(f)+" "+name, func(t *testing.T) {
				v, err := jsonschema.UnmarshalJSON(bytes.NewReader(write(t, f, r)))
				if err != nil {
					t.Fatal(err)
				}
				if err := compiled.Validate(v); err != nil {
					t.Errorf("%+v", err)
				}
			})
		}
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	for _, file := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schema.json", "sarif-2.1.0.json", "spdx-schema-2.3.json", "gitlab-security-15.json", "gitlab-codequality.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		id := "file:///" + file
		// They refer to each other beside the address that they name themselves.
		if m, ok := v.(map[string]any); ok {
			delete(m, "$id")
			delete(m, "id")
		}
		if err := c.AddResource(id, v); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile("file:///" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Several subjects make one document where the form has room for them, and as
// many as there are where it hasn't.
func TestSeveral(t *testing.T) {
	second := example()
	second.Inventory.Subject.Name, second.Inventory.Image.Reference = "other", "other"
	for f, want := range map[report.Format]int{report.CycloneDX: 2, report.SPDX: 2} {
		var documents []any
		if err := json.Unmarshal(write(t, f, example(), second), &documents); err != nil || len(documents) != want {
			t.Errorf("%s: %d documents, %v, want %d", f, len(documents), err, want)
		}
	}
	var log struct{ Runs []any }
	if err := json.Unmarshal(write(t, report.SARIF, example(), second), &log); err != nil || len(log.Runs) != 2 {
		t.Errorf("sarif: %d runs, %v, want 2", len(log.Runs), err)
	}
}

func TestJUnitIsXML(t *testing.T) {
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Cases []struct {
				Failure *struct{} `xml:"failure"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(write(t, report.JUnit, example()), &suites); err != nil {
		t.Fatal(err)
	}
	failed, skipped := 0, 0
	for _, c := range suites.Suites[0].Cases {
		if c.Failure != nil {
			failed++
		}
		if c.Skipped != nil {
			skipped++
		}
	}
	if suites.Tests != 16 || suites.Failures != 1 || failed != 1 || skipped != 4 {
		t.Errorf("tests %d, failures %d (%d), skipped %d, want 16, 1 (1), 4: only what breaks the gate fails", suites.Tests, suites.Failures, failed, skipped)
	}
}

// A score has the word of its own version of CVSS: version 2 has none for
// critical.
func TestSeverityOfScores(t *testing.T) {
	r := example()
	r.Vulnerabilities = r.Vulnerabilities[:1]
	r.Vulnerabilities[0].EPSS = nil
	r.Vulnerabilities[0].Scores = []finding.Score{{Version: "2.0", Base: 10, By: "a"}, {Version: "3.1", Base: 9.8, By: "b"}, {Version: "4.0", Base: 0, By: "c"}}
	var bom struct {
		Vulnerabilities []struct{ Ratings []struct{ Severity string } }
	}
	if err := json.Unmarshal(write(t, report.CycloneDX, r), &bom); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rating := range bom.Vulnerabilities[0].Ratings {
		got = append(got, rating.Severity)
	}
	if diff := cmp.Diff(got, []string{"high", "critical", "info", "high"}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

// What could not be read is told in every form that a gate is told in, and whether
// it counts.
func TestWhatCouldNotBeRead(t *testing.T) {
	passed := example()
	passed.Vulnerabilities, passed.Gate = nil, &report.Gate{Rule: "nothing high or worse", Violations: []string{}}
	failed := passed
	failed.Gate = &report.Gate{Rule: "nothing that could not be read", Violations: []string{}, Problems: []string{passed.Inventory.Problems[0].String()}}
	for _, tc := range []struct {
		form         report.Format
		counts, does []string
	}{
		{report.Table, []string{"failed: nothing that could not be read: 1 that could not be read", "/app/broken.jar: not a zip archive"},
			[]string{"passed: nothing high or worse", "1 could not be read, and nothing is known of them"}},
		{report.JSON, []string{`"problems": [`, "/app/broken.jar: not a zip archive"}, []string{`"what": "not a zip archive"`}},
		{report.JUnit, []string{`<failure message="not a zip archive" type="unreadable">`}, []string{`<skipped message="could not be read, and does not count: not a zip archive">`}},
		{report.SARIF, []string{`"ruleId": "castellan/unreadable"`, `"level": "error"`}, []string{`"toolExecutionNotifications"`, `"level": "warning"`}},
		{report.Markdown, []string{"**failed**: 1 that could not be read", "Could not be read: /app/broken.jar"}, []string{"): passed.", "1 could not be read, and nothing is known"}},
		{report.HTML, []string{"Gate failed: nothing that could not be read: 1 that could not be read"}, []string{"Gate passed", "1 could not be read, and nothing is known"}},
	} {
		for _, side := range []struct {
			r    report.Report
			want []string
		}{{failed, tc.counts}, {passed, tc.does}} {
			got := string(write(t, tc.form, side.r))
			for _, want := range side.want {
				if !strings.Contains(got, want) {
					t.Errorf("%s, %s: lacks %q:\n%s", tc.form, side.r.Gate.Rule, want, got)
				}
			}
		}
	}
	if failed.Gate.Passed() || !passed.Gate.Passed() {
		t.Error("the gate does not heed what could not be read")
	}
}

// TestASystemWithoutFixesIsTold wants it said that silence means little.
func TestASystemWithoutFixesIsTold(t *testing.T) {
	old := example()
	old.Unmaintained = &report.Unmaintained{System: "Ubuntu 18.04 LTS", Since: made.AddDate(-1, 0, 0), Known: "2026-11-28", Subscribers: true}
	since := old.Unmaintained.Since.Format(time.DateOnly)
	for form, want := range map[report.Format]string{
		report.Table: "Ubuntu 18.04 LTS has had no fixes since " + since + " but for subscribers (as known on 2026-11-28)",
		report.JSON:  `"unmaintained": {`, report.SARIF: "has had no fixes since " + since, report.HTML: "has had no fixes since " + since,
		report.Markdown: "has had no fixes since " + since,
	} {
		if got := string(write(t, form, old)); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%.3000s", form, want, got)
		}
		if got := string(write(t, form, example())); strings.Contains(got, "has had no fixes") || strings.Contains(got, `"unmaintained"`) {
			t.Errorf("%s tells it of a system that has", form)
		}
	}
}

// Nothing of an image or a feed reaches a terminal, a page or a merge request as
// anything but text.
func TestHostileText(t *testing.T) {
	for f, forbidden := range map[report.Format][]string{
		report.Table:    {"\x1b[2J", "\x00", "\u202e"},
		report.HTML:     {"<script>alert", "href=\"javascript:", "\x1b", "\u202e"},
		report.Markdown: {"<script>", "](javascript:", "\x1b", "\u202e", " @all"},
		report.JUnit:    {"\x1b", "\x00", "<script>"},
	} {
		got := string(write(t, f, example(), faulty()))
		for _, bad := range forbidden {
			if strings.Contains(got, bad) {
				t.Errorf("%s contains %q", f, bad)
			}
		}
	}
}

func TestParseFormat(t *testing.T) {
	if f, err := report.ParseFormat("CycloneDX"); f != report.CycloneDX || err != nil {
		t.Errorf("ParseFormat(CycloneDX) = %v, %v", f, err)
	}
	if _, err := report.ParseFormat("pdf"); err == nil || !strings.Contains(err.Error(), "sarif") {
		t.Errorf("ParseFormat(pdf) = %v, want an error that names the forms", err)
	}
}
