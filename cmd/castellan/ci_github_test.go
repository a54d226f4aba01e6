package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	remotely "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/castellan-security/castellan/internal/need"
)

// action is a composite action of GitHub, as far as ours is one.
type action struct {
	Inputs  map[string]struct{ Default, Description string }
	Outputs map[string]struct{ Value, Description string }
	Runs    struct {
		Using string
		Steps []actionStep
	}
}

type actionStep struct {
	ID, Name, Run, Uses, Shell, If string
	Env, With                      map[string]string
}

// actionRun is one use of it.
type actionRun struct {
	t      *testing.T
	action action
	dir    string // the workspace
	temp   string
	inputs map[string]string
	env    []string
	steps  map[string]map[string]string // outputs
	log    strings.Builder
}

var expression = regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

// text fills the expressions in a text.
func (r *actionRun) text(s string) string {
	return expression.ReplaceAllStringFunc(s, func(e string) string { return r.value(expression.FindStringSubmatch(e)[1]) })
}

// value is that of an expression of those kinds that the action has: a || b, a && b,
// a == b, a != b, a name and 'a text'.
func (r *actionRun) value(e string) string {
	e = strings.TrimSpace(e)
	if a, b, ok := strings.Cut(e, " || "); ok {
		if v := r.value(a); v != "" && v != "false" {
			return v
		}
		return r.value(b)
	}
	if a, b, ok := strings.Cut(e, " && "); ok {
		if v := r.value(a); v == "" || v == "false" {
			return v
		}
		return r.value(b)
	}
	for op, equal := range map[string]bool{" == ": true, " != ": false} {
		if a, b, ok := strings.Cut(e, op); ok {
			if (r.value(a) == r.value(b)) == equal {
				return "true"
			}
			return "false"
		}
	}
	if text, ok := strings.CutPrefix(e, "'"); ok {
		return strings.TrimSuffix(text, "'")
	}
	switch parts := strings.Split(e, "."); {
	case e == "runner.temp":
		return r.temp
	case e == "runner.arch":
		return "X64"
	case len(parts) == 2 && parts[0] == "inputs":
		in, ok := r.action.Inputs[parts[1]]
		if !ok {
			r.t.Errorf("input %s is not declared", parts[1])
		}
		if v, ok := r.inputs[parts[1]]; ok {
			return v
		}
		return in.Default
	case len(parts) == 4 && parts[0] == "steps" && parts[2] == "outputs":
		return r.steps[parts[1]][parts[3]]
	}
	r.t.Errorf("expression %q is of no kind that is known", e)
	return ""
}

// run does the steps until one fails, as GitHub's runner does.
func (r *actionRun) run() (code int) {
	r.t.Helper()
	for name := range r.inputs {
		if _, ok := r.action.Inputs[name]; !ok {
			r.t.Fatalf("there is no input %s", name)
		}
	}
	here, err := filepath.Abs(pieces + "github")
	if err != nil {
		r.t.Fatal(err)
	}
	r.steps = map[string]map[string]string{}
	for _, step := range r.action.Runs.Steps {
		if step.If != "" && r.value(step.If) != "true" {
			continue
		}
		if step.Uses != "" { // another action, which there is none of here
			for _, v := range step.With {
				r.text(v)
			}
			continue
		}
		if strings.Contains(step.Run, "${{") || step.Shell != "bash" {
			r.t.Errorf("%s: an expression in the script, or shell %q: what is given must come through the environment", step.Name, step.Shell)
		}
		output := filepath.Join(r.t.TempDir(), "output")
		env := append([]string{"GITHUB_STEP_SUMMARY=" + filepath.Join(r.dir, "summary.md"), "GITHUB_OUTPUT=" + output, "GITHUB_PATH=" + output + ".path",
			"GITHUB_ACTION_PATH=" + here, "RUNNER_TEMP=" + r.temp, "GITHUB_BASE_REF=", "HOME=" + r.temp}, r.env...)
		for k, v := range step.Env {
			env = append(env, k+"="+r.text(v))
		}
		var out string
		code, out = shell(r.t, r.dir, step.Run, env...)
		r.log.WriteString(out)
		r.steps[step.ID] = outputsIn(r.t, output)
		if code != exitDone {
			r.t.Logf("%s: %d\n%s", step.Name, code, out)
			return code
		}
	}
	return code
}

