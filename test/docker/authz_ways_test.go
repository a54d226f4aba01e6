package docker_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/admit"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// usualPolicy is what a platform engineer writes down first, enforced.
const usualPolicy = `version: 1
mode: enforce
rules:
  - use: privileged
  - use: host-network
  - use: host-namespaces
  - use: dangerous-mounts
  - use: shared-mounts
  - use: devices
  - use: capabilities
  - use: unconfined
  - use: load
  - use: privileged-ports
  - use: exec
  - use: registry
    with: {allowed: [good.example]}
`

// by decides by a policy.
func by(t *testing.T, text string) func(admission.Request) string {
	t.Helper()
	p, err := admit.Read([]byte(text), "policy of the test")
	if err != nil {
		t.Fatal(err)
	}
	return func(r admission.Request) string {
		v := p.Decide(t.Context(), &r, admit.Given{Now: time.Now()})
		if v.Allowed() {
			return ""
		}
		return v.Reasons[0].Rule + ": " + v.Reasons[0].Message
	}
}

// sent sends one call and tells what came of it.
func sent(t *testing.T, e *engine.Engine, method, uri string, headers []string, body string) (int, string) {
	t.Helper()
	head := method + " " + uri + " HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	return raw(t, e, strings.NewReader(head+body))
}

func inJSON(body string) []string {
	return []string{"Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(body))}
}

// TestWaysAround is what an attacker tries on the socket of an engine whose policy
// has the built-in rules.
func TestWaysAround(t *testing.T) {
	e, rules := guarded(t)
	t.Run("forms that the plugin does not see", func(t *testing.T) { forms(t, e, rules) })
	t.Run("volumes in disguise", func(t *testing.T) { disguised(t, e, rules) })
	t.Run("settings", func(t *testing.T) { odd(t, e, rules) })
	t.Run("a name that is the beginning of an id", func(t *testing.T) { nameLost(t, e, rules) })
	t.Run("names of images", func(t *testing.T) { namedAnew(t, e, rules) })
}

// forms sends parameters in a body, which go before those of the address.
func forms(t *testing.T, e *engine.Engine, rules *law) {
	ctx := t.Context()
	rules.set(nil)
	id, err := e.Run(ctx, engine.Container{Image: shell, Name: "running", Cmd: []string{"cat"}, Change: func(c *container.Config, _ *container.HostConfig) { c.OpenStdin = true }})
	if err != nil {
		t.Fatal(err)
	}
	const form = "application/x-www-form-urlencoded"
	kinds := map[string][]string{
		"malformed parameter": {"Content-Type: " + form + "; x"},
		"then another type":   {"Content-Type: " + form, "Content-Type: text/plain"},
		"then an empty type":  {"Content-Type: " + form, "Content-Type: "},
		"upper case":          {"Content-Type: " + strings.ToUpper(form)},
	}
	for kind, headers := range kinds {
		for _, tc := range []struct{ name, uri, body string }{
			{"rename", "/v1.41/containers/running/rename?name=fine", "name=hidden"},
			{"tag", "/v1.41/images/" + shell + "/tag?repo=fine&tag=1", "repo=hidden&tag=1"},
			{"attach with input", "/v1.41/containers/running/attach?stdin=0&stdout=1&stream=1", "stdin=1&stdout=1&stream=1"},
			{"import", "/v1.41/images/create", "fromSrc=-&repo=hidden&tag=2"},
			{"pull", "/v1.41/images/create?fromImage=good.example%2Fx&tag=1", "fromImage=127.0.0.1:1%2Fhidden&tag=1"},
			{"import that is a pull", "/v1.41/images/create?fromSrc=-", "fromImage=127.0.0.1:1%2Fhidden&tag=1"},
			{"start from a checkpoint", "/v1.41/containers/running/start", "checkpoint=hidden"},
		} {
			if kind == "then another type" && tc.name == "import that is a pull" {
				continue // which no plugin can tell from an import
			}
			for _, framing := range []string{"length", "chunks"} {
				t.Run(tc.name+" by "+kind+" in "+framing, func(t *testing.T) {
					rules.set(nil)
					h, body := append([]string{}, headers...), tc.body
					if framing == "length" {
						h = append(h, fmt.Sprintf("Content-Length: %d", len(body)))
					} else {
						h, body = append(h, "Transfer-Encoding: chunked"), fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
					}
					code, answer := sent(t, e, "POST", tc.uri, h, body)
					if code != 403 {
						t.Errorf("the engine answers %d: %.200s", code, answer)
					}
				})
			}
		}
	}
	in, err := e.Client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || in.Container.Name != "/running" {
		t.Errorf("container is called %q, %v", in.Container.Name, err)
	}
	for _, name := range []string{"hidden:1", "hidden:2"} {
		if _, err := e.Client.ImageInspect(ctx, name); err == nil {
			t.Errorf("there is an image %s", name)
		}
	}
}

// disguised makes volumes that are of the host and do not look it.
func disguised(t *testing.T, e *engine.Engine, rules *law) {
	for i, o := range []map[string]string{
		{"type": "sysfs", "device": "none"},
		{"type": "proc", "device": "none"},
		{"type": "devtmpfs", "device": "x"},
		{"type": "cgroup", "device": "x", "o": "memory"},
		{"type": "cgroup2", "device": "x"},
		{"type": "debugfs", "device": "x"},
		{"type": "tmpfs", "device": "etc", "o": "bind"},
		{"type": "nfs", "device": "etc", "o": "rw,rbind"},
		{"type": "none", "device": "/var/run/../etc", "o": "bind"},
		{"type": "none", "device": "var/run/../etc", "o": "bind"},
		{"type": "overlay", "device": "overlay", "o": `lowerdir=/e\tc:/tmp`},
		{"type": "overlay", "device": "x", "o": `upperdir=/e\tc,lowerdir=/tmp,workdir=/tmp`},
		{"type": "overlay", "device": "x", "o": `lowerdir=/tmp:/var/run/../etc`},
	} {
		t.Run(fmt.Sprint(o), func(t *testing.T) {
			rules.set(nil)
			name := fmt.Sprintf("sly%d", i)
			made, err := e.Client.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: name, Driver: "local", DriverOpts: o})
			if err != nil {
				t.Logf("not even made: %v", err)
				return
			}
			rules.set(by(t, "version: 1\nmode: enforce\nrules:\n  - use: dangerous-mounts\n"))
			id, err := e.Create(t.Context(), engine.Container{Image: shell, Change: func(_ *container.Config, h *container.HostConfig) { h.Binds = []string{made.Volume.Name + ":/mnt"} }})
			if err == nil {
				_, err = e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
				out, _, _ := e.Exec(t.Context(), id, "ls", "/mnt")
				t.Errorf("it is made; start: %v; in it: %.300s", err, out)
				return
			}
			if !strings.Contains(err.Error(), "denied by plugin") {
				t.Errorf("create = %v", err)
			}
		})
	}
}

