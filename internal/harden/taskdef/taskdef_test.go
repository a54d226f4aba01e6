package taskdef_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/harden/taskdef"
	"github.com/castellan-security/castellan/internal/profile"
)

func app() profile.Profile {
	return profile.Profile{
		Group:       "shop/web/app",
		Executables: []profile.Executable{{Path: "/app/server", Origin: event.OriginImage, Parents: []profile.Pattern{""}, Users: []uint32{1000}}},
	}
}

func writes(paths ...profile.Pattern) profile.Profile {
	p := app()
	for _, f := range paths {
		p.Writes = append(p.Writes, profile.File{Path: f})
	}
	return p
}

// seen is a profile all of whose writes were seen.
func seen(p profile.Profile) profile.Profile {
	for i := range p.Writes {
		p.Writes[i].Evidence = profile.Evidence{Source: profile.Learned, Count: 3}
	}
	return p
}

// places are where folders in memory are.
func places(tmpfs any) string {
	var list []string
	for _, item := range tmpfs.([]any) {
		list = append(list, item.(map[string]any)["containerPath"].(string))
	}
	return strings.Join(list, " ")
}

// task wraps the members of a container.
func task(kind, members string) string {
	return fmt.Sprintf("{\n  \"requiresCompatibilities\": [%q],\n  \"containerDefinitions\": [\n    {\n      \"name\": \"app\",\n      %s\"image\": \"x\"\n    }\n  ]\n}\n", kind, members)
}

// hardened returns the container of a hardened task definition.
func hardened(t *testing.T, document string, p profile.Profile, o taskdef.Options) (map[string]any, taskdef.Result) {
	t.Helper()
	r, err := taskdef.Harden([]byte(document), &p, o)
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ ContainerDefinitions []map[string]any }
	if err := json.Unmarshal([]byte(r.Document), &d); err != nil {
		t.Fatal(err)
	}
	return d.ContainerDefinitions[0], r
}

func notes(r taskdef.Result, e intent.Effect, about string) bool {
	return slices.ContainsFunc(r.Notes, func(n intent.Note) bool { return n.Effect == e && strings.Contains(n.About, about) })
}

