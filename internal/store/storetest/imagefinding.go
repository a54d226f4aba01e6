package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// aSecret is a secret in a file.
func aSecret(key, path string, severity finding.Severity) store.Finding {
	s := &finding.Secret{
		Secret: inventory.Secret{Place: inventory.Place{Path: path, Layer: 2}, Rule: "aws-access-token", Length: 20, Same: "s", Print: "p" + key},
		Title:  "an AWS access key", Severity: severity, Remedy: "revoke it", Fingerprint: "p" + key,
	}
	return store.Finding{Kind: store.KindSecret, Key: key, Rule: s.Rule, Title: s.Title, Severity: severity, Remedy: s.Remedy, Secret: s, Instruction: "COPY . /"}
}

// aFault is a fault of an image.
func aFault(key string, severity finding.Severity) store.Finding {
	m := &finding.Misconfiguration{Check: "CAST-" + key, Title: "runs as root", Severity: severity, Evidence: "no user", Fingerprint: key}
	return store.Finding{Kind: store.KindFault, Key: key, Rule: m.Check, Title: m.Title, Severity: severity, Fault: m}
}

func accepted(f store.Finding) store.Finding {
	f.Accepted = &finding.Acceptance{Reason: "known", By: "user:anna", Expires: base().Add(time.Hour)}
	return f
}

// judged replaces the secrets and faults of image n.
func (k *kit) judged(n int, after time.Duration, fs ...store.Finding) {
	k.Helper()
	k.ok(k.st.PutFindings(k.ctx, store.ImageFindings{ImageID: imageID(n), Database: "one", Matched: base().Add(after), Findings: fs}))
}

func (k *kit) lines(q store.FindingQuery) []store.FindingLine {
	k.Helper()
	ls, err := k.st.FindingLines(k.ctx, q)
	k.ok(err)
	return ls
}

func (k *kit) findingsIn(q store.FindingQuery) []store.Finding {
	k.Helper()
	fs, err := k.st.FindingsIn(k.ctx, q)
	k.ok(err)
	return fs
}

// inShort is a line as "key images/workloads".
func inShort(ls []store.FindingLine) (all []string) {
	for _, l := range ls {
		all = append(all, fmt.Sprintf("%s %d/%d", l.Key, l.Images, l.Workloads))
	}
	return all
}

func keysOf(fs []store.Finding) (all []string) {
	for _, f := range fs {
		all = append(all, f.Key+" "+f.ImageID[len(f.ImageID)-1:])
	}
	return all
}

func imageFindingCases() []testCase {
	return []testCase{
		{"a finding comes back whole, known again by its key", func(k *kit) {
			k.scanned(1)
			want := accepted(aSecret("one", "/srv/key", finding.High))
			k.judged(1, 0, want, want) // a key names one thing
			k.judged(1, time.Hour, want, aFault("root", finding.Low))
			want.ImageID, want.First = imageID(1), base()
			same(k, "secrets", k.findingsIn(store.FindingQuery{Kind: store.KindSecret, ImageID: imageID(1), Accepted: true}), []store.Finding{want})
			fault := aFault("root", finding.Low)
			fault.ImageID, fault.First = imageID(1), base().Add(time.Hour)
			same(k, "faults", k.findingsIn(store.FindingQuery{Kind: store.KindFault}), []store.Finding{fault})
			same(k, "counts", k.image(1).Counts, store.Counts{Faults: 1})
			k.judged(1, 2*time.Hour)
			if fs := k.findingsIn(store.FindingQuery{Kind: store.KindFault}); len(fs) != 0 {
				k.Errorf("after none was found: %v", keysOf(fs))
			}
		}},
		{"over images", overImagesCase},
		{"filters", findingFilterCase},
		{"too long a text is refused", func(k *kit) {
			_, err := k.st.FindingLines(k.ctx, store.FindingQuery{Kind: store.KindSecret, Text: string(make([]byte, 10_000))})
			k.wantFault(err, fault.Invalid)
		}},
		{"gone with its image", func(k *kit) {
			k.scanned(1)
			k.judged(1, 0, aFault("root", finding.Low))
			_, err := k.st.Prune(k.ctx, store.Retention{Workloads: time.Hour}, base().Add(3*time.Hour))
			k.ok(err)
			if ls := k.lines(store.FindingQuery{Kind: store.KindFault}); len(ls) != 0 {
				k.Errorf("got %v", inShort(ls))
			}
		}},
	}
}

