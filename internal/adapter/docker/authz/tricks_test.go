package authz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

// TestFormsThatAreNotHandedOver are calls whose parameters are in a body that an
// engine reads and hands to no plugin.
func TestFormsThatAreNotHandedOver(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, uri := range []string{
		"/v1.41/containers/running/rename?name=fine", "/v1.41/containers/running/attach?stdin=0", "/v1.41/images/registry.example/shop/cart:1/tag?repo=fine",
		"/v1.41/images/create?fromImage=good", "/v1.41/images/create?fromSrc=-", "/v1.41/build?t=x", "/v1.41/images/load", "/v1.41/plugins/create?name=x",
	} {
		for name, headers := range map[string]map[string]string{
			"malformed parameter":   {"Content-Type": form + "; x", "Content-Length": "9"},
			"chunked and malformed": {"Content-Type": form + "; x"},
			"upper case":            {"Content-Type": strings.ToUpper(form)},
			"two types, one empty":  {"Content-Type": ""},
			"of many parts":         {"Content-Type": "multipart/form-data; boundary=x"},
		} {
			j := allowing()
			got := open(t, j, shop(), authz.Options{Allow: yes}).ask(call{RequestMethod: "POST", RequestURI: uri, RequestHeaders: headers})
			if got.Allow || len(j.requests()) > 0 {
				t.Errorf("POST %s with %s: answer = %+v with %d verdicts, want it refused", uri, name, got, len(j.requests()))
			}
		}
	}
	for _, query := range []string{"", "?tag=1", "?fromImage=a&fromSrc=-", "?fromImage=&fromSrc="} {
		j := allowing()
		got := open(t, j, shop(), authz.Options{}).ask(call{RequestMethod: "POST", RequestURI: "/v1.41/images/create" + query, RequestHeaders: map[string]string{"Content-Type": "text/plain"}})
		if got.Allow || len(j.requests()) > 0 {
			t.Errorf("POST /images/create%s = %+v, want it refused", query, got)
		}
	}
	if got := open(t, allowing(), shop(), authz.Options{}).ask(call{RequestMethod: "POST", RequestURI: "/v1.41/images/create?fromSrc=http://x", RequestHeaders: map[string]string{"Content-Type": "text/plain"}}); got.Allow {
		t.Errorf("a source with a body = %+v, want it refused", got)
	}
}

