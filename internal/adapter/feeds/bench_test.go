package feeds

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/fstest"

	"github.com/castellan-security/castellan/internal/advisory"
)

// realDocuments returns the documents of real exports in memory.
func realDocuments(b *testing.B) [][]byte {
	b.Helper()
	var docs [][]byte
	for _, name := range []string{"Go", "PyPI", "npm", "Debian", "AlmaLinux"} {
		z, err := zip.OpenReader("../../../../shared/feeds/osv/" + name + "/all.zip")
		if err != nil {
			b.Skipf("no feeds to read: %v", err)
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				b.Fatal(err)
			}
			doc, err := io.ReadAll(r)
			if err != nil {
				b.Fatal(err)
			}
			docs = append(docs, doc)
		}
		if err := z.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return docs
}

// whole is what encoding/json must know to read as much of a document as this
// package does.
type whole struct {
	ID, Modified, Published, Withdrawn, Summary, Details string
	Aliases, Upstream, Related                           []string
	Severity                                             []struct{ Type, Score string }
	References                                           []struct{ Type, URL string }
	DatabaseSpecific                                     struct {
		Severity string
		CWEs     []string `json:"cwe_ids"`
	} `json:"database_specific"`
	Affected []struct {
		Package struct{ Ecosystem, Name string }
		Ranges  []struct {
			Type   string
			Events []struct {
				Introduced, Fixed, Limit string
				Last                     string `json:"last_affected"`
			}
		}
		Versions          []string
		EcosystemSpecific map[string]any `json:"ecosystem_specific"`
	}
}

// BenchmarkOSVDocuments is one core reading documents that are in memory.
func BenchmarkOSVDocuments(b *testing.B) {
	docs := realDocuments(b)
	bytes := 0
	for _, d := range docs {
		bytes += len(d)
	}
	run := func(name string, read func(doc []byte) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(bytes / len(docs)))
			for i := range b.N {
				if err := read(docs[i%len(docs)]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "documents/s")
		})
	}
	var tally Tally
	o := osvReader{source: "osv", tally: &tally}
	run("feeds", func(doc []byte) error { return o.document(doc, func(*advisory.Advisory) bool { return true }) })
	run("encoding/json", func(doc []byte) error { var w whole; return json.Unmarshal(doc, &w) })
}

// BenchmarkOSVZip is reading an export as it is published, on all cores.
func BenchmarkOSVZip(b *testing.B) {
	fsys := os.DirFS("../../../../shared/feeds")
	if _, err := os.Stat("../../../../shared/feeds/osv"); err != nil {
		b.Skip(err)
	}
	for _, name := range []string{"osv/Go", "osv/AlmaLinux"} {
		s, _ := Named(name)
		b.Run(name, func(b *testing.B) {
			n := 0
			for range b.N {
				var tally Tally
				for _, err := range Parse(b.Context(), s, fsys, &tally) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "documents/s")
		})
	}
}