func overImagesCase(k *kit) {
	for n := range 3 {
		k.scanned(n + 1)
	}
	k.started("w1", "a", 2, asset.Running)
	k.started("w2", "a", 2, asset.Running)
	grave, slight := aSecret("grave", "/srv/key", finding.Critical), aSecret("slight", "/srv/test", finding.Low)
	k.judged(1, 0, grave, slight)
	k.judged(2, time.Hour, slight)
	k.judged(3, 2*time.Hour, accepted(slight), accepted(aFault("root", finding.High)))
	ls := k.lines(store.FindingQuery{Kind: store.KindSecret})
	same(k, "lines", inShort(ls), []string{"grave 1/0", "slight 2/2"})
	if len(ls) == 2 {
		l := ls[1]
		if l.ImageID != imageID(2) || !l.First.Equal(base()) || l.Secret == nil || l.Secret.Path != "/srv/test" || l.Accepted != nil {
			k.Errorf("the second line is %+v, want that of the image that runs, first found in the other", l)
		}
		same(k, "images", l.In, []store.FindingImage{
			{ID: imageID(2), Reference: "shop/web:2", Running: 2}, {ID: imageID(1), Reference: "shop/web:1"},
		})
	}
	same(k, "accepted", inShort(k.lines(store.FindingQuery{Kind: store.KindSecret, Accepted: true})), []string{"slight 1/0"})
	same(k, "faults", inShort(k.lines(store.FindingQuery{Kind: store.KindFault})), nil)
	same(k, "one a page", inShort(k.lines(store.FindingQuery{Kind: store.KindSecret, Limit: 1})), []string{"grave 1/0"})
	same(k, "next page", inShort(k.lines(store.FindingQuery{Kind: store.KindSecret, Limit: 1, Offset: 1})), []string{"slight 2/2"})
	same(k, "in images", keysOf(k.findingsIn(store.FindingQuery{Kind: store.KindSecret, Key: "slight"})), []string{"slight 1", "slight 2"})
}

func findingFilterCase(k *kit) {
	k.scanned(1)
	k.scanned(2)
	k.started("w1", "a", 2, asset.Running)
	k.judged(1, 0, aSecret("one", "/srv/100%/key", finding.High))
	k.judged(2, 0, aSecret("two", "/srv/app", finding.Low))
	k.ok(k.st.PutImageOwners(k.ctx, map[string]string{imageID(1): "shop", "sha256:unknown": "x"}))
	for name, c := range map[string]struct {
		q    store.FindingQuery
		want []string
	}{
		"severity":         {store.FindingQuery{Severity: finding.Medium}, []string{"one 1/0"}},
		"running":          {store.FindingQuery{Running: true}, []string{"two 1/1"}},
		"owner":            {store.FindingQuery{Owner: "shop"}, []string{"one 1/0"}},
		"no owner":         {store.FindingQuery{Owner: store.NoOwner}, []string{"two 1/1"}},
		"image":            {store.FindingQuery{ImageID: imageID(2)}, []string{"two 1/1"}},
		"key":              {store.FindingQuery{Key: "two"}, []string{"two 1/1"}},
		"path":             {store.FindingQuery{Text: "100%"}, []string{"one 1/0"}},
		"fingerprint":      {store.FindingQuery{Text: "ptwo"}, []string{"two 1/1"}},
		"no pattern":       {store.FindingQuery{Text: "1_0"}, nil},
		"all":              {store.FindingQuery{Severity: finding.Low, Running: true, Text: "aws"}, []string{"two 1/1"}},
		"nothing fits all": {store.FindingQuery{Running: true, Owner: "shop"}, nil},
	} {
		c.q.Kind = store.KindSecret
		same(k, name, inShort(k.lines(c.q)), c.want)
		if got := k.findingsIn(c.q); len(got) != len(c.want) {
			k.Errorf("%s, in images: got %v", name, keysOf(got))
		}
	}
}

func (k *kit) trend(kind store.FindingKind) []store.TrendDay {
	k.Helper()
	days, err := k.st.Trend(k.ctx, kind, base().AddDate(-2, 0, 0))
	k.ok(err)
	return days
}

