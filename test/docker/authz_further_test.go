package docker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/test/docker/engine"
)

// furtherPolicy has every rule that is about what reaches the host.
func furtherPolicy() string {
	policy := strings.Replace(usualPolicy, "[good.example]", "['**']", 1)
	for _, rule := range []string{"volume-of-the-host", "cgroup-parent", "runtime", "sysctls", "runtime-annotations", "host-interfaces", "plugins", "swarm", "copy", "change", "build-network", "log-destination"} {
		policy += "  - use: " + rule + "\n"
	}
	return policy
}

// TestFurtherWays asks for the host by the fields and calls of the interface that
// people seldom use.
func TestFurtherWays(t *testing.T) {
	e, rules := guarded(t)
	rules.set(nil)
	if _, err := e.Run(t.Context(), engine.Container{Image: shell, Name: "running", Cmd: []string{"sleep", "600"}}); err != nil {
		t.Fatal(err)
	}
	t.Run("containers", func(t *testing.T) { asksOfContainers(t, e, rules) })
	t.Run("volumes", func(t *testing.T) { asksOfVolumes(t, e, rules) })
	t.Run("ways to say yes", func(t *testing.T) { asksForInput(t, e, rules) })
	t.Run("calls", func(t *testing.T) { asksOfCalls(t, e, rules) })
}

// onHost is a container with settings of its host's.
func onHost(settings string) string {
	return `{"Image":"` + shell + `","Cmd":["sleep","9"],"User":"1000","HostConfig":{"NetworkMode":"none",` + settings + `}}`
}

