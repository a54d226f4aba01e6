package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	agentlink "github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// What the pages about trust read and show at most; they say so when there is
// more.
const (
	// trustRead is how many images are read to count who has signed them, and to
	// mark workloads: pages of the store.
	trustRead     = 5 * store.MaxPage
	signersShown  = 30 // who vouches
	vouchersShown = 3  // of one image in the list
	runnersShown  = 3  // that run it
	idleShown     = 5  // agents that don't verify
	namesShown    = 8  // of one image: it is hardly pulled under more
)

// trustData is the page of who has signed what runs.
type trustData struct {
	Filter filter
	List   []store.TrustImage
	Totals store.TrustTotals
	Policy *store.TrustPolicy // without its text; nil: there is none yet
	Agents verifiers
	Pages  pages
	Live   string // where the list is followed, "" behind its first page
	Manage bool   // who looks may change the policy
	// Signers are who has signed what runs, of Counted images; More are not counted.
	Signers []signerLine
	Counted int
	More    bool
	Problem string // what is wrong with the filter
}

// verifiers are the agents that report, and those of them that verify nothing.
type verifiers struct {
	All  int
	Idle []string // by name of their hosts
}

// signerLine is somebody who has signed images.
type signerLine struct {
	Name   string // what the policy calls it, else its identity
	Known  bool   // by the policy
	Images int
	Kinds  []string
}