func outputsIn(t *testing.T, file string) map[string]string {
	t.Helper()
	all := map[string]string{}
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return all
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		k, v, ok := strings.Cut(lines.Text(), "=")
		if !ok {
			t.Errorf("output %q", lines.Text())
		}
		all[k] = v
	}
	return all
}

func gitHubAction(t *testing.T, dir string, inputs map[string]string, env ...string) *actionRun {
	t.Helper()
	r := &actionRun{t: t, dir: dir, temp: t.TempDir(), inputs: inputs, env: env}
	readYAML(t, pieces+"github/action.yml", &r.action)
	if r.action.Runs.Using != "composite" {
		t.Errorf("it runs using %q", r.action.Runs.Using)
	}
	return r
}

func TestGitHubAction(t *testing.T) {
	for _, tc := range []struct {
		name    string
		inputs  map[string]string
		code    int
		files   []string
		verdict string
	}{
		{"image", map[string]string{"image": "archive:app.tar"}, exitViolated, []string{"castellan/sarif/image.sarif", "castellan/image.xml", "castellan/image.json", "castellan/image.html", "summary.md"}, "failed"},
		{"template", map[string]string{"path": ".", "reports": "my reports"}, exitViolated, []string{"my reports/sarif/iac.sarif", "my reports/iac.xml", "my reports/iac.json", "my reports/iac.html", "summary.md"}, "failed"},
		{"both are scanned though the first fails", map[string]string{"path": "task.json\nold.tar", "image": "archive:app.tar"}, exitViolated, []string{"castellan/sarif/iac.sarif", "castellan/sarif/image.sarif"}, "failed"},
		{"told, not failed", map[string]string{"path": ".", "fail": "false"}, exitDone, []string{"castellan/sarif/iac.sarif"}, "failed"},
		{"nothing demanded", map[string]string{"path": ".", "fail-on": ""}, exitDone, nil, "none"},
		{"passes", map[string]string{"path": ".", "fail-on": "critical"}, exitDone, nil, "passed"},
		{"path like an option", map[string]string{"path": "--help"}, exitFailed, nil, ""},
		{"image like an option", map[string]string{"image": "--help"}, exitFailed, nil, ""},
		{"hostile path", map[string]string{"path": "$(touch hacked)"}, exitFailed, nil, ""},
		{"hostile options", map[string]string{"image": "archive:app.tar", "args": "$(touch hacked)", "fail-on": "`touch hacked`"}, exitUsage, nil, ""},
		{"further options", map[string]string{"image": "archive:app.tar", "args": "--no-secrets\n--no-malware\n", "fail-on": "critical"}, exitDone, nil, "passed"},
		{"only what is new", map[string]string{"image": "archive:app.tar", "new-since": "archive:old.tar"}, exitDone, nil, "passed"},
		{"new and grave", map[string]string{"image": "archive:worse.tar", "new-since": "archive:old.tar", "fail-on": "medium"}, exitViolated, nil, "failed"},
		{"too slow", map[string]string{"image": "archive:app.tar", "timeout": "1ns"}, exitFailed, nil, ""},
		{"nothing to scan", nil, exitFailed, nil, ""},
		{"no such program", map[string]string{"path": ".", "castellan": "castellan-that-is-not-there"}, exitFailed, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := workspace(t)
			r := gitHubAction(t, dir, tc.inputs)
			if code := r.run(); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			reads(t, dir, tc.files...)
			if got := r.text(r.action.Outputs["verdict"].Value); got != tc.verdict {
				t.Errorf("verdict %q, want %q", got, tc.verdict)
			}
			if _, err := os.Stat(filepath.Join(dir, "hacked")); err == nil {
				t.Error("what was given was executed")
			}
		})
	}
}

