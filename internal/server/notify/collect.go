package notify

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// newsAtOnce is how much news one transaction takes: an image's is up to a
	// thousand findings.
	newsAtOnce = 10
	// maxFindings bounds the findings of one notice; the console has all.
	maxFindings = 20
	// maxGroups bounds the groups of one notice, and maxWorkloads the workloads
	// that are looked at for them.
	maxGroups    = 20
	maxWorkloads = store.MaxPage
	// maxReferences bounds the names of the image.
	maxReferences = 5
	// maxRemedies is how many ways to mend something a notice tells.
	maxRemedies = 3
)

// collect holds news against the filters of targets, and puts what passes into
// their queues.
func (s *Service) collect(ctx context.Context, targets []notice.Target) error {
	if len(targets) == 0 {
		if err := s.st.TakeNews(ctx, math.MaxInt64, nil); err != nil {
			return fmt.Errorf("forget what nobody wants to know: %w", err)
		}
		return nil
	}
	for {
		news, err := s.st.News(ctx, newsAtOnce)
		if err != nil {
			return fmt.Errorf("read news: %w", err)
		}
		if len(news) == 0 {
			return nil
		}
		var told []store.Telling
		for i := range news {
			of, err := s.tellings(ctx, targets, &news[i], told)
			if err != nil {
				return err
			}
			told = append(told, of...)
		}
		if err := s.st.TakeNews(ctx, news[len(news)-1].ID, told); err != nil {
			return fmt.Errorf("store what is to be told: %w", err)
		}
	}
}

// tellings returns who is told of one piece of news. before are those of news
// that are told together with it.
func (s *Service) tellings(ctx context.Context, targets []notice.Target, n *store.ImageNews, before []store.Telling) (out []store.Telling, err error) {
	m, err := s.st.Image(ctx, n.ImageID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", n.ImageID, err)
	}
	groups, err := s.groups(ctx, n.ImageID)
	if err != nil {
		return nil, err
	}
	owners, err := s.st.Owners(ctx)
	if err != nil {
		return nil, fmt.Errorf("read who owns what: %w", err)
	}
	owner := ownerOf(owners, m.References, groups)
	kind := notice.ImageVulnerable
	if n.First {
		kind = notice.ImageScanned
	}
	about := notice.About{Kind: kind, References: m.References, Groups: groups, Clusters: notice.ClustersOf(groups), Owner: owner, Running: m.Running > 0}
	for i := range targets {
		t := &targets[i]
		if n.Time.Before(t.Created) || !t.Filter.Takes(about) {
			continue
		}
		levels, err := s.st.Told(ctx, t.ID, n.ImageID)
		if err != nil {
			return nil, fmt.Errorf("read what %s was told: %w", t.Name, err)
		}
		for _, b := range before {
			if b.Target == t.ID && b.ImageID == n.ImageID {
				for print, level := range b.Levels {
					levels[print] = max(levels[print], level)
				}
			}
		}
		fresh := passing(&t.Filter, n, levels)
		if len(fresh) == 0 && (!n.First || t.Filter.Narrow()) {
			continue
		}
		telling := s.telling(t, n, kind, &m, groups, fresh)
		telling.Notice.Owner = owner
		out = append(out, telling)
	}
	return out, nil
}

// passing returns what a filter is for and was not told before.
func passing(f *notice.Filter, n *store.ImageNews, levels map[string]int) (out []notice.Finding) {
	for i := range n.Findings {
		x := shorten(&n.Findings[i])
		if f.Passes(&x) && x.Level() > levels[x.Fingerprint] {
			out = append(out, x)
		}
	}
	return out
}

func shorten(n *store.FindingNews) notice.Finding {
	return notice.Finding{
		Fingerprint: n.Fingerprint, ID: n.Vulnerability.ID, Reason: n.Reason, Severity: n.Severity, Package: n.Package.FullName(),
		Version: n.Package.Version, Fixed: n.Fixed, Exploited: n.KEV != nil, InUse: n.InUse, Remedy: n.Remedy,
	}
}