func BenchmarkDebian(b *testing.B) {
	var doc bytes.Buffer
	doc.WriteByte('{')
	for p := range 1000 {
		if p > 0 {
			doc.WriteByte(',')
		}
		fmt.Fprintf(&doc, `"package-%d":{`, p)
		for c := range 10 {
			if c > 0 {
				doc.WriteByte(',')
			}
			fmt.Fprintf(&doc, `"CVE-2024-%04d":{"description":"A flaw was found in something that could lead to something else in a case.","debianbug":1,"scope":"local","releases":{`, p*10+c)
			for i, r := range []string{"bullseye", "bookworm", "trixie", "sid"} {
				if i > 0 {
					doc.WriteByte(',')
				}
				fmt.Fprintf(&doc, `%q:{"status":"resolved","repositories":{%q:"1.2.3-1"},"fixed_version":"1.2.3-%d","urgency":"not yet assigned"}`, r, r, c)
			}
			doc.WriteString("}}")
		}
		doc.WriteByte('}')
	}
	doc.WriteByte('}')
	b.SetBytes(int64(doc.Len()))
	b.ReportAllocs()
	for range b.N {
		d := debianReader{source: "debian", tally: &Tally{}}
		if err := d.document(doc.Bytes(), func(*advisory.Advisory) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpdateInfo shows what is left for encoding/xml to do.
func BenchmarkUpdateInfo(b *testing.B) {
	var doc bytes.Buffer
	doc.WriteString("<updates>")
	for u := range 200 {
		fmt.Fprintf(&doc, `<update type="security"><id>ALAS2-%d</id><title>T</title><issued date="2023-02-17 20:41:00"/><severity>low</severity><description>D</description><references><reference href="http://cve" id="CVE-2024-%04d" title="" type="cve"/></references><pkglist><collection short="amazon-linux-2"><name>Amazon Linux 2</name>`, u, u)
		for p := range 50 {
			fmt.Fprintf(&doc, `<package arch="x86_64" epoch="0" name="package-%d" release="3.amzn2" version="8.%d"><filename>Packages/package-%d.rpm</filename></package>`, p, u, p)
		}
		doc.WriteString("</collection></pkglist></update>")
	}
	doc.WriteString("</updates>")
	s, _ := Named("amazon/2")
	fsys := fstest.MapFS{"updateinfo.xml": {Data: doc.Bytes()}}
	b.Run("feeds", func(b *testing.B) {
		b.SetBytes(int64(doc.Len()))
		for range b.N {
			var tally Tally
			for _, err := range ParseFile(b.Context(), s, fsys, "updateinfo.xml", &tally) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("encoding/xml, tokens only", func(b *testing.B) {
		b.SetBytes(int64(doc.Len()))
		for range b.N {
			d := xml.NewDecoder(bytes.NewReader(doc.Bytes()))
			for {
				if _, err := d.RawToken(); err != nil {
					break
				}
			}
		}
	})
}

// BenchmarkCSAF is a document like Red Hat's of a weakness in everything: ten
// thousand packages of a hundred products.
func BenchmarkCSAF(b *testing.B) {
	var products, relations, fixed bytes.Buffer
	for r := range 100 {
		fmt.Fprintf(&products, `{"category":"product_name","name":"R %d","product":{"name":"R %d","product_id":"r%d","product_identification_helper":{"cpe":"cpe:/a:redhat:rhel_eus:9.%d::appstream"}}},`, r, r, r, r)
	}
	for p := range 10_000 {
		id := fmt.Sprintf("package-%d-0:1.2.%d-3.el9.x86_64", p/4, p)
		fmt.Fprintf(&products, `{"category":"product_version","name":%q,"product":{"name":%q,"product_id":%q,"product_identification_helper":{"purl":"pkg:rpm/redhat/package-%d@1.2.%d-3.el9?arch=x86_64"}}},`, id, id, id, p/4, p)
		fmt.Fprintf(&relations, `{"category":"default_component_of","full_product_name":{"name":"%s as a component of R","product_id":"r%d:%s"},"product_reference":%q,"relates_to_product_reference":"r%d"},`, id, p%100, id, id, p%100)
		fmt.Fprintf(&fixed, `"r%d:%s",`, p%100, id)
	}
	doc := []byte(`{"document":{"tracking":{"id":"CVE-2024-0001"}},"product_tree":{"branches":[` + products.String() + `{"name":"x"}],"relationships":[` + relations.String() +
		`{"category":"x"}]},"vulnerabilities":[{"cve":"CVE-2024-0001","product_status":{"fixed":[` + fixed.String() + `""]},"remediations":[{"category":"vendor_fix","product_ids":[` + fixed.String() + `""]}]}]}`)
	c := csafReader{source: "redhat/vex", tally: &Tally{}}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for range b.N {
		n := 0
		if err := c.document(doc, func(a *advisory.Advisory) bool { n = len(a.Affected); return true }); err != nil || n != 10_000 {
			b.Fatal(n, err)
		}
	}
}
