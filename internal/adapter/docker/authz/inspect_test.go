package authz_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// TestStartIsDecidedByWhatIsThere shows that a start is not decided by what was
// asked for once.
func TestStartIsDecidedByWhatIsThere(t *testing.T) {
	other := "sha256:" + strings.Repeat("3", 64)
	e := shop()
	e["image "+other] = fmt.Sprintf(`{"Id":%q,"RepoDigests":["evil.example/x@%s"]}`, other, digest)
	e["volume data"] = `{"Name":"data","Driver":"local","Options":{"o":"bind","device":"/etc"}}`
	e["container x"] = fmt.Sprintf(`{"Id":%q,"Name":"/x","Image":%q,"Config":{"Image":"registry.example/shop/cart:1"},
		"HostConfig":{"PidMode":"host","Binds":["data:/d"],"Tmpfs":{"/run":""},"Devices":[{"PathOnHost":"/dev/kmsg"}],"Future":1},
		"Mounts":[{"Type":"volume","Name":"data","Source":"/var/lib/docker/volumes/data/_data","Destination":"/d","RW":true},
		{"Type":"bind","Source":"/opt","Destination":"/inherited","RW":false,"Propagation":"rprivate"}],
		"NetworkSettings":{"Networks":{"host":{}}}}`, idA, other)
	j := allowing()
	if got := open(t, j, e, authz.Options{}).ask(empty("POST", "/v1.41/containers/x/start")); !got.Allow {
		t.Fatalf("answer = %+v, want yes", got)
	}
	r := j.requests()[0]
	c := r.Task.Containers[0]
	want := admission.Image{Reference: "registry.example/shop/cart:1", Tag: "1", ID: other}
	if diff := cmp.Diff(want, c.Image); diff != "" { // the tag moved: it is not of that repository
		t.Errorf("image differs (-want +got):\n%s", diff)
	}
	mounts := []admission.Mount{
		{Kind: "tmpfs", Target: "/run"},
		{Kind: "volume", Source: "data", Target: "/d"},
		{Kind: "bind", Source: "/opt", Target: "/inherited", ReadOnly: true, Propagation: "rprivate"},
		{Kind: "bind", Source: "/etc", Target: "/d"},
	}
	if diff := cmp.Diff(mounts, c.Mounts); diff != "" {
		t.Errorf("mounts differ (-want +got):\n%s", diff)
	}
	if r.Call.What != idA || c.PID != "host" || c.Network != "host" || len(c.Devices) != 1 {
		t.Errorf("asked for %+v of %s, want the host's processes, network and a device of %s", c, r.Call.What, idA)
	}
}

func TestExec(t *testing.T) {
	j := allowing()
	d := open(t, j, shop(), authz.Options{})
	if got := d.ask(post("/v1.41/containers/running/exec", `{"Cmd":["sh","-c","id"],"Privileged":true,"User":"0","Env":["TOKEN=x"]}`)); !got.Allow {
		t.Fatalf("answer = %+v", got)
	}
	if got := d.ask(post("/v1.41/exec/"+idExec+"/start", `{"Detach":true}`)); !got.Allow {
		t.Fatalf("answer = %+v", got)
	}
	asked := j.requests()
	want := []*admission.Process{
		{Command: []string{"sh", "-c", "id"}, User: "0", Privileged: true, Env: []string{"TOKEN"}},
		{Command: []string{"sh", "-c", "id"}, User: "0", Privileged: true, TTY: true},
	}
	for i, r := range asked {
		if diff := cmp.Diff(want[i], r.Exec); diff != "" {
			t.Errorf("process %d differs (-want +got):\n%s", i, diff)
		}
		if r.Call.What == "" || r.Task.Containers[0].Image.Digest != digest {
			t.Errorf("process %d is not of the container that is there: %+v", i, r.Task)
		}
	}
}

