package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/adapter/ecs"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/test/docker/engine"
)

// ecsPolicy is for a host of ECS with tasks of their own network (awsvpc), of whose
// families one may be looked into by ECS Exec.
const ecsPolicy = `version: 1
mode: enforce
scopes:
  - name: looked into
    where: {family: storefront}
    mode: enforce
    rules: {exec: audit}
rules:
  - use: privileged
  - use: host-network
  - use: host-namespaces
    with: {containers: false}
  - use: dangerous-mounts
  - use: host-mounts
  - use: capabilities
  - use: unconfined
  - use: memory-limit
  - use: cgroup-parent
  - use: exec
  - use: load
  - use: plugins
  - use: engine-changes
  - use: task-faults
  - use: secrets-in-environment
  - use: families
    with: {allowed: [storefront]}
`

// ecsAgent stands in for the agent of ECS: it tells which containers it is about to
// make, and makes the calls that the real one makes, in its order.
type ecsAgent struct {
	t      *testing.T
	engine *engine.Engine
	prefix string // of the version in which it speaks

	mu         sync.Mutex
	containers []map[string]string
}

func (a *ecsAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var answer any
	switch r.URL.Path {
	case "/v1/metadata":
		answer = map[string]string{"Cluster": "shop", "ContainerInstanceArn": "arn:aws:ecs:eu-west-1:123456789012:container-instance/shop/1"}
	case "/v1/tasks":
		answer = map[string]any{"Tasks": []map[string]any{{"Arn": taskARN, "Family": "storefront", "Version": "7", "Containers": a.containers}}}
	}
	_ = json.NewEncoder(w).Encode(answer) // whoever asks sees what is missing
}

// tells has it tell of a container. Those that it makes for itself it doesn't.
func (a *ecsAgent) tells(name, docker, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.containers {
		if c["DockerName"] == docker {
			c["DockerId"] = id
			return
		}
	}
	a.containers = append(a.containers, map[string]string{"Name": name, "DockerName": docker, "DockerId": id})
}

// calls makes one call and returns the answer.
func (a *ecsAgent) calls(method, path, body string) string {
	a.t.Helper()
	headers := []string{"Content-Length: 0"}
	if body != "" {
		headers = inJSON(body)
	}
	code, answer := sent(a.t, a.engine, method, a.prefix+path, headers, body)
	if code >= 300 {
		a.t.Fatalf("%s %s: the engine answers %d: %s", method, path, code, answer)
	}
	return answer
}

// makes creates and starts a container of the task.
func (a *ecsAgent) makes(name string, internal bool, config map[string]any) string {
	a.t.Helper()
	l := labels(name)
	config["Labels"] = l
	docker := "ecs-storefront-7-" + strings.Trim(name, "~") + "-fcae8ac8f9f1d89d8301"
	docker = strings.ReplaceAll(docker, "~", "")
	if !internal {
		a.tells(name, docker, "")
	}
	body, err := json.Marshal(config)
	if err != nil {
		a.t.Fatal(err)
	}
	var made struct {
		ID string `json:"Id"`
	}
	answer := a.calls("POST", "/containers/create?name="+docker, string(body))
	if err := json.Unmarshal([]byte(answer), &made); err != nil || made.ID == "" {
		a.t.Fatalf("create answers %s: %v", answer, err)
	}
	if !internal {
		a.tells(name, docker, made.ID)
	}
	a.calls("POST", "/containers/"+made.ID+"/start", "")
	a.calls("GET", "/containers/"+made.ID+"/json", "")
	return made.ID
}

// pauseImage is the agent's own, and its id: that is what is in it, on any engine.
func pauseImage(t *testing.T) (engine.Image, string) {
	t.Helper()
	pause, err := engine.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	pause.Reference, pause.Cmd, pause.Labels = "amazon/amazon-ecs-pause:0.1.0", []string{"sleep", "3600"}, map[string]string{"pause": "yes"}
	e := engine.ForTest(t, engine.Options{})
	if err := e.Load(t.Context(), pause); err != nil {
		t.Fatal(err)
	}
	in, err := e.Client.ImageInspect(t.Context(), pause.Reference)
	if err != nil {
		t.Fatal(err)
	}
	return pause, in.ID
}

