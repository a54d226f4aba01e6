package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/need"
)

// stubs stand for Jenkins: its step sh runs, the others tell what they were given.
// One machine of Java serves all cases, for it takes seconds to start.
const stubs = `
for (int i = 1; i < args.length; i += 2) {
    def script = new GroovyShell().parse(new File(args[0]))
    def said = { String s -> System.out.println(s) }
    def folder = new File(args[i])
    def environment = [BUILD_TAG: 'jenkins-shop-7']
    said '=== ' + args[i]
    script.metaClass.isUnix = { -> !args[i + 1].contains('WINDOWS') }
    script.metaClass.sh = { Map m ->
        if (m.script.contains('s3cret')) {
            throw new RuntimeException('a secret is in the command')
        }
        def builder = new ProcessBuilder('sh', '-xe', '-c', m.script).directory(folder).redirectErrorStream(true)
        builder.environment().putAll(environment)
        def p = builder.start()
        said p.inputStream.text
        p.waitFor()
    }
    script.metaClass.usernamePassword = { Map m -> [(m.usernameVariable): m.credentialsId + '-user', (m.passwordVariable): 's3cret'] }
    script.metaClass.string = { Map m -> [(m.variable): 's3cret-s3cret-s3cret'] }
    script.metaClass.withCredentials = { List bindings, Closure body ->
        for (b in bindings) { environment.putAll(b) }
        body()
        said 'BOUND ' + bindings.collectMany { it.keySet() }.join(' ')
        for (b in bindings) { for (k in b.keySet()) { environment.remove(k) } }
    }
    script.metaClass.withEnv = { List more, Closure body ->
        for (m in more) { environment.putAll([(m.toString().split('=', 2)[0]): m.toString().split('=', 2)[1]]) }
        said 'ENV ' + more.join(' ')
        body()
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
        said 'ISSUES ' + m.tool.id + ' ' + m.tool.pattern + ' ' + (m.qualityGates ?: '')
    }
    script.metaClass.junit = { Map m -> throw new NoSuchMethodError('junit') }
    def names = [] as Set
    script.metaClass.publishHTML = { Map m ->
        if (!names.add(m.target.reportName)) {
            throw new RuntimeException("${m.target.reportName} takes the place of another report")
        }
        said 'HTML ' + m.target.reportDir + ' as ' + m.target.reportName
    }
    for (given in [evaluate(args[i + 1])].flatten()) {
        try {
            said 'HOLDS ' + script.call(given)
        } catch (RuntimeException e) {
            said e.message
        }
    }
}
`

// jenkinsCase is what a pipeline does, and what is then said and written.
type jenkinsCase struct {
	name, given string
	want, never []string
	files       []string
}