func TestUpdate(t *testing.T) {
	j := allowing()
	d := open(t, j, shop(), authz.Options{})
	if got := d.ask(post("/v1.41/containers/running/update", `{"CpuShares":5,"PidsLimit":-1,"Devices":[{"PathOnHost":"/dev/sda"}],"RestartPolicy":{"Name":"always"}}`)); !got.Allow {
		t.Fatalf("answer = %+v", got)
	}
	r := j.requests()[0]
	c := r.Task.Containers[0]
	if c.CPUUnits != 5 || c.MemoryBytes != 1000 || c.PidsLimit != 0 || len(c.Devices) != 1 || r.Call.Options["RestartPolicy"] != "always" {
		t.Errorf("asked for %+v with %v", c, r.Call.Options)
	}
}

func TestVolumeAndNetwork(t *testing.T) {
	j := allowing()
	d := open(t, j, shop(), authz.Options{})
	for _, c := range []call{
		post("/v1.41/volumes/create", `{"Name":"v","driveropts":{"o":"bind","device":"//etc/"}}`),
		post("/v1.41/networks/create", `{"Name":"n","Driver":"macvlan","Options":{"parent":"eth0"}}`),
		post("/v1.41/networks/n/connect", `{"Container":"cart"}`),
	} {
		if got := d.ask(c); !got.Allow {
			t.Fatalf("%s: answer = %+v", c.RequestURI, got)
		}
	}
	asked := j.requests()
	volume := admission.Volume{Name: "v", Host: "/etc", Options: map[string]string{"o": "bind", "device": "//etc/"}}
	if diff := cmp.Diff([]admission.Volume{volume}, asked[0].Task.Volumes); diff != "" {
		t.Errorf("volume differs (-want +got):\n%s", diff)
	}
	if asked[1].Call.Options["Options.parent"] != "eth0" || asked[2].Call.Options["Container"] != "cart" {
		t.Errorf("asked %+v", asked)
	}
}

func TestPull(t *testing.T) {
	for _, tc := range []struct {
		query string
		want  admission.Image
	}{
		{"fromImage=alpine", admission.Image{Reference: "alpine", Registry: "docker.io", Repository: "library/alpine", Tag: "latest"}},
		{"fromImage=alpine:1&tag=2", admission.Image{Reference: "alpine:1:2", Registry: "docker.io", Repository: "library/alpine", Tag: "2"}},
		{"fromImage=localhost:5000/a/b&tag=" + digest, admission.Image{Reference: "localhost:5000/a/b@" + digest, Registry: "localhost:5000", Repository: "a/b", Digest: digest, Pinned: true}},
		{"fromImage=r.example/a:1@" + digest, admission.Image{Reference: "r.example/a:1@" + digest, Registry: "r.example", Repository: "a", Tag: "1", Digest: digest, Pinned: true}},
	} {
		j := allowing()
		if got := open(t, j, shop(), authz.Options{}).ask(empty("POST", "/v1.41/images/create?"+tc.query)); !got.Allow {
			t.Fatalf("%s: answer = %+v", tc.query, got)
		}
		if diff := cmp.Diff(tc.want, j.requests()[0].Task.Containers[0].Image); diff != "" {
			t.Errorf("image of %s differs (-want +got):\n%s", tc.query, diff)
		}
	}
}