func TestWhatTheProfileMakesOfATaskDefinition(t *testing.T) {
	caps := func(p profile.Profile, names ...string) profile.Profile {
		for _, n := range names {
			p.Capabilities = append(p.Capabilities, profile.Capability{Name: n})
		}
		return p
	}
	drop := func(add []any, names ...any) map[string]any {
		c := map[string]any{"drop": names}
		if add != nil {
			c["add"] = add
		}
		return c
	}
	linux := func(c map[string]any, key string) any {
		l, _ := c["linuxParameters"].(map[string]any)
		return l[key]
	}
	for _, tc := range []struct {
		name, kind, members string
		p                   profile.Profile
		got                 func(map[string]any) any
		want                any
		note                intent.Effect // that must be there, about
		about               string
	}{
		{name: "no capability", kind: "EC2", p: app(), got: func(c map[string]any) any { return linux(c, "capabilities") }, want: drop(nil, "ALL")},
		{name: "some", kind: "EC2", p: caps(app(), "CHOWN", "SYS_TIME"), got: func(c map[string]any) any { return linux(c, "capabilities") }, want: drop([]any{"CHOWN", "SYS_TIME"}, "ALL")},
		{name: "one that ECS does not have", kind: "EC2", p: caps(app(), "BPF"), got: func(c map[string]any) any { return linux(c, "capabilities") }, want: drop(nil, "ALL"), note: intent.Narrower, about: "BPF"},
		{name: "on Fargate none", kind: "FARGATE", p: app(), got: func(c map[string]any) any { return linux(c, "capabilities") }, want: drop(nil, "ALL")},
		{name: "on Fargate one of the engine's", kind: "FARGATE", p: caps(app(), "CHOWN", "SYS_PTRACE"), got: func(c map[string]any) any { return linux(c, "capabilities") },
			want: drop([]any{"SYS_PTRACE"}, "AUDIT_WRITE", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")},
		{name: "on Fargate one that can't be had", kind: "FARGATE", p: caps(app(), "SYS_TIME"), got: func(c map[string]any) any { return linux(c, "capabilities") }, want: drop(nil, "ALL"), note: intent.Narrower, about: "SYS_TIME"},
		{name: "what was added and not learned", kind: "EC2", members: `"linuxParameters": {"capabilities": {"add": ["NET_ADMIN"]}}, `, p: app(), got: func(c map[string]any) any { return linux(c, "capabilities") }, want: drop(nil, "ALL")},
		{name: "privileged", kind: "EC2", members: `"privileged": true, `, p: app(), got: func(c map[string]any) any { return c["privileged"] }, want: false, note: intent.Narrower, about: "privileged"},
		{name: "nothing is written", kind: "EC2", p: app(), got: func(c map[string]any) any { return c["readonlyRootFilesystem"] }, want: true},
		{name: "temporary on EC2", kind: "EC2", p: writes("/tmp/*"), got: func(c map[string]any) any { return linux(c, "tmpfs") },
			want: []any{map[string]any{"containerPath": "/tmp", "size": 64.0, "mountOptions": []any{"rw", "nosuid", "nodev", "noexec"}}}},
		{name: "a link that was never seen to be a folder", kind: "EC2", p: writes("/run/nginx.pid", "/var/run/nginx.pid", "/var/lock/*"), got: func(c map[string]any) any { return places(linux(c, "tmpfs")) },
			want: "/run", note: intent.Advice, about: "/var/run/nginx.pid"},
		{name: "a link alone", kind: "EC2", p: writes("/var/run/nginx.pid"), got: func(c map[string]any) any { return places(linux(c, "tmpfs")) }, want: "/var/run"},
		{name: "a folder where others have a link", kind: "EC2", p: seen(writes("/run/x.pid", "/var/run/x.pid")), got: func(c map[string]any) any { return places(linux(c, "tmpfs")) }, want: "/run /var/run"},
		{name: "what only begins like a link", kind: "EC2", p: writes("/run/x", "/var/runner/x"), got: func(c map[string]any) any { return []any{places(linux(c, "tmpfs")), len(c["mountPoints"].([]any))} }, want: []any{"/run", 1}},
		{name: "temporary on Fargate", kind: "FARGATE", p: writes("/tmp/*"), got: func(c map[string]any) any { return c["mountPoints"] },
			want: []any{map[string]any{"sourceVolume": "castellan-tmp", "containerPath": "/tmp", "readOnly": false}}, note: intent.Advice, about: "/tmp"},
		{name: "data", kind: "EC2", p: writes("/data/**", "/data/x/y", "/data/z*"), got: func(c map[string]any) any { return c["mountPoints"] },
			want: []any{map[string]any{"sourceVolume": "castellan-data", "containerPath": "/data", "readOnly": false}}},
		{name: "data that is mounted", kind: "EC2", members: `"mountPoints": [{"sourceVolume": "d", "containerPath": "/data/"}], `, p: writes("/data/**"), got: func(c map[string]any) any { return []any{c["readonlyRootFilesystem"], len(c["mountPoints"].([]any))} }, want: []any{true, 1}},
		{name: "data that is mounted read-only", kind: "EC2", members: `"mountPoints": [{"sourceVolume": "d", "containerPath": "/data", "readOnly": true}], `, p: writes("/data/**"), got: func(c map[string]any) any { return c["readonlyRootFilesystem"] }, want: true, note: intent.Narrower, about: "/data/**"},
		{name: "a file of the system", kind: "EC2", p: writes("/etc/passwd"), got: func(c map[string]any) any { return c["readonlyRootFilesystem"] }, want: nil, note: intent.Wider, about: "/etc/passwd"},
		{name: "beside the program", kind: "EC2", p: writes("/app/cache.db"), got: func(c map[string]any) any { return c["readonlyRootFilesystem"] }, want: nil, note: intent.Wider, about: "/app/cache.db"},
		{name: "what the engine mounts", kind: "EC2", p: writes("/etc/hosts", "/dev/shm/x", "/proc/*/comm"), got: func(c map[string]any) any {
			return []any{c["readonlyRootFilesystem"], c["mountPoints"], linux(c, "tmpfs")}
		}, want: []any{true, nil, nil}},
		{name: "user", kind: "EC2", p: app(), got: func(c map[string]any) any { return c["user"] }, want: "1000"},
		{name: "user that is said", kind: "EC2", members: `"user": "1000:1000", `, p: app(), got: func(c map[string]any) any { return c["user"] }, want: "1000:1000"},
		{name: "user that is another", kind: "EC2", members: `"user": "root", `, p: app(), got: func(c map[string]any) any { return c["user"] }, want: "root", note: intent.Advice, about: "user"},
		{name: "terminal", kind: "EC2", members: `"pseudoTerminal": true, "interactive": true, `, p: app(), got: func(c map[string]any) any { return []any{c["pseudoTerminal"], c["interactive"]} }, want: []any{false, false}},
		{name: "options on Fargate", kind: "FARGATE", p: app(), got: func(c map[string]any) any { return c["dockerSecurityOptions"] }, want: nil, note: intent.Advice, about: "dockerSecurityOptions"},
		{name: "options on EC2", kind: "EC2", members: `"dockerSecurityOptions": ["apparmor:old", "label:user:x"], `, p: app(), got: func(c map[string]any) any { return c["dockerSecurityOptions"] },
			want: []any{"label:user:x", "no-new-privileges", "apparmor:castellan-x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, r := hardened(t, task(tc.kind, tc.members), tc.p, taskdef.Options{Module: taskdef.AppArmor, AppArmor: "castellan-x"})
			if diff := cmp.Diff(tc.want, tc.got(c)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if tc.note != "" && !notes(r, tc.note, tc.about) {
				t.Errorf("no note that it is %s about %s: %+v", tc.note, tc.about, r.Notes)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	p := app()
	p.Limits = profile.Limits{Processes: 50, Memory: 100<<20 + 1, CPU: 500, Descriptors: 2000}
	c, r := hardened(t, task("EC2", `"ulimits": [{"name": "core", "softLimit": 0, "hardLimit": 0}, {"name": "nofile", "softLimit": 9, "hardLimit": 9}], `), p, taskdef.Options{})
	want := []any{
		map[string]any{"name": "core", "softLimit": 0.0, "hardLimit": 0.0}, map[string]any{"name": "nofile", "softLimit": 2000.0, "hardLimit": 2000.0},
	}
	if diff := cmp.Diff(want, c["ulimits"]); diff != "" {
		t.Errorf("ulimits (-want +got)\n%s", diff)
	}
	if c["memory"] != 101.0 {
		t.Errorf("memory is %v MiB, want 101", c["memory"])
	}
	for _, about := range []string{"processes", "cpu"} {
		if !notes(r, intent.Wider, about) && !notes(r, intent.Advice, about) {
			t.Errorf("no note about %s", about)
		}
	}
	if c, _ := hardened(t, task("EC2", `"memory": 512, `), p, taskdef.Options{}); c["memory"] != 512.0 {
		t.Errorf("a limit that is there is made %v MiB", c["memory"])
	}
}

// A program that gives rights keeps no-new-privileges away, and that is said.
func TestProgramsThatGiveRights(t *testing.T) {
	p := app()
	p.Executables = append(p.Executables, profile.Executable{Path: "/usr/bin/sudo", Origin: event.OriginImage, Parents: []profile.Pattern{"/app/server"}, Users: []uint32{0}})
	c, r := hardened(t, task("EC2", ""), p, taskdef.Options{})
	if c["dockerSecurityOptions"] != nil || !notes(r, intent.Wider, "no-new-privileges") {
		t.Errorf("options are %v, notes %+v; want none and a note", c["dockerSecurityOptions"], r.Notes)
	}
	if linux, _ := c["linuxParameters"].(map[string]any); linux["initProcessEnabled"] != true {
		t.Errorf("a first process with children has no init: %v", linux)
	}
}

// Every line that changes has a reason, and the diff makes of the document that
// was given the one that is handed back.
func TestEveryChangedLineHasAReason(t *testing.T) {
	p := writes("/tmp/*", "/data/**", "/var/log/app/**")
	p.Limits = profile.Limits{Memory: 1 << 28, Descriptors: 5000}
	for name, document := range map[string]string{
		"short":     task("EC2", "\"privileged\": true,\n      "),
		"tabs":      strings.ReplaceAll(task("FARGATE", "\"essential\": true,\n      "), "  ", "\t"),
		"described": `{"taskDefinition": ` + task("EC2", `"memory": 3, `) + `}`,
		"long":      task("EC2", "\"user\": \"root\",\n      \"environment\": [\n        {\"name\": \"A\", \"value\": \"\\u00e9<&>\"}\n      ],\n      \"mountPoints\": [],\n      \"linuxParameters\": {\n        \"tmpfs\": [],\n        \"capabilities\": {\n          \"add\": [\"SYS_ADMIN\"]\n        }\n      },\n      "),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := taskdef.Harden([]byte(document), &p, taskdef.Options{File: "t.json"})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Changes) == 0 || r.Diff == "" {
				t.Fatalf("%d changes, diff %q", len(r.Changes), r.Diff)
			}
			for _, c := range r.Changes {
				if c.Reason == "" || c.Path == "" || c.After == "" {
					t.Errorf("%+v has no reason, path or value", c)
				}
			}
			if name != "described" { // written anew, since it is not written as anybody does
				if got := patched(t, document, r.Diff); got != r.Document {
					t.Errorf("patched:\n%s\nwant\n%s", got, r.Document)
				}
			}
			again, err := taskdef.Harden([]byte(r.Document), &p, taskdef.Options{})
			if err != nil || again.Diff != "" || len(again.Changes) > 0 {
				t.Errorf("hardened again: %v, %+v\n%s", err, again.Changes, again.Diff)
			}
		})
	}
}

// patched applies a unified diff.
func patched(t *testing.T, before, diff string) string {
	t.Helper()
	old := strings.SplitAfter(before, "\n")
	var out strings.Builder
	at := 0
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "+++ "):
		case strings.HasPrefix(line, "@@"):
			var start, n int
			if _, err := fmt.Sscanf(line, "@@ -%d,%d", &start, &n); err != nil {
				t.Fatal(err)
			}
			for ; at < start-1; at++ {
				out.WriteString(old[at])
			}
		case line[0] == '+':
			out.WriteString(line[1:])
		default:
			if old[at] != line[1:] {
				t.Fatalf("line %d is %q, the diff says %q", at+1, old[at], line[1:])
			}
			if line[0] == ' ' {
				out.WriteString(old[at])
			}
			at++
		}
	}
	return out.String() + strings.Join(old[at:], "")
}

func TestWhatIsNoTaskDefinition(t *testing.T) {
	for name, tc := range map[string]struct {
		document string
		want     fault.Kind
	}{
		"nothing":           {"", fault.Invalid},
		"a list":            {"[]", fault.Invalid},
		"cut off":           {`{"containerDefinitions": [`, fault.Invalid},
		"twice":             {`{"family": "a", "family": "b"}`, fault.Invalid},
		"something after":   {task("EC2", "") + "{}", fault.Invalid},
		"deep":              {strings.Repeat("[", 100) + strings.Repeat("]", 100), fault.Invalid},
		"no container":      {`{"family": "a"}`, fault.NotFound},
		"another container": {`{"containerDefinitions": [{"name": "db"}]}`, fault.NotFound},
		"odd containers":    {`{"containerDefinitions": {"name": "app"}}`, fault.Invalid},
		"odd container":     {`{"containerDefinitions": ["app"]}`, fault.Invalid},
		"odd parameters":    {task("EC2", `"linuxParameters": "x", `), fault.Invalid},
		"odd mounts":        {task("EC2", `"mountPoints": [1], `), fault.Invalid},
		"odd options":       {task("EC2", `"dockerSecurityOptions": [1], `), fault.Invalid},
		"Windows":           {`{"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}, "containerDefinitions": [{"name": "app"}]}`, fault.Unsupported},
	} {
		p := app()
		_, err := taskdef.Harden([]byte(tc.document), &p, taskdef.Options{})
		if fault.Of(err) != tc.want || fault.Remedy(err) == "" {
			t.Errorf("%s: got %v, want that it is %v, with a remedy", name, err, tc.want)
		}
	}
}

func FuzzHarden(f *testing.F) {
	f.Add([]byte(task("EC2", `"privileged": true, "mountPoints": [{"containerPath": "/data"}], `)))
	f.Add([]byte(`{"taskDefinition": {"containerDefinitions": [{"name": "app", "linuxParameters": {"tmpfs": [{}]}, "ulimits": [{"name": "nofile"}]}]}}`))
	p := writes("/tmp/*", "/data/**")
	p.Limits = profile.Limits{Memory: 1 << 28, Descriptors: 5000}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := taskdef.Harden(b, &p, taskdef.Options{Module: taskdef.AppArmor, AppArmor: "x"})
		if err != nil {
			return
		}
		if !json.Valid([]byte(r.Document)) {
			t.Errorf("%q is hardened to what is no JSON: %q", b, r.Document)
		}
		again, err := taskdef.Harden([]byte(r.Document), &p, taskdef.Options{Module: taskdef.AppArmor, AppArmor: "x"})
		if err != nil || len(again.Changes) > 0 {
			t.Errorf("%q is changed again: %v %+v", r.Document, err, again.Changes)
		}
	})
}
