package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// admissionDays is over how many days verdicts are counted.
	admissionDays = 30
	refusersShown = 12 // rules that had something against requests
	imagesNamed   = 3  // of one request in the list
)

// admissionData is the page of what was asked for, and how it ended.
type admissionData struct {
	Filter  filter
	List    []store.AdmissionLine
	Totals  store.AdmissionTotals  // of the last admissionDays, whatever the filter
	Policy  *store.AdmissionPolicy // without its text; nil: there is none yet
	Hosts   map[string]string      // names of agents' hosts
	Pages   pages
	Manage  bool   // who looks may change the policy
	Problem string // what is wrong with the filter
}

func (c *Console) admission(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readAdmission(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	return c.show(w, r, status, admissionBody(c.page(r, v, "admission", "Admission"), d))
}

// admissionLive sends the list anew when a verdict came, or another policy.
func (c *Console) admissionLive(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readAdmission(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	changes := func(ctx context.Context) (<-chan struct{}, error) { return c.Admission.News(ctx, v.who) }
	return c.followNews(w, r, changes, tabPause, func(s *stream) error {
		v := v
		v.now = c.Clock()
		d, _, err := c.readAdmission(r.Context(), v, r.URL.Query())
		if err != nil {
			return err
		}
		return s.sendNews(r.Context(), "part", admissionPart(c.page(r, v, "admission", ""), d))
	})
}

// readAdmission reads what the address asks for. A filter that makes no sense is
// told in the list, with the status that it gets.
func (c *Console) readAdmission(ctx context.Context, v visit, asked url.Values) (d admissionData, status int, err error) {
	d.Filter, d.Manage = admissionFilter(asked), v.who.May(access.ManageAdmission)
	if d.Totals, err = c.Admission.Totals(ctx, v.who, v.now.AddDate(0, 0, -admissionDays)); err != nil {
		return d, 0, err
	}
	versions, err := c.Admission.Policies(ctx, v.who, 0, 1)
	if err != nil {
		return d, 0, err
	}
	if len(versions) > 0 {
		d.Policy = &versions[0]
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, 0, err
	}
	before := asked.Get("before")
	q, err := query.Admission(d.Filter.values("before", before), v.now)
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	q.Limit = onePageAnd
	list, err := c.Admission.Verdicts(ctx, v.who, q)
	if err != nil {
		return d, 0, err
	}
	var more bool
	if d.List, more = onePage(list); more {
		d.Pages.Next = d.Filter.address("before", strconv.FormatInt(d.List[len(d.List)-1].ID, 10))
	}
	if before != "" {
		d.Pages.First = d.Filter.address()
	}
	return d, http.StatusOK, nil
}

// live is where the list is followed; "" behind its first page, and where the filter
// makes no sense.
func (d admissionData) live() string {
	if d.Pages.First != "" || d.Problem != "" {
		return ""
	}
	return d.Filter.at("/admission/live")
}

// counted is how many verdicts the totals count.
func (d admissionData) counted() (n int64) {
	for _, o := range query.Outcomes() {
		n += d.Totals.Outcomes[o]
	}
	return n
}

// furtherOpen reports that a filter is in effect that is else folded away.
func (d admissionData) furtherOpen() bool {
	for _, name := range []string{"group", "family", "cluster", "service", "host", "until"} {
		if d.Filter.get(name) != "" {
			return true
		}
	}
	return false
}
