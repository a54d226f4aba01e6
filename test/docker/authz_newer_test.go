package docker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/castellan-security/castellan/internal/adapter/docker"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// newer skips a test whose engine does not speak a version of the interface; that
// of CASTELLAN_TEST_DOCKERD may.
func newer(t *testing.T, e *engine.Engine, version string) {
	t.Helper()
	ping, err := e.Client.Ping(t.Context(), client.PingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if versions.LessThan(ping.APIVersion, version) {
		t.Skipf("the engine speaks %s, and this is about %s: name a newer one with %s", ping.APIVersion, version, engine.DockerdEnv)
	}
}

// TestNewerEngines asks engines that have images with containerd, as they do since
// Docker 29, for what older ones don't have.
func TestNewerEngines(t *testing.T) {
	if os.Getenv(engine.DockerdEnv) == "" {
		t.Skipf("this is about engines from 29 on: name one with %s", engine.DockerdEnv)
	}
	e, rules := guardedBy(t, engine.Options{Snapshots: true})
	newer(t, e, "1.48")
	t.Run("names of images", func(t *testing.T) { namedAnew(t, e, rules) })
	t.Run("an image that was pulled", func(t *testing.T) { pulled(t, e, rules) })
	t.Run("ways around", func(t *testing.T) {
		odd(t, e, rules)
		nameLost(t, e, rules)
		tagMoves(t, e, rules)
		hidden(t, e, rules)
	})
	t.Run("settings", func(t *testing.T) { newSettings(t, e, rules) })
	t.Run("images that are mounted", func(t *testing.T) { imagesMounted(t, e, rules) })
	t.Run("the builder", func(t *testing.T) { builder(t, e, rules) })
}

// pulled pulls an image from a registry, whose it is then, and gives it the name of
// another, whose it is not.
func pulled(t *testing.T, e *engine.Engine, rules *law) {
	ctx := t.Context()
	rules.set(nil)
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(hub.Close)
	at := strings.TrimPrefix(hub.URL, "http://")
	there := at + "/shop/app:1"
	all := func(what string, r io.ReadCloser, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		said, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || strings.Contains(string(said), `"error"`) {
			t.Fatalf("%s: %v, %s", what, err, said)
		}
	}
	other, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	other.Reference, other.Labels = there, map[string]string{"of": "a registry"}
	if err := e.Load(ctx, other); err != nil {
		t.Fatal(err)
	}
	policy := strings.Replace(usualPolicy, "good.example", at, 1)
	rules.set(by(t, policy))
	if _, err := e.Create(ctx, engine.Container{Image: there}); err == nil {
		t.Error("an image that was loaded passes for one of the registry that its tag names")
	}
	rules.set(nil)
	push, err := e.Client.ImagePush(ctx, there, client.ImagePushOptions{})
	all("push", push, err)
	if _, err := e.Client.ImageRemove(ctx, there, client.ImageRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	pull, err := e.Client.ImagePull(ctx, there, client.ImagePullOptions{})
	all("pull", pull, err)
	if _, err := e.Client.ImageTag(ctx, client.ImageTagOptions{Source: there, Target: "better.example/app:1"}); err != nil {
		t.Fatal(err)
	}
	rules.set(by(t, policy))
	if _, err := e.Run(ctx, engine.Container{Image: there, Remove: true}); err != nil {
		t.Errorf("an image of the registry does not run: %v", err)
	}
	rules.set(by(t, strings.Replace(usualPolicy, "good.example", "better.example", 1)))
	_, err = e.Create(ctx, engine.Container{Image: "better.example/app:1"})
	refusedBy(t, "create by the name of another registry", err, "registry: ")
}

// newSettings asks for what a container must not get by settings of newer engines.
func newSettings(t *testing.T, e *engine.Engine, rules *law) {
	policy := strings.Split(usualPolicy, "  - use: registry")[0] + "  - use: sysctls\n  - use: runtime\n"
	img := `"Image":"` + shell + `","Cmd":["sleep","9"],"User":"1000"`
	for _, tc := range []struct{ name, body string }{
		{"plain", `{` + img + `,"HostConfig":{"NetworkMode":"none","Umask":18}}`},
		{"cgroups that can be written to", `{` + img + `,"HostConfig":{"NetworkMode":"none","SecurityOpt":["writable-cgroups"]}}`},
		{"cgroups by a value", `{` + img + `,"HostConfig":{"NetworkMode":"none","SecurityOpt":["writable-cgroups=T"]}}`},
		{"settings of an interface", `{` + img + `,"NetworkingConfig":{"EndpointsConfig":{"none":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.route_localnet=1"}}}}}`},
		{"a device by CDI", `{` + img + `,"HostConfig":{"NetworkMode":"none","DeviceRequests":[{"Driver":"cdi","DeviceIDs":["vendor.com/disk=all"]}]}}`},
		{"another runtime", `{` + img + `,"HostConfig":{"NetworkMode":"none","Runtime":"io.containerd.other.v1"}}`},
		{"a subpath of a volume that is of the host", `{` + img + `,"HostConfig":{"NetworkMode":"none","Mounts":[{"Type":"volume","Source":"sub","Target":"/x","VolumeOptions":{"Subpath":"etc","DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/"}}}}]}}`},
		{"a mount of a cluster", `{` + img + `,"HostConfig":{"NetworkMode":"none","Mounts":[{"Type":"cluster","Source":"v","Target":"/x"}]}}`},
		{"a field that nobody knows", `{` + img + `,"HostConfig":{"NetworkMode":"none","Future":true}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules.set(by(t, policy))
			code, answer := sent(t, e, "POST", "/containers/create", inJSON(tc.body), tc.body)
			if want := tc.name == "plain"; want != (code == 201) || !want && code != 403 {
				t.Errorf("the engine answers %d: %s", code, answer)
			}
		})
	}
}

// imagesMounted mounts an image into a container of another, and runs what is there.
func imagesMounted(t *testing.T, e *engine.Engine, rules *law) {
	ctx := t.Context()
	rules.set(nil)
	evil, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	evil.Reference, evil.Labels = "evil:1", map[string]string{"evil": "yes"}
	if err := e.Load(ctx, evil); err != nil {
		t.Fatal(err)
	}
	in, err := e.Client.ImageInspect(ctx, "evil:1")
	if err != nil {
		t.Fatal(err)
	}
	with := func(source string) engine.Container {
		return engine.Container{Image: shell, Cmd: []string{"/x/bin/sh", "-c", "sleep 60"}, Change: func(_ *container.Config, h *container.HostConfig) {
			h.Mounts = []mount.Mount{{Type: mount.TypeImage, Source: source, Target: "/x"}}
		}}
	}
	early, err := e.Create(ctx, with(in.ID))
	if err != nil {
		t.Fatal(err)
	}
	rules.set(deny("its image is evil", func(r admission.Request) bool {
		for i := range r.Task.Containers {
			for _, img := range r.Task.Containers[i].Images() {
				if img.ID == in.ID {
					return true
				}
			}
		}
		return false
	}))
	_, err = e.Create(ctx, with(in.ID))
	refusedBy(t, "create", err, "its image is evil")
	_, err = e.Create(ctx, with("evil:1"))
	refusedBy(t, "create by a tag", err, "named by a tag")
	_, err = e.Client.ContainerStart(ctx, early, client.ContainerStartOptions{})
	refusedBy(t, "start", err, "its image is evil")
	heir, err := e.Create(ctx, engine.Container{Image: shell, Change: func(_ *container.Config, h *container.HostConfig) { h.VolumesFrom = []string{early} }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Client.ContainerStart(ctx, heir, client.ContainerStartOptions{})
	refusedBy(t, "start with the volumes of that container", err, "its image is evil")
}

// builder asks for the ways to BuildKit.
func builder(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(deny("no builds", func(r admission.Request) bool { return r.Action == admission.Build }))
	for _, tc := range []struct{ name, uri string }{
		{"session", "/session"}, {"grpc", "/grpc"}, {"a build by BuildKit", "/build?" + url.Values{"version": {"2"}, "remote": {"client-session"}}.Encode()},
	} {
		code, answer := sent(t, e, "POST", tc.uri, []string{"Upgrade: h2c", "Content-Length: 0"}, "")
		if code != 403 || !strings.Contains(answer, "no builds") {
			t.Errorf("%s: the engine answers %d: %s", tc.name, code, answer)
		}
	}
	rules.set(deny("no containers", func(r admission.Request) bool { return r.Action == admission.Run }))
	code, answer := overHTTP2(t, e, "/containers/create", "application/json", []byte(`{"Image":"`+shell+`"}`))
	if code != 403 || !strings.Contains(answer, "no containers") {
		t.Errorf("HTTP/2: the engine answers %d: %s", code, answer)
	}
	// The one way past the plugin: docs/admission-docker.md tells of it, and the agent
	// warns. Should an engine close it, this is where that shows.
	door, err := docker.New(docker.Options{Host: e.Host()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := door.Reader()
	defer r.Close()
	if unasked, err := r.BuildsUnasked(t.Context()); !unasked || err != nil {
		t.Errorf("the engine builds unasked: %t, %v", unasked, err)
	}
	rules.set(nil)
	if code, answer := overHTTP2(t, e, "/moby.buildkit.v1.Control/ListWorkers", "application/grpc", make([]byte, 5)); code != 200 || !strings.Contains(answer, "moby") {
		t.Errorf("gRPC: the engine answers %d %q: tell in the documentation that it asks plugins now", code, answer)
	}
	rules.mu.Lock()
	defer rules.mu.Unlock()
	if len(rules.asked) > 0 {
		t.Errorf("gRPC: the plugin is asked %+v: tell that in the documentation", rules.asked)
	}
}

// overHTTP2 sends a call in HTTP/2 without TLS.
func overHTTP2(t *testing.T, e *engine.Engine, path, kind string, body []byte) (int, string) {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	c := http.Client{Transport: &http.Transport{Protocols: &p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(e.Host(), "unix://"))
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Te", "trailers")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
