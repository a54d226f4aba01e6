package registries_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/registries"
)

func TestSpec(t *testing.T) {
	const ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	for _, tc := range []struct {
		name string
		spec registries.Spec
		want string // in the error
	}{
		{"the least", registries.Spec{Name: "hub", Host: "hub.example"}, ""},
		{"everything", registries.Spec{
			Name: "hub", Host: ecr, Repositories: []string{"shop/**"}, Tags: []string{"!dev"}, Named: []string{"ops/tool"}, Keep: 3,
			MaxAge: "90d", Platforms: []string{"linux/arm64/v8"}, Every: "5m", Rate: 2.5, Queue: "https://sqs.eu-central-1.amazonaws.com/123456789012/q",
		}, ""},
		{"no name", registries.Spec{Host: "hub.example"}, "name:"},
		{"a name in capitals", registries.Spec{Name: "Hub", Host: "hub.example"}, "name:"},
		{"no host", registries.Spec{Name: "hub"}, "host:"},
		{"an address", registries.Spec{Name: "hub", Host: "https://hub.example"}, "is an address"},
		{"a path", registries.Spec{Name: "hub", Host: "hub.example/shop"}, "host:"},
		{"a user", registries.Spec{Name: "hub", Host: "me:secret@hub.example"}, "host:"},
		{"a name without dot or port", registries.Spec{Name: "hub", Host: "registry"}, "neither a dot nor a port"},
		{"such a name with a port", registries.Spec{Name: "hub", Host: "registry:443"}, ""},
		{"this machine", registries.Spec{Name: "hub", Host: "localhost"}, ""},
		{"an address of IPv6", registries.Spec{Name: "hub", Host: "[::1]"}, ""},
		{"another kind", registries.Spec{Name: "hub", Host: "hub.example", Kind: "x"}, "kind:"},
		{"ecr of another host", registries.Spec{Name: "hub", Host: "hub.example", Kind: "ecr"}, "none of Amazon ECR"},
		{"a queue of any registry", registries.Spec{Name: "hub", Host: "hub.example", Queue: "https://sqs.eu-central-1.amazonaws.com/1/q"}, "queue:"},
		{"a queue that is none", registries.Spec{Name: "hub", Host: ecr, Queue: "castellan"}, "queue:"},
		{"asked too often", registries.Spec{Name: "hub", Host: "hub.example", Every: "1s"}, "every:"},
		{"no time", registries.Spec{Name: "hub", Host: "hub.example", MaxAge: "old"}, "max_age:"},
		{"fewer than none", registries.Spec{Name: "hub", Host: "hub.example", Keep: -1}, "keep:"},
		{"a repository with a tag", registries.Spec{Name: "hub", Host: "hub.example", Named: []string{"shop:1"}}, "named:"},
		{"a platform that is none", registries.Spec{Name: "hub", Host: "hub.example", Platforms: []string{"arm64"}}, "platforms:"},
		{"a pattern that is none", registries.Spec{Name: "hub", Host: "hub.example", Tags: []string{"a b"}}, "tags:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := tc.spec.Registry()
			if tc.want != "" {
				if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want invalid: %s", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := registries.SpecOf(r).Registry()
			if diff := cmp.Diff(again, r); diff != "" || err != nil {
				t.Errorf("written and read (-got +want), %v:\n%s", err, diff)
			}
		})
	}
	r, err := registries.Spec{Name: "hub", Host: ecr, Every: "90m"}.Registry()
	if err != nil || r.Kind != asset.RegistryECR || r.Every != 90*time.Minute {
		t.Errorf("got %+v, %v", r, err)
	}
}
