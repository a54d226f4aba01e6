package asset_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
)

// TestPathsOfHosts: which paths of a host rule it, which lie below those, and which are
// sockets of engines.
func TestPathsOfHosts(t *testing.T) {
	for _, tc := range []struct {
		path         string
		rules, below bool
		socket       string
	}{
		{path: "/", rules: true},
		{path: "/etc", rules: true},
		{path: "/etc/", rules: true},
		{path: "/etc/cron.d", below: true},
		{path: "/etc/localtime"},
		{path: "/etcetera"},
		{path: "/var", rules: true},
		{path: "/var/log"},
		{path: "/home", rules: true},
		{path: "/home/anna"},
		{path: "/run", rules: true},
		{path: "/var/run", rules: true},
		{path: "/var/run/docker", rules: true},
		{path: "/var/run/containerd/containerd.sock", below: true, socket: "containerd"},
		{path: "/var/run/docker.sock", socket: "Docker"},
		{path: "/run/user/1000/podman/podman.sock", socket: "Podman"},
		{path: "/srv/data"},
	} {
		if rules, below, socket := asset.RulesHost(tc.path), asset.BelowRuling(tc.path), asset.EngineSocket(tc.path); rules != tc.rules || below != tc.below || socket != tc.socket {
			t.Errorf("%s: rules %v, below %v, socket %q", tc.path, rules, below, socket)
		}
	}
}

func TestUnconfined(t *testing.T) {
	for option, want := range map[string]bool{
		"seccomp=unconfined": true, "seccomp:unconfined": true, "apparmor:unconfined": true, "label:disable": true, "label=disable": true,
		"no-new-privileges": false, "apparmor:shop": false, "label:type:shop_t": false,
	} {
		if got := asset.Unconfined(option); got != want {
			t.Errorf("%s: got %v", option, got)
		}
	}
}

func TestNamesRoot(t *testing.T) {
	for user, want := range map[string]bool{"root": true, "0": true, "0:0": true, "root:app": true, "000": true, "": false, "app": false, "1000:0": false, "10": false} {
		if got := asset.NamesRoot(user); got != want {
			t.Errorf("%q: got %v", user, got)
		}
	}
}