func asksOfContainers(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(by(t, furtherPolicy()))
	plain := onHost(`"Memory":67108864`)
	if code, answer := sent(t, e, "POST", "/v1.41/containers/create", inJSON(plain), plain); code != 201 {
		t.Fatalf("what is allowed: %d %s", code, answer)
	}
	for name, settings := range map[string]string{
		"cgroup":                    `"CgroupParent":"/../../castellan"`,
		"cgroup of systemd":         `"CgroupParent":"system.slice"`,
		"cgroup namespace":          `"CgroupnsMode":"host"`,
		"all graphics cards":        `"DeviceRequests":[{"Driver":"nvidia","Count":-1,"Capabilities":[["gpu"]]}]`,
		"device of CDI":             `"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["vendor.com/class=all"]}]`,
		"rule for devices":          `"DeviceCgroupRules":["b 259:* rwm"]`,
		"folder of devices":         `"Devices":[{"PathOnHost":"/dev","PathInContainer":"/x","CgroupPermissions":"rwm"}]`,
		"runtime":                   `"Runtime":"io.containerd.runtime.v1.linux"`,
		"shim":                      `"Runtime":"io.containerd.evil.v1"`,
		"setting of the kernel":     `"Sysctls":{"net.ipv4.conf.all.route_localnet":"1"}`,
		"nothing hidden":            `"MaskedPaths":[],"ReadonlyPaths":[]`,
		"nothing protected":         `"ReadonlyPaths":[]`,
		"something hidden":          `"MaskedPaths":["/proc/acpi"]`,
		"users of the host":         `"UsernsMode":"host"`,
		"name of the host":          `"UTSMode":"host"`,
		"propagation":               `"Mounts":[{"Type":"bind","Source":"/srv","Target":"/x","BindOptions":{"Propagation":"rshared"}}]`,
		"propagation of binds":      `"Binds":["/srv:/x:z,shared"]`,
		"containers of other tools": `"Binds":["/run/nri:/x"]`,
		"builder":                   `"Binds":["/run/buildkit/buildkitd.sock:/x"]`,
		"virtual machines":          `"Binds":["/run/libvirt/libvirt-sock:/x:ro"]`,
		"packages of snap":          `"Binds":["/run/snapd.socket:/x"]`,
		"containers of LXD":         `"Binds":["/var/snap/lxd/common/lxd/unix.socket:/x"]`,
		"containers of LXD, once":   `"Binds":["/var/lib/lxd/unix.socket:/x"]`,
		"runtime's own state":       `"Binds":["/run/runc:/x"]`,
		"file of a package manager": `"Binds":["/var/lib/rpm:/x"]`,
		"what links are cached":     `"Binds":["/var/cache/ldconfig:/x"]`,
		"volume of a driver":        `"Mounts":[{"Type":"volume","Source":"n1","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/etc"}}}}]`,
		"pipe of Windows":           `"Mounts":[{"Type":"npipe","Source":"/etc","Target":"/x"}]`,
		"volume of a cluster":       `"Mounts":[{"Type":"cluster","Source":"x","Target":"/x"}]`,
		"capability of old names":   `"Capabilities":["SYS_ADMIN"]`,
		"system call filter":        `"SecurityOpt":["seccomp:unconfined"]`,
		"profile of nobody":         `"SecurityOpt":["apparmor=unconfined"]`,
		"annotation":                `"Annotations":{"run.oci.handler":"wasm"}`,
		"memory of another":         `"IpcMode":"container:running"`,
		"network by its id":         `"NetworkMode":"container:running"`,
		"logs to a socket":          `"LogConfig":{"Type":"syslog","Config":{"syslog-address":"UNIX:///run/docker.sock"}}`,
		"logs to the host":          `"LogConfig":{"Type":"fluentd","Config":{}}`,
		"logs with others' roles":   `"LogConfig":{"Type":"awslogs","Config":{"awslogs-group":"g","awslogs-region":"eu-central-1","awslogs-credentials-endpoint":"/v2/credentials/x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			body := onHost(settings)
			if strings.Contains(settings, "NetworkMode") {
				body = strings.Replace(body, `"NetworkMode":"none",`, "", 1)
			}
			mustRefuse(t, e, "POST", "/v1.41/containers/create", inJSON(body), body)
		})
	}
}

func asksOfVolumes(t *testing.T, e *engine.Engine, rules *law) {
	for i, options := range []string{
		`{"type":"binfmt_misc","device":"x"}`, `{"type":"tracefs","device":"x"}`, `{"type":"securityfs","device":"x"}`, `{"type":"bpf","device":"x"}`,
		`{"type":"configfs","device":"x"}`, `{"type":"efivarfs","device":"x"}`, `{"type":"rpc_pipefs","device":"x"}`, `{"type":"devpts","device":"x","o":"newinstance"}`,
		`{"type":"ext4","device":"/dev/vda1"}`, `{"type":"ext4","device":"dev/vda1"}`, `{"type":"squashfs","device":"/srv/x","o":"loop"}`,
		`{"type":"none","device":"/srv/../etc","o":"rbind"}`, `{"type":"","device":"/etc","o":"bind"}`, `{"type":"none","device":"/etc","o":"ro,bind,rshared"}`,
		`{"type":"overlay","device":"x","o":"lowerdir=/etc:/srv"}`, `{"type":"9p","device":"share","o":"trans=virtio"}`, `{"type":"virtiofs","device":"share"}`,
		`{"type":"ubifs","device":"ubi0:rootfs"}`, `{"type":"zfs","device":"rpool/ROOT"}`,
	} {
		t.Run(options, func(t *testing.T) {
			rules.set(by(t, furtherPolicy()))
			body := fmt.Sprintf(`{"Name":"further%d","Driver":"local","DriverOpts":%s}`, i, options)
			mustRefuse(t, e, "POST", "/v1.41/volumes/create", inJSON(body), body)
			// One that is there from before the policy.
			rules.set(nil)
			if code, _ := sent(t, e, "POST", "/v1.41/volumes/create", inJSON(body), body); code != 201 {
				return
			}
			rules.set(by(t, furtherPolicy()))
			body = onHost(fmt.Sprintf(`"Binds":["further%d:/x"]`, i))
			mustRefuse(t, e, "POST", "/v1.41/containers/create", inJSON(body), body)
		})
	}
}

// asksForInput writes in all ways that engines take that input is wanted.
func asksForInput(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(by(t, furtherPolicy()))
	for _, query := range []string{"stdin=1", "stdin=True", "stdin=2", "stdin=on", "stdin=-1", "stdin=%00", "stdin=n", "stdin=1&stdin=0", "stdout=1&stdin=.", "%73tdin=1"} {
		t.Run(query, func(t *testing.T) {
			mustRefuse(t, e, "POST", "/v1.41/containers/running/attach?stream=1&"+query, []string{"Content-Length: 0"}, "")
		})
	}
}

func asksOfCalls(t *testing.T, e *engine.Engine, rules *law) {
	rules.set(by(t, furtherPolicy()))
	empty := []string{"Content-Length: 0"}
	config := `{"HostConfig":{"Privileged":true,"Binds":["/:/h"]}}`
	for _, tc := range []struct {
		name, method, uri string
		headers           []string
		body              string
	}{
		{"start with settings, as once", "POST", "/v1.23/containers/running/start", inJSON(config), config},
		{"start with settings, without a version", "POST", "/containers/running/start", inJSON(config), config},
		{"a version from before", "POST", "/v1.20/containers/running/start", empty, ""},
		{"copying as once", "POST", "/v1.23/containers/running/copy", inJSON(`{"Resource":"/etc"}`), `{"Resource":"/etc"}`},
		{"a file put", "PUT", "/v1.41/containers/running/archive?path=/etc", []string{"Content-Type: application/x-tar", "Content-Length: 1"}, "x"},
		{"a checkpoint", "POST", "/v1.41/containers/running/checkpoints", inJSON(`{"CheckpointID":"c","CheckpointDir":"/etc"}`), `{"CheckpointID":"c","CheckpointDir":"/etc"}`},
		{"another name", "POST", "/v1.41/containers/running/rename?name=ecs-agent", empty, ""},
		{"a build in the host's network", "POST", "/v1.41/build?networkmode=host&remote=http%3A%2F%2F127.0.0.1%3A1%2Fx", empty, ""},
		{"a build in another container's", "POST", "/v1.41/build?networkmode=container:running", []string{"Content-Type: application/x-tar", "Content-Length: 0"}, ""},
		{"a build by BuildKit in the host's network", "POST", "/v1.41/build?version=2&networkmode=host", []string{"Content-Type: application/x-tar", "Content-Length: 0"}, ""},
		{"a plugin", "POST", "/v1.41/plugins/pull?remote=127.0.0.1%3A1%2Fp&name=p", inJSON(`[]`), `[]`},
		{"another version of a plugin", "POST", "/v1.41/plugins/p/upgrade?remote=127.0.0.1%3A1%2Fp", inJSON(`[]`), `[]`},
		{"a plugin from a file", "POST", "/v1.41/plugins/create?name=p", []string{"Content-Type: application/x-tar", "Content-Length: 0"}, ""},
		{"a swarm", "POST", "/v1.41/swarm/init", inJSON(`{"ListenAddr":"127.0.0.1"}`), `{"ListenAddr":"127.0.0.1"}`},
		{"a service", "POST", "/v1.41/services/create", inJSON(`{"Name":"s"}`), `{"Name":"s"}`},
		{"a config", "POST", "/v1.41/configs/create", inJSON(`{"Name":"c","Data":""}`), `{"Name":"c","Data":""}`},
		{"an image from a file", "POST", "/v1.41/images/load?quiet=1", []string{"Content-Type: application/x-tar", "Content-Length: 0"}, ""},
		{"an image from elsewhere", "POST", "/v1.41/images/create?fromSrc=http%3A%2F%2F127.0.0.1%3A1%2Fx&repo=r", empty, ""},
		{"a network on an interface", "POST", "/v1.41/networks/create", inJSON(`{"Name":"m","Driver":"macvlan","Options":{"parent":"lo"}}`), `{"Name":"m","Driver":"macvlan","Options":{"parent":"lo"}}`},
		{"input by WebSocket", "GET", "/v1.41/containers/running/attach/ws?stdin=1&stream=1", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==", "Origin: http://x"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { mustRefuse(t, e, tc.method, tc.uri, tc.headers, tc.body) })
	}
}

// mustRefuse sends a call that the plugin must not let pass. A call that the engine
// doesn't have, as newer ones lack what was once, reaches no plugin.
func mustRefuse(t *testing.T, e *engine.Engine, method, uri string, headers []string, body string) {
	t.Helper()
	code, answer := sent(t, e, method, uri, headers, body)
	gone := code == 404 && strings.Contains(answer, "page not found")
	if code != 403 && !gone && !strings.Contains(answer, "denied by plugin") {
		t.Errorf("the engine answers %d: %.300s", code, answer)
	}
}
