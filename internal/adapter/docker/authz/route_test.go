package authz_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
)

// TestRoutes shows what passes at once, what is decided as what, and what is
// refused, for each call in the documentation of Docker's interface 1.56 and for
// those of before.
func TestRoutes(t *testing.T) {
	const passes, decided, refused = "passes", "decided", "refused"
	for _, tc := range []struct {
		calls string // of one answer
		want  string
		name  string // of those that are decided
		as    admission.Action
	}{
		{`GET /containers/json
GET /containers/cart/json
GET /containers/cart/top
GET /containers/cart/logs
GET /containers/cart/changes
GET /containers/cart/stats
GET /containers/cart/checkpoints
HEAD /containers/cart/archive
POST /containers/cart/resize
POST /containers/cart/stop
POST /containers/cart/kill
POST /containers/cart/pause
POST /containers/cart/wait
DELETE /containers/cart
DELETE /containers/cart/checkpoints/c
GET /exec/` + idExec + `/json
POST /exec/` + idExec + `/resize
GET /images/json
GET /images/search
GET /images/get
GET /images/registry.example/shop/cart:1/get
GET /images/registry.example/shop/cart:1/json
GET /images/cart/history
GET /images/cart/attestations
GET /distribution/registry.example/shop/cart/json
DELETE /images/registry.example/shop/cart:1
POST /build/cancel
POST /auth
GET /info
GET /version
GET /_ping
HEAD /_ping
OPTIONS /containers/json
GET /events
GET /system/df
GET /volumes
GET /volumes/v
DELETE /volumes/v
GET /networks
GET /networks/n
DELETE /networks/n
POST /networks/n/disconnect
GET /plugins
GET /plugins/privileges
GET /plugins/vieux/sshfs:latest/json
GET /nodes
GET /nodes/n
DELETE /nodes/n
GET /swarm
POST /swarm/leave
GET /services
GET /services/s
DELETE /services/s
GET /services/s/logs
GET /tasks
GET /tasks/t
GET /tasks/t/logs
GET /secrets
GET /secrets/s
DELETE /secrets/s
GET /configs
GET /configs/c
DELETE /configs/c`, passes, "", ""},
		{"POST /containers/cart/start", decided, "container start", admission.Run},
		{"POST /containers/cart/restart", decided, "container restart", admission.Run},
		{"POST /containers/cart/unpause", decided, "container unpause", admission.Run},
		{"POST /exec/" + idExec + "/start", decided, "exec start", admission.Exec},
		{"POST /containers/running/attach?stdin=1", decided, "container attach", admission.Exec},
		{"GET /containers/running/attach/ws", decided, "container attach", admission.Exec},
		{"POST /containers/running/attach?stdout=1", passes, "", ""},
		{"POST /containers/cart/attach?stdin=1", passes, "", ""}, // it does not run yet
		{"POST /containers/cart/rename?name=other", decided, "container rename", admission.Change},
		{"POST /containers/cart/checkpoints", decided, "checkpoint create", admission.Change},
		{"PUT /containers/cart/archive?path=/", decided, "container archive put", admission.Copy},
		{"GET /containers/cart/archive?path=/etc", decided, "container archive get", admission.Copy},
		{"GET /containers/cart/export", decided, "container export", admission.Copy},
		{"POST /containers/prune", decided, "container prune", admission.Engine},
		{"POST /commit?container=cart", decided, "container commit", admission.Build},
		{"POST /images/create?fromImage=cart&tag=1", decided, "image pull", admission.Pull},
		{"POST /images/create?fromSrc=-", decided, "image pull", admission.Pull},
		{"POST /images/load", decided, "image load", admission.Pull},
		{"POST /images/cart/push", decided, "image push", admission.Engine},
		{"POST /images/registry.example/shop/cart:1/tag?repo=r", decided, "image tag", admission.Build},
		{"POST /images/prune", decided, "image prune", admission.Engine},
		{"POST /build", decided, "image build", admission.Build},
		{"POST /build/prune", decided, "build prune", admission.Engine},
		{"POST /session", decided, "build session", admission.Build},
		{"POST /grpc", decided, "build grpc", admission.Build},
		{"POST /volumes/prune", decided, "volume prune", admission.Engine},
		{"POST /networks/prune", decided, "network prune", admission.Engine},
		{"POST /plugins/pull?remote=evil", decided, "plugin install", admission.Engine},
		{"POST /plugins/create?name=evil", decided, "plugin create", admission.Engine},
		{"POST /plugins/vieux/sshfs/enable", decided, "plugin enable", admission.Engine},
		{"POST /plugins/castellan/disable", decided, "plugin disable", admission.Engine},
		{"POST /plugins/p/upgrade", decided, "plugin upgrade", admission.Engine},
		{"POST /plugins/p/set", decided, "plugin set", admission.Engine},
		{"POST /plugins/p/push", decided, "plugin push", admission.Engine},
		{"DELETE /plugins/p", decided, "plugin remove", admission.Engine},
		{"GET /debug/pprof/heap", decided, "debug", admission.Engine},
		{`POST /swarm/init
POST /swarm/join
POST /swarm/update
POST /swarm/unlock
GET /swarm/unlockkey
POST /nodes/n/update
POST /services/create
POST /services/s/update
POST /secrets/create
POST /secrets/s/update
POST /configs/create
POST /configs/c/update`, refused, "", ""},
	} {
		for line := range strings.Lines(tc.calls) {
			line = strings.TrimSpace(line)
			for _, version := range []string{"", "/v1.24", "/v1.41", "/v1.56"} {
				method, path, _ := strings.Cut(line, " ")
				t.Run(method+" "+version+path, func(t *testing.T) {
					j := denying()
					got := open(t, j, shop(), authz.Options{}).ask(empty(method, version+path))
					asked := j.requests()
					switch {
					case got.Allow != (tc.want == passes):
						t.Errorf("answer = %+v, want %s", got, tc.want)
					case (len(asked) == 1) != (tc.want == decided):
						t.Errorf("%d verdicts were asked for, want it %s", len(asked), tc.want)
					case tc.want == decided && (asked[0].Call.Name != tc.name || asked[0].Action != tc.as):
						t.Errorf("asked for %q as %q, want %q as %q", asked[0].Call.Name, asked[0].Action, tc.name, tc.as)
					}
				})
			}
		}
	}
}

