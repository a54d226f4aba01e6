package dotnet_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse/dotnet"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(dotnet.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"deps.json", "app/app.deps.json", `{"runtimeTarget":{"name":".NETCoreApp,Version=v8.0"},"targets":{".NETCoreApp,Version=v8.0":{"A/1.0":{}}},"libraries":{"App/1.0.0":{"type":"project","serviceable":false},"Newtonsoft.Json/13.0.1":{"type":"package"},"runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1":{"type":"runtimepack"}}}`,
			[]string{"nuget:Newtonsoft.Json 13.0.1 installed [NuGet]", "nuget:Microsoft.NETCore.App.Runtime.linux-x64 8.0.1 installed [NuGet]"}},
		{"deps.json, files", "app/app.deps.json", `{"targets":{".NETCoreApp,Version=v8.0":{},".NETCoreApp,Version=v8.0/linux-x64":{"App/1.0.0":{"dependencies":{"Meta":"1.0","InFramework":"6.0"},"runtime":{"App.dll":{}}},"Meta/1.0":{"dependencies":{"Code":"2.0"}},"Code/2.0":{"runtime":{"lib/Code.dll":{}}},"InFramework/6.0":{"dependencies":{"AlsoInFramework":"6.0"},"compile":{"x.dll":{}}},"AlsoInFramework/6.0":{},"Native/3.0":{"native":{"libn.so":{}}}}},
			"libraries":{"App/1.0.0":{"type":"project"},"Meta/1.0":{"type":"package"},"Code/2.0":{"type":"package"},"InFramework/6.0":{"type":"package"},"AlsoInFramework/6.0":{"type":"package"},"Native/3.0":{"type":"package"},"Ref/1.0":{"type":"referenceassembly"}}}`,
			[]string{"nuget:Meta 1.0 installed [NuGet]", "nuget:Code 2.0 installed [NuGet]", "nuget:Native 3.0 installed [NuGet]"}},
		{"packages.lock.json", "src/packages.lock.json", `{"version":1,"dependencies":{"net6.0":{"A":{"type":"Transitive","resolved":"1.0.0"},"B":{"type":"Direct","requested":"[2.0, )","resolved":"2.0.0"},"p":{"type":"Project"}},"net8.0":{"A":{"type":"Direct","resolved":"1.0.0"}}}}`,
			[]string{"nuget:A 1.0.0 declared [NuGet]", "nuget:B 2.0.0 declared [NuGet]"}},
		{"packages.config", "src/packages.config", "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<packages><package id=\"jQuery\" version=\"3.1.1\" targetFramework=\"net46\"/><package id=\"N\" version=\"1.0\" developmentDependency=\"true\"/></packages>",
			[]string{"nuget:jQuery 3.1.1 declared [NuGet]", "nuget:N 1.0 declared [NuGet] dev"}},
		{"csproj", "src/a.csproj", `<Project><ItemGroup><PackageReference Include="A" Version="1.0"/><PackageReference Include="B"><Version>[2.0]</Version></PackageReference><PackageReference Include="C"/><PackageReference Include="D" Version="$(V)"/><PackageReference Include="E" Version="1.*"/><PackageReference Update="F" Version="3.0"/></ItemGroup><PropertyGroup><Version>9.9</Version></PropertyGroup></Project>`,
			[]string{"nuget:A 1.0 declared [NuGet]", "nuget:B 2.0 declared [NuGet]", "nuget:C  declared [NuGet]", "nuget:D  declared [NuGet]", "nuget:E  declared [NuGet]"}},
		{"managed versions", "src/Directory.Packages.props", `<Project><ItemGroup><PackageVersion Include="A" Version="1.0"/></ItemGroup></Project>`, []string{"nuget:A 1.0 declared [NuGet]"}},
		{"unpacked package", "root/.nuget/packages/a/1.0.0/a.nuspec", `<?xml version="1.0"?><package><metadata><id>A</id><version>1.0.0</version><license type="expression">MIT</license><dependencies><dependency id="x" version="1"/></dependencies></metadata></package>`,
			[]string{"nuget:A 1.0.0 installed [NuGet] MIT"}},
		{"template", "src/a.nuspec", `<package><metadata><id>$id$</id><version>$version$</version></metadata></package>`, nil},
		{"another JSON", "app/appsettings.json", "{}", []string{"not wanted"}},
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
		"a.deps.json": `{"libraries":{"A/1":`, "a.csproj": "<Project><PackageReference Include=", "packages.config": "<packages>" + strings.Repeat(" ", 9<<20) + "</packages>",
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"a.deps.json", "packages.lock.json", "packages.config", "a.csproj", "a.nuspec"}
	f.Add(0, `{"libraries":{"A/1":{"type":"package"}}}`)
	f.Add(3, `<Project><PackageReference Include="A"><Version>[2.0]</Version></PackageReference></Project>`)
	f.Add(4, `<package><metadata><id>A</id><version>1.0.0</version></metadata></package>`)
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
