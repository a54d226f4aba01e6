package docker_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/castellan-security/castellan/test/docker/engine"
)

// TestWaysThatRemain are those that were thought of last: settings with two meanings,
// calls in odd frames, and calls that lead to a container in several steps.
func TestWaysThatRemain(t *testing.T) {
	e, rules := guarded(t)
	rules.set(nil)
	if _, err := e.Run(t.Context(), engine.Container{Image: shell, Name: "running", Cmd: []string{"sleep", "600"}}); err != nil {
		t.Fatal(err)
	}
	t.Run("settings", func(t *testing.T) { remainingSettings(t, e, rules) })
	t.Run("frames", func(t *testing.T) { framed(t, e, rules) })
	t.Run("calls", func(t *testing.T) { remainingCalls(t, e, rules) })
}

// profileOf is a profile of system calls that is given whole.
func profileOf(rule string) string {
	profile := `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[` + rule + `]}`
	return `"SecurityOpt":["seccomp=` + strings.ReplaceAll(profile, `"`, `\"`) + `"]`
}

func remainingSettings(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(by(t, furtherPolicy()))
	for name, settings := range map[string]string{
		"memory of the host":                          `"IpcMode":"host"`,
		"processes of another by its id":              `"PidMode":"container:running"`,
		"a profile on a condition that always holds":  profileOf(`{"names":["init_module"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN","CAP_KILL"]}}`),
		"a profile with names as once":                profileOf(`{"name":"kexec_load","action":"SCMP_ACT_ALLOW"}`),
		"a profile in other letters":                  profileOf(`{"NAMES":["open_by_handle_at"],"Action":"SCMP_ACT_ALLOW"}`),
		"a profile that tells somebody":               profileOf(`{"names":["finit_module"],"action":"SCMP_ACT_NOTIFY"}`),
		"a type of SELinux":                           `"SecurityOpt":["label=type:spc_t"]`,
		"a type of SELinux, as once":                  `"SecurityOpt":["label:type:spc_t"]`,
		"a profile of AppArmor that confines nothing": `"SecurityOpt":["apparmor=crun"]`,
		"a profile of AppArmor, as once":              `"SecurityOpt":["apparmor:unconfined"]`,
		"no confinement after some":                   `"SecurityOpt":["seccomp=` + `{\"defaultAction\":\"SCMP_ACT_ERRNO\"}","seccomp=unconfined"]`,
		"a device by a name of CDI":                   `"Devices":[{"PathOnHost":"vendor.com/disk=all","PathInContainer":"","CgroupPermissions":""}]`,
		"all devices by a rule":                       `"DeviceCgroupRules":["a","c *:* m"]`,
		"memory of the machine":                       `"Devices":[{"PathOnHost":"/dev/./mem","PathInContainer":"/x","CgroupPermissions":"r"}]`,
		"a graphics card by any driver":               `"DeviceRequests":[{"Count":1,"Capabilities":[["compute"]]}]`,
		"all capabilities, one by one":                `"CapAdd":["CAP_SYS_PTRACE","CAP_NET_ADMIN"]`,
		"all capabilities by a word":                  `"CapAdd":["cap_all"]`,
		"one capability as a word":                    `"CapAdd":"SYS_ADMIN"`,
		"a bind in two steps":                         `"Binds":["/srv/../etc:/x"]`,
		"a bind that ends in dots":                    `"Binds":["/etc/.:/x"]`,
		"a bind of a socket":                          `"Binds":["/run/containerd/containerd.sock:/x:ro"]`,
		"a bind of the machine's processes":           `"Mounts":[{"Type":"bind","Source":"/proc/1/root","Target":"/x","ReadOnly":true}]`,
		"a bind that other mounts pass through":       `"Mounts":[{"Type":"bind","Source":"/srv","Target":"/x","BindOptions":{"Propagation":"rslave","CreateMountpoint":true}},{"Type":"bind","Source":"/srv","Target":"/y","BindOptions":{"Propagation":"shared"}}]`,
		"a volume that is a part of the host":         `"Mounts":[{"Type":"volume","Source":"part","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"","Options":{"type":"none","o":"bind,ro","device":"/root"}}}}]`,
		"a setting of the kernel by its path":         `"Sysctls":{"kernel/core_pattern":"|/x"}`,
		"a setting of another's messages":             `"Sysctls":{"fs.mqueue.msg_max":"65536"}`,
		"an interface by an annotation":               `"Annotations":{"io.katacontainers.config.hypervisor.path":"/x"}`,
		"a runtime by its path":                       `"Runtime":"/srv/runtime"`,
		"logs by a plugin":                            `"LogConfig":{"Type":"evil/driver:latest","Config":{}}`,
		"logs to a file of the host":                  `"LogConfig":{"Type":"gelf","Config":{"gelf-address":"udp://127.0.0.1:1"}}`,
		"a low port of the machine":                   `"PortBindings":{"22/tcp":[{"HostIp":"127.0.0.1","HostPort":"22"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			body := onHost(settings)
			mustRefuse(t, e, "POST", "/v1.41/containers/create", inJSON(body), body)
		})
	}
}

// framed makes a privileged container by calls in odd frames.
func framed(t *testing.T, e *engine.Engine, rules *law) {
	body, allowed := privileged(t, e, rules)
	defer allowed()
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	const open, host, json = "POST /v1.41/containers/create HTTP/1.1\r\n", "Host: docker\r\n", "Content-Type: application/json\r\n"
	const create = open + "Connection: close\r\n"
	ping := "GET /_ping HTTP/1.1\r\n" + host + "\r\n"
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	for name, call := range map[string]string{
		"HTTP/1.0":                          "POST /v1.41/containers/create HTTP/1.0\r\n" + json + length + "\r\n" + body,
		"behind another":                    ping + create + host + json + length + "\r\n" + body,
		"in the body of another":            "POST /v1.41/containers/running/resize?h=1&w=1 HTTP/1.1\r\n" + host + json + "Content-Length: 0\r\n\r\n" + create + host + json + length + "\r\n" + body,
		"behind one that is refused":        open + host + json + length + "\r\n" + body + create + host + json + length + "\r\n" + body,
		"another alphabet":                  create + host + "Content-Type: application/json; charset=utf-16\r\n" + length + "\r\n" + body,
		"a type in upper case":              create + host + "Content-Type: APPLICATION/JSON\r\n" + length + "\r\n" + body,
		"a type with more":                  create + host + "Content-Type: application/json; a=b; a=c\r\n" + length + "\r\n" + body,
		"two types in one":                  create + host + "Content-Type: application/json, text/plain\r\n" + length + "\r\n" + body,
		"a type of its own":                 create + host + "Content-Type: application/vnd.docker.create+json\r\n" + length + "\r\n" + body,
		"no type":                           create + host + length + "\r\n" + body,
		"a length and chunks":               create + host + json + length + "Transfer-Encoding: chunked\r\n\r\n" + chunks,
		"chunks with more behind":           create + host + json + "Transfer-Encoding: chunked\r\nTrailer: Content-Type\r\n\r\n" + strings.TrimSuffix(chunks, "\r\n") + "Content-Type: text/plain\r\n\r\n",
		"chunks by another word":            create + host + json + "Transfer-Encoding: \tchunked\r\n\r\n" + chunks,
		"a folded header":                   create + host + "Content-Type: text/plain;\r\n application/json\r\n" + length + "\r\n" + body,
		"a wait for leave":                  create + host + json + length + "Expect: 100-continue\r\n\r\n" + body,
		"lines without returns":             strings.ReplaceAll(create+host+json+length+"\r\n", "\r\n", "\n") + body,
		"an empty line first":               "\r\n\r\n" + create + host + json + length + "\r\n" + body,
		"two hosts":                         create + host + "Host: /_ping\r\n" + json + length + "\r\n" + body,
		"another address in headers":        create + host + "X-Original-URL: /_ping\r\nX-Rewrite-URL: /_ping\r\nX-Forwarded-Prefix: /_ping\r\n" + json + length + "\r\n" + body,
		"a version that is negotiated down": "POST /v1.24/containers/create HTTP/1.1\r\nConnection: close\r\n" + host + json + length + "\r\n" + body,
		"the end of what is read is auth":   "POST /v1.41/containers/create?name=x%2Fauth HTTP/1.1\r\nConnection: close\r\n" + host + json + length + "\r\n" + body,
		"a name that is an address":         "POST /v1.41/containers/create?name=..%2F..%2Fauth HTTP/1.1\r\nConnection: close\r\n" + host + json + length + "\r\n" + body,
	} {
		t.Run(name, func(t *testing.T) {
			answers := spoken(t, e, call)
			if strings.Contains(answers, " 201 Created") || !strings.Contains(answers, " 40") && !strings.Contains(answers, " 50") {
				t.Errorf("the engine answers %.600s", answers)
			}
		})
	}
}

// spoken says something to the engine, and returns all that it answers until it hangs up.
func spoken(t *testing.T, e *engine.Engine, call string) string {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimPrefix(e.Host(), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // the engine has hung up
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, call); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after %.300s: %v", b, err)
	}
	return string(b)
}

func remainingCalls(t *testing.T, e *engine.Engine, rules *law) {
	policy := furtherPolicy() + "  - use: build\n  - use: engine-changes\n  - use: unknown-call\n"
	rules.set(by(t, policy))
	empty := []string{"Content-Length: 0"}
	for _, tc := range []struct {
		name, method, uri string
		headers           []string
		body              string
	}{
		{"an image with another user", "POST", "/v1.41/commit?container=running&repo=r&changes=USER%200&changes=VOLUME%20%2Fetc", empty, ""},
		{"an image with settings in the body", "POST", "/v1.41/commit?container=running&repo=r", inJSON(`{"User":"0","Env":["LD_PRELOAD=/x"]}`), `{"User":"0","Env":["LD_PRELOAD=/x"]}`},
		{"another name for an image", "POST", "/v1.41/images/" + shell + "/tag?repo=good.example%2Fapp&tag=9", empty, ""},
		{"a build under another cgroup", "POST", "/v1.41/build?cgroupparent=%2Fsystem.slice&remote=http%3A%2F%2F127.0.0.1%3A1%2Fx", empty, ""},
		{"a session of the builder", "POST", "/v1.41/session", []string{"Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0"}, ""},
		{"gRPC of the builder", "POST", "/grpc", []string{"Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0"}, ""},
		{"a swarm of others", "POST", "/v1.41/swarm/join", inJSON(`{"RemoteAddrs":["127.0.0.1:1"],"JoinToken":"x"}`), `{"RemoteAddrs":["127.0.0.1:1"],"JoinToken":"x"}`},
		{"a swarm that is unlocked", "POST", "/v1.41/swarm/unlock", inJSON(`{"UnlockKey":"x"}`), `{"UnlockKey":"x"}`},
		{"the key of a swarm", "GET", "/v1.41/swarm/unlockkey", nil, ""},
		{"a node", "POST", "/v1.41/nodes/x/update?version=1", inJSON(`{"Availability":"active","Role":"manager"}`), `{"Availability":"active","Role":"manager"}`},
		{"a service that is changed", "POST", "/v1.41/services/x/update?version=1", inJSON(`{}`), `{}`},
		{"a secret", "POST", "/v1.41/secrets/create", inJSON(`{"Name":"s","Data":""}`), `{"Name":"s","Data":""}`},
		{"settings of a plugin", "POST", "/v1.41/plugins/p/set", inJSON(`["socket.source=/"]`), `["socket.source=/"]`},
		{"a plugin that is switched on", "POST", "/v1.41/plugins/p/enable?timeout=0", empty, ""},
		{"a plugin that is switched off", "POST", "/v1.41/plugins/p/disable?force=1", empty, ""},
		{"a plugin that is removed", "DELETE", "/v1.41/plugins/p?force=1", nil, ""},
		{"a network on another interface", "POST", "/v1.41/networks/create", inJSON(`{"Name":"i","Driver":"ipvlan","Options":{"parent":"lo","ipvlan_mode":"l3"}}`), `{"Name":"i","Driver":"ipvlan","Options":{"parent":"lo","ipvlan_mode":"l3"}}`},
		{"a volume of a cluster", "PUT", "/v1.41/volumes/x?version=1", inJSON(`{"Spec":{}}`), `{"Spec":{}}`},
		{"a process that was prepared by nobody", "POST", "/v1.41/exec/" + strings.Repeat("e", 64) + "/start", inJSON(`{"Detach":true}`), `{"Detach":true}`},
		{"a process with other libraries", "POST", "/v1.41/containers/running/exec", inJSON(`{"Cmd":["id"],"User":"1000","Env":["LD_PRELOAD=/x"]}`), `{"Cmd":["id"],"User":"1000","Env":["LD_PRELOAD=/x"]}`},
		{"what the engine does inside", "GET", "/debug/pprof/heap", nil, ""},
		{"a restart always", "POST", "/v1.41/containers/running/update", inJSON(`{"RestartPolicy":{"Name":"always"}}`), `{"RestartPolicy":{"Name":"always"}}`},
		{"no limits", "POST", "/v1.41/containers/running/update", inJSON(`{"Memory":0,"PidsLimit":-1,"OomKillDisable":true}`), `{"Memory":0,"PidsLimit":-1,"OomKillDisable":true}`},
		{"a state from a folder", "POST", "/v1.41/containers/running/start?checkpoint=c&checkpoint-dir=%2Fsrv", empty, ""},
		{"a call of nobody", "POST", "/v1.41/containers/running/teleport", empty, ""},
		{"a method of nobody", "PURGE", "/v1.41/containers/running", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { mustRefuse(t, e, tc.method, tc.uri, tc.headers, tc.body) })
	}
}
