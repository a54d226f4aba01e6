package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
)

// TestNamespacesByWayOfOthers shows that who asks for the namespaces of a container
// that is in the host's asks for the host's.
func TestNamespacesByWayOfOthers(t *testing.T) {
	e := shop()
	there := func(name, host, networks string) {
		id := fmt.Sprintf("%064x", len(e))
		e["container "+name] = fmt.Sprintf(`{"Id":%q,"Name":"/%s","Image":%q,"Config":{"Image":"registry.example/shop/cart:1"},"HostConfig":{%s},"NetworkSettings":{"Networks":{%s}}}`,
			id, name, imgID, host, networks)
	}
	there("agent", `"NetworkMode":"host","PidMode":"host","IpcMode":"host"`, `"host":{}`)
	there("by-id", `"NetworkMode":"0123456789ab"`, `"host":{}`)
	there("pause", `"NetworkMode":"none"`, `"none":{}`)
	there("beside", `"NetworkMode":"container:agent","PidMode":"container:agent"`, ``)
	there("circle", `"NetworkMode":"container:circle"`, ``)
	for _, tc := range []struct{ name, host, network, pid, ipc string }{
		{"the host's network", `"NetworkMode":"container:agent"`, "host", "", ""},
		{"asked for by its id", `"NetworkMode":"container:by-id"`, "host", "", ""},
		{"through another", `"NetworkMode":"container:beside","PidMode":"container:beside"`, "host", "host", ""},
		{"all of them", `"NetworkMode":"none","PidMode":"container:agent","IpcMode":"container:agent"`, "none", "host", "host"},
		{"a task's own", `"NetworkMode":"container:pause"`, "container:pause", "", ""},
		{"nobody's", `"NetworkMode":"container:nobody"`, "container:nobody", "", ""},
		{"in a circle", `"NetworkMode":"container:circle"`, "refused", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e["container new"] = fmt.Sprintf(`{"Id":%q,"Name":"/new","Image":%q,"Config":{"Image":"registry.example/shop/cart:1"},"HostConfig":{%s}}`, strings.Repeat("e", 64), imgID, tc.host)
			j := allowing()
			d := open(t, j, e, authz.Options{})
			created := d.ask(post("/v1.41/containers/create", `{`+image+`,"HostConfig":{`+tc.host+`}}`))
			started := d.ask(empty("POST", "/v1.41/containers/new/start"))
			if want := tc.network != "refused"; created.Allow != want || started.Allow != want {
				t.Fatalf("created: %+v, started: %+v", created, started)
			}
			if tc.network == "refused" {
				return
			}
			for i, r := range j.requests() {
				if r.Task.Network != tc.network || r.Task.PID != tc.pid || r.Task.IPC != tc.ipc {
					t.Errorf("request %d: network %q, pid %q, ipc %q; want %q, %q, %q", i, r.Task.Network, r.Task.PID, r.Task.IPC, tc.network, tc.pid, tc.ipc)
				}
			}
		})
	}
}
