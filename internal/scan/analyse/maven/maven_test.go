package maven_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse/maven"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(maven.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"pom.xml", "src/pom.xml", `<?xml version="1.0"?><project xmlns="http://maven.apache.org/POM/4.0.0"><parent><groupId>g.p</groupId><artifactId>p</artifactId><version>7</version></parent><artifactId>app</artifactId>
			<dependencyManagement><dependencies><dependency><groupId>g</groupId><artifactId>managed</artifactId><version>${m.v}</version></dependency></dependencies></dependencyManagement>
			<dependencies><dependency><groupId>g</groupId><artifactId>a</artifactId><version>1.0</version></dependency><dependency><groupId>g</groupId><artifactId>b</artifactId><version>${b.version}</version><scope>test</scope>
			<exclusions><exclusion><groupId>x</groupId><artifactId>y</artifactId></exclusion></exclusions></dependency><dependency><groupId>${project.groupId}</groupId><artifactId>c</artifactId><version>${project.version}</version></dependency>
			<dependency><groupId>g</groupId><artifactId>managed</artifactId></dependency><dependency><groupId>g</groupId><artifactId>unknown</artifactId><version>${elsewhere}</version></dependency><dependency><groupId>g</groupId><artifactId>range</artifactId><version>[1,2)</version></dependency></dependencies>
			<properties><b.version>${b.major}.1</b.version><b.major>2</b.major><m.v>5</m.v></properties><build><plugins><plugin><groupId>z</groupId><dependencies><dependency><groupId>z</groupId><artifactId>z</artifactId></dependency></dependencies></plugin></plugins></build></project>`,
			[]string{"maven:g:a 1.0 declared [Maven]", "maven:g:b 2.1 declared [Maven] dev", "maven:g.p:c 7 declared [Maven]", "maven:g:managed 5 declared [Maven]", "maven:g:unknown  declared [Maven]", "maven:g:range  declared [Maven]"}},
		{"properties in circles", "pom.xml", `<project><properties><a>${b}</a><b>${a}</b></properties><dependencies><dependency><groupId>g</groupId><artifactId>a</artifactId><version>${a}</version></dependency></dependencies></project>`,
			[]string{"maven:g:a  declared [Maven]"}},
		{"empty elements", "pom.xml", `<project><dependencies><dependency><groupId/><artifactId>a</artifactId></dependency><dependency><groupId>g</groupId><artifactId>b</artifactId><version></version></dependency></dependencies></project>`,
			[]string{"maven:g:b  declared [Maven]"}},
		{"gradle.lockfile", "src/gradle.lockfile", "# comment\ng:a:1.0=compileClasspath,testCompileClasspath\ng:b:2.0=testRuntimeClasspath\nempty=annotationProcessor\n",
			[]string{"maven:g:a 1.0 declared [Maven]", "maven:g:b 2.0 declared [Maven] dev"}},
		{"verification metadata", "src/gradle/verification-metadata.xml", `<verification-metadata><components><component group="g" name="a" version="1.0"><artifact name="a.jar"><sha256 value="x"/></artifact></component></components></verification-metadata>`,
			[]string{"maven:g:a 1.0 declared [Maven]"}},
		{"in an archive taken apart", "app/META-INF/maven/g/a/pom.xml", "<project/>", []string{"not wanted"}},
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
		"pom.xml": "<project><dependencies", "gradle/verification-metadata.xml": strings.Repeat("<a>", 300),
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"pom.xml", "gradle.lockfile", "gradle/verification-metadata.xml"}
	f.Add(0, "<project><properties><a>1</a></properties><dependencies><dependency><groupId>g</groupId><artifactId>a</artifactId><version>${a}</version></dependency></dependencies></project>")
	f.Add(1, "g:a:1.0=x\n")
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