// TestVolumesInDisguise are volumes that are of the host and do not look it.
func TestVolumesInDisguise(t *testing.T) {
	for _, tc := range []struct{ name, options, want string }{
		{"the host's devices", `"type":"devtmpfs","device":"none"`, "/dev"},
		{"the host's kernel", `"type":"sysfs","device":"/none"`, "/sys"},
		{"the host's processes", `"type":"proc","device":"x"`, "/proc"},
		{"the host's cgroups", `"type":"cgroup","device":"x","o":"memory"`, "/sys/fs/cgroup"},
		{"the kernel's debugging", `"type":"debugfs","device":"x"`, "/sys/kernel/debug"},
		{"formats of programs", `"type":"binfmt_misc","device":"x"`, "/proc/sys/fs/binfmt_misc"},
		{"a bind that says it is memory", `"type":"tmpfs","device":"etc","o":"rw,bind"`, "/etc"},
		{"a bind that says it is processes", `"type":"proc","device":"/root","o":"rbind"`, "/root"},
		{"memory", `"type":"tmpfs","device":"tmpfs","o":"size=1m"`, ""},
		{"up from a link", `"type":"none","device":"/var/run/../etc","o":"bind"`, "refused"},
		{"up from a link in an overlay", `"type":"overlay","device":"x","o":"lowerdir=/tmp:/var/run/../etc"`, "refused"},
		{"letters that stand for others", `"type":"overlay","device":"x","o":"lowerdir=/e\\tc:/tmp"`, "refused"},
		{"a layer more", `"type":"overlay","device":"x","o":"lowerdir+=/etc"`, "/etc"},
		{"a further device of a file system", `"type":"erofs","device":"/srv/x.img","o":"ro,device=/dev/sda"`, "/dev/sda"},
		{"a journal elsewhere", `"type":"ext4","device":"/srv/x.img","o":"journal_path=/dev/sda1"`, "/dev/sda1"},
		{"a bind far behind", `"type":"tmpfs","device":"etc","o":"` + strings.Repeat("rw,", 2000) + `bind"`, "refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asks := `{` + image + `,"HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{` + tc.options + `}}}}]}}`
			e := shop()
			e["volume old"] = `{"Name":"old","Driver":"local","Options":{` + tc.options + `}}`
			for _, body := range []string{asks, `{` + image + `,"HostConfig":{"Binds":["old:/x"]}}`} {
				j := allowing()
				got := open(t, j, e, authz.Options{}).ask(post("/v1.41/containers/create", body))
				if tc.want == "refused" {
					if got.Allow {
						t.Errorf("answer = %+v, want it refused", got)
					}
					continue
				}
				if !got.Allow {
					t.Fatalf("answer = %+v", got)
				}
				bind := ""
				for _, m := range j.requests()[0].Task.Containers[0].Mounts {
					if m.Kind == "bind" {
						bind = m.Source
					}
				}
				if bind != tc.want {
					t.Errorf("bind of %q, want %q", bind, tc.want)
				}
			}
		})
	}
}

// TestNothingFallsOffTheEnd shows that no list hides what comes last in it.
func TestNothingFallsOffTheEnd(t *testing.T) {
	many := strings.Repeat(`{},`, 600)
	names := ""
	for i := range 600 {
		names += fmt.Sprintf(`"a%d":"",`, i)
	}
	for _, body := range []string{
		`"HostConfig":{"PortBindings":{"80/tcp":[` + many + `{}],"22/tcp":[{}]}}`,
		`"Env":[` + strings.Repeat(`"A=1",`, 2000) + `"LD_PRELOAD=/x"]`,
		`"HostConfig":{"Annotations":{` + names + `"run.oci.hooks":"x"}}`,
		`"HostConfig":{"StorageOpt":{` + names + `"x":"x"}}`,
	} {
		if got := open(t, allowing(), shop(), authz.Options{}).ask(post("/v1.41/containers/create", `{`+image+`,`+body+`}`)); got.Allow {
			t.Errorf("%.40s… = %+v, want it refused", body, got)
		}
	}
	got := created(t, shop(), authz.Options{}, `{`+image+`,"ExposedPorts":{"22/tcp":{}},"HostConfig":{"PublishAllPorts":true}}`)
	if p := got.Task.Containers[0].Ports; len(p) != 1 || p[0].Container != 22 {
		t.Errorf("ports = %+v, want 22", p)
	}
}

// TestSecurityOptionsByOtherNames shows what switches confinement off.
func TestSecurityOptionsByOtherNames(t *testing.T) {
	profile := func(text string) string {
		b, err := json.Marshal("seccomp=" + text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct{ name, options, want string }{
		{"labels", `"disable"`, "label=disable"},
		{"the last one counts", `"no-new-privileges","no-new-privileges:false"`, "no-new-privileges=false"},
		{"a profile of everything by name", profile(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","init_module"],"action":"SCMP_ACT_ALLOW"}]}`), "seccomp=unconfined"},
		{"a profile on a condition that always holds", profile(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["init_module"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN"]}}]}`), "seccomp=unconfined"},
		{"a profile that asks somebody", profile(`{"defaultAction":"SCMP_ACT_NOTIFY"}`), "seccomp=unconfined"},
		{"a profile as engines have it", profile(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["init_module"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_MODULE"]}}]}`), "seccomp=profile"},
	} {
		got := created(t, shop(), authz.Options{}, `{`+image+`,"HostConfig":{"SecurityOpt":[`+tc.options+`]}}`)
		if o := strings.Join(got.Task.Containers[0].SecurityOpt, " "); o != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, o, tc.want)
		}
	}
}

// TestAForgedRegistry shows that a tag alone makes an image of no registry.
func TestAForgedRegistry(t *testing.T) {
	e := shop()
	e["image good.example/app:1"] = e["image "+imgID]
	got := created(t, e, authz.Options{}, `{"Image":"good.example/app:1"}`).Task.Containers[0].Image
	if want := (admission.Image{Reference: "good.example/app:1", Tag: "1", ID: imgID}); got != want {
		t.Errorf("image = %+v, want %+v", got, want)
	}
}

// TestNoImage shows that a container without an image is not taken for one whose
// image is still to be pulled.
func TestNoImage(t *testing.T) {
	for _, body := range []string{`{"Image":"","HostConfig":{"Privileged":true}}`, `{"Cmd":["/h/bin/sh"],"HostConfig":{"Binds":["/:/h"]}}`} {
		if got := open(t, denying(), shop(), authz.Options{Allow: yes}).ask(post("/v1.41/containers/create", body)); got.Allow {
			t.Errorf("%s = %+v, want it refused", body, got)
		}
	}
}

// bulky is an engine whose containers and images are longer than is read.
type bulky struct{ store }

func (b bulky) Container(context.Context, string) (json.RawMessage, error) {
	return nil, fault.New(fault.Exhausted, "the answer is longer than 4194304 bytes")
}

func (b bulky) Image(context.Context, string) (json.RawMessage, error) {
	return nil, fault.New(fault.Exhausted, "the answer is longer than 4194304 bytes")
}

// torn is an engine where a name is the beginning of several ids.
type torn struct{ store }

func (t torn) Container(context.Context, string) (json.RawMessage, error) {
	return nil, fault.New(fault.Unavailable, "the engine answered 500: Multiple IDs found with provided prefix: 2")
}

// TestTheBeginningOfSeveralIDs shows that nobody gets the declared yes by a name
// that says one container only once the others are removed.
func TestTheBeginningOfSeveralIDs(t *testing.T) {
	if got := open(t, allowing(), torn{shop()}, authz.Options{Allow: yes}).ask(empty("POST", "/v1.41/containers/2/start")); got.Allow {
		t.Errorf("answer = %+v, want it refused", got)
	}
}

// TestTooBulkyToBeRead shows that nobody gets the declared yes by making an image
// or a container too large to be looked at.
func TestTooBulkyToBeRead(t *testing.T) {
	d := open(t, allowing(), bulky{shop()}, authz.Options{Allow: yes})
	for _, c := range []call{post("/v1.41/containers/create", `{`+image+`,"HostConfig":{"Privileged":true}}`), empty("POST", "/v1.41/containers/cart/start")} {
		if got := d.ask(c); got.Allow {
			t.Errorf("%s = %+v, want it refused", c.RequestURI, got)
		}
	}
}

// TestTheAgentsImageWithAnotherProgram shows ways to run something else in a
// container of a trusted image.
func TestTheAgentsImageWithAnotherProgram(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       bool
	}{
		{"as the ECS agent is run", `"HostConfig":{"NetworkMode":"host","Binds":["/var/run:/var/run","/lib:/lib:ro","/usr/lib:/lib64:ro","/proc:/host/proc:ro"]}`, true},
		{"a mount over the program", `"HostConfig":{"Binds":["/tmp/evil:/pause"]}`, false},
		{"a mount over its folder", `"HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/"}]}`, false},
		{"a mount over its libraries", `"HostConfig":{"Binds":["/tmp/evil:/lib/x86_64-linux-gnu"]}`, false},
		{"a library more", `"Env":["LD_PRELOAD=/data/evil.so"],"HostConfig":{"Binds":["/tmp:/data"]}`, false},
		{"a question for its health", `"Healthcheck":{"Test":["CMD","/bin/sh","-c","evil"]}`, false},
		{"no question for its health", `"Healthcheck":{"Test":["NONE"]}`, true},
	} {
		got := open(t, denying(), shop(), authz.Options{AgentImages: []string{imgID}}).ask(post("/v1.41/containers/create", `{`+image+`,`+tc.body+`}`))
		if got.Allow != tc.want {
			t.Errorf("%s = %+v, want yes: %v", tc.name, got, tc.want)
		}
	}
}

// TestNamedLikeAnID shows that no container is called by a name that would be
// another's if it lost it.
func TestNamedLikeAnID(t *testing.T) {
	named := func(name string) string {
		return fmt.Sprintf(`{"Id":%q,"Name":"/%s","Image":%q,"Config":{"Image":"registry.example/shop/cart:1"},"HostConfig":{}}`, idA, name, imgID)
	}
	e := shop()
	other := strings.Repeat("bd", 32)
	for _, name := range []string{"bdbd", "db", other} {
		e["container "+name] = named(name)
	}
	e["containers "] = fmt.Sprintf(`[{"Id":%q},{"Id":%q}]`, idA, other)
	for name, want := range map[string]bool{"bdbd": false, "db": true, other: false, "cart": true} {
		if got := open(t, allowing(), e, authz.Options{}).ask(empty("POST", "/v1.41/containers/"+name+"/start")); got.Allow != want {
			t.Errorf("start of %s = %+v, want yes: %v", name, got, want)
		}
	}
}

// TestNobodyMakesTheTimeRunOut shows that a call can't be made to cost so many
// questions that the declared answer is given.
func TestNobodyMakesTheTimeRunOut(t *testing.T) {
	networks := ""
	for i := range 30_000 {
		networks += fmt.Sprintf(`"n%d":{},`, i)
	}
	layers := strings.Repeat("/a:", 100_000)
	for _, body := range []string{
		`"NetworkingConfig":{"EndpointsConfig":{` + networks + `"n":{}}}`,
		`"HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"DriverConfig":{"Options":{"type":"overlay","o":"lowerdir=` + layers + `"}}}}]}`,
	} {
		j := allowing()
		if got := open(t, j, shop(), authz.Options{Allow: yes}).ask(post("/v1.41/containers/create", `{`+image+`,`+body+`}`)); got.Allow || len(j.requests()) > 0 {
			t.Errorf("%.60s… = %+v with %d verdicts, want it refused", body, got, len(j.requests()))
		}
	}
}

// TestUpFromALink shows that a path leads where the kernel goes, not where its
// letters do.
func TestUpFromALink(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a", "b"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if got, err := authz.HostPath(dir + "/link/../x"); err != nil || got != dir+"/a/x" {
		t.Errorf("HostPath = %q, %v, want %s/a/x", got, err, dir)
	}
}