// TestTricksWithAddresses are addresses that must never pass, nor be decided as
// something else.
func TestTricksWithAddresses(t *testing.T) {
	for _, uri := range []string{
		"", "*", "/", "//", "containers/json", "/v1.41", "/v1.41/", "http://", "/v1.41/containers/json/",
		"//v1.41/containers/json", "/v1.41//containers/json", "/v1.41/./containers/json", "/v1.41/x/../containers/json",
		"/v1.41/containers/%2e%2e/containers/json", "/v1.41/containers/%2E/json", "/v1.41/containers%2fjson%2f",
		"/v1.41/containers/a%2fb/json", "/v1.41/containers/a%252fb/json", "/v1.41/containers/a%00/json", "/v1.41/containers/a%20b/json",
		"/v1.41/CONTAINERS/json", "/V1.41/containers/json", "/v01.41/containers/json", "/v1.041/containers/json",
		"/v1.41.0/containers/json", "/v1..41/containers/json", "/v1/containers/json", "/v./containers/json", "/v2.1/containers/json",
		"/v1.99999/containers/json", "/v1.57/containers/json", "/v1.20/containers/json", "/v1.18446744073709551616/containers/json",
		"/v1.41/v1.41/containers/json", "/v1.41/containers/json;x", "/v1.41/containers/json%3fx", "/v1.41/containers/\u0441art/json",
		"/v1.41/containers", "/v1.41/containers/cart", "/v1.41/containers/cart/unknown", "/v1.41/containers/cart/start/json",
		"/v1.41/unknown", "/moby.buildkit.v1.Control/Solve", "/v1.41/containers/" + strings.Repeat("a", 70000) + "/json",
		"/v1.41/containers/json?a=%zz", "/v1.41/containers/json?a;b",
	} {
		t.Run(uri[:min(len(uri), 60)], func(t *testing.T) {
			j := allowing()
			got := open(t, j, shop(), authz.Options{Allow: yes}).ask(empty("GET", uri))
			if got.Allow || len(j.requests()) > 0 {
				t.Errorf("answer = %+v with %d verdicts, want it refused", got, len(j.requests()))
			}
		})
	}
	for _, method := range []string{"", "get", "HEAD", "PATCH", "CONNECT", "TRACE", "PROPFIND", "POST", "PUT"} {
		got := open(t, allowing(), shop(), authz.Options{Allow: yes}).ask(call{RequestMethod: method, RequestURI: "/v1.41/containers/json"})
		if got.Allow {
			t.Errorf("%s /containers/json passes", method)
		}
	}
	for _, uri := range []string{
		"/v1.41/containers/cart/start?checkpoint=a&checkpoint=b", "/v1.41/images/create?fromImage=good&fromImage=evil",
		"/v1.41/containers/cart%2fx/start", "/v1.41/containers/cart/start?checkpoint=c&checkpoint-dir=/tmp", "/v1.41/containers/cart/start?x=%",
	} {
		j := allowing()
		if got := open(t, j, shop(), authz.Options{Allow: yes}).ask(empty("POST", uri)); got.Allow || len(j.requests()) > 0 {
			t.Errorf("POST %s: answer = %+v with %d verdicts, want it refused", uri, got, len(j.requests()))
		}
	}
}
