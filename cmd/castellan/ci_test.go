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
	"regexp"
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

func TestGitHubAction(t *testing.T) {
	var action struct {
		Inputs map[string]struct{ Default, Description string }
		Runs   struct {
			Using string
			Steps []struct {
				Name, Run, Shell, If string
				Env                  map[string]string
			}
		}
	}
	readYAML(t, pieces+"github/action.yml", &action)
	if action.Runs.Using != "composite" {
		t.Errorf("it runs using %q", action.Runs.Using)
	}
	input := regexp.MustCompile(`\$\{\{ *inputs\.([a-z-]+) *\}\}`)
	for _, tc := range []struct {
		name   string
		inputs map[string]string
		code   int
		files  []string
	}{
		{"image", map[string]string{"image": "archive:app.tar"}, exitViolated, []string{"castellan/image.sarif", "castellan/image.xml", "castellan/image.json", "castellan/image.html", "summary.md"}},
		{"template", map[string]string{"path": ".", "reports": "my reports"}, exitViolated, []string{"my reports/iac.sarif", "my reports/iac.xml", "my reports/iac.json", "my reports/iac.html", "summary.md"}},
		{"nothing fails", map[string]string{"path": ".", "fail-on": ""}, exitDone, nil},
		{"path like an option", map[string]string{"path": "--help"}, exitFailed, nil},
		{"image like an option", map[string]string{"image": "--help"}, exitFailed, nil},
		{"hostile path", map[string]string{"path": "$(touch hacked)"}, exitFailed, nil},
		{"only what is new", map[string]string{"image": "archive:app.tar", "new-since": "archive:old.tar"}, exitDone, nil},
		{"new and grave", map[string]string{"image": "archive:worse.tar", "new-since": "archive:old.tar", "fail-on": "medium"}, exitViolated, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := workspace(t)
			given := func(name string) string {
				if _, ok := action.Inputs[name]; !ok {
					t.Errorf("input %s is not declared", name)
				}
				if v, ok := tc.inputs[name]; ok {
					return v
				}
				return action.Inputs[name].Default
			}
			code := exitDone
			for _, step := range action.Runs.Steps {
				if strings.Contains(step.Run, "${{") || step.Shell != "bash" {
					t.Errorf("%s: an expression in the script, or shell %q: what is given must come through the environment", step.Name, step.Shell)
				}
				if m := regexp.MustCompile(`^inputs\.([a-z-]+) != ''$`).FindStringSubmatch(step.If); m != nil && given(m[1]) == "" {
					continue
				}
				env := []string{"GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary.md")}
				for k, v := range step.Env {
					if strings.Contains(v, "||") { // image == '' && new-since || ''
						v = ""
					}
					env = append(env, k+"="+input.ReplaceAllStringFunc(v, func(s string) string { return given(input.FindStringSubmatch(s)[1]) }))
				}
				var out string
				if code, out = shell(t, dir, step.Run, env...); code != exitDone {
					t.Logf("%s: %d\n%s", step.Name, code, out)
					break
				}
			}
			if code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			reads(t, dir, tc.files...)
			if _, err := os.Stat(filepath.Join(dir, "hacked")); err == nil {
				t.Error("what was given was executed")
			}
		})
	}
}

