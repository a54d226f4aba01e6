package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// findingKind is a kind of finding that has pages, and its words there.
type findingKind struct {
	store.FindingKind
	Many   string // also the address and the word of the API
	One    string
	Rule   string // what finds it
	Glyph  string
	Letter string // of its shortcut
	None   string // what an empty list says
	Hint   string // and what is to be known then
}

// findingKinds lists them in the order of the navigation.
func findingKinds() []findingKind {
	return []findingKind{
		{store.KindSecret, "secrets", "secret", "rule", "secret", "s", "No secret in any image is known.", "Keys, tokens and passwords are looked for in every layer, also in files that a later layer deletes, and in variables, labels and build steps. Their values are kept nowhere."},
		{store.KindFault, "faults", "fault", "check", "fault", "f", "No fault of any image is known.", "What is set wrongly shows up here: a user, set-uid files, package caches, exposed ports."},
		{store.KindMalware, "malware", "malware", "rule", "bug", "b", "No malware in any image is known.", "Miners, webshells and tools of attackers are looked for in every layer."},
	}
}

func (k findingKind) path() string  { return "/" + k.Many }
func (k findingKind) title() string { return capital(k.Many) }

// href is the address of one finding.
func (k findingKind) href(key string) string { return k.path() + "/" + url.PathEscape(key) }

// counted says how many there are.
func (k findingKind) counted(n int) string {
	if k.FindingKind == store.KindMalware {
		return plural(n, "malicious file", "malicious files")
	}
	return plural(n, k.One, k.Many)
}

// countIn is how many of the kind an image has that nobody accepted.
func (k findingKind) countIn(c store.Counts) int {
	switch k.FindingKind {
	case store.KindSecret:
		return c.Secrets
	case store.KindFault:
		return c.Faults
	}
	return c.Malware
}

// supportWords say what it means that a release gets no fixes.
func supportWords(u *scan.ReportUnmaintained) string {
	says := untrusted.Text(u.System) + " gets no fixes any more: that nothing is known of a package means little"
	if u.Subscribers {
		says += "; who pays for it still gets some"
	}
	return says
}

// kindOf returns the kind that a word of an address names.
func kindOf(many string) (findingKind, bool) {
	all := findingKinds()
	i := slices.IndexFunc(all, func(k findingKind) bool { return k.Many == many })
	if i < 0 {
		return findingKind{}, false
	}
	return all[i], true
}

// findingsData is the list of one kind of finding over all images.
type findingsData struct {
	Kind    findingKind
	Filter  filter
	List    []store.FindingLine
	Status  images.Status
	Trend   trend
	Owners  []string
	Pages   pages
	Live    string // where the list is followed, "" behind its first page
	Problem string // what is wrong with the filter
}

func (c *Console) findingLines(k findingKind) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		d, status, err := c.readLines(r.Context(), r.URL.Query(), k)
		if err != nil {
			return err
		}
		if d.Owners, err = c.ownerNames(r, v); err != nil {
			return err
		}
		return c.show(w, r, status, findingsBody(c.page(r, v, k.Many, k.title()), d))
	}
}

// readLines reads what the address asks for. A filter that makes no sense is told
// in the list, with the status that it gets.
func (c *Console) readLines(ctx context.Context, asked url.Values, k findingKind) (d findingsData, status int, err error) {
	d = findingsData{Kind: k, Filter: lineFilter(k.path(), asked)}
	if d.Status, err = c.Images.Status(ctx); err != nil {
		return d, 0, err
	}
	if d.Trend, err = c.readTrend(ctx, k.FindingKind, c.Clock()); err != nil {
		return d, 0, err
	}
	q, err := query.Findings(k.FindingKind, d.Filter.values("offset", asked.Get("offset")))
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	if q.Offset == 0 {
		d.Live = d.Filter.at(k.path() + "/live")
	}
	q.Limit = onePageAnd
	list, err := c.Store.FindingLines(ctx, q)
	if err != nil {
		return d, 0, err
	}
	var more bool
	d.List, more = onePage(list)
	d.Pages = offsetPages(d.Filter, q.Offset, more)
	return d, http.StatusOK, nil
}

// findingsLive sends the list anew when it has become another one.
func (c *Console) findingsLive(k findingKind) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		asked := r.URL.Query()
		d, status, err := c.readLines(r.Context(), asked, k)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fault.New(fault.Invalid, "%s", d.Problem)
		}
		address := d.Filter.at(k.path()+"/live", "offset", asked.Get("offset"))
		return c.followShow(w, r, address, weaknessPause, func(ctx context.Context) (templ.Component, error) {
			d, _, err := c.readLines(ctx, asked, k)
			return linesPart(c.bare(), d), err
		})
	}
}

// ownerNames lists who owns images, for a choice.
func (c *Console) ownerNames(r *http.Request, v visit) ([]string, error) {
	rules, err := c.Images.Owners(r.Context(), v.who)
	if err != nil {
		return nil, err
	}
	return namesOfOwners(rules), nil
}

func namesOfOwners(rules asset.Owners) (names []string) {
	for _, r := range rules {
		if untrusted.Text(r.Name) == r.Name { // else nobody could say what they chose
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// findingState says in words how a finding stands.
func findingState(f store.Finding, running int) (string, tone) {
	switch {
	case f.Accepted != nil && f.Accepted.Expires.IsZero():
		return "accepted", good
	case f.Accepted != nil:
		return "accepted until " + lastDay(f.Accepted.Expires), good
	case running == 0:
		return "nothing runs with it", calm
	}
	return "runs", danger
}

// placeOf says where in an image a finding is.
func placeOf(f store.Finding) (where string, layer int, hidden bool) {
	switch {
	case f.Secret != nil:
		s := f.Secret
		where, layer, hidden = s.Path, s.Layer, s.Hidden != nil
		if s.Source != "" {
			where = sourceWords(string(s.Source), s.Name)
		} else if s.Line > 0 {
			where += ":" + count(s.Line)
		}
	case f.Fault != nil:
		where, layer = f.Fault.Subject, f.Fault.Layer
	case f.Malware != nil:
		where, layer, hidden = f.Malware.Path, f.Malware.Layer, f.Malware.Hidden != nil
	}
	return where, layer, hidden
}

// sourceWords name a part of an image that is no file.
func sourceWords(source, name string) string {
	words := map[string]string{
		"env": "variable", "label": "label", "history": "build step", "argument": "build argument", "command": "command", "field": "field",
	}[source]
	return strings.TrimSpace(orElse(words, source) + " " + name)
}

// hiddenWords say what became of a file that is still in a layer; "" if nothing did.
func hiddenWords(f store.Finding) string {
	var h *inventory.Hidden
	switch {
	case f.Secret != nil:
		h = f.Secret.Hidden
	case f.Malware != nil:
		h = f.Malware.Hidden
	}
	switch {
	case h == nil:
		return ""
	case h.Layer == 0:
		return "not to be seen in a container, and in the image all the same"
	case h.Deleted:
		return "deleted by layer " + count(h.Layer) + ", and in the image all the same"
	}
	return "replaced by layer " + count(h.Layer) + ", and in the image all the same"
}
