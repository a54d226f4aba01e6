package sbom_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/castellan-security/castellan/internal/scan/sbom"
)

// ecosystem is a small stand-in for the scanner's own.
func ecosystem(os inventory.OS) string {
	if os.ID == "" {
		return ""
	}
	major, _, _ := strings.Cut(os.Version, ".")
	return os.ID + ":" + major
}

func options() sbom.Options {
	return sbom.Options{Ecosystem: ecosystem, Budget: layer.NewBudget(layer.Limits{Held: 8 << 20})}
}

// lines put an inventory into words.
func lines(inv inventory.Inventory) []string {
	var out []string
	if inv.OS.ID != "" {
		out = append(out, fmt.Sprintf("os %s %s (%s) %s", inv.OS.ID, inv.OS.Version, inv.OS.Codename, inv.OS.Name))
	}
	if i := inv.Image; i != nil {
		out = append(out, strings.TrimSpace(fmt.Sprintf("image %s %.12s %.12s %d layers", i.Reference, i.Digest, i.ID, len(i.Layers))))
	}
	for _, p := range inv.Packages {
		s := fmt.Sprintf("%s:%s %s", p.Type, p.FullName(), p.Version)
		for _, part := range []struct{ name, value string }{{"arch", p.Arch}, {"eco", p.Ecosystem}, {"source", strings.TrimSpace(p.Source.Name + " " + p.Source.Version)},
			{"stream", p.Repository}, {"owner", p.OwnedBy}, {"licences", strings.Join(p.Licenses, "|")}} {
			if part.value != "" {
				s += " " + part.name + "=" + part.value
			}
		}
		for _, at := range p.Places {
			s += fmt.Sprintf(" at=%d:%s", at.Layer, at.Path)
		}
		if p.Found != inventory.Stated {
			s += " found " + string(p.Found)
		}
		out = append(out, s)
	}
	for _, p := range inv.Problems {
		out = append(out, "problem "+p.What)
	}
	return out
}

