package target_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/target"
)

func TestParseTask(t *testing.T) {
	web := target.Container{Name: "web", Image: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/web:1.4"}
	proxy := target.Container{Name: "proxy", Image: "envoyproxy/envoy:v1.31"}
	arm := inventory.Platform{OS: "linux", Architecture: "arm64"}
	for _, tc := range []struct {
		file string
		want []target.Definition
	}{
		{"describe.json", []target.Definition{{Name: "storefront:7", Platform: arm, Containers: []target.Container{web, proxy}}}},
		{"register.json", []target.Definition{{Name: "storefront", Platform: arm, Containers: []target.Container{web, proxy}}}},
		{"array.json", []target.Definition{
			{Name: "storefront", Containers: []target.Container{web}},
			{Name: "reports:2", Platform: inventory.Platform{OS: "windows", Architecture: "amd64"}, Containers: []target.Container{{Name: "iis", Image: "shop/reports"}}},
		}},
		{"cloudformation.json", []target.Definition{{Name: "storefront", Platform: inventory.Platform{OS: "linux", Architecture: "amd64"}, Containers: []target.Container{web}}}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", tc.file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := target.ParseTask(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ParseTask() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseTaskErrors(t *testing.T) {
	container := `{"name":"web","image":"web:1"}`
	for _, tc := range []struct{ name, in, words string }{
		{"empty", "", "unexpected EOF"},
		{"cut", `{"family":"shop","containerDefinitions":[`, "unexpected EOF"},
		{"cut array", `[{"family":"shop"}`, "unexpected EOF"},
		{"not JSON", "family: shop", "invalid character"},
		{"more after it", `{"containerDefinitions":[` + container + `]} {}`, "follows"},
		{"a number", "1", "cannot unmarshal"},
		{"null", "null", "no containerDefinitions"},
		{"empty array", "[]", "no task definition"},
		{"another document", `{"services":[]}`, "no containerDefinitions"},
		{"a service, which names its definition", `{"taskDefinition":"arn:aws:ecs:eu-west-1:123456789012:task-definition/shop:1"}`, "no containerDefinitions"},
		{"no containers", `{"containerDefinitions":[]}`, "no container in it"},
		{"containers that are none", `{"containerDefinitions":{"a":1}}`, "no array"},
		{"no image", `{"containerDefinitions":[{"name":"web"}]}`, "no image"},
		{"image of blanks", `{"containerDefinitions":[{"name":"web","image":"  "}]}`, "no image"},
		{"endless image", `{"containerDefinitions":[{"name":"web","image":"` + strings.Repeat("a", 2000) + `"}]}`, "ECS would not take"},
		{"endless containers", `{"containerDefinitions":[` + strings.Repeat(container+",", 100) + container + `]}`, "more than 100"},
		{"endless definitions", "[" + strings.Repeat(`{},`, 1000) + "{}]", "more than 1000"},
		{"too large", strings.Repeat(" ", 9<<20), "at most"},
		{"one within another", `{"taskDefinition":{"containerDefinitions":[` + container + `]},"containerDefinitions":[` + container + `]}`, "one within it"},
		{"another processor", `{"containerDefinitions":[` + container + `],"runtimePlatform":{"cpuArchitecture":"Z80"}}`, "Z80"},
		{"another system", `{"containerDefinitions":[` + container + `],"runtimePlatform":{"operatingSystemFamily":"PLAN9"}}`, "PLAN9"},
		{"deep", strings.Repeat("[", 100_000), "definition"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := target.ParseTask([]byte(tc.in))
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" || got != nil {
				t.Errorf("ParseTask() = %v, %v (%q), want invalid with %q", got, err, fault.Remedy(err), tc.words)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes or in several lines: %.300q", len(err.Error()), err)
			}
		})
	}
}

// FuzzParseTask wants images in all that is accepted.
func FuzzParseTask(f *testing.F) {
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := target.ParseTask(b)
		if err != nil {
			return
		}
		for _, d := range all {
			if len(d.Containers) == 0 {
				t.Fatalf("definition %+v", d)
			}
			for _, c := range d.Containers {
				if strings.TrimSpace(c.Image) == "" {
					t.Fatalf("container %+v", c)
				}
			}
		}
	})
}