func trendCases() []testCase {
	day := func(n int, s finding.Severity, open, fresh, resolved int) store.TrendDay {
		return store.TrendDay{Day: base().Truncate(24*time.Hour).AddDate(0, 0, n), Severity: s, Open: open, New: fresh, Resolved: resolved}
	}
	return []testCase{
		{"what runs counts, once a finding, and only what is not accepted is open", func(k *kit) {
			k.scanned(1)
			k.scanned(2)
			k.judged(1, 0, aSecret("one", "/a", finding.High), aSecret("two", "/b", finding.Low))
			k.judged(2, 0, aSecret("one", "/a", finding.High), accepted(aFault("root", finding.High)))
			k.ok(k.st.NoteTrend(k.ctx, base()))
			same(k, "nothing runs", k.trend(store.KindSecret), nil)
			k.started("w1", "a", 1, asset.Running)
			k.started("w2", "a", 2, asset.Running)
			k.ok(k.st.NoteTrend(k.ctx, base()))
			k.ok(k.st.NoteTrend(k.ctx, base().Add(time.Hour))) // the same day again
			same(k, "secrets", k.trend(store.KindSecret), []store.TrendDay{day(0, finding.Low, 1, 1, 0), day(0, finding.High, 1, 1, 0)})
			same(k, "faults", k.trend(store.KindFault), []store.TrendDay{day(0, finding.High, 0, 1, 0)})
			k.started("w1", "a", 1, asset.Exited)
			k.ok(k.st.NoteTrend(k.ctx, base().AddDate(0, 0, 1)))
			same(k, "one no longer runs", k.trend(store.KindSecret), []store.TrendDay{
				day(0, finding.Low, 1, 1, 0), day(0, finding.High, 1, 1, 0), day(1, finding.Low, 0, 0, 1), day(1, finding.High, 1, 0, 0),
			})
			k.judged(2, time.Hour, aSecret("one", "/a", finding.High)) // the fault is mended in it
			k.ok(k.st.NoteTrend(k.ctx, base().AddDate(0, 0, 2)))
			same(k, "mended", k.trend(store.KindFault)[1:], []store.TrendDay{day(2, finding.High, 0, 0, 1)})
		}},
		{"vulnerabilities that are open", func(k *kit) {
			k.scanned(1)
			k.started("w1", "a", 1, asset.Running)
			k.findings(1, 0, found("CVE-1", "zlib", finding.High), found("CVE-1", "musl", finding.Low), found("CVE-2", "zlib", finding.Low))
			k.ok(k.st.NoteTrend(k.ctx, base()))
			k.ok(k.st.NoteTrend(k.ctx, base().Add(time.Hour))) // the same day again
			same(k, "days", k.trend(store.KindVulnerability), []store.TrendDay{day(0, finding.Low, 1, 1, 0), day(0, finding.High, 1, 1, 0)})
			lived := found("CVE-2", "zlib", finding.Low)
			lived.Accepted = &finding.Acceptance{Reason: "known"}
			k.findings(1, time.Hour, found("CVE-1", "zlib", finding.High), lived, found("CVE-3", "zlib", finding.High))
			k.ok(k.st.NoteTrend(k.ctx, base().AddDate(0, 0, 1)))
			same(k, "one is new, one is accepted and so open no more, none is resolved", k.trend(store.KindVulnerability)[2:], []store.TrendDay{
				day(1, finding.High, 2, 1, 0),
			})
			k.findings(1, 2*time.Hour, found("CVE-3", "zlib", finding.High))
			k.ok(k.st.NoteTrend(k.ctx, base().AddDate(0, 0, 2)))
			same(k, "two are mended", k.trend(store.KindVulnerability)[3:], []store.TrendDay{day(2, finding.Low, 0, 0, 1), day(2, finding.High, 1, 0, 1)})
			k.started("w1", "a", 1, asset.Exited)
			k.ok(k.st.NoteTrend(k.ctx, base().AddDate(0, 0, 3)))
			same(k, "nothing runs", k.trend(store.KindVulnerability)[5:], []store.TrendDay{day(3, finding.High, 0, 0, 1)})
			k.started("w1", "a", 1, asset.Running)
			k.ok(k.st.NoteTrend(k.ctx, base().AddDate(0, 0, 4)))
			same(k, "it runs again", k.trend(store.KindVulnerability)[6:], []store.TrendDay{day(4, finding.High, 1, 1, 0)})
		}},
		{"kept for a time", func(k *kit) {
			k.scanned(1)
			k.started("w1", "a", 1, asset.Running)
			k.judged(1, 0, aFault("root", finding.Low))
			k.ok(k.st.NoteTrend(k.ctx, base()))
			k.ok(k.st.NoteTrend(k.ctx, base().Add(store.TrendFor)))
			if days := k.trend(store.KindFault); len(days) != 2 {
				k.Errorf("on the last day there are %d days, want 2", len(days))
			}
			k.ok(k.st.NoteTrend(k.ctx, base().Add(store.TrendFor+24*time.Hour)))
			days := k.trend(store.KindFault)
			if len(days) != 2 || days[0].Day.Equal(base().Truncate(24*time.Hour)) {
				k.Errorf("a day later there are %+v, want not the first", days)
			}
			since, err := k.st.Trend(k.ctx, store.KindFault, base().Add(store.TrendFor+time.Hour))
			k.ok(err)
			if len(since) != 2 {
				k.Errorf("since a day, itself included: %d days, want 2", len(since))
			}
		}},
	}
}