func (c *Console) trust(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	d, status, err := c.readTrust(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	if err := c.countSigners(r.Context(), v, &d); err != nil {
		return err
	}
	return c.show(w, r, status, trustBody(c.page(r, v, "trust", "Trust"), d))
}

// readTrust reads what the address asks for. A filter that makes no sense is told
// in the list, with the status that it gets.
func (c *Console) readTrust(ctx context.Context, v visit, asked url.Values) (d trustData, status int, err error) {
	after := asked.Get("after")
	d.Filter, d.Manage = trustFilter(asked), v.who.May(access.ManageTrust)
	if d.Totals, err = c.Trust.Totals(ctx, v.who); err != nil {
		return d, 0, err
	}
	if d.Policy, err = c.newestPolicy(ctx, v); err != nil {
		return d, 0, err
	}
	if d.Agents, err = c.verifiers(ctx, v); err != nil {
		return d, 0, err
	}
	q, err := query.Trust(d.Filter.values("after", after))
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	if after == "" {
		d.Live = d.Filter.at("/trust/live")
	}
	return d, http.StatusOK, c.listTrust(ctx, v, &d, q)
}

// newestPolicy returns the newest version without its text; nil if there is none.
func (c *Console) newestPolicy(ctx context.Context, v visit) (*store.TrustPolicy, error) {
	all, err := c.Trust.Policies(ctx, v.who, 0, 1)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// verifiers returns the agents that report, and which of them verify nothing.
func (c *Console) verifiers(ctx context.Context, v visit) (out verifiers, err error) {
	all, err := c.Store.Agents(ctx)
	for _, a := range all {
		if a.Silent(v.now) {
			continue
		}
		out.All++
		if !slices.Contains(a.Abilities, agentlink.AbilityVerify) {
			out.Idle = append(out.Idle, orElse(a.Hostname, a.ID))
		}
	}
	slices.Sort(out.Idle)
	return out, err
}

func (c *Console) listTrust(ctx context.Context, v visit, d *trustData, q store.TrustQuery) error {
	q.Limit = onePageAnd
	list, err := c.Trust.Images(ctx, v.who, q)
	if q.After != 0 && fault.Is(err, fault.Invalid) { // the one to continue behind is gone
		d.Problem = "The list has changed meanwhile. Begin at its first page."
		return nil
	}
	if err != nil {
		return err
	}
	var more bool
	if d.List, more = onePage(list); len(d.List) > 0 {
		d.Pages = afterPages(d.Filter, strconv.FormatInt(d.List[len(d.List)-1].ID, 10), more, q.After == 0)
	}
	return nil
}

// trustLive sends the list anew when something of it changed.
func (c *Console) trustLive(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Trust == nil {
		return c.nowhere(w, r, v)
	}
	d, status, err := c.readTrust(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	return c.followImages(w, r, "", tabPause, func(s *stream) error {
		v := v
		v.now = c.Clock()
		d, _, err := c.readTrust(r.Context(), v, r.URL.Query())
		if err != nil {
			return err
		}
		return s.sendNews(r.Context(), "part", trustPart(c.page(r, v, "trust", ""), d))
	})
}

// eachTrust hands over the images that a query asks for, up to trustRead; more says
// that there are others.
func (c *Console) eachTrust(ctx context.Context, v visit, q store.TrustQuery, use func(*store.TrustImage)) (more bool, err error) {
	q.Limit = store.MaxPage
	for read := 0; ; {
		list, err := c.Trust.Images(ctx, v.who, q)
		if err != nil {
			return false, err
		}
		for i := range list {
			use(&list[i])
		}
		read += len(list)
		switch {
		case len(list) < store.MaxPage:
			return false, nil
		case read >= trustRead:
			return true, nil
		}
		q.After = list[len(list)-1].ID
	}
}

// countSigners counts the images that run by who has signed them.
func (c *Console) countSigners(ctx context.Context, v visit, d *trustData) (err error) {
	lines := map[string]*signerLine{}
	d.More, err = c.eachTrust(ctx, v, store.TrustQuery{Running: true}, func(m *store.TrustImage) {
		d.Counted++
		seen := map[string]bool{}
		for i := range m.Signers {
			s := &m.Signers[i]
			names, known := s.Names, true
			if len(names) == 0 {
				names, known = []string{s.Identity}, false
			}
			for _, name := range names {
				l := lines[name]
				if l == nil {
					l = &signerLine{Name: name, Known: known}
					lines[name] = l
				}
				if word := signatureKind(s.Kind, s.Identity); !slices.Contains(l.Kinds, word) {
					l.Kinds = append(l.Kinds, word)
				}
				if !seen[name] {
					l.Images++
				}
				seen[name] = true
			}
		}
	})
	for _, l := range lines {
		d.Signers = append(d.Signers, *l)
	}
	slices.SortFunc(d.Signers, func(a, b signerLine) int {
		return cmp.Or(first(b.Known)-first(a.Known), cmp.Compare(b.Images, a.Images), strings.Compare(a.Name, b.Name))
	})
	return err
}

// runs reports that a workload is one of those that run an image.

// trustName is how the trust policy knows a workload's image; "" if it is of no
// registry.
func trustName(i asset.Image) string {
	repository, err := trust.Repository(asset.Repository(i.Reference))
	if err != nil || repository == "" || i.Digest == "" {
		return ""
	}
	return repository + "@" + i.Digest
}

// trustMarks are the images that run and may not, or of which nobody knows whether
// they may: by their names.
func (c *Console) trustMarks(ctx context.Context, v visit) (map[string]store.TrustState, error) {
	if c.Trust == nil || !v.who.May(access.ReadImages) {
		return nil, nil
	}
	marks := map[string]store.TrustState{}
	for _, s := range []store.TrustState{store.TrustDenied, store.TrustUndecided} {
		_, err := c.eachTrust(ctx, v, store.TrustQuery{State: s, Running: true}, func(m *store.TrustImage) {
			marks[m.Repository+"@"+m.Digest] = s
		})
		if err != nil {
			return nil, err
		}
	}
	return marks, nil
}

// trustOf returns what is known of a workload's image by the trust policy; nil when
// it is not known, or not for who looks.
func (c *Console) trustOf(ctx context.Context, v visit, w asset.Workload) (*store.TrustImage, error) {
	if c.Trust == nil || w.Image.ID == "" || !v.who.May(access.ReadImages) {
		return nil, nil
	}
	list, err := c.Trust.Images(ctx, v.who, store.TrustQuery{ImageID: w.Image.ID, Limit: namesShown})
	for i := range list {
		name := trustName(w.Image)
		if m := &list[i]; name == m.Repository+"@"+m.Digest || name == "" && m.State == store.TrustLocal {
			return m, err
		}
	}
	return nil, err
}

// imageTrust is what is known of an image by the trust policy, under one of the
// names by which it was pulled.
type imageTrust struct {
	store.TrustImage
	Verdict *trust.Verdict // nil: it was not decided
}

// readImageTrust reads that for all its names.
func (c *Console) readImageTrust(ctx context.Context, v visit, imageID string) ([]imageTrust, error) {
	if c.Trust == nil {
		return nil, nil
	}
	list, err := c.Trust.Images(ctx, v.who, store.TrustQuery{ImageID: imageID, Limit: namesShown})
	if err != nil {
		return nil, err
	}
	var out []imageTrust
	for _, m := range list {
		one, err := c.Trust.Image(ctx, v.who, m.Repository, m.Digest)
		if fault.Is(err, fault.NotFound) {
			continue // it was forgotten meanwhile
		}
		if err != nil {
			return nil, err
		}
		t := imageTrust{TrustImage: one}
		if t.Verdict, err = verdictOf(one); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}
