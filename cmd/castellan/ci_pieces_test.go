package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/castellan-security/castellan/internal/need"
)

// gitLabJob is a job of GitLab, as far as ours are one.
type gitLabJob struct {
	Script       []string
	BeforeScript []string `json:"before_script"`
	Extends      string
	Variables    map[string]string
	Artifacts    struct {
		Paths   []string
		Reports map[string]string
	}
}

// gitLab are the jobs and variables of the template.
func gitLab(t *testing.T) (map[string]gitLabJob, []string) {
	t.Helper()
	var variables struct{ Variables map[string]string }
	readYAML(t, pieces+"gitlab/castellan.gitlab-ci.yml", &variables)
	b, err := os.ReadFile(pieces + "gitlab/castellan.gitlab-ci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "variables")
	if b, err = yaml.Marshal(all); err != nil {
		t.Fatal(err)
	}
	var jobs map[string]gitLabJob
	if err := yaml.Unmarshal(b, &jobs); err != nil {
		t.Fatal(err)
	}
	var env []string
	for k, v := range variables.Variables {
		env = append(env, k+"="+os.Expand(v, func(string) string { return "" }))
	}
	return jobs, env
}

// runGitLab runs a job as a runner does whose image has no more than sh.
func runGitLab(t *testing.T, job string, dir string, env ...string) (int, string) {
	t.Helper()
	jobs, variables := gitLab(t)
	for k, v := range jobs[job].Variables {
		variables = append(variables, k+"="+os.Expand(v, func(string) string { return "" }))
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(strings.Join(append(jobs[jobs[job].Extends].BeforeScript, jobs[job].Script...), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return shell(t, dir, "exec sh -eu "+script, append(append(variables, "CASTELLAN_IMAGE=archive:app.tar"), env...)...)
}

// withCommits makes a workspace a repository, with a secret that a commit brings.
func withCommits(t *testing.T, dir string) (base string) {
	t.Helper()
	need.Program(t, "git", "apt-get install git")
	code, out := shell(t, dir, `git init -q && git config user.name a && git config user.email a@example.org && git config commit.gpgsign false && git remote add origin "$PWD" &&
		git add task.json && git commit -qm one && printf 'curl https://shop:Tr0ub4dor%%263xK9@repo.internal/x\n' > deploy.sh && git add deploy.sh && git commit -qm two && git rev-parse HEAD~1`)
	if code != 0 {
		t.Fatal(out)
	}
	return strings.TrimSpace(out)
}

func TestGitLabTemplate(t *testing.T) {
	jobs, _ := gitLab(t)
	for job, files := range map[string][]string{
		"castellan-templates": {"castellan/iac.xml", "castellan/iac.sarif", "castellan/iac.json", "castellan/iac.html", "castellan/iac.quality.json"},
		"castellan-image":     {"castellan/image.xml", "castellan/image.sarif", "castellan/image.json", "castellan/image.html", "castellan/image.vulnerabilities.json", "castellan/image.secrets.json", "castellan/image.quality.json"},
		"castellan-secrets":   {"castellan/git.xml", "castellan/git.sarif", "castellan/git.json", "castellan/git.html", "castellan/git.secrets.json", "castellan/git.quality.json"},
	} {
		t.Run(job, func(t *testing.T) {
			dir := workspace(t)
			if job == "castellan-secrets" {
				withCommits(t, dir)
			}
			if code, out := runGitLab(t, job, dir); code != exitViolated {
				t.Errorf("exit code %d\n%s", code, out)
			}
			reads(t, dir, files...)
			for kind, file := range jobs[job].Artifacts.Reports {
				b, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					t.Errorf("report %s: %v", kind, err)
				}
				want := map[string]string{"container_scanning": `"type": "container_scanning"`, "secret_detection": `"type": "secret_detection"`, "codequality": `"check_name"`, "junit": "<testsuites", "dotenv": "CASTELLAN_VERDICT=failed"}[kind]
				if want == "" || !strings.Contains(string(b), want) {
					t.Errorf("report %s, %s, lacks %q:\n%.300s", kind, file, want, b)
				}
			}
			if job != "castellan-secrets" {
				if code, out := runGitLab(t, job, dir, "CASTELLAN_PATH=--help", "CASTELLAN_IMAGE=--help"); code != exitFailed {
					t.Errorf("of --help: exit code %d\n%s", code, out)
				}
			}
			if code, out := runGitLab(t, job, dir, "CASTELLAN_FAIL_ON="); code != exitDone {
				t.Errorf("nothing demanded: exit code %d\n%s", code, out)
			}
		})
	}
}

// In a merge request only what it brings counts, if that is wanted.
func TestGitLabOnlyNew(t *testing.T) {
	dir := workspace(t)
	base := withCommits(t, dir)
	request := []string{"CI_MERGE_REQUEST_DIFF_BASE_SHA=" + base, "CASTELLAN_ONLY_NEW=true", "CASTELLAN_FAIL_ON=medium"}
	if code, out := runGitLab(t, "castellan-templates", dir, request...); code != exitDone {
		t.Errorf("templates that were there: %d\n%s", code, out)
	}
	if code, out := runGitLab(t, "castellan-secrets", dir, request...); code != exitViolated || !strings.Contains(out, "(1 commit, 1 content)") {
		t.Errorf("a secret that is new: %d\n%s", code, out)
	}
	request[0] = "CI_MERGE_REQUEST_DIFF_BASE_SHA=HEAD"
	if code, out := runGitLab(t, "castellan-secrets", dir, request...); code != exitDone {
		t.Errorf("a secret that was there: %d\n%s", code, out)
	}
	if code, out := runGitLab(t, "castellan-templates", dir, append(request, "CASTELLAN_PATH=new.json")...); code != exitFailed {
		t.Errorf("a path that is nowhere: %d\n%s", code, out)
	}
}

func TestGitLabAdvisories(t *testing.T) {
	dir := workspace(t)
	layout := "oci:" + filepath.Join(dir, "advisories") + ":today"
	if code, out := shell(t, dir, `castellan scan db export "$TO"`, "TO="+layout); code != 0 {
		t.Fatal(out)
	}
	for _, given := range []string{layout, "oci:" + filepath.Join(dir, "nowhere")} { // the second day
		if code, out := runGitLab(t, "castellan-image", dir, "CASTELLAN_ADVISORIES="+given, "CASTELLAN_FAIL_ON="); code != exitDone {
			t.Errorf("%s: %d\n%s", given, code, out)
		}
	}
	if code, _ := runGitLab(t, "castellan-image", workspace(t), "CASTELLAN_ADVISORIES=oci:nowhere", "CASTELLAN_FAIL_ON="); code != exitFailed {
		t.Errorf("without any: %d", code)
	}
}

func TestCodeBuildSpec(t *testing.T) {
	var spec struct {
		Env     struct{ Variables map[string]string }
		Phases  map[string]struct{ Commands []string }
		Reports map[string]struct {
			Files         []string
			BaseDirectory string `json:"base-directory"`
		}
	}
	readYAML(t, pieces+"codebuild/buildspec.yml", &spec)
	env := []string{}
	for k, v := range spec.Env.Variables {
		env = append(env, k+"="+v)
	}
	env = append(env, "CASTELLAN_IMAGE=archive:app.tar", "CODEBUILD_BUILD_SUCCEEDING=1")
	dir := workspace(t)
	withCommits(t, dir)
	run := func(dir, phase string, env ...string) (int, string) {
		commands := spec.Phases[phase].Commands
		if phase == "post_build" { // but the push
			commands = commands[:len(commands)-1]
		}
		return shell(t, dir, strings.Join(commands, "\n"), env...)
	}
	for phase, files := range map[string][]string{
		"pre_build":  {"castellan/iac.xml", "castellan/iac.sarif", "castellan/iac.json", "castellan/git.xml", "castellan/git.sarif"},
		"post_build": {"castellan/image.xml", "castellan/image.sarif", "castellan/image.json", "castellan/image.html"},
	} {
		if phase == "post_build" {
			if err := os.MkdirAll(filepath.Join(dir, "castellan"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if code, out := run(dir, phase, env...); code != exitViolated && (phase != "pre_build" || code != 1) {
			t.Errorf("%s: exit code %d\n%s", phase, code, out)
		}
		reads(t, dir, files...)
		if code, out := run(dir, phase, append(env, "CASTELLAN_FAIL_ON=")...); code != exitDone {
			t.Errorf("%s, nothing demanded: exit code %d\n%s", phase, code, out)
		}
	}
	// Sources of CodePipeline have no commits.
	bare := workspace(t)
	if code, out := run(bare, "pre_build", append(env, "CASTELLAN_FAIL_ON=", "GIT_CEILING_DIRECTORIES="+filepath.Dir(bare))...); code != exitDone {
		t.Errorf("without commits: exit code %d\n%s", code, out)
	}
	r := spec.Reports["castellan"]
	kept, err := filepath.Glob(filepath.Join(dir, r.BaseDirectory, r.Files[0]))
	if err != nil || len(kept) != 3 {
		t.Errorf("%v: the report group takes %v, want three", err, kept)
	}
	if code, out := run(dir, "post_build", append(env, "CODEBUILD_BUILD_SUCCEEDING=0")...); code == exitDone {
		t.Errorf("a build that failed is scanned and pushed\n%s", out)
	}
}

// commitHook is one of pre-commit.
type commitHook struct {
	ID, Entry, Files, Language string
	Args                       []string
}

func TestPreCommitHooks(t *testing.T) {
	var hooks []commitHook
	readYAML(t, "../../.pre-commit-hooks.yaml", &hooks)
	by := map[string]commitHook{}
	for _, h := range hooks {
		by[h.ID] = h
	}
	files := regexp.MustCompile(by["castellan-iac"].Files)
	for name, want := range map[string]bool{"infra/main.tf": true, "Dockerfile": true, "app/Dockerfile.prod": true, "compose.yaml": true, "task.json": true, "main.go": false, "web.Dockerfile": true, "README.md": false} {
		if got := files.MatchString(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	dir := workspace(t)
	withCommits(t, dir)
	run := func(id string, files ...string) (int, string) {
		return shell(t, dir, by[id].Entry+" "+strings.Join(append(by[id].Args, files...), " "))
	}
	// Only what is committed is looked at: task.json is another's.
	if code, out := shell(t, dir, `printf 'FROM debian:12\nUSER 1000\n' > Dockerfile`); code != 0 {
		t.Fatal(out)
	}
	if code, out := run("castellan-iac", "Dockerfile"); code != exitDone || strings.Contains(out, "task.json") {
		t.Errorf("one file: %d\n%s", code, out)
	}
	if code, out := run("castellan-iac", "Dockerfile", "task.json"); code != exitViolated || !strings.Contains(out, "CAST-TASK-003") {
		t.Errorf("both: %d\n%s", code, out)
	}
	if code, out := run("castellan-secrets"); code != exitDone || !strings.Contains(out, "staged, 0 contents") {
		t.Errorf("nothing staged: %d\n%s", code, out)
	}
	if code, out := shell(t, dir, `cp deploy.sh again.sh && git add again.sh`); code != 0 {
		t.Fatal(out)
	}
	if code, out := run("castellan-secrets"); code != exitViolated || !strings.Contains(out, "/again.sh:1") {
		t.Errorf("a secret is staged: %d\n%s", code, out)
	}
}

// pre-commit itself runs the hooks as a user configures them.
func TestPreCommitRunsThem(t *testing.T) {
	need.Program(t, "pre-commit", "apt-get install pre-commit")
	hooks, dir := t.TempDir(), workspace(t)
	b, err := os.ReadFile("../../.pre-commit-hooks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hooks, ".pre-commit-hooks.yaml"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	git := "git -c user.name=a -c user.email=a@example.org -c commit.gpgsign=false "
	if code, out := shell(t, hooks, "git init -q && git add . && "+git+"commit -qm hooks && git tag v1"); code != 0 {
		t.Fatal(out)
	}
	withCommits(t, dir)
	config, err := json.Marshal(map[string]any{"repos": []any{map[string]any{"repo": hooks, "rev": "v1", "hooks": []any{map[string]any{"id": "castellan-iac"}, map[string]any{"id": "castellan-secrets"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".pre-commit-config.yaml"), config, 0o600); err != nil { // JSON is YAML
		t.Fatal(err)
	}
	home := "PRE_COMMIT_HOME=" + t.TempDir()
	code, out := shell(t, dir, "pre-commit install && git add .pre-commit-config.yaml && git commit -m hooks", home)
	if code != 0 {
		t.Fatalf("nothing is wrong, and it is not committed: %d\n%s", code, out)
	}
	code, out = shell(t, dir, "cp task.json other.json && cp deploy.sh again.sh && git add other.json again.sh && git commit -m wrong", home)
	if code == 0 || !strings.Contains(out, "CAST-TASK-003") || !strings.Contains(out, "/again.sh:1") || strings.Contains(out, "Tr0ub4dor") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// The scripts have none of the mistakes that ShellCheck knows.
func TestScriptsOfPieces(t *testing.T) {
	need.Program(t, "shellcheck", "apt-get install shellcheck")
	if code, out := shell(t, pieces+"github", "shellcheck --exclude=SC1091 *.sh"); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
