package console

import (
	"context"
	"net/http"
	"strconv"

	"github.com/castellan-security/castellan/internal/fault"
)

const (
	versionsShown = 50     // of the history on one page
	linesNumbered = 10_000 // of a policy; a longer one is hardly written by people
	changesShown  = 50     // of what a trial would change
)

// policyData is the page of a policy.
type policyData struct {
	*book
	Newest  *edition // nil: there is none yet
	Means   []passage
	Broken  []textProblem // what is wrong with it all the same: an older server has taken it
	History []edition
	Older   string // address of the history's next page, or ""
	Live    string // where it is followed; "" behind the history's first page
	Manage  bool
}

// versionData is the page of one version, and what it has changed.
type versionData struct {
	*book
	edition
	Since  int64      // the version that it is compared with; 0: there is none
	Change []diffLine // all lines, unfolded
	Gone   bool       // that version is not kept any more
	Newest bool
	Manage bool
}

// policy shows a policy in force, with its history.
func (c *Console) policy(b *book) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		before, err := b.version(orElse(r.URL.Query().Get("before"), "0"))
		if err != nil {
			return err
		}
		d, err := b.inForce(r.Context(), v, before)
		if err != nil {
			return err
		}
		return c.show(w, r, http.StatusOK, policyBody(c.page(r, v, b.here, b.title()), d))
	}
}

// inForce reads the policy that holds, and its history before a version, 0 for all.
func (b *book) inForce(ctx context.Context, v visit, before int64) (d policyData, err error) {
	d.book, d.Manage = b, v.who.May(b.manages)
	if before == 0 {
		d.Live = b.path + "/live"
	}
	if d.Newest, err = b.at(ctx, v, 0); err != nil {
		return d, err
	}
	if d.Newest != nil {
		if d.Means, d.Broken, err = b.explain(v.who, d.Newest.Text); err != nil {
			return d, err
		}
	}
	if d.History, err = b.list(ctx, v.who, before, versionsShown+1); err != nil {
		return d, err
	}
	if len(d.History) > versionsShown {
		d.History = d.History[:versionsShown]
		d.Older = b.path + "?before=" + strconv.FormatInt(d.History[versionsShown-1].Version, 10) + "#h-history"
	}
	return d, nil
}

// policyLive sends a policy in force anew when another one holds.
func (c *Console) policyLive(b *book) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		changes := func(ctx context.Context) (<-chan struct{}, error) { return b.changes(ctx, v.who) }
		return c.followNews(w, r, changes, tabPause, func(s *stream) error {
			v := v
			v.now = c.Clock()
			d, err := b.inForce(r.Context(), v, 0)
			if err != nil {
				return err
			}
			return s.sendNews(r.Context(), "part", policyPart(c.page(r, v, b.here, ""), d))
		})
	}
}

// policyVersion shows one version, and what has changed with it.
func (c *Console) policyVersion(b *book) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		d := versionData{book: b, Manage: v.who.May(b.manages)}
		version, err := b.version(r.PathValue("version"))
		if err == nil && version == 0 {
			err = fault.New(fault.NotFound, "the versions of the %s begin with 1", b.name)
		}
		if err != nil {
			return err
		}
		if d.edition, err = b.read(r.Context(), v.who, version); err != nil {
			return err
		}
		if err := d.compare(r, v); err != nil {
			return err
		}
		newest, err := b.newest(r.Context(), v)
		if err != nil {
			return err
		}
		d.Newest = newest != nil && newest.Version == version
		return c.show(w, r, http.StatusOK, versionBody(c.page(r, v, b.here, "Version "+strconv.FormatInt(version, 10)), d))
	}
}

// compare holds a version against the one before it, or the one that the address
// names.
func (d *versionData) compare(r *http.Request, v visit) (err error) {
	d.Since = d.Version - 1
	if from := r.URL.Query().Get("from"); from != "" {
		if d.Since, err = d.version(from); err != nil {
			return err
		}
	}
	if d.Since == 0 {
		return nil
	}
	was, err := d.at(r.Context(), v, d.Since)
	if err != nil {
		return err
	}
	if d.Gone = was == nil; !d.Gone {
		d.Change = diffLines(was.Text, d.Text)
	}
	return nil
}

// textLines shows a text line by line, as it can't be changed.
func textLines(text string) []string {
	all := splitLines(text)
	return all[:min(len(all), linesNumbered)]
}
