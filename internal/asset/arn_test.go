package asset_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
)

func TestParseTaskARN(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	tests := []struct {
		name, arn string
		want      asset.ECS // TaskARN is the input when anything is wanted
	}{
		{"with cluster", "arn:aws:ecs:eu-west-1:123456789012:task/shop/" + id,
			asset.ECS{Account: "123456789012", Region: "eu-west-1", Cluster: "shop", TaskID: id}},
		{"old form without cluster", "arn:aws:ecs:us-east-1:123456789012:task/" + uuid,
			asset.ECS{Account: "123456789012", Region: "us-east-1", TaskID: uuid}},
		{"China", "arn:aws-cn:ecs:cn-north-1:123456789012:task/shop/" + id,
			asset.ECS{Account: "123456789012", Region: "cn-north-1", Cluster: "shop", TaskID: id}},
		{"GovCloud", "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/shop/" + id,
			asset.ECS{Account: "123456789012", Region: "us-gov-west-1", Cluster: "shop", TaskID: id}},
		{"empty", "", asset.ECS{}},
		{"another service", "arn:aws:ec2:eu-west-1:123456789012:task/shop/" + id, asset.ECS{}},
		{"another resource", "arn:aws:ecs:eu-west-1:123456789012:service/shop/" + id, asset.ECS{}},
		{"another partition", "arn:awsome:ecs:eu-west-1:123456789012:task/shop/" + id, asset.ECS{}},
		{"short account", "arn:aws:ecs:eu-west-1:12345678901:task/shop/" + id, asset.ECS{}},
		{"account in letters", "arn:aws:ecs:eu-west-1:12345678901x:task/shop/" + id, asset.ECS{}},
		{"no region", "arn:aws:ecs::123456789012:task/shop/" + id, asset.ECS{}},
		{"no id", "arn:aws:ecs:eu-west-1:123456789012:task/shop/", asset.ECS{}},
		{"no cluster", "arn:aws:ecs:eu-west-1:123456789012:task//" + id, asset.ECS{}},
		{"one part too many", "arn:aws:ecs:eu-west-1:123456789012:task/shop/x/" + id, asset.ECS{}},
		{"control character", "arn:aws:ecs:eu-west-1:123456789012:task/shop/\x1b[2J", asset.ECS{}},
		{"endless", "arn:aws:ecs:eu-west-1:123456789012:task/shop/" + strings.Repeat("a", 1<<16), asset.ECS{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantOK := tt.want != asset.ECS{}
			if wantOK {
				tt.want.TaskARN = tt.arn
			}
			got, ok := asset.ParseTaskARN(tt.arn)
			if ok != wantOK {
				t.Errorf("ParseTaskARN(%q) ok = %v, want %v", tt.arn, ok, wantOK)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ParseTaskARN(%q) (-want +got):\n%s", tt.arn, diff)
			}
		})
	}
}

func TestClusterName(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"name", "shop", "shop"},
		{"ARN", "arn:aws:ecs:eu-west-1:123456789012:cluster/shop", "shop"},
		{"ARN of GovCloud", "arn:aws-us-gov:ecs:us-gov-east-1:123456789012:cluster/shop_2", "shop_2"},
		{"ARN of a task", "arn:aws:ecs:eu-west-1:123456789012:task/shop/1", ""},
		{"broken ARN", "arn:aws:ecs:cluster/shop", ""},
		{"slash", "shop/front", ""},
		{"blank", "my shop", ""},
		{"empty", "", ""},
		{"longer than ECS allows", strings.Repeat("a", 256), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := asset.ClusterName(tt.in); got != tt.want {
				t.Errorf("ClusterName(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// Whatever a label says, no part of an identity can hold a separator of Group
// or a character that a terminal acts on.
func FuzzParseTaskARN(f *testing.F) {
	f.Add("arn:aws:ecs:eu-west-1:123456789012:task/shop/0123456789abcdef0123456789abcdef")
	f.Add("arn:aws-cn:ecs:cn-north-1:123456789012:task/01234567-89ab-cdef-0123-456789abcdef")
	f.Add("arn:aws:ecs:::task//")
	f.Fuzz(func(t *testing.T, s string) {
		e, ok := asset.ParseTaskARN(s)
		if !ok {
			if e != (asset.ECS{}) {
				t.Fatalf("ParseTaskARN(%q) = %+v beside not ok", s, e)
			}
			return
		}
		if e.TaskARN != s || e.Account == "" || e.Region == "" || e.TaskID == "" {
			t.Fatalf("ParseTaskARN(%q) = %+v, want every part", s, e)
		}
		for _, part := range []string{e.Account, e.Region, e.Cluster, e.TaskID} {
			if part != "" && !asset.WellNamed(part) {
				t.Fatalf("ParseTaskARN(%q): part %q is not a name", s, part)
			}
		}
	})
}

func FuzzClusterName(f *testing.F) {
	f.Add("shop")
	f.Add("arn:aws:ecs:eu-west-1:123456789012:cluster/shop")
	f.Fuzz(func(t *testing.T, s string) {
		if name := asset.ClusterName(s); name != "" && !asset.WellNamed(name) {
			t.Fatalf("ClusterName(%q) = %q, which is not a name", s, name)
		}
	})
}

func TestParseServiceARN(t *testing.T) {
	const at = "arn:aws:ecs:eu-west-1:123456789012:"
	whole := asset.ECS{Account: "123456789012", Region: "eu-west-1", Cluster: "shop", Service: "web"}
	for _, tt := range []struct {
		name, arn string
		want      asset.ECS
	}{
		{"service", at + "service/shop/web", whole},
		{"old form", at + "service/web", asset.ECS{Account: "123456789012", Region: "eu-west-1", Service: "web"}},
		{"revision", at + "service-revision/shop/web/9313423515462893900", whole},
		{"deployment", at + "service-deployment/shop/web/EZe5RNVLH6PPzHXINuP28", whole},
		{"revision without number", at + "service-revision/shop/web", asset.ECS{}},
		{"one part too many", at + "service/shop/web/x", asset.ECS{}},
		{"no cluster", at + "service//web", asset.ECS{}},
		{"a task", at + "task/shop/web", asset.ECS{}},
		{"another service", "arn:aws:elasticloadbalancing:eu-west-1:123456789012:service/shop/web", asset.ECS{}},
		{"control character", at + "service/shop/\n", asset.ECS{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := asset.ParseServiceARN(tt.arn)
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != (tt.want != asset.ECS{}) {
				t.Errorf("ok: %v, -want +got:\n%s", ok, diff)
			}
		})
	}
}
