package webhook_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/oci/webhook"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

func theDigest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// The notifications in testdata are written after what each product documents:
//
//	distribution   CNCF Distribution, "Work with notifications"
//	harbor         Harbor, "Configure Webhook Notifications"
//	github         GitHub, "Webhook events and payloads", package, registry_package, ping
//	dockerhub      Docker, "Webhooks", "Example webhook payload"
//	quay           Red Hat Quay, "Repository Notifications"; the table is of Quay's first years
//	azure          Microsoft, "Azure Container Registry webhook reference"
//	google         Google, "Configure Pub/Sub notifications" of Artifact Registry
//	artifactory    JFrog, "Event types", domain docker
func TestParse(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fine := at.Add(123456789)
	change := func(host, repository, tag, digest string, deleted bool, at time.Time) asset.RegistryChange {
		return asset.RegistryChange{Host: host, Repository: repository, Tag: tag, Digest: digest, Deleted: deleted, At: at}
	}
	const harbor, github, azure, google, jfrog = "hub.example", "ghcr.io", "shop.azurecr.example", "europe-docker.pkg.example", "artifactory.example"
	one := theDigest(1)
	wants := map[string][]asset.RegistryChange{
		"distribution": {
			change("registry.example:5000", "shop/web", "1.0", one, false, fine),
			change("registry.example:5000", "shop/api", "", theDigest(2), false, fine),
			change("registry.example:5000", "shop/web", "", theDigest(3), true, fine),
			change("registry.example:5000", "shop/web", "0.9", "", true, fine),
		},
		"harbor-push":             {change(harbor, "team/debian", "latest", one, false, at)},
		"harbor-delete":           {change(harbor, "team/debian", "", one, true, at)},
		"harbor-pull":             nil,
		"harbor-cloudevent":       {change(harbor, "team/debian", "latest", one, false, at)},
		"harbor-cloudevent-scan":  nil,
		"github-package":          {change(github, "octocoders/hello-world", "1.0", one, false, at)},
		"github-registry-package": {change(github, "octocoders/hello-world", "", one, false, at)},
		"github-npm":              nil,
		"github-ping":             nil,
		"dockerhub":               {change("docker.io", "shop/web", "latest", "", false, at)},
		"quay":                    {change("quay.example", "shop/web", "latest", "", false, time.Time{}), change("quay.example", "shop/web", "1.0", "", false, time.Time{})},
		"quay-table":              {change("quay.example", "shop/web", "1.0", "", false, time.Time{}), change("quay.example", "shop/web", "latest", "", false, time.Time{})},
		"quay-vulnerability":      nil,
		"azure-push":              {change(azure, "hello-world", "v1", one, false, at.Add(343145347))},
		"azure-delete":            {change(azure, "hello-world", "", one, true, at.Add(343145347))},
		"azure-chart":             nil,
		"azure-ping":              nil,
		"google-push":             {change(google, "project/repo/hello-world", "1.1", one, false, at.Add(time.Second/2))},
		"google-delete":           {change(google, "project/repo/hello-world", "1.1", "", true, at.Add(time.Second/2))},
		"artifactory-push":        {change(jfrog, "docker-local/library/ubuntu", "latest", one, false, time.Time{})},
		"artifactory-delete":      {change(jfrog, "docker-local/library/ubuntu", "latest", one, true, time.Time{})},
		"artifactory-file":        nil,
	}
	for name, b := range samples(t) {
		t.Run(name, func(t *testing.T) {
			want, known := wants[name]
			if !known {
				t.Fatal("nothing is wanted of it")
			}
			got, err := webhook.Parse(b, "application/json")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
	if n := len(samples(t)); n != len(wants) {
		t.Errorf("%d samples, want %d", n, len(wants))
	}
}

// samples are the notifications in testdata.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = b
	}
	return all
}

func TestParseRefuses(t *testing.T) {
	hub := func(repository, tag string) string {
		return fmt.Sprintf(`{"push_data":{"tag":%q},"repository":{"repo_name":%q}}`, tag, repository)
	}
	for _, tc := range []struct{ name, body, contentType, words string }{
		{"nothing", "", "", "parse notification"},
		{"a list", "[]", "", "parse notification"},
		{"null", "null", "", "no form"},
		{"another document", `{"hello":"world"}`, "", "no form"},
		{"a form", "payload=%7B%7D", "application/x-www-form-urlencoded", "x-www-form-urlencoded"},
		{"a type that is none", "{}", ";;", "JSON is read"},
		{"too long", strings.Repeat(" ", webhook.MaxBody) + "{}", "", "at most"},
		{"a repository that is none", hub("../web", "1"), "", "cannot be one"},
		{"a tag that is none", hub("shop/web", "a b"), "", "cannot be one"},
		{"a digest that is none", `{"events":[{"action":"delete","target":{"repository":"a","digest":"sha256:x"}}]}`, "", "cannot be one"},
		{"a host that is none", `{"events":[{"action":"push","request":{"host":"a/b"},"target":{"repository":"a","tag":"1"}}]}`, "", "cannot be one"},
		{"no events", `{"events":null}`, "", "no list of events"},
		{"another kind of events", `{"events":{"secret":1}}`, "", "another kind"},
		{"more than there can be", `{"docker_url":"q.example/a","repository":"a","namespace":"a","updated_tags":["` + tags(1001) + `"]}`, "", "more changes"},
		{"deep", strings.Repeat(`{"events":`, 20_000), "", "parse notification"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := webhook.Parse([]byte(tc.body), tc.contentType)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tc.words) || fault.Remedy(err) == "" || len(got) > 0 {
				t.Errorf("Parse() = %v, %v (%q), want it invalid with %q", got, err, fault.Remedy(err), tc.words)
			}
		})
	}
}

// tags are n of them, as a part of a JSON list.
func tags(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return strings.Join(all, `","`)
}

// What cannot be used does not hide what can.
func TestParseLeavesOut(t *testing.T) {
	event := func(repository, tag, digest string) string {
		return fmt.Sprintf(`{"action":"push","target":{"repository":%q,"tag":%q,"digest":%q}}`, repository, tag, digest)
	}
	digits := strings.Repeat("0f", 32)
	body := `{"events":[` + strings.Join([]string{
		event("../a", "1", theDigest(1)), event("a", "1", "sha256:short"), event("a", "1", "sha256:short"), event("a", "sha256-"+digits+".sig", theDigest(2)),
		event("b", "2", theDigest(3)),
	}, ",") + `]}`
	got, err := webhook.Parse([]byte(body), "application/vnd.docker.distribution.events.v2+json; charset=utf-8")
	if err != nil {
		t.Fatal(err)
	}
	want := []asset.RegistryChange{{Repository: "a", Tag: "1"}, {Repository: "b", Tag: "2", Digest: theDigest(3)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// The example of GitHub's documentation, "Validating webhook deliveries".
// FuzzParse wants of every change that it can be one.
func FuzzParse(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, err := webhook.Parse(b, "")
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("error %v", err)
		}
		for i, c := range changes {
			if !asset.IsRepository(c.Repository) || c.Tag != "" && !asset.IsTag(c.Tag) || c.Digest != "" && inventory.CheckDigest(c.Digest) != nil ||
				len(c.Host) > 300 || strings.ContainsAny(c.Host, "/@ \n") || slices.Contains(changes[:i], c) {
				t.Fatalf("change %+v", c)
			}
		}
	})
}
