package authz_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
)

const image = `"Image":"registry.example/shop/cart:1"`

// created returns the request that a body leads to.
func created(t testing.TB, e store, o authz.Options, body string) admission.Request {
	t.Helper()
	j := allowing()
	got := open(t, j, e, o).ask(post("/v1.41/containers/create?name=web", body))
	if asked := j.requests(); got.Allow && len(asked) == 1 {
		return asked[0]
	}
	t.Fatalf("answer = %+v with %d verdicts, want one", got, len(j.requests()))
	return admission.Request{}
}

func TestCreate(t *testing.T) {
	got := created(t, shop(), authz.Options{Host: "agent1"}, `{`+image+`,"User":"0","Cmd":"serve","Entrypoint":["/bin/app"],
		"Env":["MODE=prod","DB_PASSWORD=hunter2","URL=https://u:p@db","EMPTY","K=AKIAIOSFODNN7EXAMPLE"],
		"Labels":{"com.amazonaws.ecs.cluster":"arn:aws:ecs:eu-west-1:123456789012:cluster/shop","com.amazonaws.ecs.task-arn":"arn:aws:ecs:eu-west-1:123456789012:task/shop/1",
		"com.amazonaws.ecs.task-definition-family":"cart","com.amazonaws.ecs.task-definition-version":"3","com.amazonaws.ecs.container-name":"app"},
		"HostConfig":{"Privileged":true,"CapAdd":["cap_sys_admin","ALL"],"CapDrop":["NET_RAW"],"SecurityOpt":["label:disable","seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}","no-new-privileges"],
		"Devices":[{"PathOnHost":"/dev/sda"}],"DeviceCgroupRules":["a *:* rwm"],"DeviceRequests":[{"Driver":"nvidia","Count":-1,"Capabilities":[["gpu"]]}],
		"PidMode":"host","IpcMode":"container:x","UTSMode":"host","UsernsMode":"host","CgroupnsMode":"host","CgroupParent":"/p","NetworkMode":"container:y","Runtime":"other",
		"VolumesFrom":["z:ro"],"Sysctls":{"kernel.x":"1"},"Ulimits":[{"Name":"nofile","Hard":10,"Soft":5}],"GroupAdd":["0"],"OomScoreAdj":-5,
		"PortBindings":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]},"Memory":1000,"NanoCpus":500000000,"PidsLimit":9,"ReadonlyRootfs":true,
		"RestartPolicy":{"Name":"always"},"LogConfig":{"Type":"awslogs"},"Annotations":{"a":"b"}}}`)
	want := admission.Request{
		Door: admission.Docker, Action: admission.Run,
		Place: admission.Place{Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Host: "agent1"},
		Call: &admission.Call{Method: "POST", Path: "/containers/create", Name: "container create", What: "web", Options: map[string]string{
			"HostConfig.GroupAdd": "0", "HostConfig.OomScoreAdj": "-5", "HostConfig.RestartPolicy": "always", "HostConfig.Annotations.a": "b"}},
		Task: admission.Task{
			Family: "cart", Revision: "3", ARN: "arn:aws:ecs:eu-west-1:123456789012:task/shop/1", Launch: "EC2",
			Network: "container:y", PID: "host", IPC: "container:x",
			Containers: []admission.Container{{
				Name: "app", Essential: true, Privileged: true, User: "0", ReadOnlyRoot: true,
				Image:      admission.Image{Reference: "registry.example/shop/cart:1", Registry: "registry.example", Repository: "shop/cart", Tag: "1", Digest: digest, ID: imgID},
				Entrypoint: []string{"/bin/app"}, Command: []string{"serve"}, CapAdd: []string{"ALL", "SYS_ADMIN"}, CapDrop: []string{"NET_RAW"},
				SecurityOpt: []string{"label=disable", "seccomp=unconfined", "no-new-privileges"},
				Devices:     []string{"/dev/sda", "a *:* rwm", "request:nvidia,gpu"},
				Ports:       []admission.Port{{Container: 80, Host: 8080, Address: "0.0.0.0", Protocol: "tcp"}},
				Env:         []admission.Variable{{Name: "MODE", Value: "prod"}, {Name: "DB_PASSWORD"}, {Name: "URL"}, {Name: "EMPTY"}, {Name: "K"}},
				Sysctls:     map[string]string{"kernel.x": "1"}, Ulimits: map[string]int64{"nofile": 10}, MemoryBytes: 1000, CPUUnits: 512, PidsLimit: 9,
				Network: "container:y", PID: "host", IPC: "container:x", UTS: "host", UserNS: "host", Cgroup: "host", Parent: "/p", Runtime: "other",
				Log: "awslogs", From: []string{"z:ro"},
			}},
		},
	}
	ignore := cmp.Options{cmpopts.IgnoreFields(admission.Request{}, "ID", "At"), cmpopts.IgnoreFields(admission.Container{}, "Labels")}
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("request differs (-want +got):\n%s", diff)
	}
	if got.ID == "" || got.At.IsZero() {
		t.Errorf("request has no id or time: %q, %s", got.ID, got.At)
	}
}

