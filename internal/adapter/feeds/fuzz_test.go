package feeds

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/advisory"
)

// seed adds the samples of testdata that match, and what is broken in them.
func seed(f *testing.F, patterns ...string) {
	f.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(names) == 0 {
			f.Fatalf("no samples like %s: %v", pattern, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
			f.Add(b[:len(b)/2])
		}
	}
}

// sound fails if an advisory is none that may leave this package.
func sound(t *testing.T, a *advisory.Advisory) {
	t.Helper()
	if a.ID == "" || a.Source == "" || len(a.Affected) == 0 {
		t.Errorf("incomplete: %+v", a)
	}
	short := func(what string, all ...string) {
		for _, s := range all {
			if len(s) > maxName {
				t.Errorf("%s of %d bytes", what, len(s))
			}
			if !utf8.ValidString(s) {
				t.Errorf("%s is not UTF-8: %q", what, s)
			}
		}
	}
	short("id", a.ID)
	short("name", a.Aliases...)
	short("name", a.Upstream...)
	short("name", a.Related...)
	short("weakness", a.Weaknesses...)
	if len(a.Summary) > maxSummary || len(a.Details) > maxDetails || len(a.References) > 2*maxReferences {
		t.Errorf("%d, %d, %d", len(a.Summary), len(a.Details), len(a.References))
	}
	if !utf8.ValidString(a.Summary) || !utf8.ValidString(a.Details) {
		t.Error("text is not UTF-8")
	}
	for _, p := range a.Affected {
		short("package", p.Ecosystem, p.Package, p.Repository, p.Note)
		short("architecture", p.Arches...)
		short("version", p.Versions...)
		if p.Ecosystem == "" || p.Package == "" {
			t.Errorf("a package without a name: %+v", p)
		}
		if len(p.Ranges)+len(p.Versions) == 0 && p.Status == advisory.IsAffected {
			t.Errorf("affected in no version: %+v", p)
		}
		for _, r := range p.Ranges {
			short("version", r.Introduced, r.Fixed, r.Last)
			if r.Fixed != "" && r.Last != "" {
				t.Errorf("two ends: %+v", r)
			}
		}
	}
}

func fuzzDocuments(f *testing.F, name string) {
	s, ok := Named(name)
	if !ok {
		f.Fatalf("no source %s", name)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var tally Tally
		p := newParser(s, &tally)
		page := s.Format == UbuntuTracker // its documents are lists
		first := 0
		names := map[string]bool{}
		give := func(a *advisory.Advisory) bool {
			if sound(t, a); names[a.ID] && !page {
				t.Errorf("%s came twice", a.ID)
			}
			names[a.ID] = true
			first++
			return true
		}
		err := p.document(doc, give)
		if s, ok := p.(*secdbReader); ok {
			s.finish(give)
			return
		}
		again := 0
		if e := p.document(doc, func(*advisory.Advisory) bool { again++; return true }); first != again || (e == nil) != (err == nil) {
			t.Errorf("%d advisories and %v, the second time %d and %v", first, err, again, e)
		}
	})
}

func FuzzOSV(f *testing.F)       { seed(f, "osv/*"); fuzzDocuments(f, "osv/Go") }
func FuzzDebian(f *testing.F)    { seed(f, "debian/*"); fuzzDocuments(f, "debian") }
func FuzzSecDB(f *testing.F)     { seed(f, "alpine-secdb/*/*", "wolfi/*"); fuzzDocuments(f, "wolfi") }
func FuzzAmazonCVE(f *testing.F) { seed(f, "amazon/cve/*"); fuzzDocuments(f, "amazon/cve") }
func FuzzUbuntu(f *testing.F)    { seed(f, "ubuntu/*"); fuzzDocuments(f, "ubuntu") }
func FuzzUbuntuVEX(f *testing.F) { seed(f, "ubuntu-vex/*.json"); fuzzDocuments(f, "ubuntu/vex") }
func FuzzCSAF(f *testing.F)      { seed(f, "csaf/*"); fuzzDocuments(f, "redhat/vex") }

func FuzzUpdateInfo(f *testing.F) {
	seed(f, "amazon/2/core/*", "amazon/2023/core/*")
	f.Add([]byte(`<updates><update type="security"><id>A</id><severity>low</severity><references><reference id="CVE-2024-0001" type="cve" href="x"/></references><pkglist><collection><package name="a" epoch="1" version="1" release="1" arch="noarch"/></collection></pkglist></update></updates>`))
	s, _ := Named("amazon/2")
	f.Fuzz(func(t *testing.T, doc []byte) {
		var tally Tally
		for a, err := range ParseFile(t.Context(), s, fstest.MapFS{"updateinfo.xml": {Data: doc}}, "updateinfo.xml", &tally) {
			if err == nil {
				sound(t, &a)
			}
		}
	})
}

func FuzzKEV(f *testing.F) {
	seed(f, "kev/*")
	f.Fuzz(func(t *testing.T, doc []byte) {
		k := kevReader{tally: &Tally{}}
		_ = k.document(doc, func(e advisory.Exploited) bool {
			if !isCVE(e.CVE) || !utf8.ValidString(e.Name) || !utf8.ValidString(e.Action) {
				t.Errorf("%+v", e)
			}
			return true
		})
	})
}

func FuzzEPSS(f *testing.F) {
	f.Add([]byte("#model_version:v2025.03.14,score_date:2025-08-25T12:55:00Z\ncve,epss,percentile\nCVE-1999-0001,0.01297,0.78615\nx\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = scanEPSS(bytes.NewReader(text), &Tally{}, func(p advisory.Probability) bool {
			if !isCVE(p.CVE) || !(p.EPSS >= 0 && p.EPSS <= 1) || !(p.Percentile >= 0 && p.Percentile <= 1) {
				t.Errorf("%+v", p)
			}
			return true
		})
	})
}