// What is said of a run is in its outputs, its annotations and its summary; what an
// image or a document says is no command to the runner.
func TestGitHubActionTells(t *testing.T) {
	dir := workspace(t)
	if err := os.WriteFile(filepath.Join(dir, "evil.json"), []byte(`{"family": "::error::owned\n::add-mask::x", "pidMode": "host", "containerDefinitions": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := gitHubAction(t, dir, map[string]string{"path": ".", "image": "archive:app.tar", "category": "nightly"})
	r.run()
	for output, want := range map[string]string{"verdict": "failed", "secrets": "1", "malware": "0", "vulnerabilities": "0", "critical": "0", "sarif": "castellan/sarif", "reports": "castellan"} {
		if got := r.text(r.action.Outputs[output].Value); got != want {
			t.Errorf("output %s is %q, want %q", output, got, want)
		}
	}
	for output := range r.action.Outputs {
		if got := r.text(r.action.Outputs[output].Value); got == "" {
			t.Errorf("output %s is empty", output)
		}
	}
	said := r.log.String()
	if !strings.Contains(said, "::error file=task.json,line=1,title=CAST-TASK-003 ") {
		t.Errorf("no annotation of the line:\n%s", said)
	}
	word := regexp.MustCompile(`::stop-commands::(castellan-[0-9a-f]{32})\n`).FindAllStringSubmatch(said, -1)
	if len(word) != 2 || word[0][1] == word[1][1] {
		t.Fatalf("commands are stopped by %v, want two words", word)
	}
	for _, w := range word {
		_, after, _ := strings.Cut(said, "::stop-commands::"+w[1]+"\n")
		report, _, ok := strings.Cut(after, "\n::"+w[1]+"::\n")
		if !ok || !strings.Contains(report, "failed: nothing high or worse") {
			t.Errorf("the report is not between the words:\n%s", said)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "summary.md"))
	if err != nil || strings.Count(string(b), "\n## ")+1 < 2 {
		t.Errorf("summary: %v\n%s", err, b)
	}
	for _, kind := range []string{"iac", "image"} {
		b, err := os.ReadFile(filepath.Join(dir, "castellan", "sarif", kind+".sarif"))
		if err != nil || !strings.Contains(string(b), `"id": "nightly/`+kind+`/`) {
			t.Errorf("%s.sarif has another category: %v", kind, err)
		}
	}
}