// groups returns those of the workloads of an image that run, sorted.
func (s *Service) groups(ctx context.Context, imageID string) (groups []string, err error) {
	ws, err := s.st.Workloads(ctx, store.WorkloadQuery{ImageID: imageID, States: []asset.State{asset.Running}, Limit: maxWorkloads})
	if err != nil {
		return nil, fmt.Errorf("list workloads of image %s: %w", imageID, err)
	}
	for i := range ws {
		groups = append(groups, string(ws[i].Group))
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// telling makes the notice for one target.
func (s *Service) telling(t *notice.Target, n *store.ImageNews, kind notice.Kind, m *store.Image, groups []string, fresh []notice.Finding) store.Telling {
	levels := make(map[string]int, len(fresh))
	x := notice.Notice{Kind: kind, Time: n.Time, Link: s.console() + "/images/" + m.ID}
	for i := range fresh {
		levels[fresh[i].Fingerprint] = fresh[i].Level()
		x.Severity = max(x.Severity, fresh[i].Severity)
	}
	total := len(fresh)
	if !t.Filter.Narrow() && len(fresh) == len(n.Findings) {
		total = max(total, n.Total) // also those beyond store.MaxNews
	}
	x.Title, x.Remedy = title(kind, m, fresh, total), remedy(fresh)
	x.Findings = fresh[:min(len(fresh), maxFindings)]
	x.LeftOut = total - len(x.Findings)
	c := m.Counts
	x.Image = &notice.Image{
		ID: m.ID, References: m.References[:min(len(m.References), maxReferences)], Digest: m.Digest, Running: m.Running,
		Groups: groups[:min(len(groups), maxGroups)],
		Counts: notice.Counts{
			Critical: c.Critical, High: c.High, Medium: c.Medium, Low: c.Low, Other: c.Negligible + c.Unknown,
			Fixable: c.Fixable, Exploited: c.Exploited,
		},
	}
	return store.Telling{Target: t.ID, ImageID: m.ID, Notice: x, Levels: levels}
}

// title says in a sentence what happened.
func title(kind notice.Kind, m *store.Image, fresh []notice.Finding, total int) string {
	name := m.ID
	if len(m.References) > 0 {
		name = m.References[0]
	}
	if kind == notice.ImageScanned {
		return name + " is scanned: " + counted(m.Counts)
	}
	says := fmt.Sprintf("%s has %s", name, plural(total, "more vulnerability", "more vulnerabilities"))
	if !slices.ContainsFunc(fresh, func(f notice.Finding) bool { return f.Reason == notice.New }) {
		says = fmt.Sprintf("%s has %s that matter more", name, plural(total, "vulnerability", "vulnerabilities"))
	}
	worst := &fresh[0]
	for i := range fresh {
		if fresh[i].Level() > worst.Level() {
			worst = &fresh[i]
		}
	}
	says += fmt.Sprintf(": %s %s in %s", worst.Severity, worst.ID, worst.Package)
	if worst.Exploited {
		says += ", known to be exploited"
	}
	if total > 1 {
		says += ", …"
	}
	return says
}

func counted(c store.Counts) string {
	var parts []string
	for _, e := range [...]struct {
		n int
		s finding.Severity
	}{{c.Critical, finding.Critical}, {c.High, finding.High}, {c.Medium, finding.Medium}, {c.Low, finding.Low}} {
		if e.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", e.n, e.s))
		}
	}
	if other := c.Negligible + c.Unknown; other > 0 {
		parts = append(parts, fmt.Sprintf("%d other", other))
	}
	if len(parts) == 0 {
		return "no vulnerability is known"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// remedy joins what helps against the first of them.
func remedy(fresh []notice.Finding) string {
	var all []string
	for i := range fresh {
		if r := strings.TrimSuffix(fresh[i].Remedy, "."); r != "" && !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	if more := len(all) - maxRemedies; more > 0 {
		all = append(all[:maxRemedies], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}