// ofECS starts an engine under a plugin that knows what the agent of ECS tells, and
// its pause image.
func ofECS(t *testing.T, pause string) (*ecsAgent, *law) {
	t.Helper()
	a := &ecsAgent{t: t}
	tells := httptest.NewServer(a)
	t.Cleanup(tells.Close)
	identify := ecs.New(ecs.Options{IntrospectionURL: tells.URL}, slog.New(slog.DiscardHandler))
	e, rules := guardedAs(t, engine.Options{}, authz.Options{
		Trusted: []string{pause}, Judge: scan.JudgeContainers,
		Task: func(ctx context.Context, id, name string) (asset.ECS, bool) {
			of, _ := identify.Task(ctx, id, name)
			return of, false
		},
	})
	a.engine, a.prefix = e, "/v1.25"
	ping, err := e.Client.Ping(t.Context(), client.PingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !versions.LessThan(ping.APIVersion, "1.44") {
		a.prefix = "/v1.44"
	}
	return a, rules
}

// TestCallsOfTheECSAgent makes the calls that the agent of ECS makes for a task in a
// network of its own, under a policy that is enforced: all of them pass. The same
// by somebody else, with the same labels, does not.
func TestCallsOfTheECSAgent(t *testing.T) {
	pause, pauseID := pauseImage(t)
	a, rules := ofECS(t, pauseID)
	e, ctx := a.engine, t.Context()
	if err := e.Load(ctx, pause); err != nil { // where the host's image is built
		t.Fatal(err)
	}
	rules.set(by(t, ecsPolicy))

	for _, path := range []string{"/_ping", "/version", "/info", "/plugins", "/containers/json?all=1", "/images/json", "/images/" + pause.Reference + "/json"} {
		a.calls("GET", path, "")
	}
	a.calls("POST", "/volumes/create", `{"Name":"ecs-storefront-7-data-1","Driver":"local","DriverOpts":null,"Labels":null}`)
	a.calls("GET", "/volumes/ecs-storefront-7-data-1", "")
	first := a.makes("~internal~ecs~pause", true, map[string]any{"Image": pause.Reference, "HostConfig": map[string]any{"NetworkMode": "none"}})
	app := a.makes("web", false, ecsContainer(first))

	a.calls("GET", "/containers/"+app+"/top", "")
	a.calls("GET", "/containers/"+app+"/logs?stdout=1&stderr=1", "")
	a.calls("GET", "/containers/"+app+"/stats?stream=0", "")
	a.calls("GET", "/events?since=0&until=1", "")
	healthy(t, e, app)
	if out, code, err := e.Exec(ctx, app, "echo", "hello"); err != nil || code != 0 || out != "hello\n" { // ECS Exec
		t.Errorf("exec = %q, %d, %v", out, code, err)
	}
	a.calls("POST", "/containers/"+app+"/update", `{"Memory":134217728,"MemorySwap":134217728}`)
	impostors(t, a, ecsContainer(first))
	for _, id := range []string{app, first} {
		a.calls("POST", "/containers/"+id+"/stop?t=1", "")
		a.calls("DELETE", "/containers/"+id+"?v=1", "")
	}
	a.calls("DELETE", "/volumes/ecs-storefront-7-data-1", "")
	a.calls("DELETE", "/images/"+pause.Reference, "")
}

// ecsContainer is what the agent of ECS asks for, nulls and all.
func ecsContainer(pause string) map[string]any {
	return map[string]any{
		"Image": shell, "Cmd": []string{"sleep", "3600"}, "Entrypoint": nil, "User": "1000", "WorkingDir": "", "Hostname": "", "Volumes": nil, "ExposedPorts": nil,
		"Env": []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1", "AWS_EXECUTION_ENV=AWS_ECS_EC2",
			"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/1", "DB_PASSWORD=hunter2hunter2X9"}, // by its secrets
		"Healthcheck": map[string]any{"Test": []string{"CMD-SHELL", "true"}, "Interval": time.Second, "Timeout": 5 * time.Second, "Retries": 3},
		"HostConfig": map[string]any{"NetworkMode": "container:" + pause, "Binds": []string{"ecs-storefront-7-data-1:/data"}, "Memory": 64 << 20, "MemoryReservation": 32 << 20,
			"CpuShares": 256, "Links": nil, "CapAdd": nil, "CapDrop": []string{"NET_RAW"}, "LogConfig": map[string]any{"Type": "json-file", "Config": map[string]string{}},
			"Ulimits": []map[string]any{{"Name": "nofile", "Soft": 1024, "Hard": 4096}}, "VolumesFrom": []string{}, "PortBindings": map[string]any{}, "PidMode": "", "IpcMode": "",
			"CgroupParent": "/ecs/" + taskID, "Init": true, "ReadonlyRootfs": true, "SecurityOpt": []string{"no-new-privileges"}, "Sysctls": nil},
		"NetworkingConfig": nil,
	}
}

// healthy waits until the engine, which asks no plugin for that, has found it so.
func healthy(t *testing.T, e *engine.Engine, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		in, err := e.Client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if h := in.Container.State.Health; h != nil && h.Status == container.Healthy {
			return
		}
		<-tick.C
	}
}

// impostors are containers that say that they are of the task, and calls that the
// agent of ECS does not make.
func impostors(t *testing.T, a *ecsAgent, config map[string]any) {
	config["Labels"], config["Env"] = labels("web"), nil
	body, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	// The policy would let it pass if it were believed.
	code, answer := sent(t, a.engine, "POST", a.prefix+"/containers/create?name=ecs-storefront-7-web-0000", inJSON(string(body)), string(body))
	if code != 403 || !strings.Contains(answer, "families: ") {
		t.Errorf("create with the task's labels: the engine answers %d: %s", code, answer)
	}
	// A name that the agent is about to use gets it made, but not started.
	a.tells("web", "ecs-storefront-7-web-1111", "")
	code, answer = sent(t, a.engine, "POST", a.prefix+"/containers/create?name=ecs-storefront-7-web-1111", inJSON(string(body)), string(body))
	if code != 201 {
		t.Fatalf("create by a name of the agent's: the engine answers %d: %s", code, answer)
	}
	code, answer = sent(t, a.engine, "POST", a.prefix+"/containers/ecs-storefront-7-web-1111/start", []string{"Content-Length: 0"}, "")
	if code != 403 || !strings.Contains(answer, "families: ") {
		t.Errorf("start of it: the engine answers %d: %s", code, answer)
	}
	a.calls("DELETE", "/containers/ecs-storefront-7-web-1111?v=1", "")
	_, err = a.engine.Client.ImageLoad(t.Context(), bytes.NewReader(make([]byte, 1024)))
	refusedBy(t, "image load", err, "load: ")
	if code, answer = sent(t, a.engine, "POST", a.prefix+"/containers/create", inJSON(fmt.Sprintf(`{"Image":%q}`, shell)), fmt.Sprintf(`{"Image":%q}`, shell)); code != 403 {
		t.Errorf("create without labels: the engine answers %d: %s", code, answer)
	}
}
