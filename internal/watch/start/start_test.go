package start_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/compare"
	"github.com/castellan-security/castellan/internal/watch/compile"
	"github.com/castellan-security/castellan/internal/watch/document"
	"github.com/castellan-security/castellan/internal/watch/start"
)

func TestWhichImageStartsWithWhich(t *testing.T) {
	for _, tc := range []struct {
		reference  string
		entrypoint []string
		want       string
	}{
		{"nginx:1.27-alpine", nil, "nginx"},
		{"registry.example:5000/mirror/library/postgres:17@sha256:00", nil, "postgres"},
		{"redis", nil, "redis"},
		{"node:22-bookworm-slim", nil, "node"},
		{"python:3.12", nil, "python"},
		{"public.ecr.aws/amazoncorretto/amazoncorretto:21", nil, "java"},
		{"shop/web:1", []string{"/usr/local/bin/python3.12", "app.py"}, "python"},
		{"shop/api:1", []string{"java", "-jar", "/app.jar"}, "java"},
		{"shop/nginx-exporter:1", []string{"/exporter"}, ""},
		{"", nil, ""},
	} {
		got, err := start.For(asset.Image{Reference: tc.reference}, tc.entrypoint)
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		if got != nil {
			name, _, _ = strings.Cut(got.Name, ",")
		}
		if name != tc.want {
			t.Errorf("%s %v starts with %q, want %q", tc.reference, tc.entrypoint, name, tc.want)
		}
	}
}

func TestEveryStartingProfileIsWhole(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f, ".yaml"))
	}
	listed := slices.Sorted(slices.Values(start.Names()))
	if diff := cmp.Diff(listed, names); diff != "" {
		t.Errorf("names (-listed +files):\n%s", diff)
	}
	for _, name := range start.Names() {
		s, err := start.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(s.Name, "version") {
			t.Errorf("%s does not say for which versions it was written: %q", name, s.Name)
		}
		n := 0
		document.Each(s.Profile, func(_ string, e *profile.Evidence) {
			n++
			if e.Source != profile.Initial {
				t.Errorf("%s has an entry of source %q", name, e.Source)
			}
		})
		if n < 6 {
			t.Errorf("%s has %d entries", name, n)
		}
		s.Profile.Group = "g"
		if _, _, err := compile.Compile(s.Profile, compile.Options{Mode: profile.Protect}); err != nil {
			t.Error(err)
		}
		for _, f := range s.Profile.Writes {
			for _, probe := range []string{"/etc/passwd", "/usr/bin/id", "/x", "/home/u/.ssh/authorized_keys", "/tmp/x"} {
				if f.Path.Match(probe) {
					t.Errorf("%s lets %s be written by %s", name, probe, f.Path)
				}
			}
		}
		for _, x := range s.Profile.Executables {
			if x.Origin != event.OriginImage {
				t.Errorf("%s lets %s run, which did not come with the image", name, x.Path)
			}
		}
		b, err := os.ReadFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), "# ") {
			t.Errorf("%s.yaml does not say where it is from", name)
		}
	}
	if _, err := start.Named("../start"); err == nil {
		t.Error("a name that is none has a starting profile")
	}
}

// did is one thing that an image does when it starts: a program and its parent, its
// arguments, or a file written.
type did struct {
	parent, program string
	args            []string
	requested       string
	writes          string
}

