package storetest

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func sameAddr() cmp.Option { return cmp.Comparer(func(a, b netip.Addr) bool { return a == b }) }

// workload makes the n-th workload, created n minutes after the first.
func workload(n int, change ...func(*asset.Workload)) asset.Workload {
	w := asset.Workload{
		ID: fmt.Sprintf("%064x", n), AgentID: agentA, Name: fmt.Sprintf("web-%d", n),
		ECS:     asset.ECS{Cluster: "prod", Service: "shop", Container: "web", TaskID: fmt.Sprint(n)},
		Group:   "prod/shop/web",
		Image:   asset.Image{Reference: "registry.example/shop/web:1"},
		State:   asset.Running,
		PID:     100 + n,
		Created: base().Add(time.Duration(n) * time.Minute), Updated: base().Add(time.Duration(n) * time.Minute),
		Settings: asset.Settings{
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Ports:     []asset.Port{{Protocol: "tcp", Port: 80}},
			Mounts:    []asset.Mount{{Kind: "bind", Source: "/a", Target: "/b", ReadOnly: true}},
		},
	}
	for _, c := range change {
		c(&w)
	}
	return w
}

func ended(w *asset.Workload) {
	at, code := w.Created.Add(time.Hour), 1
	w.State, w.PID, w.Finished, w.ExitCode = asset.Exited, 0, &at, &code
}

func names(ws []asset.Workload) []string {
	var s []string
	for _, w := range ws {
		s = append(s, w.Name)
	}
	return s
}

func workloadCases() []testCase {
	return []testCase{
		{"every field comes back", func(k *kit) {
			want := workload(1, ended)
			k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{want}))
			got, err := k.st.Workload(k.ctx, want.ID)
			k.ok(err)
			same(k, "workload", got, want, sameAddr())
		}},
		{"no such workload", func(k *kit) {
			_, err := k.st.Workload(k.ctx, "none")
			k.wantFault(err, fault.NotFound)
		}},
		{"put replaces", func(k *kit) {
			k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{workload(1)}))
			k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{workload(1, ended)}))
			got, err := k.st.Workload(k.ctx, workload(1).ID)
			k.ok(err)
			same(k, "state", got.State, asset.Exited)
		}},
		{"partial never replaces whole", func(k *kit) {
			partial := func(name string) asset.Workload {
				return workload(1, func(w *asset.Workload) { w.Partial, w.Name = true, name })
			}
			for _, step := range []struct {
				put  asset.Workload
				want string
			}{{partial("first"), "first"}, {partial("second"), "second"}, {workload(1), "web-1"}, {partial("third"), "web-1"}} {
				k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{step.put}))
				got, err := k.st.Workload(k.ctx, step.put.ID)
				k.ok(err)
				same(k, "name", got.Name, step.want)
			}
		}},
		{"running first, then newest", func(k *kit) {
			k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{workload(1), workload(2, ended), workload(3), workload(4, ended)}))
			got, err := k.st.Workloads(k.ctx, store.WorkloadQuery{})
			k.ok(err)
			same(k, "order", names(got), []string{"web-3", "web-1", "web-4", "web-2"})
		}},
		{"filters", workloadFilters},
		{"pages", workloadPages},
		{"behind what is gone", func(k *kit) {
			_, err := k.st.Workloads(k.ctx, store.WorkloadQuery{After: "none"})
			k.wantFault(err, fault.Invalid)
		}},
	}
}

func workloadFilters(k *kit) {
	k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{
		workload(1),
		workload(2, ended),
		workload(3, func(w *asset.Workload) { w.AgentID, w.Image.ID = agentB, "sha256:3" }),
		workload(4, func(w *asset.Workload) { w.Group, w.ECS = "docker/100%_odd", asset.ECS{} }),
	}))
	for name, c := range map[string]struct {
		q    store.WorkloadQuery
		want []string
	}{
		"agent":          {store.WorkloadQuery{AgentID: agentB}, []string{"web-3"}},
		"group":          {store.WorkloadQuery{Group: "docker/100%_odd"}, []string{"web-4"}},
		"cluster":        {store.WorkloadQuery{Cluster: "prod"}, []string{"web-3", "web-1", "web-2"}},
		"image":          {store.WorkloadQuery{ImageID: "sha256:3"}, []string{"web-3"}},
		"state":          {store.WorkloadQuery{States: []asset.State{asset.Exited, asset.Lost}}, []string{"web-2"}},
		"text of name":   {store.WorkloadQuery{Text: "B-2"}, []string{"web-2"}},
		"text of group":  {store.WorkloadQuery{Text: "100%_"}, []string{"web-4"}},
		"text of image":  {store.WorkloadQuery{Text: "registry.ex", Limit: 1}, []string{"web-4"}},
		"text of id":     {store.WorkloadQuery{Text: workload(3).ID}, []string{"web-3"}},
		"text of none":   {store.WorkloadQuery{Text: "w%4"}, nil},
		"several":        {store.WorkloadQuery{AgentID: agentA, Cluster: "prod", States: []asset.State{asset.Running}}, []string{"web-1"}},
		"nothing at all": {store.WorkloadQuery{Cluster: "none"}, nil},
	} {
		got, err := k.st.Workloads(k.ctx, c.q)
		k.ok(err)
		same(k, name, names(got), c.want)
	}
}

func workloadPages(k *kit) {
	var ws []asset.Workload
	for n := range 25 {
		ws = append(ws, workload(n, func(w *asset.Workload) {
			w.Created = base().Add(time.Duration(n/4) * time.Minute) // some at the same time
			if n%3 == 0 {
				ended(w)
			}
		}))
	}
	k.ok(k.st.PutWorkloads(k.ctx, ws))
	whole, err := k.st.Workloads(k.ctx, store.WorkloadQuery{})
	k.ok(err)
	same(k, "all", len(whole), len(ws))
	var paged []asset.Workload
	q := store.WorkloadQuery{Limit: 4}
	for {
		page, err := k.st.Workloads(k.ctx, q)
		k.ok(err)
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
		q.After = page[len(page)-1].ID
	}
	same(k, "pages", names(paged), names(whole))
}

func agentCases() []testCase {
	agent := func(id, host string) asset.Agent {
		return asset.Agent{
			ID: id, Boot: bootA, Hostname: host, Started: base(), Seen: base().Add(time.Second),
			Host:    asset.Host{Kernel: "6.1", Missing: []string{"no BTF"}},
			Sensors: []asset.Sensor{{Name: "process", State: asset.SensorFailed, Reason: "not root"}},
			Rungs:   []asset.Rung{{Control: "exec", Best: "lsm", Enforces: true, Why: "probed"}},
			Losses:  []asset.Loss{{Where: "kernel", Count: 3}},
		}
	}
	return []testCase{
		{"put, replace and list", func(k *kit) {
			k.ok(k.st.PutAgent(k.ctx, agent("b", "old")))
			k.ok(k.st.PutAgent(k.ctx, agent("a", "one")))
			k.ok(k.st.PutAgent(k.ctx, agent("b", "two")))
			got, err := k.st.Agents(k.ctx)
			k.ok(err)
			same(k, "agents", got, []asset.Agent{agent("a", "one"), agent("b", "two")})
			one, err := k.st.Agent(k.ctx, "b")
			k.ok(err)
			same(k, "agent", one, agent("b", "two"))
		}},
		{"no such agent", func(k *kit) {
			_, err := k.st.Agent(k.ctx, "none")
			k.wantFault(err, fault.NotFound)
		}},
	}
}
