package ecs_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/ecs"
	"github.com/castellan-security/castellan/internal/asset"
)

// endpoint answers paths with files of testdata, or with text, and counts.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
}

func serve(t *testing.T, answers map[string]string) *endpoint {
	t.Helper()
	e := &endpoint{asked: map[string]int{}}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.asked[r.URL.Path]++
		e.mu.Unlock()
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(answer, ".json") {
			http.ServeFile(w, r, filepath.Join("testdata", answer))
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) count(path string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[path]
}

func id(digit string) string { return strings.Repeat(digit, 64) }

func identify(t *testing.T, o ecs.Options, ws ...asset.Workload) []asset.Workload {
	t.Helper()
	ecs.New(o, slog.New(slog.DiscardHandler)).Identify(t.Context(), ws)
	return ws
}

// Nothing listens there: the discard port on loopback.
const nobody = "http://127.0.0.1:9"

func TestIdentify(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	web := asset.ECS{
		Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Family: "storefront", Revision: "8",
		TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/shop/0123456789abcdef0123456789abcdef",
		TaskID:  "0123456789abcdef0123456789abcdef", Container: "web",
	}
	agent := asset.ECS{
		Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Service: "castellan-agents", Family: "castellan", Revision: "26",
		TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/shop/fedcba9876543210fedcba9876543210",
		TaskID:  "fedcba9876543210fedcba9876543210", Container: "agent",
	}
	with := func(e asset.ECS, change func(*asset.ECS)) asset.ECS { change(&e); return e }
	tests := []struct {
		name    string
		answers map[string]string
		in      asset.Workload
		want    asset.ECS
		group   asset.Group
	}{
		{"introspection tells all but the service",
			map[string]string{"/v1/tasks": "tasks.json"},
			asset.Workload{ID: id("1")}, web, "shop/storefront/web"},
		{"labels are kept",
			map[string]string{"/v1/tasks": "tasks.json"},
			asset.Workload{ID: id("1"), ECS: asset.ECS{Family: "labelled"}},
			with(web, func(e *asset.ECS) { e.Family = "labelled" }), "shop/labelled/web"},
		{"another task's word is not taken",
			map[string]string{"/v1/tasks": "tasks.json"},
			asset.Workload{ID: id("1"), Name: "n", ECS: asset.ECS{TaskARN: "arn:other"}},
			asset.ECS{TaskARN: "arn:other"}, "docker/n"},
		{"old task ARN takes the cluster from the instance",
			map[string]string{"/v1/tasks": "tasks-old.json", "/v1/metadata": "metadata.json"},
			asset.Workload{ID: id("4")},
			asset.ECS{
				Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Family: "worker", Revision: "6",
				TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/090eff9b-1ce3-4db6-848a-a8d14064fd24",
				TaskID:  "090eff9b-1ce3-4db6-848a-a8d14064fd24", Container: "worker",
			}, "shop/worker/worker"},
		{"task with a broken ARN is left out",
			map[string]string{"/v1/tasks": "tasks-old.json"},
			asset.Workload{ID: id("5"), Name: "n"}, asset.ECS{}, "docker/n"},
		{"container that is not ECS's",
			map[string]string{"/v1/tasks": "tasks.json"},
			asset.Workload{ID: id("9"), Name: "by-hand"}, asset.ECS{}, "docker/by-hand"},
		{"own task tells the service",
			map[string]string{"/v4/x/task": "task-v4.json"},
			asset.Workload{ID: id("7")}, agent, "shop/castellan-agents/agent"},
		{"own task's other container, known by labels",
			map[string]string{"/v4/x/task": "task-v4.json"},
			asset.Workload{ID: id("9"), ECS: with(agent, func(e *asset.ECS) { e.Service, e.Container = "", "late" })},
			with(agent, func(e *asset.ECS) { e.Container = "late" }), "shop/castellan-agents/late"},
		{"pause container is a workload like others",
			map[string]string{"/v4/x/task": "task-v4.json"},
			asset.Workload{ID: id("6")}, with(agent, func(e *asset.ECS) { e.Container = "~internal~ecs~pause" }),
			"shop/castellan-agents/~internal~ecs~pause"},
		{"nobody answers", nil, asset.Workload{ID: id("1"), Name: "n"}, asset.ECS{}, "docker/n"},
		{"not JSON", map[string]string{"/v1/tasks": "<html>", "/v4/x/task": "{"},
			asset.Workload{ID: id("1"), Name: "n"}, asset.ECS{}, "docker/n"},
		{"endless answer", map[string]string{"/v4/x/task": strings.Repeat(" ", 2<<20) + "{}"},
			asset.Workload{ID: id("7"), Name: "n"}, asset.ECS{}, "docker/n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, tt.answers)
			got := identify(t, ecs.Options{IntrospectionURL: e.URL, MetadataURL: e.URL + "/v4/x"}, tt.in)[0]
			if diff := cmp.Diff(tt.want, got.ECS); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
			if got.Group != tt.group {
				t.Errorf("group = %q, want %q", got.Group, tt.group)
			}
		})
	}
}

func TestInstance(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	const arn = "arn:aws:ecs:eu-west-1:123456789012:container-instance/shop/1dfbe5e2cf0b4a1fb0e8a1a4a7f0c3d2"
	for _, tt := range []struct{ name, answer, arn, cluster string }{
		{"answer of the agent", "metadata.json", arn, "shop"},
		{"nobody", "", "", ""},
		{"hostile ARN", `{"Cluster":"shop","ContainerInstanceArn":"arn:aws:ecs:x:1:container-instance/\u001b[2J"}`, "", "shop"},
		{"hostile cluster", `{"Cluster":"a/b","ContainerInstanceArn":"` + arn + `"}`, arn, ""},
		{"of another world", `{"hello":"world"}`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := map[string]string{}
			if tt.answer != "" {
				answers["/v1/metadata"] = tt.answer
			}
			i := ecs.New(ecs.Options{IntrospectionURL: serve(t, answers).URL}, slog.New(slog.DiscardHandler))
			if a, c := i.Instance(t.Context()); a != tt.arn || c != tt.cluster {
				t.Errorf("Instance() = %q, %q, want %q, %q", a, c, tt.arn, tt.cluster)
			}
		})
	}
}

