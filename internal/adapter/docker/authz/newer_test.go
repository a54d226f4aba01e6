package authz_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/docker/authz"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
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
		{"pulled from there by a port", tagged + `,"Descriptor":{"digest":"x"},"Identity":{"Pull":[{"Repository":"registry.example:5000/shop/cart"}]}`, false, named},
		{"pulled from another repository", tagged + `,"Descriptor":{"digest":"x"},"Identity":{"Pull":[{"Repository":"registry.example/shop/cart2"},{"Repository":""}]}`, false, nobodys},
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

// TestWhoseContainer shows that the ECS agent's word on whose a container is goes
// before its labels, and that labels say nothing where that is not wanted.
func TestWhoseContainer(t *testing.T) {
	const labels = `"Labels":{"com.amazonaws.ecs.task-arn":"arn:aws:ecs:eu-west-1:1:task/shop/1","com.amazonaws.ecs.task-definition-family":"trusted","com.amazonaws.ecs.container-name":"excepted"}`
	cart := asset.ECS{Account: "2", Region: "r", Cluster: "shop", Family: "cart", Revision: "3", TaskARN: "arn:2", Container: "app"}
	e := shop()
	e["container cart"] = strings.Replace(e["container cart"], `"Labels":{}`, labels, 1)
	for _, tc := range []struct {
		name              string
		of                asset.ECS
		labels            bool
		family, container string
	}{
		{"the agent knows it", cart, false, "cart", "app"},
		{"the agent knows it, and labels count", cart, true, "cart", "app"},
		{"nobody knows it", asset.ECS{}, false, "", "NAME"},
		{"nobody knows it, and labels count", asset.ECS{}, true, "trusted", "excepted"},
	} {
		for called, c := range map[string]call{
			" web":        post("/v1.41/containers/create?name=web", `{`+image+`,`+labels+`}`),
			idA + " cart": empty("POST", "/v1.41/containers/cart/start"),
		} {
			j, asked := allowing(), ""
			o := authz.Options{Task: func(_ context.Context, id, name string) (asset.ECS, bool) {
				asked = id + " " + name
				return tc.of, tc.labels
			}}
			if got := open(t, j, e, o).ask(c); !got.Allow {
				t.Fatalf("%s: answer = %+v", tc.name, got)
			}
			want := strings.Replace(tc.container, "NAME", called[strings.IndexByte(called, ' ')+1:], 1)
			r := j.requests()[0]
			if asked != called || r.Task.Family != tc.family || r.Task.Containers[0].Name != want || tc.of.TaskARN != "" && r.Place.Account != "2" {
				t.Errorf("%s, %s: asked for %q; family %q, container %q at %+v", tc.name, c.RequestURI, asked, r.Task.Family, r.Task.Containers[0].Name, r.Place)
			}
		}
	}
}
