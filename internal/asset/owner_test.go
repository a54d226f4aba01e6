package asset_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
)

func rule(image, group, name string) asset.OwnerRule {
	return asset.OwnerRule{Image: image, Group: group, Owner: asset.Owner{Name: name}}
}

func TestOwners(t *testing.T) {
	owners := asset.Owners{
		rule("**", "", "operations"),
		rule("shop/*", "", "shop"),
		rule("registry.example/team-a/**", "", "team a"),
		rule("registry.example/team-a/base", "", "platform"),
		rule("", "prod/pay/*", "payments"),
		rule("nginx", "", "web"),
	}
	for _, c := range []struct {
		name, reference string
		group           asset.Group
		want            string
	}{
		{"a repository", "shop/web:1.2", "", "shop"},
		{"by digest", "shop/web@sha256:0000000000000000000000000000000000000000000000000000000000000000", "", "shop"},
		{"one part is one part", "shop/web/admin", "", "operations"},
		{"everything below", "registry.example/team-a/x/y:1", "", "team a"},
		{"the folder itself is not below itself", "registry.example/team-a", "", "operations"},
		{"the last that fits", "registry.example/team-a/base:1", "", "platform"},
		{"a group", "", "prod/pay/api", "payments"},
		{"a group after an image", "shop/web", "prod/pay/api", "payments"},
		{"an image after a group", "nginx:1", "prod/pay/api", "web"},
		{"the first where no other fits", "other/web", "dev/pay/api", "operations"},
		{"a group that no rule is about", "", "dev/pay/api", ""},
		{"nothing", "", "", ""},
		{"an image is no group", "prod/pay/api", "", "operations"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := owners.Of(c.reference, c.group).Name; got != c.want {
				t.Errorf("Of(%q, %q) = %q, want %q", c.reference, c.group, got, c.want)
			}
		})
	}
	if got := owners.OfAll([]string{"shop/web:1", "registry.example/team-a/web"}, []asset.Group{"dev/x/y"}).Name; got != "team a" {
		t.Errorf("OfAll = %q, want the last rule that fits any name", got)
	}
}

func TestOwnerRuleCheck(t *testing.T) {
	long := make([]byte, 600)
	for i := range long {
		long[i] = 'x'
	}
	for _, c := range []struct {
		name string
		rule asset.OwnerRule
		ok   bool
	}{
		{"image", rule("shop/*", "", "shop"), true},
		{"group", rule("", "prod/**", "shop"), true},
		{"neither", rule("", "", "shop"), false},
		{"both", rule("a", "b", "shop"), false},
		{"a version", rule("shop/web:1", "", "shop"), false},
		{"no name", rule("shop/*", "", " "), false},
		{"the word for nobody", rule("shop/*", "", "-"), false},
		{"no pattern", rule("shop/[", "", "shop"), false},
		{"an empty part", rule("shop//x", "", "shop"), false},
		{"long", rule(string(long), "", "shop"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.rule.Check(); (err == nil) != c.ok {
				t.Errorf("Check() = %v, want ok %v", err, c.ok)
			}
		})
	}
}