func TestGitLabTemplate(t *testing.T) {
	var file map[string]struct {
		Script    []string
		Extends   string
		Artifacts struct {
			Paths   []string
			Reports struct{ Junit string }
		}
	}
	var variables struct{ Variables map[string]string }
	readYAML(t, pieces+"gitlab/castellan.gitlab-ci.yml", &variables)
	b, err := os.ReadFile(pieces + "gitlab/castellan.gitlab-ci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var jobs map[string]any
	if err := yaml.Unmarshal(b, &jobs); err != nil {
		t.Fatal(err)
	}
	delete(jobs, "variables")
	if b, err = yaml.Marshal(jobs); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	var env []string
	for k, v := range variables.Variables {
		env = append(env, k+"="+v)
	}
	env = append(env, "CASTELLAN_IMAGE=archive:app.tar")
	for job, files := range map[string][]string{
		"castellan-templates": {"castellan-iac.xml", "castellan-iac.sarif", "castellan-iac.json", "castellan-iac.html"},
		"castellan-image":     {"castellan-image.xml", "castellan-image.sarif", "castellan-image.json", "castellan-image.html"},
	} {
		dir := workspace(t)
		if code, out := shell(t, dir, strings.Join(file[job].Script, "\n"), env...); code != exitViolated {
			t.Errorf("%s: exit code %d\n%s", job, code, out)
		}
		reads(t, dir, files...)
		if code, out := shell(t, dir, strings.Join(file[job].Script, "\n"), append(env, "CASTELLAN_PATH=--help", "CASTELLAN_IMAGE=--help")...); code != exitFailed {
			t.Errorf("%s of --help: exit code %d\n%s", job, code, out)
		}
		kept, err := filepath.Glob(filepath.Join(dir, file[file[job].Extends].Artifacts.Reports.Junit))
		if err != nil || len(kept) != 1 {
			t.Errorf("%s: %v, %v are kept as JUnit", job, kept, err)
		}
	}
}

func TestCodeBuildSpec(t *testing.T) {
	var spec struct {
		Env    struct{ Variables map[string]string }
		Phases map[string]struct{ Commands []string }
	}
	readYAML(t, pieces+"codebuild/buildspec.yml", &spec)
	env := []string{}
	for k, v := range spec.Env.Variables {
		env = append(env, k+"="+v)
	}
	env = append(env, "CASTELLAN_IMAGE=archive:app.tar")
	for phase, files := range map[string][]string{
		"pre_build":  {"castellan-iac.xml", "castellan-iac.sarif", "castellan-iac.json"},
		"post_build": {"castellan-image.xml", "castellan-image.sarif", "castellan-image.json", "castellan-image.html"},
	} {
		dir := workspace(t)
		if code, out := shell(t, dir, spec.Phases[phase].Commands[0], env...); code != exitViolated {
			t.Errorf("%s: exit code %d\n%s", phase, code, out)
		}
		reads(t, dir, files...)
	}
}

func TestPreCommitHook(t *testing.T) {
	var hooks []struct{ ID, Entry, Files, Language string }
	readYAML(t, "../../.pre-commit-hooks.yaml", &hooks)
	if len(hooks) != 1 {
		t.Fatalf("%d hooks", len(hooks))
	}
	dir := workspace(t)
	if code, out := shell(t, dir, hooks[0].Entry); code != exitViolated || !strings.Contains(out, "CAST-TASK-003") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	files := regexp.MustCompile(hooks[0].Files)
	for name, want := range map[string]bool{"infra/main.tf": true, "Dockerfile": true, "app/Dockerfile.prod": true, "compose.yaml": true, "task.json": true, "main.go": false, "web.Dockerfile": true, "README.md": false} {
		if got := files.MatchString(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// stubs stand for Jenkins: its step sh runs, the others tell what they were given.
// One machine of Java serves all cases, for it takes seconds to start.
const stubs = `
for (int i = 1; i < args.length; i += 2) {
    def script = new GroovyShell().parse(new File(args[0]))
    def said = { String s -> System.out.println(s) }
    def folder = new File(args[i])
    said '=== ' + args[i]
    script.metaClass.sh = { Map m ->
        def p = new ProcessBuilder('sh', '-c', m.script).directory(folder).redirectErrorStream(true).start()
        said p.inputStream.text
        p.waitFor()
    }
    script.metaClass.error = { String s -> throw new RuntimeException('ERROR ' + s) }
    script.metaClass.unstable = { String s -> said 'UNSTABLE ' + s }
    script.metaClass.echo = { String s -> said 'ECHO ' + s }
    script.metaClass.sarif = { Map m -> m }
    script.metaClass.archiveArtifacts = { Map m -> said 'ARCHIVE ' + m.artifacts }
    def ids = [] as Set
    script.metaClass.recordIssues = { Map m ->
        if (!(m.tool.id ==~ '[A-Za-z0-9._-]+') || !ids.add(m.tool.id)) {
            throw new RuntimeException("ID ${m.tool.id} is already used by another action, or is none")
        }
        said 'ISSUES ' + m.tool.id + ' ' + m.tool.pattern
    }
    script.metaClass.junit = { Map m -> throw new NoSuchMethodError('junit') }
    def names = [] as Set
    script.metaClass.publishHTML = { Map m ->
        if (!names.add(m.target.reportName)) {
            throw new RuntimeException("${m.target.reportName} takes the place of another report")
        }
        said 'HTML ' + m.target.reportDir + ' as ' + m.target.reportName
    }
    try {
        for (given in [evaluate(args[i + 1])].flatten()) {
            said 'HOLDS ' + script.call(given)
        }
    } catch (RuntimeException e) {
        said e.message
    }
}
`

// The shared library runs castellan with what it is given, publishes, and stops
// the build; a plugin that is not there is told.
func TestJenkinsLibrary(t *testing.T) {
	need.Program(t, "groovy", "apt-get install groovy")
	java, err := filepath.EvalSymlinks(need.Program(t, "java", "apt-get install default-jre-headless"))
	if err != nil {
		t.Fatal(err)
	}
	library, err := filepath.Abs(pieces + "jenkins/vars/castellanScan.groovy")
	if err != nil {
		t.Fatal(err)
	}
	harness := filepath.Join(t.TempDir(), "harness.groovy")
	if err := os.WriteFile(harness, []byte(stubs), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, given string
		want        []string
		files       []string
	}{
		{"image", "[image: 'archive:app.tar']", []string{"ERROR castellan: archive:app.tar violates the policy", "ARCHIVE castellan/image/*", "ISSUES castellan-image castellan/image/report.sarif", "HTML castellan/image as Castellan image",
			"ECHO castellan: the plugin JUnit is not installed"}, []string{"castellan/image/report.sarif", "castellan/image/junit.xml", "castellan/image/report.html", "castellan/image/report.json"}},
		{"both in one build", "[[paths: ['task.json'], unstable: true], [image: 'archive:app.tar', unstable: true]]",
			[]string{"HOLDS false", "ISSUES castellan-iac castellan/iac/report.sarif", "ISSUES castellan-image castellan/image/report.sarif", "HTML castellan/iac as Castellan iac", "HTML castellan/image as Castellan image"},
			[]string{"castellan/iac/report.sarif", "castellan/iac/junit.xml", "castellan/image/report.sarif", "castellan/image/junit.xml"}},
		{"templates, unstable", "[paths: ['task.json', 'app.tar'], failOn: 'medium', unstable: true, reports: \"it's here\"]", []string{"UNSTABLE castellan: task.json, app.tar violates", "HOLDS false", "ISSUES it-s-here it's here/report.sarif"},
			[]string{"it's here/report.sarif", "it's here/junit.xml"}},
		{"nothing fails", "[paths: ['task.json'], failOn: '']", []string{"HOLDS true"}, nil},
		{"hostile", "[image: \"archive:\\$(touch hacked)'; touch hacked; '\"]", []string{"ERROR castellan could not scan: exit code 1"}, nil},
		{"like an option", "[paths: ['--help']]", []string{"ERROR castellan could not scan: exit code 1"}, nil},
		{"image like an option", "[image: '--help']", []string{"ERROR castellan could not scan: exit code 1"}, nil},
		{"mistyped", "[image: 'a', failsOn: 'high']", []string{"ERROR castellanScan: unknown failsOn"}, nil},
		{"nothing given", "[:]", []string{"ERROR castellanScan: give an image or paths"}, nil},
	}
	words := []string{harness, library}
	dirs := make([]string, len(cases))
	for i, tc := range cases {
		dirs[i] = workspace(t)
		words = append(words, dirs[i], tc.given)
	}
	script := "groovy"
	for _, w := range words {
		script += " '" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	code, out := shell(t, dirs[0], script, "JAVA_HOME="+filepath.Dir(filepath.Dir(java)))
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, said, _ := strings.Cut(out, "=== "+dirs[i])
			said, _, _ = strings.Cut(said, "=== ")
			for _, w := range tc.want {
				if !strings.Contains(said, w) {
					t.Errorf("lacks %q:\n%s", w, said)
				}
			}
			reads(t, dirs[i], tc.files...)
			if _, err := os.Stat(filepath.Join(dirs[i], "hacked")); err == nil {
				t.Error("what was given was executed")
			}
		})
	}
}
