package docker_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// hands is what people, schedulers and pipelines do with services beside their own
// work: by docker exec in one that runs, or as the command of a container of its own.
var hands = []struct {
	name, in string // of a service; empty for a container of its own
	do       string // of sh
}{
	{"health check of a database", "db", "pg_isready -h 127.0.0.1 -U postgres"},
	{"health check of a cache", "cache", "redis-cli ping"},
	{"health check by curl", "web", "curl -fsS http://127.0.0.1/health >/dev/null || exit 1"},
	{"backup by exec", "db", "pg_dump -U postgres -Fc shop >/tmp/shop.dump && pg_restore --list /tmp/shop.dump >/dev/null; rm -f /tmp/shop.dump"},
	{"all databases by exec", "db", "pg_dumpall -U postgres | gzip >/tmp/all.sql.gz; rm -f /tmp/all.sql.gz"},
	{"saved by exec", "cache", "redis-cli save; redis-cli info memory; redis-cli dbsize; redis-cli --scan | head"},
	{"a question by psql", "db", "psql -U postgres shop -c 'select count(*) from item' -c 'select pid, state, query from pg_stat_activity'"},
	{"logs rotated by hand", "web", "logrotate -f /etc/logrotate.d/services; ls -l /var/log/nginx"},
	{"settings tried and loaded", "web", "nginx -t && nginx -s reload"},
	{"an engineer looks what runs", "web", "ps aux; top -bn1 | head -20; free -m; df -h; ss -tlnp; ls -la /etc/nginx; cat /etc/nginx/nginx.conf; tail -n 5 /var/log/nginx/*.log"},
	{"an engineer asks other services", "app", "getent hosts db cache web; curl -sS -o /dev/null -w '%{http_code}' http://web/health; python3 -c 'import socket; socket.create_connection((\"db\", 5432)).close()'"},
	{"an engineer looks at a process", "java", "cat /proc/1/status | grep -i threads; ls /proc/1/fd | wc -l; jcmd 1 VM.version || true; ulimit -a"},
	{"an engineer looks for what is large", "app", "du -sh /var/lib /srv 2>/dev/null; find /srv -type f -size +1M; grep -rn import /srv --include=*.py | head -3"},
	{"an engineer looks at the environment", "node", "env | sort; node --version; ls -la /srv/node; vmstat 1 1"},
	{"a schema is changed", "db", "psql -U postgres shop -c 'alter table item add column if not exists note text' -c 'create index concurrently if not exists item_at on item (at)'"},
	{"a package is looked up", "app", "dpkg -l | head; apt list --installed 2>/dev/null | head -3; apt-cache policy nginx"},
	{"a job of the night", "", "until curl -fsS http://web/health && psql -q -h db -U postgres -c 'select 1' shop; do sleep 1; done; every-minute || true"},
	{"backup of a volume", "", "tar -czf /tmp/backup.tgz -C /var/lib/dpkg . && tar -tzf /tmp/backup.tgz >/dev/null && sha256sum /tmp/backup.tgz"},
	{"encrypted backup", "", "tar -C /var/lib/dpkg -c info | openssl enc -aes-256-cbc -pbkdf2 -pass pass:x -out /tmp/b.enc && rm /tmp/b.enc"},
	{"a build with tests", "", "cp -r /srv/project /tmp/p && cd /tmp/p && make -s -j2 NUMBER=1 && make -s check NUMBER=1 && make -s clean NUMBER=1 || true"},
	{"a package built and installed", "", "mkdir -p /build/p/DEBIAN /build/p/usr/bin && printf 'Package: greet\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@example.org>\\nDescription: g\\n' >/build/p/DEBIAN/control && printf '#!/bin/sh\\necho hi\\n' >/build/p/usr/bin/greet && chmod 755 /build/p/usr/bin/greet && dpkg-deb --build /build/p /build/greet.deb >/dev/null && dpkg -i /build/greet.deb && greet && dpkg -P greet"},
	{"a virtual environment", "", "python3 -m venv --without-pip /tmp/venv && /tmp/venv/bin/python -c 'print(1)'"},
	{"a Python job", "", "python3 -c 'import json, subprocess, tempfile, os; f = tempfile.NamedTemporaryFile(); f.write(json.dumps(list(range(9999))).encode()); f.flush(); print(subprocess.check_output([\"wc\", \"-c\", f.name]))'"},
	{"a Node job", "", "node -e 'const fs = require(\"fs\"), cp = require(\"child_process\"); fs.writeFileSync(\"/tmp/a.json\", \"{}\"); console.log(cp.execSync(\"ls -l /tmp\").toString())'"},
	{"a Java job", "", "mkdir -p /tmp/j && cd /tmp/j && printf 'class A { public static void main(String[] a) { System.out.println(1); } }' >A.java && java A.java || true"},
	{"users are set up at the start", "", "useradd --system --no-create-home worker && chown -R worker /var/cache && runuser -u worker -- id"},
	{"settings are filled in at the start", "", "sed -i 's/worker_processes.*/worker_processes 1;/' /etc/nginx/nginx.conf && mkdir -p /run/app && echo 127.0.0.1 db >>/etc/hosts && nginx -t || true"},
	{"certificates are made at the start", "", "mkdir -p /etc/tls && openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/tls/key.pem -out /etc/tls/cert.pem -days 1 -subj /CN=a 2>/dev/null && chmod 600 /etc/tls/key.pem"},
	{"a place is cleaned", "", "mkdir -p /tmp/c && for i in 1 2 3 4 5 6 7 8 9; do echo $i >/tmp/c/$i; done; find /tmp/c -type f -mmin -5 -delete; rm -rf /tmp/c /var/cache/apt/archives/*.deb"},
}