// A container that labels describe in full costs no question at all; one that
// is unknown costs one a second; an endpoint that is away one a minute.
func TestQuestionsAreFew(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	full := asset.ECS{Cluster: "c", Family: "f", Revision: "1", TaskARN: "arn", Container: "x"}
	tests := []struct {
		name    string
		answers map[string]string
		w       asset.Workload
		want    int
	}{
		{"labels say all", map[string]string{"/v1/tasks": "tasks.json"}, asset.Workload{ID: id("1"), ECS: full}, 0},
		{"known container", map[string]string{"/v1/tasks": "tasks.json"}, asset.Workload{ID: id("1")}, 1},
		{"unknown container", map[string]string{"/v1/tasks": "tasks.json"}, asset.Workload{ID: id("9")}, 1},
		{"endpoint away", nil, asset.Workload{ID: id("1")}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := serve(t, tt.answers)
			i := ecs.New(ecs.Options{IntrospectionURL: e.URL}, slog.New(slog.DiscardHandler))
			for range 10 {
				i.Identify(t.Context(), []asset.Workload{tt.w})
			}
			if got := e.count("/v1/tasks"); got != tt.want {
				t.Errorf("asked %d times, want %d", got, tt.want)
			}
		})
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	elsewhere := serve(t, map[string]string{"/v1/tasks": "tasks.json"})
	redirecting := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/v1/tasks", http.StatusFound))
	t.Cleanup(redirecting.Close)
	got := identify(t, ecs.Options{IntrospectionURL: redirecting.URL}, asset.Workload{ID: id("1")})[0]
	if got.ECS != (asset.ECS{}) || elsewhere.count("/v1/tasks") != 0 {
		t.Errorf("identity = %+v after a redirect that was followed %d times, want none", got.ECS, elsewhere.count("/v1/tasks"))
	}
}

// An endpoint that accepts and never answers costs its time limit, and a
// cancelled context less.
func TestSilentEndpoint(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i := ecs.New(ecs.Options{IntrospectionURL: silent.URL}, slog.New(slog.DiscardHandler))
	if arn, _ := i.Instance(ctx); arn != "" {
		t.Errorf("Instance of a silent endpoint = %q, want none", arn)
	}
	ws := []asset.Workload{{ID: id("1"), Name: "n"}}
	i.Identify(t.Context(), ws) // returns by itself, or the test times out
	if ws[0].ECS != (asset.ECS{}) {
		t.Errorf("identity by a silent endpoint = %+v, want none", ws[0].ECS)
	}
}

func TestMetadataAddressFromEnvironment(t *testing.T) {
	e := serve(t, map[string]string{"/v4/own/task": "task-v4.json"})
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", e.URL+"/v4/own")
	got := identify(t, ecs.Options{IntrospectionURL: nobody}, asset.Workload{ID: id("7")})[0]
	if got.ECS.Service != "castellan-agents" {
		t.Errorf("service = %q, want %q", got.ECS.Service, "castellan-agents")
	}
}

// The ECS agent names a container before it makes it, and gives its id before it
// starts it: neither waits for an answer of a minute ago to grow old.
func TestTaskOfAContainer(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	const arn = "arn:aws:ecs:eu-west-1:123456789012:task/shop/0123456789abcdef0123456789abcdef"
	answer := func(containers string) string {
		return `{"Tasks":[{"Arn":"` + arn + `","Family":"cart","Version":"3","Containers":[` + containers + `]}]}`
	}
	var says atomic.Pointer[string]
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := says.Load(); s != nil {
			_, _ = w.Write([]byte(*s))
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(agent.Close)
	i := ecs.New(ecs.Options{IntrospectionURL: agent.URL}, slog.New(slog.DiscardHandler))
	none, named := answer(""), answer(`{"DockerId":"","DockerName":"ecs-cart-3-app-1","Name":"app"}`)
	made := answer(`{"DockerId":"` + id("1") + `","DockerName":"ecs-cart-3-app-1","Name":"app"}`)
	for _, tt := range []struct {
		name           string
		says           *string
		id, called     string
		known, answers bool
	}{
		{"before there is a task", &none, "", "ecs-cart-3-app-1", false, true},
		{"when it is about to be made", &named, "", "ecs-cart-3-app-1", true, true},
		{"by a name that is not the agent's", &named, "", "ecs-cart-3-app-2", false, true},
		{"before its id is known", &named, id("1"), "", false, true},
		{"when it is about to start", &made, id("1"), "", true, true},
		{"by the name of one that is there", &made, "", "ecs-cart-3-app-1", false, true},
		{"without a name", &made, "", "", false, true},
		{"by the id, while the agent is away", nil, id("1"), "", true, true},
		{"another id, while it is away", nil, id("2"), "", false, false},
	} {
		says.Store(tt.says)
		e, answers := i.Task(t.Context(), tt.id, tt.called)
		if known := e.TaskARN == arn && e.Family == "cart" && e.Container == "app" && e.Cluster == "shop"; known != tt.known || answers != tt.answers || !known && e != (asset.ECS{}) {
			t.Errorf("%s: %+v, %t; want it known: %t, %t", tt.name, e, answers, tt.known, tt.answers)
		}
	}
}