// odd asks for what a container must not get, in ways that clients don't.
func odd(t *testing.T, e *engine.Engine, rules *law) {
	img := `"Image":"` + shell + `","Cmd":["sleep","9"]`
	policy := strings.Replace(usualPolicy, "[good.example]", "['**']", 1)
	rules.set(by(t, policy))
	plain := `{` + img + `,"User":"1000","HostConfig":{"NetworkMode":"none"}}`
	if code, answer := sent(t, e, "POST", "/v1.41/containers/create", inJSON(plain), plain); code != 201 {
		t.Fatalf("what is allowed: %d %s", code, answer)
	}
	for _, tc := range []struct{ name, body string }{
		{"no image", `{"Image":"","Cmd":["/h/bin/sh"],"HostConfig":{"Privileged":true,"Binds":["/:/h"]}}`},
		{"no image at all", `{"Cmd":["/h/bin/sh"],"HostConfig":{"Privileged":true,"Binds":["/:/h"]}}`},
		{"label disable", `{` + img + `,"HostConfig":{"SecurityOpt":["disable"]}}`},
		{"a profile that lets all pass by name", `{` + img + `,"HostConfig":{"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"mount\",\"unshare\",\"ptrace\",\"bpf\",\"setns\",\"open_by_handle_at\",\"init_module\"],\"action\":\"SCMP_ACT_ALLOW\"}]}"]}}`},
		{"profile that traces", `{` + img + `,"HostConfig":{"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_TRACE\"}"]}}`},
		{"device by a link in the path", `{` + img + `,"HostConfig":{"Devices":[{"PathOnHost":"/var/run/../dev/kmsg","PathInContainer":"/dev/k","CgroupPermissions":"rwm"}]}}`},
		{"long s", `{` + img + `,"HoſtConfig":{"Privileged":true}}`},
		{"kelvin sign", `{` + img + `,"HostConfig":{"NetworKMode":"host"}}`},
		{"twice in two scripts", `{` + img + `,"HostConfig":{"NetworkMode":"none","NetworKMode":"host"}}`},
		{"privileged by escapes", `{` + img + `,"HostConfig":{"\u0050rivileged":true}}`},
		{"then null", `{` + img + `,"HostConfig":{"Privileged":true},"hostconfig":null}`},
		{"capability in a long s", `{` + img + `,"HostConfig":{"CapAdd":["ſys_admin"]}}`},
		{"capability with space", `{` + img + `,"HostConfig":{"CapAdd":[" sys_admin "]}}`},
		{"all published", `{` + img + `,"ExposedPorts":{"22/tcp":{}},"HostConfig":{"PublishAllPorts":true}}`},
		{"ports beyond what is kept", `{` + img + `,"HostConfig":{"PortBindings":{"80/tcp":[` + strings.Repeat(`{},`, 5000) + `{}],"22/tcp":[{}]}}}`},
		{"mount source in a roundabout way", `{` + img + `,"HostConfig":{"Mounts":[{"Type":"bind","Source":"/var/../etc","Target":"/x"}]}}`},
		{"mount of upper case", `{` + img + `,"HostConfig":{"Mounts":[{"Type":"BIND","Source":"/etc","Target":"/x"}]}}`},
		{"process of the host by a link", `{` + img + `,"HostConfig":{"Binds":["/proc/self/root/etc:/x"]}}`},
		{"device rule", `{` + img + `,"HostConfig":{"DeviceCgroupRules":["a *:* rwm"]}}`},
		{"volume made with the container", `{` + img + `,"HostConfig":{"Mounts":[{"Type":"volume","Source":"nv","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"sysfs","device":"none"}}}}]}}`},
		{"number as text", `{` + img + `,"HostConfig":{"Privileged":"true"}}`},
		{"byte order mark", "\ufeff" + `{` + img + `,"HostConfig":{"Privileged":true}}`},
		{"an array", `[{` + img + `,"HostConfig":{"Privileged":true}}]`},
		{"invalid UTF-8", `{` + img + ",\"X\xff\":1," + `"HostConfig":{"Privileged":true}}`},
		{"not a number", `{` + img + `,"HostConfig":{"Privileged":true,"Memory":NaN}}`},
		{"root by a sign", `{` + img + `,"User":"+0","HostConfig":{"NetworkMode":"none"}}`},
		{"root by another sign", `{` + img + `,"User":"-0:5","HostConfig":{"NetworkMode":"none"}}`},
		{"annotations", `{` + img + `,"HostConfig":{"Privileged":true,"Annotations":{"a":"b"}}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules.set(by(t, policy))
			if strings.HasPrefix(tc.name, "root") {
				rules.set(by(t, policy+"  - use: root-user\n"))
			}
			code, answer := sent(t, e, "POST", "/v1.41/containers/create", inJSON(tc.body), tc.body)
			if code < 300 {
				t.Errorf("the engine answers %d: %s", code, answer)
			} else if code != 403 {
				t.Logf("the engine itself answers %d: %s", code, answer)
			}
		})
	}
}

// namedAnew gives an image from nowhere a name of the allowed registry.
func namedAnew(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(nil)
	if code, answer := sent(t, e, "POST", "/v1.41/images/"+shell+"/tag?"+url.Values{"repo": {"good.example/app"}, "tag": {"1"}}.Encode(), []string{"Content-Length: 0"}, ""); code != 201 {
		t.Fatalf("%d %s", code, answer)
	}
	rules.set(by(t, usualPolicy))
	id, err := e.Create(t.Context(), engine.Container{Image: "good.example/app:1"})
	if err == nil {
		_, err = e.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
		t.Errorf("it is made; start: %v", err)
	}
}

// nameLost calls a container by a name that is the beginning of another's id, and
// removes it between the decision and the start.
func nameLost(t *testing.T, e *engine.Engine, rules *law) {
	ctx := t.Context()
	rules.set(nil)
	evil, err := e.Create(ctx, engine.Container{Image: shell, Cmd: []string{"sleep", "60"}, Labels: map[string]string{"evil": "yes"}})
	if err != nil {
		t.Fatal(err)
	}
	good, err := e.Create(ctx, engine.Container{Image: shell, Name: evil[:12]})
	if err != nil {
		t.Fatal(err)
	}
	rules.set(func(r admission.Request) string {
		switch {
		case len(r.Task.Containers) > 0 && r.Task.Containers[0].Labels["evil"] != "":
			return "it is evil"
		case r.Call.Name == "container start":
			if err := e.Remove(ctx, good); err != nil {
				t.Error(err)
			}
		}
		return ""
	})
	_, err = e.Client.ContainerStart(ctx, evil[:12], client.ContainerStartOptions{})
	refusedBy(t, "start", err, "beginning of another's id")
	if got := status(t, e, evil); got != container.StateCreated {
		t.Errorf("container is %s, want it created", got)
	}
	rules.set(nil)
	if _, err := e.Client.ContainerStart(ctx, good, client.ContainerStartOptions{}); err != nil {
		t.Errorf("start by its id = %v", err)
	}
}