// What services do, and what people and pipelines do with them, is told as low at most.
func TestOrdinaryServicesAreQuiet(t *testing.T) {
	needServices(t)
	e := start(t, engine.Options{Apart: true})
	importServices(t, e)
	r := huntedHost(t, e)
	r.guard(t, e)
	if _, err := e.Client.NetworkCreate(t.Context(), "services", client.NetworkCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, c := range services {
		c.Image, c.Labels = servicesImage, labels(c.Name)
		ids[c.Name] = run(t, e, c)
	}
	r.exec(t, ids["builder"], "a package that was built", func(x event.Event) bool { return slices.Contains(x.Exec.Args, "--info") })
	for _, h := range hands {
		id := ids[h.in]
		if h.in == "" {
			id = run(t, e, engine.Container{Name: "job-" + strings.ReplaceAll(h.name, " ", "-"), Image: servicesImage, Labels: labels("job"), Cmd: []string{"sh", "-c", h.do + "; sleep 3600"},
				Change: func(_ *container.Config, host *container.HostConfig) { host.NetworkMode = "services" }})
		} else if out, code, err := e.Exec(t.Context(), id, "sh", "-c", h.do); err != nil || code > 1 {
			t.Logf("%s: code %d, %v: %.300s", h.name, code, err, out)
		}
		if h.in == "" { // its sleep says that it is done
			ids[h.name] = id
			r.exec(t, id, h.name, func(x event.Event) bool { return slices.Contains(x.Exec.Args, "3600") })
		}
	}
	time.Sleep(*long)
	for name, id := range ids {
		mark := "mark-of-" + name
		if _, _, err := e.Exec(t.Context(), id, "/bin/true", mark); err != nil {
			t.Fatal(err)
		}
		r.exec(t, id, "the mark", func(x event.Event) bool { return slices.Contains(x.Exec.Args, mark) })
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	events, low, ours := uint64(0), map[string]int{}, slices.Collect(maps.Values(ids))
	for i := range r.events {
		if slices.Contains(ours, r.events[i].WorkloadID) {
			events += max(1, r.events[i].Count)
		}
	}
	for i := range r.threats {
		switch th := &r.threats[i].Threat; {
		case !slices.Contains(ours, th.WorkloadID): // of another test's engine
		case th.Severity > finding.Low:
			t.Errorf("%s (%s) in %s: %s", th.Rule, th.Severity, th.Group, th.Summary)
		case th.Severity == finding.Low:
			low[th.Rule]++
			t.Logf("low: %s in %s: %s", th.Rule, th.Group, th.Summary)
		}
	}
	t.Logf("%d events; low: %v", events, low)
}