// TestHowImagesStartIsNormal walks through what the images' own scripts do.
func TestHowImagesStartIsNormal(t *testing.T) {
	for name, steps := range map[string][]did{
		"nginx": {
			{"", "/usr/bin/dash", []string{"/bin/sh", "/docker-entrypoint.sh", "nginx", "-g", "daemon off;"}, "/docker-entrypoint.sh", ""},
			{"/usr/bin/dash", "/usr/bin/find", []string{"find", "/docker-entrypoint.d/"}, "", ""},
			{"/usr/bin/dash", "/usr/bin/dash", []string{"/bin/sh", "/docker-entrypoint.d/10-listen-on-ipv6-by-default.sh"}, "/docker-entrypoint.d/10-listen-on-ipv6-by-default.sh", ""},
			{"/usr/bin/dash", "/usr/bin/sed", []string{"sed", "-i", "-E", "s,a,b,", "/etc/nginx/conf.d/default.conf"}, "", "/etc/nginx/conf.d/sedXa81kQ"},
			{"", "/usr/sbin/nginx", []string{"nginx", "-g", "daemon off;"}, "", "/run/nginx.pid"},
			{"", "/usr/sbin/nginx", []string{"nginx"}, "", "/var/cache/nginx/proxy_temp/1/00/0000000001"},
		},
		"postgres": {
			{"", "/usr/bin/env", []string{"/usr/bin/env", "bash", "/usr/local/bin/docker-entrypoint.sh", "postgres"}, "/usr/local/bin/docker-entrypoint.sh", ""},
			{"", "/usr/bin/bash", []string{"bash", "/usr/local/bin/docker-entrypoint.sh", "postgres"}, "", ""},
			{"/usr/bin/bash", "/usr/bin/chown", []string{"chown", "postgres", "/var/lib/postgresql/data"}, "", "/var/lib/postgresql/data"},
			{"", "/usr/local/bin/gosu", []string{"gosu", "postgres", "/usr/local/bin/docker-entrypoint.sh", "postgres"}, "", ""},
			{"/usr/bin/bash", "/usr/lib/postgresql/17/bin/initdb", []string{"initdb"}, "", "/var/lib/postgresql/data/PG_VERSION"},
			{"/usr/lib/postgresql/17/bin/initdb", "/usr/bin/dash", []string{"sh", "-c", "postgres -V"}, "", "/var/lib/postgresql/data/base/1/1259"},
			{"/usr/bin/bash", "/usr/bin/perl", []string{"/usr/bin/perl", "-wT", "/usr/share/postgresql-common/pg_wrapper"}, "", ""},
			{"", "/usr/lib/postgresql/17/bin/postgres", []string{"postgres"}, "", "/dev/shm/PostgreSQL.3176412"},
			{"", "/usr/lib/postgresql/17/bin/postgres", []string{"postgres"}, "", "/run/postgresql/.s.PGSQL.5432.lock"},
		},
		"redis": {
			{"", "/usr/bin/dash", []string{"/bin/sh", "/usr/local/bin/docker-entrypoint.sh", "redis-server"}, "/usr/local/bin/docker-entrypoint.sh", ""},
			{"/usr/bin/dash", "/usr/bin/find", []string{"find", "."}, "", ""},
			{"", "/usr/local/bin/redis-server", []string{"redis-server"}, "", "/data/temp-12.rdb"},
		},
		"node": {
			{"", "/usr/bin/dash", []string{"/bin/sh", "/usr/local/bin/docker-entrypoint.sh", "node", "server.js"}, "/usr/local/bin/docker-entrypoint.sh", ""},
			{"", "/usr/local/bin/node", []string{"node", "/app/server.js"}, "", ""},
			{"", "/usr/bin/env", []string{"/usr/bin/env", "node", "/usr/local/lib/node_modules/npm/bin/npm-cli.js", "start"}, "/usr/local/lib/node_modules/npm/bin/npm-cli.js", "/root/.npm/_logs/x.log"},
		},
		"python": {
			{"", "/usr/local/bin/python3.12", []string{"/usr/local/bin/python3.12", "/usr/local/bin/gunicorn", "app:app"}, "/usr/local/bin/gunicorn", "/tmp/wgunicorn-9sj2k1xx"},
		},
		"java": {
			{"", "/opt/java/openjdk/bin/java", []string{"java", "-Xmx1g", "-jar", "/app.jar"}, "", "/tmp/hsperfdata_root/1"},
			{"", "/usr/lib/jvm/java-21-amazon-corretto/bin/java", []string{"java", "-cp", "/app", "Main"}, "", "/tmp/tomcat.8080.1234567/work/Tomcat"},
			{"/opt/java/openjdk/bin/java", "/opt/java/openjdk/lib/jspawnhelper", nil, "", ""},
		},
	} {
		s, err := start.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		x := compare.NewIndex(s.Profile)
		for _, d := range steps {
			e := event.Event{Time: time.Unix(0, 0), WorkloadID: "c", Kind: event.KindExec, Process: event.Process{Executable: d.program}, Exec: &event.Exec{Args: d.args, Requested: d.requested, Origin: event.OriginImage, Cwd: "/"}}
			if d.parent != "" {
				e.Process.Parent = event.Key{PID: 1, Start: 1}
				e.Exec.Ancestors = []event.Ancestor{{Key: e.Process.Parent, Executable: d.parent}}
			}
			if v := x.Compare(&e); v != nil {
				t.Errorf("%s: %s", name, v.Sentence)
			}
			if d.writes != "" {
				w := event.Event{WorkloadID: "c", Kind: event.KindFileCreate, Process: e.Process, File: &event.File{Path: d.writes}}
				if v := x.Compare(&w); v != nil {
					t.Errorf("%s: %s", name, v.Sentence)
				}
			}
		}
	}
}