// Of a pull request only what it brings counts.
func TestGitHubActionOnlyNew(t *testing.T) {
	need.Program(t, "git", "apt-get install git")
	origin := workspace(t)
	git := `git -c user.name=a -c user.email=a@example.org -c init.defaultBranch=main -c commit.gpgsign=false `
	dir := t.TempDir()
	code, out := shell(t, origin, git+`init -q && printf 'curl https://shop:Tr0ub4dor%%263xK9@old.internal/x\n' > old.sh && git add task.json old.sh && `+git+`commit -qm one && git clone -q . "$CLONE" && cd "$CLONE" && git checkout -qb side`, "CLONE="+dir)
	if code != 0 {
		t.Fatalf("%d\n%s", code, out)
	}
	inputs := map[string]string{"path": ".\nadded", "git": ".", "only-new": "true", "fail-on": "medium"}
	if err := os.MkdirAll(filepath.Join(dir, "added"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := gitHubAction(t, dir, inputs, "GITHUB_BASE_REF=main")
	if code := r.run(); code != exitDone {
		t.Errorf("what was there before: %d", code)
	}
	code, out = shell(t, dir, `printf '{"family": "new", "ipcMode": "host", "containerDefinitions": []}' > added/new.json && printf 'curl https://shop:Tr0ub4dor%%263xK9@new.internal/x\n' > new.sh && git add added new.sh && `+git+`commit -qm two`)
	if code != 0 {
		t.Fatalf("%d\n%s", code, out)
	}
	r = gitHubAction(t, dir, inputs, "GITHUB_BASE_REF=main")
	if code := r.run(); code != exitViolated {
		t.Errorf("what is new: %d", code)
	}
	said := r.log.String()
	if !strings.Contains(said, "added/new.json") || strings.Contains(said, "file=task.json") || !strings.Contains(said, "new.sh:1") || strings.Contains(said, "old.sh:1") {
		t.Errorf("not just what is new:\n%s", said)
	}
	// Elsewhere than in a pull request everything counts.
	r = gitHubAction(t, dir, inputs)
	if r.run(); !strings.Contains(r.log.String(), "file=task.json") || !strings.Contains(r.log.String(), "old.sh:1") {
		t.Errorf("outside of a pull request:\n%s", r.log.String())
	}
	r = gitHubAction(t, dir, inputs, "GITHUB_BASE_REF=none")
	if code := r.run(); code != exitFailed || !strings.Contains(r.log.String(), "only-new needs the base branch none") {
		t.Errorf("a base that is not there: %d\n%s", code, r.log.String())
	}
}

// The program is taken from where the user says, if it is the one that the user
// knows.
func TestGitHubActionGetsTheProgram(t *testing.T) {
	need.Program(t, "curl", "apt-get install curl")
	program := []byte("#!/bin/sh\nexec castellan \"$@\"\n")
	sum := sha256.Sum256(program)
	known := hex.EncodeToString(sum[:])
	mux := http.NewServeMux()
	mux.HandleFunc("/castellan", func(w http.ResponseWriter, _ *http.Request) { w.Write(program) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/castellan", http.StatusFound)
	})
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	dir := workspace(t)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), program, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := shell(t, dir, `mkdir p && cp program p/castellan && tar -czf release.tar.gz -C p castellan`); code != 0 {
		t.Fatal(out)
	}
	packed, err := os.ReadFile(filepath.Join(dir, "release.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	archive := sha256.Sum256(packed)
	for _, tc := range []struct {
		name, from, sum, want string
		code                  int
	}{
		{"fetched", srv.URL + "/castellan", known, "castellan dev", exitDone},
		{"a file", "program", known, "castellan dev", exitDone},
		{"an archive", "release.tar.gz", hex.EncodeToString(archive[:]), "castellan dev", exitDone},
		{"another one", srv.URL + "/castellan", strings.Repeat("0", 64), "has SHA-256 " + known, exitFailed},
		{"not said which", srv.URL + "/castellan", "", "needs the input sha256", exitFailed},
		{"a file, not said which", "program", "", "needs the input sha256", exitFailed},
		{"in the clear", "http://127.0.0.1/castellan", known, "by https:// only", exitFailed},
		{"sent on in the clear", srv.URL + "/away", known, "could not fetch", exitFailed},
		{"not there", srv.URL + "/none", known, "could not fetch", exitFailed},
		{"nothing of the kind", "castellan:latest", known, "neither https://, a file, nor an image", exitFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := gitHubAction(t, dir, map[string]string{"path": ".", "fail-on": "critical", "from": tc.from, "sha256": tc.sum}, "CURL_CA_BUNDLE="+ca)
			if code := r.run(); code != tc.code || !strings.Contains(r.log.String(), tc.want) {
				t.Errorf("exit code %d, want %d; said, want %q:\n%s", code, tc.code, tc.want, r.log.String())
			}
		})
	}
}

// Of an image, named by its digest, the program is copied without being run in it.
func TestGitHubActionTakesTheProgramOfAnImage(t *testing.T) {
	dir := workspace(t)
	bin := t.TempDir()
	// docker stands for the engine: the image has the program at the second place.
	docker := `#!/bin/sh
case $1 in
create) [ "$3" = "registry.example/castellan@sha256:$DIGEST" ] && echo container-7 ;;
cp) case $4 in container-7:/usr/local/bin/castellan) printf '#!/bin/sh\nexec castellan "$@"\n' > "$5" ;; *) exit 1 ;; esac ;;
rm) echo "removed $3" >> "$REMOVED" ;;
*) exit 9 ;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(docker), 0o755); err != nil {
		t.Fatal(err)
	}
	digest, removed := strings.Repeat("ab", 32), filepath.Join(bin, "removed")
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "DIGEST=" + digest, "REMOVED=" + removed}
	r := gitHubAction(t, dir, map[string]string{"path": ".", "fail-on": "critical", "from": "registry.example/castellan@sha256:" + digest}, env...)
	if code := r.run(); code != exitDone || !strings.Contains(r.log.String(), "castellan dev") {
		t.Errorf("exit code %d\n%s", code, r.log.String())
	}
	if b, err := os.ReadFile(removed); err != nil || string(b) != "removed container-7\n" {
		t.Errorf("the container is left behind: %q, %v", b, err)
	}
	r = gitHubAction(t, dir, map[string]string{"path": ".", "from": "registry.example/other@sha256:" + digest}, env...)
	if code := r.run(); code != exitFailed || !strings.Contains(r.log.String(), "could not get the image") {
		t.Errorf("another image: exit code %d\n%s", code, r.log.String())
	}
}

// A registry that asks who is there is told so, and nobody else.
func TestGitHubActionEntersRegistry(t *testing.T) {
	dir := workspace(t)
	inner := registry.New(registry.Logger(log.New(testWriter{t}, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "ci" || password != "s3cret-pw" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	img, err := tarball.ImageFromPath(filepath.Join(dir, "app.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host + "/shop:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remotely.Write(ref, img, remotely.WithAuth(&authn.Basic{Username: "ci", Password: "s3cret-pw"})); err != nil {
		t.Fatal(err)
	}
	inputs := map[string]string{"image": "registry:" + host + "/shop:1", "registry": host, "registry-user": "ci", "registry-password": "s3cret-pw"}
	r := gitHubAction(t, dir, inputs)
	if code := r.run(); code != exitViolated {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(r.log.String(), "s3cret-pw") {
		t.Error("the password is in the log")
	}
	delete(inputs, "registry")
	r = gitHubAction(t, dir, inputs)
	if code := r.run(); code != exitFailed || !strings.Contains(r.log.String(), "set all three") {
		t.Errorf("a password that is for no registry: %d\n%s", code, r.log.String())
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// Advisories are fetched where the user says; those of an earlier day do, too.
func TestGitHubActionFetchesAdvisories(t *testing.T) {
	dir := workspace(t)
	layout := "oci:" + filepath.Join(dir, "advisories") + ":today"
	if code, out := shell(t, dir, `castellan scan db export "$TO"`, "TO="+layout); code != 0 {
		t.Fatal(out)
	}
	r := gitHubAction(t, dir, map[string]string{"image": "archive:app.tar", "advisories": layout, "fail-on": "critical"})
	if code := r.run(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(r.temp, "castellan-data", "advisories.db")); err != nil {
		t.Error(err)
	}
	r.inputs["advisories"] = "oci:" + filepath.Join(dir, "nowhere")
	if code := r.run(); code != exitDone || !strings.Contains(r.log.String(), "::warning title=Castellan::advisories could not be fetched") {
		t.Errorf("those of an earlier day: %d\n%s", code, r.log.String())
	}
	for given, want := range map[string]string{r.inputs["advisories"]: "there are none of an earlier day", "ftp://x": "the input advisories wants"} {
		r := gitHubAction(t, dir, map[string]string{"image": "archive:app.tar", "advisories": given})
		if code := r.run(); code != exitFailed || !strings.Contains(r.log.String(), want) {
			t.Errorf("%s: %d, want %q\n%s", given, code, want, r.log.String())
		}
	}
}

// What the documentation shows of the action is what the action has.
func TestGitHubActionAsDocumented(t *testing.T) {
	r := gitHubAction(t, t.TempDir(), nil)
	b, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	var missing []string
	for name := range r.action.Inputs {
		if !strings.Contains(text, "`"+name+"`") {
			missing = append(missing, name)
		}
	}
	for name := range r.action.Outputs {
		if !strings.Contains(text, "`"+name+"`") {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("docs/ci.md does not name %q", missing)
	}
}
