package condition_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit/condition"
)

func TestLike(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "a/b", false}, {"**", "a/b", true}, {"a/*", "a/b", true}, {"a/*", "a/b/c", false},
		{"a/**", "a/b/c", true}, {"a/**", "a", false}, {"*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-central-1.amazonaws.com", true},
		{"*.amazonaws.com", "evil.example.com/x.amazonaws.com", false}, {"?", "a", false}, {"prod-*", "prod-", true}, {"**/x", "/x", true},
		{strings.Repeat("*a", 400), strings.Repeat("a", 5000) + "b", false}, // takes no time
	} {
		if got := condition.Like(tc.text, tc.pattern); got != tc.want {
			t.Errorf("%.20q like %.20q: %v, want %v", tc.text, tc.pattern, got, tc.want)
		}
	}
}

func request() (*condition.Schema, *condition.Scope) {
	s := condition.NewSchema()
	r := &admission.Request{Door: admission.Docker, Action: admission.Run, Unknown: []string{"task.containers[0].user", "task.pid"}, Task: admission.Task{Network: "host", Containers: []admission.Container{{
		Name: "web", MemoryBytes: 7, CapAdd: []string{"a", "b"}, Mounts: []admission.Mount{{Source: "/etc/../etc/passwd"}, {Source: "/data"}}, Labels: map[string]string{"k": "v"},
		Image: admission.Image{Reference: "shop:1", Tag: "1", Digest: "sha256:aa"},
	}}}}
	v, err := s.NewView(r, func(*admission.Image) *admission.Facts { return nil }, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	var scope *condition.Scope
	s.Kind("container").Each(v, nil, func(x *condition.Scope) bool { scope = x.Keep(); return true })
	return s, scope
}

// What can be said without what isn't known is said; what can't is unknown.
func TestConditions(t *testing.T) {
	s, scope := request()
	c, err := condition.NewCompiler(s)
	if err != nil {
		t.Fatal(err)
	}
	params := []condition.Param{{Name: "paths", Type: "list(string)", Value: []string{"/etc"}}, {Name: "max", Type: "duration", Value: time.Hour}}
	for _, tc := range []struct{ text, want string }{
		{`container.name == "web"`, "true"},
		{`task.network == "host" || task.pid == "host"`, "true"},
		{`task.pid == "host" || task.network == "host"`, "true"},
		{`task.pid == "host" && task.network == "bridge"`, "false"},
		{`task.pid == "host"`, "task.pid"},
		{`!(task.pid == "host")`, "task.pid"},
		{`[task.pid, "a"].exists(x, x == "host")`, "task.pid"},
		{`container.root`, "task.containers[0].user"},
		{`task.containers.exists(c, c.user == "0")`, "task.containers[0].user"},
		{`task.containers.exists(c, c.user == "0" || c.memory_bytes == 7)`, "true"},
		{`image.vulnerabilities.exists(v, v.kev)`, "image.vulnerabilities"},
		{`image.vulnerabilities.size() > 3 ? true : false`, "image.vulnerabilities"},
		{`image.scan.age > params.max`, "image.vulnerabilities"},
		{`image.trust.signers.exists(x, "a" in x.names)`, "image.trust"},
		{`!image.scanned`, "true"},
		{`images.exists(i, i.tag == "1")`, "true"},
		{`container.mounts.exists(m, m.source.under(params.paths))`, "true"},
		{`container.mounts.all(m, m.source.exposes(["/etc"]))`, "false"},
		{`"/".exposes("/etc") && !"data".exposes("/etc") && !"/etcetera".under("/etc")`, "true"},
		{`container.labels["k"] == "v"`, "true"},
		{`container.labels["none"] == "v"`, "error"},
		{`"none" in container.labels && container.labels["none"] == "v"`, "false"},
		{`critical > high && high > medium && medium > low && low > negligible && negligible > unrated && high == high`, "true"},
		{`string(high) == "high" && days(1) == duration("24h")`, "true"},
		{`now > timestamp("2026-01-01T00:00:00Z")`, "true"},
	} {
		t.Run(tc.text, func(t *testing.T) {
			e, err := c.Condition(s.Kind("container"), params, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			holds, unknown, err := e.Holds(context.Background(), scope)
			got := "false"
			switch {
			case err != nil:
				got = "error"
			case unknown != nil:
				got = scope.View.Missing(unknown)[0].What
			case holds:
				got = "true"
			}
			if got != tc.want {
				t.Errorf("got %s (%v), want %s", got, err, tc.want)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	s, scope := request()
	c, err := condition.NewCompiler(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ text, want string }{
		{"{container.name} has {container.memory_bytes} bytes and {container.cap_add}", "web has 7 bytes and A, B"},
		{`{{literally}} {container.name == "web" ? "yes: }" : "no"}`, "{literally} yes: }"},
		{"{critical}, {days(3)}, {now}, {0.25}, {container.privileged}", "critical, 3 days, 2026-11-28, 0.25, false"},
		{"{task.pid} and {container.labels['none']}", "(not known) and (not known)"},
		{"{'" + strings.Repeat("é", 400) + "'}", strings.Repeat("é", 150) + "…"},
	} {
		m, err := c.Template(s.Kind("container"), nil, tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		if got := m.Write(context.Background(), scope); got != tc.want {
			t.Errorf("%s\ngot  %s\nwant %s", tc.text, got, tc.want)
		}
	}
}