// TestLabelsDoNotMoveAHost has a caller claim a cluster that the host is not of, and
// one that claims none.
func TestLabelsDoNotMoveAHost(t *testing.T) {
	prod := admission.Place{Account: "1", Region: "r", Cluster: "prod"}
	for _, tc := range []struct {
		name   string
		own    admission.Place
		labels string
		want   admission.Place
	}{
		{"another cluster", prod, `{"com.amazonaws.ecs.cluster":"playground","com.amazonaws.ecs.task-arn":"arn:aws:ecs:x:9:task/playground/1"}`, prod},
		{"no labels", prod, `{}`, prod},
		{"a host that does not know", admission.Place{}, `{"com.amazonaws.ecs.cluster":"shop"}`, admission.Place{Cluster: "shop"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := authz.Options{Host: "agent1", Cluster: func(context.Context) admission.Place { return tc.own }}
			got := created(t, shop(), o, `{`+image+`,"Labels":`+tc.labels+`}`).Place
			tc.want.Host = "agent1"
			if got != tc.want {
				t.Errorf("place = %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestMounts shows every way to get at a path of the host.
func TestMounts(t *testing.T) {
	e := shop()
	e["volume data"] = `{"Name":"data","Driver":"local"}`
	e["image evil.example/x@"+digest] = fmt.Sprintf(`{"Id":%q,"RepoDigests":["evil.example/x@%s"]}`, imgID, digest)
	e["volume sly"] = `{"Name":"sly","Driver":"local","Options":{"type":"none","o":"bind","device":"/etc"}}`
	resolve := func(p string) (string, error) {
		switch p {
		case "/tmp/link":
			return "/", nil
		case "/tmp":
			return p, nil
		}
		return "", errors.New("not there")
	}
	bind := func(source string) admission.Mount {
		return admission.Mount{Kind: "bind", Source: source, Target: "/t"}
	}
	for _, tc := range []struct {
		name, host string
		want       []admission.Mount
	}{
		{"a bind", `"Binds":["/tmp:/t"]`, []admission.Mount{bind("/tmp")}},
		{"a bind that climbs", `"Binds":["/tmp/../etc/./:/t:ro,rshared"]`,
			[]admission.Mount{{Kind: "bind", Source: "/etc", Target: "/t", ReadOnly: true, Propagation: "rshared"}}},
		{"a bind of a link", `"Binds":["/tmp/link:/t"]`, []admission.Mount{bind("/tmp/link"), bind("/")}},
		{"a mount", `"Mounts":[{"Type":"bind","Source":"/etc/","Target":"/t","BindOptions":{"Propagation":"shared"}}]`,
			[]admission.Mount{{Kind: "bind", Source: "/etc", Target: "/t", Propagation: "shared"}}},
		{"a volume", `"Binds":["data:/t:nocopy"]`, []admission.Mount{{Kind: "volume", Source: "data", Target: "/t"}}},
		{"a new volume", `"Binds":["/t:ro"]`, []admission.Mount{{Kind: "volume", Target: "/t", ReadOnly: true}}},
		{"a volume that was made of a path", `"Binds":["sly:/t"]`,
			[]admission.Mount{{Kind: "volume", Source: "sly", Target: "/t"}, bind("/etc")}},
		{"a volume that is made of a path", `"Mounts":[{"Type":"volume","Source":"new","Target":"/t","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"o":"bind","device":"/root"}}}}]`,
			[]admission.Mount{bind("/root"), {Kind: "volume", Source: "new", Target: "/t"}}},
		{"a volume that is made of a path from the engine's folder on", `"Mounts":[{"Type":"volume","Source":"new","Target":"/t","VolumeOptions":{"DriverConfig":{"Options":{"o":"rbind","device":"etc"}}}}]`,
			[]admission.Mount{bind("/etc"), {Kind: "volume", Source: "new", Target: "/t"}}},
		{"a volume of another host", `"Mounts":[{"Type":"volume","Source":"new","Target":"/t","VolumeOptions":{"DriverConfig":{"Options":{"type":"nfs","o":"addr=10.0.0.1","device":":/export"}}}}]`,
			[]admission.Mount{{Kind: "volume", Source: "new", Target: "/t"}}},
		{"a volume that is an overlay of paths", `"Mounts":[{"Type":"volume","Source":"new","Target":"/t","VolumeOptions":{"DriverConfig":{"Options":{"type":"overlay","device":"overlay","o":"lowerdir=/etc:/usr,upperdir=/root"}}}}]`,
			[]admission.Mount{bind("/etc"), bind("/usr"), bind("/root"), {Kind: "volume", Source: "new", Target: "/t"}}},
		{"a tmpfs", `"Tmpfs":{"/t":"size=1m"}`, []admission.Mount{{Kind: "tmpfs", Target: "/t"}}},
		{"an image", `"Mounts":[{"Type":"image","Source":"evil.example/x@` + digest + `","Target":"/t"}]`,
			[]admission.Mount{{Kind: "image", Source: "evil.example/x@" + digest, Target: "/t", Image: &admission.Image{
				Reference: "evil.example/x@" + digest, Registry: "evil.example", Repository: "x", Digest: digest, Pinned: true, ID: imgID}}}},
		{"an image that is not here", `"Mounts":[{"Type":"image","Source":"other@` + digest + `","Target":"/t"}]`,
			[]admission.Mount{{Kind: "image", Source: "other@" + digest, Target: "/t", Image: &admission.Image{
				Reference: "other@" + digest, Registry: "docker.io", Repository: "library/other", Digest: digest, Pinned: true}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := created(t, e, authz.Options{Resolve: resolve}, `{`+image+`,"HostConfig":{`+tc.host+`}}`)
			if diff := cmp.Diff(tc.want, got.Task.Containers[0].Mounts); diff != "" {
				t.Errorf("mounts differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHostNetworkByAnotherName shows that the host's network is told as what it is.
func TestHostNetworkByAnotherName(t *testing.T) {
	e := shop()
	e["network beef"] = `{"Name":"host","Driver":"host"}`
	for _, body := range []string{
		`"HostConfig":{"NetworkMode":"host"}`, `"HostConfig":{"NetworkMode":"beef"}`,
		`"NetworkingConfig":{"EndpointsConfig":{"host":{}}}`, `"NetworkingConfig":{"EndpointsConfig":{"beef":null}}`,
	} {
		if got := created(t, e, authz.Options{}, `{`+image+`,`+body+`}`).Task.Network; got != "host" {
			t.Errorf("network of %s = %q, want host", body, got)
		}
	}
}

// TestSecurityOptions shows the forms in which protection is asked away.
func TestSecurityOptions(t *testing.T) {
	for _, tc := range []struct{ name, host, want string }{
		{"older form", `"SecurityOpt":["seccomp:unconfined"]`, "seccomp=unconfined"},
		{"a profile of its own", `"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ERRNO\"}"]`, "seccomp=profile"},
		{"a profile that logs", `"SecurityOpt":["seccomp= {\"DEFAULTACTION\":\"SCMP_ACT_LOG\"}"]`, "seccomp=unconfined"},
		{"cgroups that can be written to", `"SecurityOpt":["writable-cgroups"]`, "writable-cgroups=true"},
		{"nothing masked", `"MaskedPaths":[]`, "systempaths=unconfined"},
		{"something else masked", `"MaskedPaths":["/tmp"]`, "systempaths=unconfined"},
		{"nothing read-only", `"ReadonlyPaths":[]`, "systempaths=unconfined"},
		{"the engine's own", `"MaskedPaths":null`, ""},
		{"as the engine tells", `"MaskedPaths":["/proc/asound","/proc/acpi","/proc/kcore","/proc/keys","/proc/latency_stats","/proc/timer_list","/proc/timer_stats","/proc/sched_debug","/proc/scsi","/sys/firmware"]`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := created(t, shop(), authz.Options{}, `{`+image+`,"HostConfig":{`+tc.host+`}}`).Task.Containers[0].SecurityOpt
			if strings.Join(got, " ") != tc.want {
				t.Errorf("security options = %q, want %q", got, tc.want)
			}
		})
	}
}

// TestOddBodies shows what the door does with bodies that an engine reads in
// another way than they look: it reads them in the same way, or refuses them.
func TestOddBodies(t *testing.T) {
	const privileged, refused = "privileged", "refused"
	deep := strings.Repeat(`{"Labels":`, 40) + `{}` + strings.Repeat("}", 40)
	for _, tc := range []struct{ name, body, want string }{
		{"lower case", `{` + image + `,"hostconfig":{"privileged":true}}`, privileged},
		{"letters that fold", `{` + image + `,"Ho\u017ftConfig":{"Privileged":true}}`, privileged},
		{"escapes", `{` + image + `,"HostConfig":{"\u0050rivileged":true}}`, privileged},
		{"nulls", `{` + image + `,"Runtime":null,"HostConfig":{"Privileged":true,"Memory":null,"Unknown":null}}`, privileged},
		{"a name twice, once null", `{` + image + `,"HostConfig":{"Privileged":true},"HostConfig":null}`, refused},
		{"an image that can be none", `{"Image":"a b"}`, refused},
		{"a name twice", `{` + image + `,"HostConfig":{"Privileged":true},"HostConfig":{"Privileged":false}}`, refused},
		{"a name in two cases", `{` + image + `,"HostConfig":{"Privileged":true,"privileged":false}}`, refused},
		{"a name in two scripts", `{` + image + `,"HostConfig":{"Privileged":true},"Ho\u017ftConfig":null}`, refused},
		{"settings beside HostConfig, as old engines take them", `{` + image + `,"Privileged":true}`, refused},
		{"a field that nobody knows", `{` + image + `,"HostConfig":{"Escape":true}}`, refused},
		{"more after the end", `{` + image + `}{"HostConfig":{"Privileged":true}}`, refused},
		{"a wrong type", `{` + image + `,"HostConfig":{"Privileged":"true"}}`, refused},
		{"a huge number", `{` + image + `,"HostConfig":{"Memory":1e400}}`, refused},
		{"nesting", deep, refused},
		{"a list", `[]`, refused},
		{"nothing", `null`, refused},
		{"not JSON", `{`, refused},
		{"a mount of an unknown type", `{` + image + `,"HostConfig":{"Mounts":[{"Type":"npipe"}]}}`, refused},
		{"a bind of too many parts", `{` + image + `,"HostConfig":{"Binds":["/a:/b:ro:/c"]}}`, refused},
		{"too many binds", `{` + image + `,"HostConfig":{"Binds":["a:/b"` + strings.Repeat(`,"a:/b"`, 600) + `]}}`, refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := denying()
			got := open(t, j, shop(), authz.Options{Allow: yes}).ask(post("/v1.41/containers/create", tc.body))
			asked := j.requests()
			switch {
			case got.Allow:
				t.Error("it passes")
			case tc.want == refused && len(asked) > 0:
				t.Errorf("it was decided: %+v", asked[0])
			case tc.want == privileged && (len(asked) != 1 || !asked[0].Task.Containers[0].Privileged):
				t.Errorf("asked %+v, want a privileged container; %s", asked, got.Msg)
			}
		})
	}
}

// TestHiddenBodies shows calls whose body the engine reads and does not hand over.
func TestHiddenBodies(t *testing.T) {
	with := func(method, uri string, headers ...string) call {
		c := call{RequestMethod: method, RequestURI: uri, RequestHeaders: map[string]string{}}
		for i := 0; i < len(headers); i += 2 {
			c.RequestHeaders[headers[i]] = headers[i+1]
		}
		return c
	}
	const form, js = "application/x-www-form-urlencoded", "application/json"
	for _, tc := range []struct {
		name string
		call call
		ok   bool
	}{
		{"create without (CVE-2024-41110)", with("POST", "/v1.41/containers/create", "Content-Type", js, "Content-Length", "0"), false},
		{"create in chunks", with("POST", "/v1.41/containers/create", "Content-Type", js), false},
		{"create of more than 1 MiB", with("POST", "/v1.41/containers/create", "Content-Type", js, "Content-Length", "2000000"), false},
		{"create as text", with("POST", "/v1.41/containers/create", "Content-Type", "text/plain", "Content-Length", "20"), false},
		{"create at an address that ends as the login's", with("POST", "/v1.41/containers/create?x=/auth", "Content-Type", js, "Content-Length", "20"), false},
		{"exec in chunks", with("POST", "/v1.41/containers/cart/exec", "Content-Type", js), false},
		{"update in chunks", with("POST", "/v1.41/containers/cart/update", "Content-Type", js), false},
		{"volume in chunks", with("POST", "/v1.41/volumes/create", "Content-Type", js), false},
		{"network in chunks", with("POST", "/v1.41/networks/create", "Content-Type", js), false},
		{"commit in chunks", with("POST", "/v1.41/commit?container=cart"), false},
		{"commit with an empty body", with("POST", "/v1.41/commit?container=cart", "Content-Length", "0"), true},
		{"pull with a form", with("POST", "/v1.41/images/create?fromImage=good", "Content-Type", form+"; charset=x", "Content-Length", "20"), false},
		{"pull with a form in chunks", with("POST", "/v1.41/images/create?fromImage=good", "Content-Type", js), false},
		{"build with a form", with("POST", "/v1.41/build", "Content-Type", form, "Content-Length", "20"), false},
		{"start with a form", with("POST", "/v1.41/containers/cart/start", "Content-Type", form, "Content-Length", "20"), false},
		{"start with settings", post("/v1.23/containers/cart/start", `{"Privileged":true}`), false},
		{"start that may hide settings", with("POST", "/v1.23/containers/cart/start"), false},
		{"start by an old client", with("POST", "/v1.23/containers/cart/start", "content-length", "0"), true},
		{"start without headers", with("POST", "/v1.41/containers/cart/start"), true},
		{"start with an empty object", post("/v1.41/containers/cart/start", ` {} `), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := allowing()
			got := open(t, j, shop(), authz.Options{Allow: yes}).ask(tc.call)
			if got.Allow != tc.ok || (len(j.requests()) == 1) != tc.ok {
				t.Errorf("answer = %+v with %d verdicts, want it decided: %v", got, len(j.requests()), tc.ok)
			}
		})
	}
}

// FuzzCreate holds what the door reads of a container against what Docker's own
// types read of the same bytes: where both can be read, they say the same.
func FuzzCreate(f *testing.F) {
	f.Add(`{` + image + `,"HostConfig":{"Privileged":true,"Binds":["/:/host"],"PidMode":"host","CapAdd":["ALL"]}}`)
	f.Add(`{` + image + `,"hostconfig":{"NetworkMode":"host","Mounts":[{"Type":"bind","Source":"/","Target":"/x"}]},"Cmd":"x"}`)
	f.Add(`{` + image + `,"HostConfig":null,"NetworkingConfig":{"EndpointsConfig":{"a":null}}}`)
	j := denying()
	d := open(f, j, shop(), authz.Options{})
	f.Fuzz(func(t *testing.T, body string) {
		before := len(j.requests())
		got := door{t, d.client}.ask(post("/v1.41/containers/create", body))
		var theirs container.CreateRequest
		err := json.Unmarshal([]byte(body), &theirs)
		if got.Allow {
			if theirs.Config != nil && theirs.Config.Image == "registry.example/shop/cart:1" {
				t.Fatalf("passes: %s", body)
			}
			return // an image that the engine does not have
		}
		if err != nil || len(j.requests()) == before {
			return
		}
		c, h := j.requests()[before].Task.Containers[0], theirs.HostConfig
		if h == nil {
			h = &container.HostConfig{}
		}
		if c.Privileged != h.Privileged || c.PID != string(h.PidMode) || c.IPC != string(h.IpcMode) || c.Runtime != h.Runtime ||
			c.MemoryBytes != h.Memory || len(c.From) != len(h.VolumesFrom) || c.Image.Reference != theirs.Config.Image ||
			len(c.Mounts) < len(h.Binds)+len(h.Mounts) || (len(c.CapAdd) == 0) != (strings.TrimSpace(strings.Join(h.CapAdd, "")) == "") {
			t.Errorf("read %+v of %s, Docker reads %+v", c, body, h)
		}
	})
}

// FuzzCall sends any call to a door whose decider says no: what passes only reads.
func FuzzCall(f *testing.F) {
	for _, uri := range []string{"/v1.41/containers/cart/start", "/containers/create?name=x", "/v1.41/images/create?fromImage=a&tag=b", "/v1.41/volumes/create", "/v1.41/exec/" + idExec + "/start"} {
		f.Add("POST", uri, `{"Name":"x","DriverOpts":{"device":"/"}}`, "application/json", "0")
	}
	f.Add("GET", "/v1.41/containers/json", "", "", "")
	d := open(f, denying(), shop(), authz.Options{})
	f.Fuzz(func(t *testing.T, method, uri, body, kind, length string) {
		c := call{RequestMethod: method, RequestURI: uri, RequestBody: []byte(body), RequestHeaders: map[string]string{"Content-Type": kind, "Content-Length": length}}
		got := door{t, d.client}.ask(c)
		if !got.Allow && (got.Msg == "" || len(got.Msg) > 1024 || strings.ContainsAny(got.Msg, "\n\r\x1b")) {
			t.Errorf("message %q of %+v is no short line", got.Msg, c)
		}
		for _, decided := range []string{"/start", "/exec", "/update", "/unpause", "/volumes/create", "/commit", "/build"} {
			path, _, _ := strings.Cut(uri, "?")
			if got.Allow && method == "POST" && strings.HasSuffix(path, decided) {
				t.Errorf("passes: %s", fmt.Sprint(c))
			}
		}
	})
}
