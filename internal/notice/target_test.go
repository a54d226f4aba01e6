package notice_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b:c", true},
		{"shop/web", "shop/web", true}, {"shop/web", "shop/webs", false}, {"shop/*", "shop/", true}, {"shop/*", "other/web", false},
		{"*/web", "a/b/web", true}, {"*/web", "web", false}, {"a*c*e", "abcde", true}, {"a*c*e", "abde", false},
		{"*aab", "aaaab", true}, {"a?c", "abc", false}, {"[a]", "a", false}, {"**", "x", true}, {"*a*", "bab", true},
	} {
		if got := notice.Match(tc.pattern, tc.text); got != tc.want {
			t.Errorf("Match(%q, %q) = %v, want %v", tc.pattern, tc.text, got, tc.want)
		}
	}
}

// FuzzMatch holds Match against a regular expression that means the same.
func FuzzMatch(f *testing.F) {
	f.Add("a*b", "axb")
	f.Add("*a*a*a", "aaaaaaaa")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 100 || len(text) > 1000 {
			return
		}
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		re, err := regexp.Compile(`(?s)\A` + strings.Join(parts, `.*`) + `\z`)
		if err != nil {
			return // no text that a regular expression takes
		}
		if got, want := notice.Match(pattern, text), re.MatchString(text); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", pattern, text, got, want)
		}
	})
}

func TestFilterTakes(t *testing.T) {
	refs, groups := []string{"registry/shop/web:1@sha256:00", "registry/old:2"}, []string{"prod/web/app"}
	for _, tc := range []struct {
		name    string
		filter  notice.Filter
		kind    notice.Kind
		running bool
		want    bool
	}{
		{"zero", notice.Filter{}, notice.ImageVulnerable, false, true},
		{"zero, another kind", notice.Filter{}, notice.ImageScanned, false, false},
		{"named kind", notice.Filter{Kinds: []notice.Kind{notice.ImageScanned}}, notice.ImageScanned, false, true},
		{"kind not named", notice.Filter{Kinds: []notice.Kind{notice.ImageScanned}}, notice.ImageVulnerable, false, false},
		{"running asked for", notice.Filter{Running: true}, notice.ImageVulnerable, false, false},
		{"running, and it is", notice.Filter{Running: true}, notice.ImageVulnerable, true, true},
		{"repository without tag", notice.Filter{Repositories: []string{"registry/shop/web"}}, notice.ImageVulnerable, false, true},
		{"one of two patterns", notice.Filter{Repositories: []string{"no", "*/old"}}, notice.ImageVulnerable, false, true},
		{"no pattern fits", notice.Filter{Repositories: []string{"shop/*"}}, notice.ImageVulnerable, false, false},
		{"group", notice.Filter{Groups: []string{"prod/*"}}, notice.ImageVulnerable, true, true},
		{"other group", notice.Filter{Groups: []string{"test/*"}}, notice.ImageVulnerable, true, false},
		{"cluster", notice.Filter{Clusters: []string{"pr*"}}, notice.ImageVulnerable, true, true},
		{"other cluster", notice.Filter{Clusters: []string{"test"}}, notice.ImageVulnerable, true, false},
		{"owner", notice.Filter{Owners: []string{"shop *"}}, notice.ImageVulnerable, true, true},
		{"other owner", notice.Filter{Owners: []string{"payments"}}, notice.ImageVulnerable, true, false},
		{"all must hold", notice.Filter{Repositories: []string{"*"}, Groups: []string{"test/*"}}, notice.ImageVulnerable, true, false},
	} {
		if got := tc.filter.Takes(notice.About{Kind: tc.kind, References: refs, Groups: groups, Clusters: []string{"prod"}, Owner: "shop team", Running: tc.running}); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestFilterTakesNotice(t *testing.T) {
	n := notice.Notice{
		Kind: notice.Incident, Severity: finding.High, Owner: "payments",
		Workload: &notice.Workload{Group: "prod/pay/api", Cluster: "arn:aws:ecs:eu-west-1:123456789012:cluster/prod"},
	}
	incidents := []notice.Kind{notice.Incident}
	for _, tc := range []struct {
		name   string
		filter notice.Filter
		want   bool
	}{
		{"not its kind", notice.Filter{}, false},
		{"its kind", notice.Filter{Kinds: incidents}, true},
		{"grave enough", notice.Filter{Kinds: incidents, Severity: finding.High}, true},
		{"not grave enough", notice.Filter{Kinds: incidents, Severity: finding.Critical}, false},
		{"what is asked of images", notice.Filter{Kinds: incidents, Running: true, Fixable: true, Exploited: true}, true},
		{"cluster of an ARN", notice.Filter{Kinds: incidents, Clusters: []string{"prod"}}, true},
		{"group", notice.Filter{Kinds: incidents, Groups: []string{"*/pay/*"}}, true},
		{"owner", notice.Filter{Kinds: incidents, Owners: []string{"pay*"}}, true},
		{"repository, where no image is known", notice.Filter{Kinds: incidents, Repositories: []string{"shop/*"}}, false},
	} {
		if got := tc.filter.TakesNotice(&n); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestFilterPasses(t *testing.T) {
	high := notice.Finding{Severity: finding.High}
	for _, tc := range []struct {
		name   string
		filter notice.Filter
		x      notice.Finding
		want   bool
	}{
		{"zero takes what nobody rated", notice.Filter{}, notice.Finding{}, true},
		{"as grave", notice.Filter{Severity: finding.High}, high, true},
		{"less grave", notice.Filter{Severity: finding.Critical}, high, false},
		{"no fix", notice.Filter{Fixable: true}, high, false},
		{"fix", notice.Filter{Fixable: true}, notice.Finding{Fixed: "2"}, true},
		{"not exploited", notice.Filter{Exploited: true}, high, false},
		{"exploited", notice.Filter{Exploited: true}, notice.Finding{Exploited: true}, true},
	} {
		if got := tc.filter.Passes(&tc.x); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestLevelsRise(t *testing.T) {
	last := 0
	for _, exploited := range []bool{false, true} {
		for s := finding.Unknown; s <= finding.Critical; s++ {
			f := notice.Finding{Severity: s, Exploited: exploited}
			if l := f.Level(); l <= last {
				t.Errorf("%v, exploited %v: level %d is not above %d", s, exploited, l, last)
			} else {
				last = l
			}
		}
	}
}