func TestDocumentsOfOtherWriters(t *testing.T) {
	for _, tc := range []struct {
		file string
		want []string
	}{
		{"syft.cdx.json", []string{
			"os debian 12 (bookworm) Debian GNU/Linux 12 (bookworm)",
			"image shop/web:3 sha256:11111  0 layers",
			"deb:libssl3 3.0.11-1~deb12u2 arch=amd64 source=openssl 3.0.11-1~deb12u2 licences=Apache-2.0|a-private-licence at=0:/usr/share/doc/libssl3/copyright at=0:/var/lib/dpkg/status",
			"deb:libgcc-s1 12.2.0-14 arch=amd64 source=gcc-12 12.2.0-14+b1",
			"golang:github.com/BurntSushi/toml/v2 v2.0.1 eco=Go",
			"golang:stdlib 1.22.1 eco=Go",
			"npm:@scope/inner 1.0.0 eco=npm",
			"maven:org.apache.logging.log4j:log4j-core 2.14.1 eco=Maven",
			"generic:node 20.11.0",
			"generic:odd 1",
			"problem 1 listed without a package URL, so that no advisory can be looked up: node 20.11.0",
			"problem 1 listed with a package URL that is none, so that no advisory can be looked up: odd 1",
		}},
		{"trivy.cdx.json", []string{
			"os rhel 8.6 () rhel 8.6",
			"image registry.example/shop/web:3 sha256:22222 sha256:33333 2 layers",
			"rpm:bind-libs 32:9.11.36-8.el8_8.1 arch=x86_64 source=bind 32:9.11.36-8.el8_8.1 licences=MPLv2.0 at=1:",
			"rpm:nodejs 1:18.19.1-1.module+el8 arch=x86_64 source=nodejs 1:18.19.1-1.module+el8 stream=nodejs:18",
			"npm:lodash 4.17.20 eco=npm at=2:/app/node_modules/lodash/package.json",
		}},
		{"syft.spdx.json", []string{
			"os debian 12 () debian 12",
			"image shop/web sha256:11111  0 layers",
			"deb:python3-urllib3 1.26.12-1 arch=all source=python-urllib3 1.26.12-1 licences=MIT",
			"pypi:urllib3 1.26.12 eco=PyPI owner=python3-urllib3",
		}},
		{"trivy.spdx", []string{
			"os alpine 3.15.11 () alpine 3.15.11",
			"image alpine:3.15 sha256:44444  1 layers",
			"apk:libc-utils 0.7.2-r3 arch=x86_64 source=libc-dev 0.7.2-r3 licences=BSD-2-Clause at=1:",
		}},
		{"image.spdx3.json", []string{
			"os debian 12.5 () debian 12.5",
			"image registry.example.org/shop:1.2 sha256:aaaaa sha256:bbbbb 2 layers",
			"deb:bash 5.2.15-2+b7 arch=amd64 source=bash 5.2.15-2 licences=GPL-3.0-or-later at=1:",
			"npm:left-pad 1.3.0 eco=npm licences=WTFPL OR (MIT AND BSD-3-Clause) at=2:/app/node_modules/left-pad/package.json",
			"deb:python3-requests 2.28.1+dfsg-1 arch=all source=python3-requests 2.28.1+dfsg-1",
			"pypi:requests 2.28.1 eco=PyPI owner=python3-requests",
			"generic:vendored thing 1",
			"problem 1 listed without a package URL, so that no advisory can be looked up: vendored thing 1",
		}},
		{"maven.cdx.xml", []string{
			"generic:nested 3",
			"maven:org.apache.logging.log4j:log4j-core 2.14.1 eco=Maven licences=Apache-2.0|MIT OR Apache-2.0 at=0:/app/log4j-core.jar",
			"maven:org.example:shop 1.0 eco=Maven",
			"problem 1 listed without a package URL, so that no advisory can be looked up: nested 3",
		}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join("testdata", tc.file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := sbom.Read(t.Context(), f, options())
			if err != nil || len(got) != 1 {
				t.Fatalf("%d documents, %v", len(got), err)
			}
			if diff := cmp.Diff(lines(got[0]), tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

// bom is a small CycloneDX document around components.
func bom(components string) string {
	return `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[` + components + `]}`
}

// graph is a small SPDX 3 document around elements.
func graph(elements string) string {
	return `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[` + elements + `]}`
}

func TestWhatPackagesAre(t *testing.T) {
	const purl = `{"type":"library","name":%q,"purl":%q}`
	for _, tc := range []struct {
		name, doc string
		want      []string
	}{
		{"nothing", bom(""), nil},
		{"members in another order", `{"components":[{"purl":"pkg:gem/rails@7.0.0"}],"specVersion":"1.2","bomFormat":"CycloneDX"}`, []string{"gem:rails 7.0.0 eco=RubyGems"}},
		{"lists that are there twice", `{"bomFormat":"CycloneDX","specVersion":"1.2","components":[{"purl":"pkg:gem/a@1"}],"components":[{"purl":"pkg:gem/b@1"}]}`,
			[]string{"gem:a 1 eco=RubyGems", "gem:b 1 eco=RubyGems"}},
		{"values of another type", bom(`{"type":1,"name":{},"version":[],"purl":null,"properties":{"a":1},"licenses":3,"evidence":[],"components":"x"},7,null,[[]]`), nil},
		{"SPDX 3 with nothing", graph(""), nil},
		{"SPDX 3 with the graph first", `{"@graph":[{"@id":"a","@type":"software_Package","software_packageUrl":"pkg:gem/a@1"}],"@context":["x","https://spdx.org/rdf/3.1.0/spdx-context.jsonld"]}`,
			[]string{"gem:a 1 eco=RubyGems"}},
		{"SPDX 3 with full names", graph(`{"type":"https://spdx.org/rdf/3.0.1/terms/Software/Package","software_packageUrl":"pkg:gem/a@1"}`), []string{"gem:a 1 eco=RubyGems"}},
		{"SPDX 3 with several package URLs", graph(`{"type":"software_Package","software_packageUrl":"pkg:gem/a@1","externalIdentifier":[` +
			`{"externalIdentifierType":"packageURL","identifier":"pkg:npm/a@1"},{"externalIdentifierType":"purl","identifier":"pkg:gem/a@1"},{"externalIdentifierType":"swid","identifier":"pkg:cargo/a@1"}]}`),
			[]string{"gem:a 1 eco=RubyGems", "npm:a 1 eco=npm"}},
		{"SPDX 3 with licences that go in circles", graph(`{"type":"software_Package","spdxId":"p","software_packageUrl":"pkg:gem/a@1"},` +
			`{"type":"Relationship","from":"p","relationshipType":"hasDeclaredLicense","to":"l"},` +
			`{"type":"expandedlicensing_ConjunctiveLicenseSet","spdxId":"l","expandedlicensing_member":["l","l"]}`), []string{"gem:a 1 eco=RubyGems"}},
		{"SPDX 3 with no assertion", graph(`{"type":"software_Package","spdxId":"p","software_packageUrl":"pkg:gem/a@1"},` +
			`{"type":"Relationship","from":"p","relationshipType":"hasDeclaredLicense","to":["https://spdx.org/rdf/3.0.1/terms/Licensing/NoAssertion","https://spdx.org/licenses/MIT"]}`),
			[]string{"gem:a 1 eco=RubyGems licences=MIT"}},
		{"SPDX 3 with values of another type", graph(`1,null,[],{"type":["software_Package"],"software_packageUrl":{}},{"type":"software_Package","name":{},"externalIdentifier":"x","to":{"a":1},"software_attributionText":[1,{}]}`), nil},
		{"SPDX 3 with what is no package", graph(`{"type":"software_File","name":"a","software_packageUrl":"pkg:gem/a@1"},{"type":"dataset_DatasetPackage","name":"numbers"}`), nil},
		{"SPDX 3 in a statement", `{"_type":"https://in-toto.io/Statement/v1","predicate":` + graph(`{"type":"software_Package","software_packageUrl":"pkg:gem/a@1"}`) + `}`, []string{"gem:a 1 eco=RubyGems"}},
		{"in a statement", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"00"}}],"predicateType":"https://cyclonedx.org/bom","predicate":` +
			bom(`{"purl":"pkg:gem/a@1"}`) + `}`, []string{"gem:a 1 eco=RubyGems"}},
		{"version only in the component", bom(`{"name":"x","version":"2","purl":"pkg:cargo/x"}`), []string{"cargo:x 2 eco=crates.io"}},
		{"epoch of a deb", bom(fmt.Sprintf(purl, "bsdutils", "pkg:deb/debian/bsdutils@1%3A2.38.1-5?arch=amd64&distro=debian-12.4&epoch=1")),
			[]string{"os debian 12.4 () debian 12.4", "deb:bsdutils 1:2.38.1-5 arch=amd64 source=bsdutils 1:2.38.1-5"}},
		{"source of an rpm", bom(fmt.Sprintf(purl, "bind-libs", "pkg:rpm/rhel/bind-libs@9.16-1.el9?distro=rhel-9.2&epoch=32&upstream=bind-9.16-1.el9.src.rpm")),
			[]string{"os rhel 9.2 () rhel 9.2", "rpm:bind-libs 32:9.16-1.el9 source=bind 32:9.16-1.el9"}},
		{"code name for a release", bom(fmt.Sprintf(purl, "x", "pkg:deb/debian/x@1?distro=bookworm")), []string{"os debian 12 (bookworm) debian 12", "deb:x 1 source=x 1"}},
		{"testing", bom(fmt.Sprintf(purl, "x", "pkg:deb/debian/x@1?distro=debian-forky")), []string{"os debian  (forky) debian", "deb:x 1 source=x 1"}},
		{"SUSE by name", bom(fmt.Sprintf(purl, "x", "pkg:rpm/suse/x@1-1?distro=sles-15.5")), []string{"os sles 15.5 () SUSE Linux Enterprise Server 15 SP5", "rpm:x 1-1 source=x 1-1"}},
		{"Amazon's remark", bom(fmt.Sprintf(purl, "x", "pkg:rpm/amazon/x@1-1?distro=amazon-2%20%28Karoo%29")), []string{"os amzn 2 () amzn 2", "rpm:x 1-1 source=x 1-1"}},
		{"another release than most", bom(fmt.Sprintf(purl, "a", "pkg:deb/debian/a@1?distro=debian-12") + "," + fmt.Sprintf(purl, "b", "pkg:deb/debian/b@1?distro=debian-12") + "," +
			fmt.Sprintf(purl, "c", "pkg:deb/debian/c@1?distro=debian-11") + "," + fmt.Sprintf(purl, "d", "pkg:rpm/fedora/d@1-1?distro=fedora-40")),
			[]string{"os debian 12 () debian 12", "deb:a 1 source=a 1", "deb:b 1 source=b 1", "deb:c 1 eco=debian:11 source=c 1", "rpm:d 1-1 eco=fedora:40 source=d 1-1"}},
		{"release only in the version", bom(fmt.Sprintf(purl, "openssl", "pkg:rpm/redhat/openssl@3.0.7-24.el9_2?arch=x86_64")), []string{"os rhel 9 () rhel 9", "rpm:openssl 3.0.7-24.el9_2 arch=x86_64 source=openssl 3.0.7-24.el9_2"}},
		{"another release in a version of a known system", bom(fmt.Sprintf(purl, "tool", "pkg:rpm/redhat/tool@1-1.el8") + `,{"type":"operating-system","name":"rhel","version":"9.3"}`),
			[]string{"os rhel 9.3 () rhel 9.3", "rpm:tool 1-1.el8 source=tool 1-1.el8"}},
		{"Docker's qualifiers", bom(fmt.Sprintf(purl, "x", "pkg:deb/debian/x@1?os_distro=bookworm&os_name=debian&os_version=12")), []string{"os debian 12 () debian 12", "deb:x 1 source=x 1"}},
		{"no distribution", bom(fmt.Sprintf(purl, "a", "pkg:deb/a@1")),
			[]string{"deb:a 1 source=a 1", "problem 1 listed of a distribution that is not told, so that no advisory can be looked up: a 1"}},
		{"names of two cases", bom(fmt.Sprintf(purl, "R", "pkg:apk/alpine/r@4?distro=3.20.1")), []string{"os alpine 3.20.1 () alpine 3.20.1", "apk:R 4 source=r 4"}},
		{"name that is too long", bom(fmt.Sprintf(purl, "x", "pkg:gem/"+strings.Repeat("x", 1025)+"@1") + "," + fmt.Sprintf(purl, "y", "pkg:gem/"+strings.Repeat("x", 9000))),
			[]string{"problem 2 listed with names that are too long to be any; they are left out: x, y"}},
		{"layers in annotations", `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"SPDXRef-Package-1","name":"bash","versionInfo":"5.2.15-2","primaryPackagePurpose":"LIBRARY",` +
			`"externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12.4"}],` +
			`"annotations":[{"annotator":"Tool: trivy-0.58.0","annotationType":"OTHER","comment":"LayerDiffID: sha256:bb"},{"comment":"PkgType: debian"}]},` +
			`{"SPDXID":"SPDXRef-OperatingSystem-2","name":"debian","versionInfo":"12.4","primaryPackagePurpose":"OPERATING-SYSTEM"},` +
			`{"SPDXID":"SPDXRef-ContainerImage-3","name":"web:3","primaryPackagePurpose":"CONTAINER","annotations":[{"comment":"DiffID: sha256:aa"},{"comment":"DiffID: sha256:bb"}]}],` +
			`"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relatedSpdxElement":"SPDXRef-ContainerImage-3","relationshipType":"DESCRIBES"}]}`,
			[]string{"os debian 12.4 () debian 12.4", "image web:3   2 layers", "deb:bash 5.2.15-2 arch=amd64 source=bash 5.2.15-2 at=2:"}},
		{"several package URLs in SPDX", `{"packages":[{"SPDXID":"a","name":"x","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:npm/x@1"},` +
			`{"referenceType":"purl","referenceLocator":"pkg:gem/x@1"}]}],"spdxVersion":"SPDX-2.2"}`, []string{"npm:x 1 eco=npm", "gem:x 1 eco=RubyGems"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := sbom.Read(t.Context(), strings.NewReader(tc.doc), options())
			if err != nil || len(got) != 1 {
				t.Fatalf("%d documents, %v", len(got), err)
			}
			if diff := cmp.Diff(lines(got[0]), tc.want); diff != "" {
				t.Errorf("got, want: %s", diff)
			}
		})
	}
}

func TestSeveralDocuments(t *testing.T) {
	got, err := sbom.Read(t.Context(), strings.NewReader("\ufeff\n ["+bom(`{"purl":"pkg:gem/a@1"}`)+","+bom(`{"purl":"pkg:gem/b@1"}`)+"]"), options())
	if err != nil || len(got) != 2 {
		t.Fatalf("%d documents, %v", len(got), err)
	}
	if diff := cmp.Diff(append(lines(got[0]), lines(got[1])...), []string{"gem:a 1 eco=RubyGems", "gem:b 1 eco=RubyGems"}); diff != "" {
		t.Errorf("got, want: %s", diff)
	}
}

func TestRefused(t *testing.T) {
	many := strings.Repeat(`{"purl":"pkg:gem/a@1"},`, 10_000)
	for _, tc := range []struct {
		name, doc string
		kind      fault.Kind
		err       string
	}{
		{"empty", "", fault.Invalid, "ends early"},
		{"cut", bom(`{"purl":"pkg:gem/a@1"}`)[:70], fault.Invalid, "ends early"},
		{"cut in XML", `<bom xmlns="http://cyclonedx.org/schema/bom/1.4"><components><component>`, fault.Invalid, "unexpected EOF"},
		{"another document", `{"family":"shop"}`, fault.Invalid, "no bill of materials"},
		{"text", "hello\n", fault.Invalid, "no bill of materials"},
		{"nothing but comments", "# a\n", fault.Invalid, "no bill of materials"},
		{"a version to come", `{"bomFormat":"CycloneDX","specVersion":"2.0"}`, fault.Unsupported, `CycloneDX "2.0"`},
		{"SPDX 4", `{"@context":"https://spdx.org/rdf/4.0.0/spdx-context.jsonld","@graph":[]}`, fault.Unsupported, "SPDX-4.0.0"},
		{"SPDX 3 and another", `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","bomFormat":"CycloneDX"}`, fault.Invalid, "claims to be"},
		{"SPDX 3 cut off", graph(`{"type":"software_Package"}`)[:90], fault.Invalid, "ends early"},
		{"another document in JSON-LD", `{"@context":"https://openvex.dev/ns","statements":[]}`, fault.Invalid, "no bill of materials"},
		{"SPDX 3 of more packages than a scan may hold", graph(strings.Repeat(`{"type":"software_Package"},`, 100_000) + `{}`), fault.Exhausted, "held"},
		{"SPDX 3 of more relationships", graph(strings.Repeat(`{"type":"Relationship","from":"a","relationshipType":"hasDeclaredLicense","to":["b","c","d"]},`, 100_000) + `{}`), fault.Exhausted, "held"},
		{"SPDX 3 of more licences", graph(strings.Repeat(`{"type":"License","spdxId":"a","name":"b"},`, 100_000) + `{}`), fault.Exhausted, "held"},
		{"SPDX in XML", `<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>`, fault.Unsupported, "not CycloneDX"},
		{"SPDX in YAML", "SPDXID: \"SPDXRef-DOCUMENT\"\nspdxVersion: \"SPDX-2.3\"\n", fault.Unsupported, "YAML"},
		{"two formats", `{"bomFormat":"CycloneDX","spdxVersion":"SPDX-2.3"}`, fault.Invalid, "claims to be"},
		{"deep", bom(strings.Repeat(`{"components":[`, 600)), fault.Invalid, "nested more than 1000 deep"},
		{"deep in XML", `<bom xmlns="http://cyclonedx.org/schema/bom/1.4">` + strings.Repeat("<components><component>", 600), fault.Invalid, "nested more than 1000 deep"},
		{"entities", `<!DOCTYPE x [<!ENTITY a "b">]><bom xmlns="http://cyclonedx.org/schema/bom/1.4"><components><component><name>&a;</name>`, fault.Invalid, "entity"},
		{"more than a scan may hold", bom(many + many[:len(many)-1]), fault.Exhausted, "held"},
		{"places without end", bom(`{"purl":"pkg:gem/a@1","evidence":{"occurrences":[` + strings.Repeat(`{"location":"/a"},`, 100_000)), fault.Exhausted, "held"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := sbom.Read(t.Context(), strings.NewReader(tc.doc), options())
			if err == nil || fault.Of(err) != tc.kind || !strings.Contains(err.Error()+fault.Remedy(err), tc.err) || fault.Remedy(err) == "" {
				t.Errorf("error = %v (%v; %s), want %v with %q and a remedy", err, fault.Of(err), fault.Remedy(err), tc.kind, tc.err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		f.Fatalf("testdata: %d files, %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := sbom.Read(t.Context(), strings.NewReader(string(b)), options())
		if err != nil {
			return
		}
		for _, inv := range got {
			for i := range inv.Packages {
				p := &inv.Packages[i]
				if p.Name == "" || p.Type == "" || len(p.Name)+len(p.Version) > 3*4096 {
					t.Fatalf("package %+v", p)
				}
				if _, ok := inventory.ParsePURL(p.PURL(inv.OS)); !ok {
					t.Fatalf("package %+v has the URL %q", p, p.PURL(inv.OS))
				}
			}
		}
	})
}
