package asset_test

import (
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
)

func TestGroupOf(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		name string
		w    asset.Workload
		want asset.Group
	}{
		{"service", asset.Workload{ECS: asset.ECS{Cluster: "shop", Service: "web", Family: "web-task", Container: "nginx"}, Name: "x"}, "shop/web/nginx"},
		{"task without a service", asset.Workload{ECS: asset.ECS{Cluster: "shop", Family: "cron", Container: "job"}}, "shop/cron/job"},
		{"container of no family", asset.Workload{ECS: asset.ECS{Cluster: "shop", Container: "job"}, Name: "web"}, "docker/web"},
		{"plain Docker", asset.Workload{ID: id, Name: "web"}, "docker/web"},
		{"nothing known", asset.Workload{ID: id}, "docker/abababababab"},
		{"zero", asset.Workload{}, "docker/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := asset.GroupOf(tc.w); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSilent(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name string
		seen time.Time
		want bool
	}{
		{"just now", now, false},
		{"two heartbeats ago", now.Add(-10 * time.Second), false},
		{"long ago", now.Add(-time.Minute), true},
		{"never", time.Time{}, true},
		{"the clock was set back", now.Add(time.Hour), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (asset.Agent{Seen: tc.seen}).Silent(now); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRepository(t *testing.T) {
	for in, want := range map[string]string{
		"shop/web:1": "shop/web", "shop/web": "shop/web", "registry:5000/web": "registry:5000/web", "registry:5000/web:2": "registry:5000/web",
		"web@sha256:12": "web", "registry:5000/web:2@sha256:12": "registry:5000/web", "": "",
	} {
		if got := asset.Repository(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