// TestTrusted shows what passes by the id of its image, and that labels, names and
// tags make nothing trusted.
func TestTrusted(t *testing.T) {
	const trusted = `"Labels":{"com.amazonaws.ecs.container-name":"~internal~ecs~pause"}`
	for _, tc := range []struct {
		name, id, host string
		want           bool
	}{
		{"the pause container", imgID, `"NetworkMode":"none"`, true},
		{"with its image's own command", imgID, `"IpcMode":"shareable","SecurityOpt":["no-new-privileges:true"]`, true},
		{"of another image", digest, `"NetworkMode":"none"`, false},
		{"privileged", imgID, `"Privileged":true`, false},
		{"with a bind", imgID, `"Binds":["/:/h"]`, false},
		{"with the host's network", imgID, `"NetworkMode":"host"`, false},
		{"with another's network", imgID, `"NetworkMode":"container:x"`, false},
		{"with the host's processes", imgID, `"PidMode":"host"`, false},
		{"with a capability", imgID, `"CapAdd":["SYS_ADMIN"]`, false},
		{"unconfined", imgID, `"SecurityOpt":["seccomp=unconfined"]`, false},
		{"that may gain privileges", imgID, `"SecurityOpt":["no-new-privileges:false"]`, false},
		{"with another runtime", imgID, `"Runtime":"mine"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := denying()
			d := open(t, j, shop(), authz.Options{Trusted: []string{tc.id}})
			got := d.ask(post("/v1.41/containers/create", `{`+image+`,`+trusted+`,"Entrypoint":["/pause"],"HostConfig":{`+tc.host+`}}`))
			if got.Allow != tc.want || (len(j.requests()) == 0) != tc.want {
				t.Errorf("answer = %+v with %d verdicts, want yes: %v", got, len(j.requests()), tc.want)
			}
		})
	}
	agent := open(t, denying(), shop(), authz.Options{AgentImages: []string{imgID}})
	for host, want := range map[string]bool{
		`"NetworkMode":"host","Binds":["/var/run:/var/run"],"CapAdd":["NET_ADMIN"]`: true, `"Privileged":true`: false,
	} {
		if got := agent.ask(post("/v1.41/containers/create", `{`+image+`,"HostConfig":{`+host+`}}`)); got.Allow != want {
			t.Errorf("the agent with %s = %+v, want yes: %v", host, got, want)
		}
	}
	if got := agent.ask(post("/v1.41/containers/create", `{`+image+`,"Entrypoint":["/bin/sh"]}`)); got.Allow {
		t.Error("the agent's image with another program passes")
	}
	d := open(t, denying(), shop(), authz.Options{Trusted: []string{imgID}})
	if got := d.ask(post("/v1.41/containers/create", `{`+image+`,"Cmd":["sh"]}`)); got.Allow {
		t.Error("another command passes")
	}
	if got := d.ask(empty("POST", "/v1.41/containers/cart/start")); !got.Allow {
		t.Errorf("start = %+v, want yes", got)
	}
	if got := d.ask(empty("POST", "/v1.41/containers/running/start")); !got.Allow {
		t.Errorf("start = %+v, want yes", got)
	}
}

// TestAnImageThatIsNotThere shows that the engine may say so: the client pulls it.
func TestAnImageThatIsNotThere(t *testing.T) {
	j := denying()
	if got := open(t, j, shop(), authz.Options{}).ask(post("/v1.41/containers/create", `{"Image":"other","HostConfig":{"Privileged":true}}`)); !got.Allow {
		t.Errorf("answer = %+v, want the engine to say that there is none", got)
	}
	got := open(t, allowing(), shop(), authz.Options{}).ask(empty("POST", "/v1.41/containers/none/start"))
	if got.Allow || !strings.Contains(got.Msg, "no container none") {
		t.Errorf("answer = %+v, want no container", got)
	}
}

// TestNamesAreHeld shows that no container gets a name by which another one is
// just being started.
func TestNamesAreHeld(t *testing.T) {
	d := open(t, allowing(), shop(), authz.Options{})
	starts := empty("POST", "/v1.41/containers/cart/start")
	rename := empty("POST", "/v1.41/containers/running/rename?name=cart")
	create := post("/v1.41/containers/create?name=%2Fcart", `{`+image+`}`)
	if got := d.ask(starts); !got.Allow {
		t.Fatalf("start = %+v", got)
	}
	for _, c := range []call{rename, create} {
		if got := d.ask(c); got.Allow || !strings.Contains(got.Msg, "try again") {
			t.Errorf("%s while it starts = %+v, want it refused", c.RequestURI, got)
		}
	}
	d.send("/AuthZPlugin.AuthZRes", starts)
	for _, c := range []call{rename, create} {
		if got := d.ask(c); !got.Allow {
			t.Errorf("%s once it has started = %+v, want yes", c.RequestURI, got)
		}
	}
}

// TestWhoAsks shows that only a certificate tells who asks.
func TestWhoAsks(t *testing.T) {
	j := allowing()
	d := open(t, j, shop(), authz.Options{Agents: []string{"ecs-agent"}})
	for _, by := range []call{{User: "ecs-agent", UserAuthNMethod: "TLS"}, {User: "ecs-agent"}, {User: "bob", UserAuthNMethod: "TLS"}} {
		c := empty("POST", "/v1.41/containers/cart/start")
		c.User, c.UserAuthNMethod = by.User, by.UserAuthNMethod
		d.ask(c)
	}
	want := []admission.Caller{{Name: "ecs-agent", Method: "TLS", Agent: true}, {Name: "ecs-agent"}, {Name: "bob", Method: "TLS"}}
	for i, r := range j.requests() {
		if r.By != want[i] {
			t.Errorf("caller %d = %+v, want %+v", i, r.By, want[i])
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugins", "p.sock")
	first, err := authz.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket is %v, %v, want it for root alone", info, err)
	}
	if _, err := authz.Listen(context.Background(), path); !fault.Is(err, fault.Conflict) {
		t.Errorf("Listen beside another = %v, want a conflict", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := authz.Listen(t.Context(), path) // what is left is taken over
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := authz.Listen(t.Context(), plain); !fault.Is(err, fault.Conflict) {
		t.Errorf("Listen at a file = %v, want a conflict", err)
	}
}

func TestHostPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                     dir,
		dir + "/link":           "/etc",
		dir + "/link/none/here": "/etc/none/here",
		dir + "/none":           dir + "/none",
		"/":                     "/",
	} {
		if got, err := authz.HostPath(path); err != nil || got != want {
			t.Errorf("HostPath(%s) = %q, %v, want %q", path, got, err, want)
		}
	}
}

// TestImpostors shows that no plugin of the engine's own can take this one's place.
func TestImpostors(t *testing.T) {
	for query, want := range map[string]bool{
		"create?name=castellan": false, "create?name=evil%2Fcastellan:1": false, "pull?remote=r.example/castellan:latest": false,
		"pull?remote=other&name=Castellan": false, "pull?remote=other&name=mine": true, "create?name=castellans": true,
	} {
		j := allowing()
		d := open(t, j, shop(), authz.Options{Name: "castellan"})
		if got := d.ask(empty("POST", "/v1.41/plugins/"+query)); got.Allow != want {
			t.Errorf("POST /plugins/%s = %+v, want yes: %v", query, got, want)
		}
		if asked := j.requests(); want && (len(asked) != 1 || asked[0].Call.What == "") {
			t.Errorf("POST /plugins/%s asked for %+v, want it to say of what", query, asked)
		}
	}
}

// TestDevicesThroughLinks shows that a device by another name is told as what it is.
func TestDevicesThroughLinks(t *testing.T) {
	resolve := func(p string) (string, error) { return strings.Replace(p, "/tmp/disk", "/dev/sda", 1), nil }
	got := created(t, shop(), authz.Options{Resolve: resolve}, `{`+image+`,"HostConfig":{"Devices":[{"PathOnHost":"/tmp/disk"}],"DeviceCgroupRules":["c 1:3 r"]}}`)
	if diff := cmp.Diff([]string{"/tmp/disk", "c 1:3 r", "/dev/sda"}, got.Task.Containers[0].Devices); diff != "" {
		t.Errorf("devices differ (-want +got):\n%s", diff)
	}
}

// TestWhatTheEngineDoesByItself shows that a start is not decided by what nobody
// asked for.
func TestWhatTheEngineDoesByItself(t *testing.T) {
	started := func(info, host string) admission.Container {
		t.Helper()
		e := shop()
		e["info "] = info
		e["container x"] = fmt.Sprintf(`{"Id":%q,"Name":"/x","Image":%q,"Config":{"Image":"registry.example/shop/cart:1"},"HostConfig":{%s}}`, idA, imgID, host)
		j := allowing()
		if got := open(t, j, e, authz.Options{}).ask(empty("POST", "/containers/x/start")); !got.Allow {
			t.Fatalf("answer = %+v", got)
		}
		return j.requests()[0].Task.Containers[0]
	}
	const v1, v2 = `{"SecurityOptions":["name=seccomp,profile=default"]}`, `{"SecurityOptions":["name=seccomp","name=cgroupns"]}`
	for _, tc := range []struct{ name, info, host, cgroup, options string }{
		{"the host's cgroups, as is usual", v1, `"CgroupnsMode":"host"`, "", ""},
		{"the host's cgroups", v2, `"CgroupnsMode":"host"`, "host", ""},
		{"no labels beside the host's processes", v2, `"PidMode":"host","SecurityOpt":["label=disable","apparmor=unconfined"]`, "", "apparmor=unconfined"},
		{"no labels", v2, `"SecurityOpt":["label=disable"]`, "", "label=disable"},
	} {
		c := started(tc.info, tc.host)
		if c.Cgroup != tc.cgroup || strings.Join(c.SecurityOpt, " ") != tc.options || c.User != "0" {
			t.Errorf("%s: cgroup %q, security options %q, user %q; want %q, %q and root", tc.name, c.Cgroup, c.SecurityOpt, c.User, tc.cgroup, tc.options)
		}
	}
}

// What passes and is about to start is told before the engine is answered, by its
// whole id, however it was called; what is refused, or does not start, is not.
func TestStartsAreTold(t *testing.T) {
	e := shop()
	e["container cart"] = fmt.Sprintf(`{"Id":%q,"Name":"/cart","Image":%q,"State":{"Status":"created"},
		"Config":{"Image":"registry.example/shop/cart:1","Labels":{"a":"b"}},"HostConfig":{"NetworkMode":"default"},"Mounts":[]}`, idA, imgID)
	e["container "+idA] = e["container cart"]
	var told []string
	o := authz.Options{Starting: func(_ context.Context, id, name string, labels map[string]string) {
		told = append(told, id+" "+name+" "+labels["a"])
	}}
	d := open(t, allowing(), e, o)
	for _, call := range []string{"start", "restart", "unpause", "kill", "pause"} {
		if got := d.ask(empty("POST", "/v1.41/containers/cart/"+call)); !got.Allow {
			t.Fatalf("%s: %+v", call, got)
		}
	}
	one := idA + " cart b"
	if diff := cmp.Diff([]string{one, one, one}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	told = nil
	trusted := o
	trusted.Trusted = []string{imgID}
	if got := open(t, denying(), e, trusted).ask(empty("POST", "/v1.41/containers/cart/start")); !got.Allow || len(told) != 1 {
		t.Errorf("a trusted image: %+v, told %v", got, told)
	}
	told = nil
	if got := open(t, denying(), e, o).ask(empty("POST", "/v1.41/containers/cart/start")); got.Allow || told != nil {
		t.Errorf("what is refused: %+v, told %v", got, told)
	}
}

// A start that can't be told passes all the same: the plugin decides on deployments.
func TestAPanicOfWhoHoldsTakesNothingDown(t *testing.T) {
	d := open(t, allowing(), shop(), authz.Options{Starting: func(context.Context, string, string, map[string]string) { panic("x") }})
	for range 2 {
		if got := d.ask(empty("POST", "/v1.41/containers/cart/start")); !got.Allow {
			t.Errorf("answer = %+v", got)
		}
	}
}
