package aws_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// theDigest is one by its number.
func theDigest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// paged answers a list in pages of two, with tokens as AWS has them.
func paged(in object, member string, all []object) (int, object) {
	from := 0
	if token, ok := in["nextToken"].(string); ok {
		_, _ = fmt.Sscanf(token, "from-%d", &from)
	}
	out := object{}
	if to := from + 2; to < len(all) {
		all, out["nextToken"] = all[:to], fmt.Sprintf("from-%d", to)
	}
	out[member] = all[from:]
	return http.StatusOK, out
}

func TestECRRepositories(t *testing.T) {
	c := newCloud(t, func(_ string, in object) (int, object) {
		var all []object
		for _, name := range []string{"shop/web", "docker-hub/library/alpine", "Not/One", "batch"} {
			all = append(all, object{"repositoryName": name, "registryId": "123456789012"})
		}
		return paged(in, "repositories", all)
	})
	got, err := listed(keychain(t).Repositories(t.Context(), asset.Registry{Host: private, Rate: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"shop/web", "docker-hub/library/alpine", "batch"}, got); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	asks := c.asks("DescribeRepositories")
	if len(asks) != 2 || asks[0].scope != "eu-west-1 ecr" {
		t.Fatalf("asked %+v, want two pages of that region", asks)
	}
	if diff := cmp.Diff(object{"registryId": "123456789012", "maxResults": 1000.0}, asks[0].in); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestECRImages(t *testing.T) {
	pushed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	image := func(n int, more object, tags ...string) object {
		d := object{
			"imageDigest": theDigest(n), "imageTags": tags, "imagePushedAt": float64(pushed.Unix()), "imageSizeInBytes": 1000 + n,
			"artifactMediaType": "application/vnd.oci.image.config.v1+json", "imageManifestMediaType": "application/vnd.oci.image.manifest.v1+json",
		}
		for k, v := range more {
			if d[k] = v; v == nil {
				delete(d, k)
			}
		}
		return d
	}
	digits := strings.Repeat("0f", 32)
	all := []object{
		image(1, nil, "1", "1.0", "unwanted"),
		image(2, object{"artifactMediaType": "application/vnd.docker.container.image.v1+json"}, "2"),
		image(3, object{"artifactMediaType": nil, "imageManifestMediaType": "application/vnd.oci.image.index.v1+json"}, "both"),
		image(4, nil, "unwanted"),
		image(5, object{"artifactMediaType": "application/vnd.cncf.helm.config.v1+json"}, "chart"),
		image(6, nil, "sha256-"+digits+".sig"),
		image(7, object{"subjectManifestDigest": theDigest(1)}, "referrer"),
		image(8, object{"imageStatus": "ARCHIVED"}, "archived"),
		image(9, object{"imageStatus": "ACTIVE"}, "active"),
		image(10, object{"imageDigest": "sha256:short"}, "broken"),
	}
	c := newCloud(t, func(_ string, in object) (int, object) { return paged(in, "imageDetails", all) })
	got, err := listed(keychain(t).Images(t.Context(), asset.Registry{Host: private, Rate: 1000}, "shop/web", func(tag string) bool { return tag != "unwanted" }))
	if err != nil {
		t.Fatal(err)
	}
	want := []asset.RegistryImage{
		{Repository: "shop/web", Digest: theDigest(1), Tags: []string{"1", "1.0"}, Pushed: pushed, Size: 1001},
		{Repository: "shop/web", Digest: theDigest(2), Tags: []string{"2"}, Pushed: pushed, Size: 1002},
		{Repository: "shop/web", Digest: theDigest(3), Tags: []string{"both"}, Pushed: pushed, Size: 1003},
		{Repository: "shop/web", Digest: theDigest(9), Tags: []string{"active"}, Pushed: pushed, Size: 1009},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	asks := c.asks("DescribeImages")
	wanted := object{"registryId": "123456789012", "repositoryName": "shop/web", "maxResults": 1000.0, "filter": object{"tagStatus": "TAGGED"}}
	if diff := cmp.Diff(wanted, asks[0].in); diff != "" || len(asks) != 5 {
		t.Errorf("%d requests, want 5; the first (-want +got):\n%s", len(asks), diff)
	}
}

func TestECRRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, host, code string
		kind             fault.Kind
		words, remedy    string
	}{
		{"not permitted", private, "AccessDeniedException", fault.Denied, "AccessDenied", "ecr:DescribeImages"},
		{"throttled", private, "ThrottlingException", fault.Exhausted, "Throttling", "less often"},
		{"no such repository", private, "RepositoryNotFoundException", fault.NotFound, "RepositoryNotFound", "repository"},
		{"wrong words", private, "InvalidParameterException", fault.Invalid, "InvalidParameter", "host"},
		{"old credentials", private, "ExpiredTokenException", fault.Unauthenticated, "Expired", "credentials"},
		{"out of order", private, "ServerException", fault.Unavailable, "ServerException", "later"},
		{"the public gallery", "public.ecr.aws", "", fault.Unsupported, "public", "kind oci"},
		{"another registry", "registry.example", "", fault.Invalid, "no registry of Amazon ECR", "kind oci"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newCloud(t, func(string, object) (int, object) {
				return http.StatusBadRequest, object{"__type": tc.code, "message": "because"}
			})
			got, err := listed(keychain(t).Images(t.Context(), asset.Registry{Host: tc.host}, "shop/web", func(string) bool { return true }))
			if fault.Of(err) != tc.kind || !strings.Contains(fmt.Sprint(err), tc.words) || !strings.Contains(fault.Remedy(err), tc.remedy) || len(got) > 0 {
				t.Errorf("error %v (%s, %q), want %s with %q and %q", err, fault.Of(err), fault.Remedy(err), tc.kind, tc.words, tc.remedy)
			}
		})
	}
	t.Run("no credentials", func(t *testing.T) {
		outside(t)
		_, err := listed(keychain(t).Repositories(t.Context(), asset.Registry{Host: private}))
		if !fault.Is(err, fault.Unauthenticated) || !strings.Contains(fault.Remedy(err), "role") {
			t.Errorf("error %v (%q)", err, fault.Remedy(err))
		}
	})
	t.Run("a list that leads to itself", func(t *testing.T) {
		c := newCloud(t, func(string, object) (int, object) {
			return http.StatusOK, object{"repositories": []object{{"repositoryName": "a"}}, "nextToken": "again"}
		})
		got, err := listed(keychain(t).Repositories(t.Context(), asset.Registry{Host: private, Rate: 1000}))
		if n := len(c.asks("DescribeRepositories")); err != nil || n != 2 || len(got) != 2 {
			t.Errorf("%q, %v after %d requests, want it to end", got, err, n)
		}
	})
}
