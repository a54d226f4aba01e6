package authz_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
)

// TestImagesOfContainerd shows that a tag says nothing of where an image came from
// where containerd keeps the images, which gives every tag a digest.
func TestImagesOfContainerd(t *testing.T) {
	const tag = "registry.example/shop/cart:1"
	named := admission.Image{Reference: tag, Registry: "registry.example", Repository: "shop/cart", Tag: "1", Digest: imgID, ID: imgID}
	nobodys := named
	nobodys.Registry, nobodys.Repository = "", ""
	tagged := `"RepoDigests":["registry.example/shop/cart@` + imgID + `"]`
	for _, tc := range []struct {
		name, says string
		trust      bool
		want       admission.Image
	}{
		{"pulled from there", tagged + `,"Descriptor":{"digest":"x"},"Identity":{"Pull":[{"Repository":"evil.example/x"},{"Repository":"registry.example/shop/cart"}]}`, false, named},
		{"pulled from elsewhere", tagged + `,"Descriptor":{"digest":"x"},"Identity":{"Pull":[{"Repository":"evil.example/x"}]}`, false, nobodys},
		{"pulled from elsewhere, and tags are believed", tagged + `,"Descriptor":{"digest":"x"},"Identity":{"Pull":[{"Repository":"evil.example/x"}]}`, true, nobodys},
		{"built here", tagged + `,"Descriptor":{"digest":"x"},"Identity":{}`, false, nobodys},
		{"an engine that does not say", tagged, false, nobodys},
		{"an engine that does not say, and tags are believed", tagged, true, named},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := shop()
			e["image "+tag] = fmt.Sprintf(`{"Id":%q,%s}`, imgID, tc.says)
			got := created(t, e, authz.Options{TrustTags: tc.trust}, `{`+image+`}`).Task.Containers[0].Image
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("image differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSettingsOfInterfaces shows that settings of the kernel are told that come with
// an interface, whenever they come.
func TestSettingsOfInterfaces(t *testing.T) {
	const opts = `"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.route_localnet=1, net.ipv6.conf.IFNAME.x=2"}`
	want := map[string]string{"net.ipv4.conf.IFNAME.route_localnet": "1", "net.ipv6.conf.IFNAME.x": "2"}
	e := shop()
	e["container n"] = strings.Replace(e["container cart"], `"Mounts":[]`, `"NetworkSettings":{"Networks":{"town":{`+opts+`,"Future":1}}}`, 1)
	for _, c := range []call{
		post("/v1.47/containers/create", `{`+image+`,"NetworkingConfig":{"EndpointsConfig":{"town":{`+opts+`}}}}`),
		empty("POST", "/v1.47/containers/n/start"),
		post("/v1.47/networks/town/connect", `{"Container":"cart","EndpointConfig":{`+opts+`}}`),
	} {
		j := allowing()
		if got := open(t, j, e, authz.Options{}).ask(c); !got.Allow {
			t.Errorf("%s: answer = %+v, want yes", c.RequestURI, got)
			continue
		}
		if diff := cmp.Diff(want, j.requests()[0].Task.Containers[0].Sysctls); diff != "" {
			t.Errorf("%s: settings differ (-want +got):\n%s", c.RequestURI, diff)
		}
	}
}

// TestMountedImageByTag shows that an image that may be another by the time it is
// mounted is refused.
func TestMountedImageByTag(t *testing.T) {
	got := open(t, allowing(), shop(), authz.Options{}).ask(post("/v1.48/containers/create", `{`+image+`,"HostConfig":{"Mounts":[{"Type":"image","Source":"registry.example/shop/cart:1","Target":"/t"}]}}`))
	if got.Allow || !strings.Contains(got.Msg, "named by a tag") {
		t.Errorf("answer = %+v, want no", got)
	}
}

// TestScannerSeesSecretsAlone shows that the scanner gets the values of variables,
// and whoever decides and keeps a request doesn't.
func TestScannerSeesSecretsAlone(t *testing.T) {
	const secret = "hunter2hunter2X9"
	j := allowing()
	seen := ""
	d := open(t, j, shop(), authz.Options{Judge: func(r *admission.Request) {
		seen = r.Task.Containers[0].Env[0].Value
		r.FaultsKnown = true
	}})
	if got := d.ask(post("/v1.41/containers/create", `{`+image+`,"Env":["DB_PASSWORD=`+secret+`"]}`)); !got.Allow {
		t.Fatalf("answer = %+v", got)
	}
	if r := j.requests()[0]; seen != secret || !r.FaultsKnown || r.Task.Containers[0].Env[0].Value != "" {
		t.Errorf("the scanner saw %q; decided on %+v", seen, r.Task.Containers[0].Env)
	}
}
