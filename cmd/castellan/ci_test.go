package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"sigs.k8s.io/yaml"

	"github.com/castellan-security/castellan/internal/need"
)

// pieces is where the pieces for CI servers are.
const pieces = "../../deploy/ci/"

// workspace is a checkout as a CI server has it: a small image, in which
// something is wrong, and a template, in which something is wrong too.
func workspace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeImage(t, filepath.Join(dir, "app.tar"), v1.Config{Env: []string{"DB_PASSWORD=hunter2hunter2"}})
	writeImage(t, filepath.Join(dir, "old.tar"), v1.Config{Env: []string{"DB_PASSWORD=hunter2hunter2"}})
	writeImage(t, filepath.Join(dir, "worse.tar"), v1.Config{Env: []string{"DB_PASSWORD=hunter2hunter2"}, ExposedPorts: map[string]struct{}{"22/tcp": {}}})
	if err := os.WriteFile(filepath.Join(dir, "task.json"), []byte(`{"family": "shop", "pidMode": "host", "containerDefinitions": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writeImage writes an image of one layer, with further steps of the build that
// made none.
func writeImage(t *testing.T, file string, c v1.Config, steps ...string) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	body := "ID=debian\nVERSION_ID=\"12\"\n"
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "etc/os-release", Mode: 0o644, Size: int64(len(body))})); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: l, History: v1.History{CreatedBy: "ADD rootfs.tar /"}})
	if err != nil {
		t.Fatal(err)
	}
	file1, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file1 = file1.DeepCopy()
	for _, step := range steps {
		file1.History = append(file1.History, v1.History{CreatedBy: step, EmptyLayer: true})
	}
	file1.Config, file1.OS, file1.Architecture = c, "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file1); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("shop:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
}

// shell runs a command of a CI server's file as the server does, in a workspace.
func shell(t *testing.T, dir, script string, env ...string) (code int, output string) {
	t.Helper()
	need.Program(t, "bash", "apt-get install bash")
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append([]string{"CASTELLAN_DATA_DIR=" + t.TempDir(), "XDG_CACHE_HOME=" + t.TempDir(), "NO_COLOR=1"}, env...)...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// reads says that what was written is what its readers take.
func reads(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Error(err)
			continue
		}
		switch filepath.Ext(f) {
		case ".sarif":
			var log struct {
				Version string
				Runs    []struct{ Results []any }
			}
			if err := json.Unmarshal(b, &log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Results) == 0 {
				t.Errorf("%s: %v, version %q, %d runs", f, err, log.Version, len(log.Runs))
			}
		case ".xml":
			var suites struct {
				Failures int `xml:"failures,attr"`
			}
			if err := xml.Unmarshal(b, &suites); err != nil || suites.Failures == 0 {
				t.Errorf("%s: %v, %d failures", f, err, suites.Failures)
			}
		case ".json":
			if !json.Valid(b) {
				t.Errorf("%s is no JSON", f)
			}
		default:
			if len(b) == 0 {
				t.Errorf("%s is empty", f)
			}
		}
		if strings.Contains(string(b), "hunter2") {
			t.Errorf("%s tells the secret", f)
		}
	}
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