func ownerCases() []testCase {
	return []testCase{
		{"rules are kept in their order, and replaced as a whole", func(k *kit) {
			want := asset.Owners{
				{Image: "shop/*", Owner: asset.Owner{Name: "shop", Contact: "#shop"}}, {Group: "prod/**", Owner: asset.Owner{Name: "ops"}},
			}
			k.ok(k.st.PutOwners(k.ctx, asset.Owners{{Image: "x"}, {Image: "y"}, {Image: "z"}}))
			k.ok(k.st.PutOwners(k.ctx, want))
			got, err := k.st.Owners(k.ctx)
			k.ok(err)
			same(k, "rules", got, want)
			k.ok(k.st.PutOwners(k.ctx, nil))
			got, err = k.st.Owners(k.ctx)
			k.ok(err)
			same(k, "none", got, nil)
			k.wantFault(k.st.PutOwners(k.ctx, make(asset.Owners, store.MaxOwners+1)), fault.Exhausted)
		}},
		{"what tells whose images are, by their ids", func(k *kit) {
			group := func(id string, n int, group asset.Group, state asset.State) {
				k.Helper()
				k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{{ID: id, AgentID: "a", State: state, Created: base(), Updated: base(), Group: group, Image: asset.Image{ID: imageID(n)}}}))
			}
			for n := range 3 {
				k.noted(n+1, fmt.Sprintf("shop/web:%d", n+1), "other")
			}
			group("w1", 2, "prod/b/x", asset.Running)
			group("w2", 2, "prod/a/x", asset.Created)
			group("w3", 2, "prod/a/x", asset.Running)
			group("w4", 2, "prod/over/x", asset.Exited)
			group("w5", 4, "prod/unknown/x", asset.Running)
			k.ok(k.st.PutImageOwners(k.ctx, map[string]string{imageID(2): "shop"}))
			all, err := k.st.OwnedImages(k.ctx, "")
			k.ok(err)
			want := []store.OwnedImage{
				{ID: imageID(1), References: []string{"other", "shop/web:1"}},
				{ID: imageID(2), References: []string{"other", "shop/web:2"}, Groups: []asset.Group{"prod/a/x", "prod/b/x"}, Owner: "shop"},
				{ID: imageID(3), References: []string{"other", "shop/web:3"}},
			}
			same(k, "all", all, want, cmpopts.SortSlices(strings.Compare))
			group("w6", 3, "prod/c/x", asset.Running) // moves to the front of lists
			rest, err := k.st.OwnedImages(k.ctx, imageID(1))
			k.ok(err)
			want[2].Groups = []asset.Group{"prod/c/x"}
			same(k, "the rest", rest, want[1:], cmpopts.SortSlices(strings.Compare))
			none, err := k.st.OwnedImages(k.ctx, imageID(3))
			k.ok(err)
			same(k, "behind the last", none, nil)
		}},
		{"of images", func(k *kit) {
			k.scanned(1)
			k.scanned(2)
			k.findings(1, 0, found("CVE-1", "zlib", finding.High))
			k.findings(2, 0, found("CVE-2", "zlib", finding.High))
			k.ok(k.st.PutImageOwners(k.ctx, map[string]string{imageID(1): "shop"}))
			ms, err := k.st.Images(k.ctx, store.ImageQuery{Owner: "shop"})
			k.ok(err)
			if len(ms) != 1 || ms[0].ID != imageID(1) || ms[0].Owner != "shop" {
				k.Errorf("images of the owner: %+v", ms)
			}
			q := store.VulnerabilityQuery{Owner: "shop"}
			if ws, vs := k.weaknesses(q), k.vulnerabilities(q); len(ws) != 1 || ws[0].ID != "CVE-1" || len(vs) != 1 || vs[0].ID != "CVE-1" {
				k.Errorf("weaknesses %+v, vulnerabilities %+v", ws, vs)
			}
			q.Owner = store.NoOwner
			if ws, vs := k.weaknesses(q), k.vulnerabilities(q); len(ws) != 1 || ws[0].ID != "CVE-2" || len(vs) != 1 || vs[0].ID != "CVE-2" {
				k.Errorf("of nobody: weaknesses %+v, vulnerabilities %+v", ws, vs)
			}
			if ms, err := k.st.Images(k.ctx, store.ImageQuery{Owner: store.NoOwner}); err != nil || len(ms) != 1 || ms[0].ID != imageID(2) {
				k.Errorf("images of nobody: %+v, %v", ms, err)
			}
			k.ok(k.st.PutImageOwners(k.ctx, map[string]string{imageID(1): ""}))
			if ms, err := k.st.Images(k.ctx, store.ImageQuery{Owner: "shop"}); err != nil || len(ms) != 0 {
				k.Errorf("after it was taken away: %+v, %v", ms, err)
			}
		}},
	}
}
