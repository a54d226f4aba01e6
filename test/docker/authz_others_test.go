package docker_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// awsvpcPolicy is usualPolicy where tasks have networks of their own: their
// containers are in that of their pause container, so that sharing must pass.
func awsvpcPolicy() string {
	return strings.NewReplacer("[good.example]", "['**']", "  - use: host-namespaces\n", "  - use: host-namespaces\n    with: {containers: false}\n").Replace(usualPolicy)
}

// TestWaysByOthers goes around the rules by what is there already: containers that
// have what the asker must not get, images made of them, and by addresses and
// methods that are not quite a call's.
func TestWaysByOthers(t *testing.T) {
	e, rules := guarded(t)
	ctx := t.Context()
	if _, err := e.Run(ctx, engine.Container{Image: shell, Name: "agent", Cmd: []string{"sleep", "600"}, Change: func(_ *container.Config, h *container.HostConfig) {
		h.NetworkMode, h.PidMode, h.Binds = "host", "host", []string{"/etc:/h"}
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(ctx, engine.Container{Image: shell, Name: "beside", Cmd: []string{"sleep", "600"}, Change: func(_ *container.Config, h *container.HostConfig) {
		h.NetworkMode = "container:agent"
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Run(ctx, engine.Container{Image: shell, Name: "pause", Cmd: []string{"sleep", "600"}}); err != nil {
		t.Fatal(err)
	}
	t.Run("namespaces and volumes", func(t *testing.T) { lent(t, e, rules) })
	t.Run("an image made of a container", func(t *testing.T) { madeOf(t, e, rules) })
	t.Run("changes of what runs", func(t *testing.T) { changedLater(t, e, rules) })
	t.Run("addresses", func(t *testing.T) { addressed(t, e, rules) })
}

// lent asks for what other containers have.
func lent(t *testing.T, e *engine.Engine, rules *law) {
	for name, change := range map[string]func(*container.HostConfig){
		"network":              func(h *container.HostConfig) { h.NetworkMode = "container:agent" },
		"network of a network": func(h *container.HostConfig) { h.NetworkMode = "container:beside" },
		"processes":            func(h *container.HostConfig) { h.PidMode = "container:agent" },
		"volumes":              func(h *container.HostConfig) { h.VolumesFrom = []string{"agent:ro"} },
	} {
		t.Run(name, func(t *testing.T) {
			asked := engine.Container{Image: shell, Cmd: []string{"sleep", "60"}, Change: func(_ *container.Config, h *container.HostConfig) { change(h) }}
			rules.set(by(t, awsvpcPolicy()))
			id, err := e.Create(t.Context(), asked)
			if err == nil { // volumes of others are known when it starts
				_, err = e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
			}
			refusedBy(t, "run", err, "")

			// One that is there already, from before the policy.
			rules.set(nil)
			if id, err = e.Create(t.Context(), asked); err != nil {
				t.Fatal(err)
			}
			rules.set(by(t, awsvpcPolicy()))
			_, err = e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
			refusedBy(t, "start", err, "")
			if got := status(t, e, id); got != container.StateCreated {
				t.Errorf("the container is %s", got)
			}
		})
	}
	t.Run("a task's own network passes", func(t *testing.T) {
		rules.set(by(t, awsvpcPolicy()))
		if _, err := e.Run(t.Context(), engine.Container{Image: shell, Cmd: []string{"sleep", "60"}, Change: func(_ *container.Config, h *container.HostConfig) {
			h.NetworkMode = "container:pause"
		}}); err != nil {
			t.Error(err)
		}
	})
}

// madeOf makes an image with another user of a container, and runs it by its id.
func madeOf(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(nil)
	made, err := e.Client.ContainerCommit(t.Context(), "pause", client.ContainerCommitOptions{Changes: []string{"USER 0:0"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]string{
		"as root":         awsvpcPolicy() + "  - use: root-user\n",
		"of no registry":  usualPolicy,
		"making it anew":  awsvpcPolicy() + "  - use: build\n",
		"under some name": usualPolicy + "  - use: build\n",
	} {
		t.Run(name, func(t *testing.T) {
			rules.set(by(t, policy))
			var err error
			if strings.Contains(policy, "use: build") {
				_, err = e.Client.ContainerCommit(t.Context(), "pause", client.ContainerCommitOptions{Reference: "good.example/app:2"})
			} else {
				_, err = e.Create(t.Context(), engine.Container{Image: made.ID})
			}
			refusedBy(t, name, err, "")
		})
	}
}

// changedLater asks for more once a container runs.
func changedLater(t *testing.T, e *engine.Engine, rules *law) {
	policy := strings.Replace(awsvpcPolicy(), "  - use: exec\n", "  - use: exec-privileged\n  - use: exec-as-root\n  - use: copy\n  - use: cgroup-parent\n", 1)
	for _, tc := range []struct{ name, method, uri, body string }{
		{"a device rule", "POST", "/v1.41/containers/pause/update", `{"DeviceCgroupRules":["a *:* rwm"]}`},
		{"a device", "POST", "/v1.41/containers/pause/update", `{"Devices":[{"PathOnHost":"/dev/sda"}]}`},
		{"another cgroup", "POST", "/v1.41/containers/pause/update", `{"CgroupParent":"/"}`},
		{"privileges", "POST", "/v1.41/containers/pause/update", `{"Privileged":true}`},
		{"a privileged process", "POST", "/v1.41/containers/pause/exec", `{"Cmd":["id"],"User":"1000","privileged":true}`},
		{"a process as root", "POST", "/v1.41/containers/pause/exec", `{"Cmd":["id"],"User":"00"}`},
		{"a process as who it is", "POST", "/v1.41/containers/pause/exec", `{"Cmd":["id"]}`},
		{"a process of another container", "POST", "/v1.41/containers/pause/exec", `{"Cmd":["id"],"User":"0","Container":"agent"}`},
		{"a file", "PUT", "/v1.41/containers/pause/archive?path=/", "x"},
		{"a file of the host", "GET", "/v1.41/containers/agent/archive?path=/h/shadow", ""},
		{"all files", "GET", "/v1.41/containers/agent/export", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules.set(by(t, policy))
			headers := inJSON(tc.body)
			if tc.method != "POST" {
				headers = []string{"Content-Type: application/x-tar", headers[1]}
			}
			if code, answer := sent(t, e, tc.method, tc.uri, headers, tc.body); code != 403 {
				t.Errorf("the engine answers %d: %.200s", code, answer)
			}
		})
	}
}

// privileged has privileged containers refused, and returns what asks for one. The
// function that it returns says when one was made all the same, and lets all be made.
func privileged(t *testing.T, e *engine.Engine, rules *law) (body string, allowed func()) {
	t.Helper()
	before := containers(t, e)
	rules.set(deny("privileged", func(r admission.Request) bool {
		return len(r.Task.Containers) > 0 && r.Task.Containers[0].Privileged
	}))
	return `{"Image":"` + shell + `","HostConfig":{"Privileged":true,"NetworkMode":"none"}}`, func() {
		rules.set(nil)
		if now := containers(t, e); now != before {
			t.Errorf("%d containers were made", now-before)
		}
	}
}

// addressed makes a privileged container by addresses and methods that are not
// quite the call's.
func addressed(t *testing.T, e *engine.Engine, rules *law) {
	body, allowed := privileged(t, e, rules)
	defer allowed()
	for _, uri := range []string{
		"/v1.41/containers/create;x=1", "/v1.41/containers/create/", "/v1.41/containers/create%00", "/v1.41/containers/create%3fname=x",
		"/v1.41/containers/%2e%2e/containers/create", "/v1.41/containers/x%2f..%2fcreate", "/v1.41%2fcontainers%2fcreate", "/v1.41/v1.41/containers/create",
		"/v1.41/containers/create?name=a;b", "/v1.41/containers/create?name=a&name=b", "/v1.41/containers/create#/json", "/v1.41/containers/create?" + url.Values{"name": {"a\x00b"}}.Encode(),
		"http://docker/v1.41/containers/create", "http://docker//v1.41/containers/create", "http:/v1.41/containers/create", "//docker/v1.41/containers/create",
		"/v1.41/\tcontainers/create", "/V1.41/containers/create", "/v1.41/Containers/create", "/v1.41/containers\\create", "/v1.41.0/containers/create", "/v1/containers/create",
		"/containers/create?/v1.41/_ping", "/_ping/../containers/create", "/v1.41/containers/create?x=%zz",
	} {
		t.Run(uri, func(t *testing.T) {
			if code, answer := sent(t, e, "POST", uri, inJSON(body), body); code < 300 {
				t.Errorf("the engine answers %d: %.200s", code, answer)
			}
		})
	}
	for name, headers := range map[string][]string{
		"another method by a header": {"X-HTTP-Method-Override: GET"},
		"an encoding":                {"Content-Encoding: gzip"},
		"an upgrade to HTTP/2":       {"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"},
		"an upgrade to nothing":      {"Connection: Upgrade", "Upgrade: tcp"},
		"its length twice":           {"Content-Length: 2"},
		"credentials":                {"X-Registry-Auth: e30=", "Authorization: Basic cm9vdDo="},
	} {
		t.Run(name, func(t *testing.T) {
			if code, answer := sent(t, e, "POST", "/v1.41/containers/create", append(headers, inJSON(body)...), body); code < 300 {
				t.Errorf("the engine answers %d: %.200s", code, answer)
			}
		})
	}
	for _, method := range []string{"post", "PUT", "PATCH", "GET", "OPTIONS", "HEAD"} {
		t.Run(method, func(t *testing.T) {
			if code, answer := sent(t, e, method, "/v1.41/containers/create", inJSON(body), body); method != "OPTIONS" && code < 300 {
				t.Errorf("the engine answers %d: %.200s", code, answer)
			}
		})
	}
}
