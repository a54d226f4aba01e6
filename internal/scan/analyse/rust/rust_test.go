package rust_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/analyse/rust"
	"github.com/castellan-security/castellan/internal/scan/analysetest"
)

// take returns what is shown, a line a package.
func take(path, content string) ([]string, error) {
	return analysetest.Lines(rust.Analyser{}, path, content)
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, path, content string
		want                []string
	}{
		{"lock file", "src/Cargo.lock", "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"serde\",\n \"rand 0.8.5\",\n]\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.160\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"x\"\n\n" +
			"[[package]]\nname = \"rand\"\nversion = \"0.8.5\"\nsource = \"git+https://example.com/rand?tag=0.8.5#abc\"\n\n[[package]]\nname = \"libc\"\nversion = \"0.2.0\"\nsource = \"sparse+https://index.crates.io/\"\n\n[[package]]\nname = \"inner\"\nversion = \"1.0.0\"\nsource = \"registry+https://crates.example.com/index\"\n\n[metadata]\n\"checksum x\" = \"y\"\n",
			[]string{"cargo:app 0.1.0 declared []", "cargo:serde 1.0.160 declared [crates.io]", "cargo:rand 0.8.5 declared [crates.io]", "cargo:libc 0.2.0 declared [crates.io] indirect", "cargo:inner 1.0.0 declared [] indirect"}},
		{"of a crate that was fetched", "root/.cargo/registry/src/x/a-1/Cargo.lock", "x", []string{"not wanted"}},
		{"another name", "src/MyCargo.lock", "x", []string{"not wanted"}},
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
		"Cargo.lock": "[[package]]\nname = [\n",
	} {
		if got, err := take(path, content); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}

func FuzzTake(f *testing.F) {
	paths := []string{"Cargo.lock"}
	f.Add(0, "[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"serde\",\n]\n")
	f.Fuzz(func(_ *testing.T, i int, content string) {
		_, _ = take(paths[uint(i)%uint(len(paths))], content)
	})
}