func FuzzOpenVEX(f *testing.F) {
	f.Add([]byte(`{"@context":"https://openvex.dev/ns/v0.2.0","author":"a","timestamp":"2023-01-08T18:02:03Z","statements":[{"vulnerability":{"name":"CVE-1","aliases":["b"]},"products":[{"@id":"pkg:oci/a","hashes":{"sha-256":"0"},"identifiers":{"purl":"pkg:a"},"subcomponents":[{"@id":"pkg:npm/x"}]},"pkg:b"],"status":"not_affected","justification":"j"}]}`))
	f.Add([]byte(`{"predicate":{"@context":"https://openvex.dev/ns","statements":[{"vulnerability":"CVE-1","products":["a"],"status":"fixed"}]}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		all, err := Statements(bytes.NewReader(doc))
		if err != nil {
			return
		}
		for _, e := range all {
			if e.Vulnerability == "" || len(e.Products) == 0 || e.Status == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}

func FuzzArchives(f *testing.F) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("A-1.json")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write([]byte(osvDocument("A-1", "1"))); err != nil {
		f.Fatal(err)
	}
	if err := z.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), true)
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00"), false)
	f.Add([]byte(strings.Repeat("\x00", 1024)), false)
	s, _ := Named("osv/npm")
	f.Fuzz(func(t *testing.T, content []byte, zipped bool) {
		name := map[bool]string{true: "a.zip", false: "a.tar"}[zipped]
		var tally Tally
		for a, err := range ParseFile(t.Context(), s, fstest.MapFS{name: {Data: content}}, name, &tally) {
			if err == nil {
				sound(t, &a)
			}
		}
	})
}

// FuzzZip holds the reading of zips against archive/zip: what that takes for a
// file, this takes for the same.
func FuzzZip(f *testing.F) {
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, name := range []string{"a.json", "b/c.json"} {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method, Comment: "c", Extra: []byte{1, 0, 0, 0}})
			if err != nil {
				f.Fatal(err)
			}
			if _, err := w.Write([]byte(strings.Repeat(name, 20))); err != nil {
				f.Fatal(err)
			}
		}
		if err := z.SetComment("a comment"); err != nil {
			f.Fatal(err)
		}
		if err := z.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		const limit = 1 << 20
		got := map[string][]byte{}
		z, err := openZip(bytes.NewReader(content), int64(len(content)))
		if err == nil {
			err = z.files(func(e zipped) bool {
				if data, err := z.read(e, nil, limit); err == nil {
					got[e.name] = data
				}
				return true
			})
		}
		openErr := err
		oracle, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil || bytes.Count(content, []byte("PK\x05\x06")) != 1 {
			return // which of several ends counts is not said
		}
		if openErr != nil || z.start+z.length != int64(bytes.Index(content, []byte("PK\x05\x06"))) {
			return // archive/zip also reads what was moved or shortened, and beyond the end of a directory
		}
		for _, e := range oracle.File {
			r, err := e.Open()
			if err != nil || e.Flags&1 != 0 || e.CompressedSize64 > uint64(len(content)) || strings.HasSuffix(e.Name, "/") {
				continue // archive/zip minds nothing that reaches out of the file, nor what is in a folder
			}
			want, err := io.ReadAll(io.LimitReader(r, limit+1))
			if err != nil || len(want) > limit || uint64(len(want)) != e.UncompressedSize64 || e.CRC32 == 0 {
				continue
			}
			if data, ok := got[e.Name]; !ok || !bytes.Equal(data, want) {
				t.Errorf("%q: got %q (%v), archive/zip %q", e.Name, data, ok, want)
			}
		}
	})
}

// FuzzLists reads what tells where documents are. Nothing that comes out may lead
// out of a folder.
func FuzzLists(f *testing.F) {
	f.Add([]byte("2026-01-02T00:00:00Z,A-2\n"))
	f.Add([]byte(`"2024/cve-2024-0004.json","2024-08-06T10:17:22+00:00"`))
	f.Add([]byte(`<repomd><data type="updateinfo"><checksum type="sha256">00</checksum><location href="repodata/x.gz"/></data></repomd>`))
	f.Add([]byte(`{"topics":[{"n":"docker"}]}`))
	f.Add([]byte(`<tr><td>CVE-2025-0001</td></tr>`))
	dir := f.TempDir()
	s, _ := Named("osv/npm")
	f.Fuzz(func(t *testing.T, list []byte) {
		within := func(name string) {
			if strings.Contains(name, "..") && !safeName(name[strings.LastIndexByte(name, '/')+1:]) || strings.HasPrefix(name, "/") || strings.Contains(name, "://") || strings.Contains(name, "\\") {
				t.Errorf("%q leads elsewhere", name)
			}
		}
		u := &update{f: &Fetcher{dir: dir}, source: s, state: &state{Files: map[string]fileState{}}}
		if err := os.MkdirAll(u.path(""), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"modified_id.csv", "changes.csv"} {
			if err := os.WriteFile(u.path(name), list, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		news, _, _ := u.modified("modified_id.csv")
		changes, _, _ := u.changes()
		for _, it := range append(news, changes...) {
			within(it.path)
		}
		if location, _, err := updateInfoIn(list); err == nil {
			within(location)
		}
		names, _ := extras(list)
		for _, n := range names {
			within(n)
		}
		for cve := range cvesIn(list) {
			if !isCVE(cve) {
				t.Errorf("%q is no CVE", cve)
			}
		}
	})
}