func jenkinsCases() []jenkinsCase {
	return []jenkinsCase{
		{name: "image", given: "[image: 'archive:app.tar']", want: []string{"ERROR castellan: archive:app.tar violates the policy", "ARCHIVE castellan/app.tar/report.*,castellan/app.tar/junit.xml",
			"ISSUES castellan-app.tar castellan/app.tar/report.sarif", "HTML castellan/app.tar as Castellan app.tar", "ECHO castellan: the plugin JUnit is not installed"},
			files: []string{"castellan/app.tar/report.sarif", "castellan/app.tar/junit.xml", "castellan/app.tar/report.html", "castellan/app.tar/report.json"}},
		{name: "all in one build", given: "[[paths: '.', onViolation: 'UNSTABLE'], [image: 'archive:app.tar', onViolation: 'SUCCESS'], [git: '.']]",
			want:  []string{"UNSTABLE castellan: . violates", "ECHO castellan: archive:app.tar violates", "HOLDS false", "ISSUES castellan-iac castellan/iac/report.sarif", "ISSUES castellan-app.tar ", "HTML castellan/iac as Castellan iac"},
			files: []string{"castellan/iac/report.sarif", "castellan/iac/junit.xml", "castellan/app.tar/report.sarif", "castellan/app.tar/junit.xml"}},
		{name: "commits", given: "[git: '.', failOn: 'medium', onViolation: 'UNSTABLE', name: 'commits']", want: []string{"UNSTABLE castellan: the commits of . violates", "ISSUES castellan-commits castellan/commits/report.sarif"},
			files: []string{"castellan/commits/report.sarif"}},
		{name: "twice in one build", given: "[[image: 'archive:app.tar', failOn: ''], [image: 'archive:app.tar'], [image: 'archive:app.tar', name: 'second', failOn: '']]",
			want: []string{"HOLDS true", "ERROR castellanScan: castellan/app.tar has the reports of another scan of this build", "ISSUES castellan-second castellan/second/report.sarif"}},
		{name: "again after a failure", given: "[[image: 'archive:none.tar', name: 'shop'], [image: 'archive:app.tar', name: 'shop', failOn: '']]", want: []string{"ERROR castellan could not scan archive:none.tar: exit code 1", "HOLDS true"}},
		{name: "templates, as it was called before", given: "[paths: ['task.json', 'app.tar'], failOn: 'medium', unstable: true, reports: \"it's here\"]",
			want:  []string{"UNSTABLE castellan: task.json, app.tar violates", "HOLDS false", "ISSUES castellan-iac-task.json-app.tar it's here/report.sarif"},
			files: []string{"it's here/report.sarif", "it's here/junit.xml"}},
		{name: "nothing fails", given: "[paths: ['task.json'], failOn: '']", want: []string{"HOLDS true"}},
		{name: "archived alone", given: "[paths: ['task.json'], failOn: '', publish: false]", want: []string{"HOLDS true", "ARCHIVE castellan/iac-task.json/"}, never: []string{"ISSUES", "HTML"}},
		{name: "quality gates", given: "[paths: ['task.json'], failOn: '', issues: [qualityGates: [[threshold: 1, type: 'NEW']]]]", want: []string{"ISSUES castellan-iac-task.json castellan/iac-task.json/report.sarif [[threshold:1, type:NEW]]"}},
		{name: "credentials", given: "[image: 'archive:app.tar', credentials: 'ecr', registry: 'registry.example', saltFrom: 'salt', failOn: '']",
			want: []string{"ENV CASTELLAN_REGISTRY_HOST=registry.example", "BOUND CASTELLAN_REGISTRY_USER CASTELLAN_REGISTRY_PASSWORD CASTELLAN_SECRET_SALT", "HOLDS true"}, never: []string{"s3cret"}},
		{name: "credentials for anybody", given: "[image: 'a', credentials: 'ecr']", want: []string{"ERROR castellanScan: credentials and registry go together"}},
		{name: "further options", given: "[image: 'archive:app.tar', args: ['--no-secrets', '--no-malware'], timeout: '5m', platform: 'linux/amd64', failOn: 'critical']", want: []string{"HOLDS true"}},
		{name: "too slow", given: "[image: 'archive:app.tar', timeout: '1ns']", want: []string{"ERROR castellan could not scan archive:app.tar: exit code 1"}},
		{name: "hostile", given: "[image: \"archive:\\$(touch hacked)'; touch hacked; '\"]", want: []string{"could not scan archive:"}},
		{name: "hostile folder", given: "[paths: ['task.json'], reports: '$(touch hacked)', name: '`touch hacked`', failOn: '']", want: []string{"HOLDS true"}},
		{name: "like an option", given: "[paths: ['--help']]", want: []string{"ERROR castellan could not scan --help: exit code 1"}},
		{name: "image like an option", given: "[image: '--help']", want: []string{"ERROR castellan could not scan --help: exit code 1"}},
		{name: "mistyped", given: "[image: 'a', failsOn: 'high']", want: []string{"ERROR castellanScan: unknown failsOn"}},
		{name: "mistyped word", given: "[image: 'a', onViolation: 'warn']", want: []string{"ERROR castellanScan: onViolation warn: want FAILURE, UNSTABLE or SUCCESS"}},
		{name: "nothing given", given: "[:]", want: []string{"ERROR castellanScan: give one of image, paths and git"}},
		{name: "two given", given: "[image: 'a', git: '.']", want: []string{"ERROR castellanScan: give one of image, paths and git"}},
		{name: "elsewhere", given: "[image: 'WINDOWS']", want: []string{"ERROR castellanScan: the agent must be one of Linux or macOS"}},
	}
}

// The shared library runs castellan with what it is given, publishes, and stops
// the build; a plugin that is not there is told.
func TestJenkinsLibrary(t *testing.T) {
	need.Program(t, "groovy", "apt-get install groovy")
	need.Program(t, "git", "apt-get install git")
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
	cases := jenkinsCases()
	words := []string{harness, library}
	dirs := make([]string, len(cases))
	for i, tc := range cases {
		dirs[i] = workspace(t)
		words = append(words, dirs[i], tc.given)
		if strings.Contains(tc.given, "git:") {
			script := `printf 'curl https://shop:Tr0ub4dor%%263xK9@repo.internal/x\n' > deploy.sh && git init -q && git add deploy.sh && git -c user.name=a -c user.email=a@example.org -c commit.gpgsign=false commit -qm one`
			if code, out := shell(t, dirs[i], script); code != 0 {
				t.Fatal(out)
			}
		}
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
			_, said, _ := strings.Cut(out, "=== "+dirs[i]+"\n")
			said, _, _ = strings.Cut(said, "=== ")
			for _, w := range tc.want {
				if !strings.Contains(said, w) {
					t.Errorf("lacks %q:\n%s", w, said)
				}
			}
			for _, w := range tc.never {
				if strings.Contains(said, w) {
					t.Errorf("has %q:\n%s", w, said)
				}
			}
			reads(t, dirs[i], tc.files...)
			if _, err := os.Stat(filepath.Join(dirs[i], "hacked")); err == nil {
				t.Error("what was given was executed")
			}
		})
	}
}

// What the documentation shows of the library is what the library has.
func TestJenkinsLibraryAsDocumented(t *testing.T) {
	b, err := os.ReadFile(pieces + "jenkins/vars/castellanScan.groovy")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(b), "*/")
	_, options, _ := strings.Cut(string(b), "Map o = [")
	options, _, _ = strings.Cut(options, "]\n    def unknown")
	for _, o := range strings.Split(strings.Join(strings.Fields(options), " "), ", ") {
		name, _, ok := strings.Cut(o, ":")
		if !ok || !strings.Contains(head, " * "+name+" ") {
			t.Errorf("option %q is not explained", name)
		}
	}
}
