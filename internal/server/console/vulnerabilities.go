package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/exposure"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// vulnerabilitiesData is the list of weaknesses over all images.
type vulnerabilitiesData struct {
	Filter  filter
	List    []store.Weakness
	Status  images.Status
	Trend   trend
	Owners  []string
	Pages   pages
	Live    string // where the list is followed, "" behind its first page
	Problem string // what is wrong with the filter
}

func (c *Console) vulnerabilities(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readVulnerabilities(r.Context(), r.URL.Query())
	if err != nil {
		return err
	}
	if d.Owners, err = c.ownerNames(r, v); err != nil {
		return err
	}
	return c.show(w, r, status, vulnerabilitiesBody(c.page(r, v, "vulnerabilities", "Vulnerabilities"), d))
}

// readVulnerabilities reads what the address asks for. A filter that makes no
// sense is told in the list, with the status that it gets.
func (c *Console) readVulnerabilities(ctx context.Context, asked url.Values) (d vulnerabilitiesData, status int, err error) {
	d.Filter = vulnerabilityFilter("/vulnerabilities", asked)
	if d.Status, err = c.Images.Status(ctx); err != nil {
		return d, 0, err
	}
	if d.Trend, err = c.readTrend(ctx, store.KindVulnerability, c.Clock()); err != nil {
		return d, 0, err
	}
	q, err := query.Vulnerabilities(d.Filter.values("offset", asked.Get("offset")))
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	if q.Offset == 0 {
		d.Live = d.Filter.at("/vulnerabilities/live")
	}
	return d, http.StatusOK, c.listWeaknesses(ctx, &d, q)
}

// weaknessPause is the least time between two updates of the list: it adds up all
// images, and is read, not watched.
const weaknessPause = 3 * time.Second

// vulnerabilitiesLive sends the list anew when it has become another one.
func (c *Console) vulnerabilitiesLive(w http.ResponseWriter, r *http.Request, v visit) error {
	asked := r.URL.Query()
	d, status, err := c.readVulnerabilities(r.Context(), asked)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	return c.followShow(w, r, d.Filter.at("/vulnerabilities/live", "offset", asked.Get("offset")), weaknessPause, func(ctx context.Context) (templ.Component, error) {
		d, _, err := c.readVulnerabilities(ctx, asked)
		return vulnerabilitiesPart(c.bare(), d), err
	})
}

func (c *Console) listWeaknesses(ctx context.Context, d *vulnerabilitiesData, q store.VulnerabilityQuery) error {
	q.Limit = onePageAnd
	list, err := c.Store.Weaknesses(ctx, q)
	if err != nil {
		return err
	}
	var more bool
	d.List, more = onePage(list)
	d.Pages = offsetPages(d.Filter, q.Offset, more)
	return nil
}

// vulnerabilityData is the page of one weakness.
type vulnerabilityData struct {
	exposure.Exposure
	Hosts       map[string]string
	Acceptances []store.Acceptance // that are about it and hold
	Names       map[string]string  // of the images that these are about, by id
	Manages     bool               // who looks may accept
	Form        acceptForm
	Problem     string
}

// acceptForm is the form to accept a weakness as it was typed.
type acceptForm struct {
	Package, Image, Reason, For, Until string
	Rule, Path                         string // of a secret, a fault or malware
	Open                               bool
	Back                               string // where the way leads afterwards
}

// acceptFor is how long an acceptance holds unless somebody chooses.
const acceptFor = "30d"

// acceptLives are the choices for how long something is accepted.
func acceptLives() []span {
	return []span{{"7d", "7 days"}, {"30d", "30 days"}, {"90d", "90 days"}, {"180d", "180 days"}, {"365d", "1 year"}}
}

func (c *Console) vulnerability(w http.ResponseWriter, r *http.Request, v visit) error {
	ask := r.URL.Query()
	d := vulnerabilityData{Form: acceptForm{Package: ask.Get("package"), Image: ask.Get("image"), For: acceptFor, Open: ask.Has("accept")}}
	if from := ask.Get("from"); from != "" {
		d.Form.Back = localPath(from)
	}
	return c.showVulnerability(w, r, v, http.StatusOK, r.PathValue("id"), d)
}

func (c *Console) showVulnerability(w http.ResponseWriter, r *http.Request, v visit, status int, id string, d vulnerabilityData) error {
	ctx := r.Context()
	var err error
	if d.Exposure, err = exposure.Of(ctx, c.Store, id); err != nil {
		return err
	}
	all, err := c.Images.Acceptances(ctx, v.who)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Holds(v.now) && d.called(a.Vulnerability) {
			d.Acceptances = append(d.Acceptances, a)
		}
	}
	if d.Names, err = c.imageNamesOf(ctx, d.Acceptances); err != nil {
		return err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return err
	}
	d.Manages = v.manages()
	return c.show(w, r, status, vulnerabilityBody(c.page(r, v, "vulnerabilities", d.Weakness.ID), d))
}

// called reports whether the weakness has that name.
func (d vulnerabilityData) called(name string) bool {
	return strings.EqualFold(name, d.Weakness.ID) || slices.ContainsFunc(d.Finding.Aliases, func(a string) bool { return strings.EqualFold(a, name) })
}

// packages are the choices of what an acceptance is about.
func (d vulnerabilityData) packages() []span {
	out := []span{{"", "every package"}}
	for _, m := range d.Images {
		for _, p := range m.Packages {
			out = addChoice(out, p.Name, p.Name)
		}
	}
	return addChoice(out, d.Form.Package, d.Form.Package)
}

// scopes are the choices of where an acceptance holds.
func (d vulnerabilityData) scopes() []span {
	out := []span{{"", "every image"}}
	for _, m := range d.Images {
		if m.Reference != "" {
			repository := asset.Repository(m.Reference)
			out = addChoice(out, repository, "every image of "+repository)
		}
	}
	for _, m := range d.Images {
		out = addChoice(out, m.ID, "only "+orElse(m.Reference, shortImage(m.ID)))
	}
	return addChoice(out, d.Form.Image, d.Form.Image)
}

// addChoice offers a value once. One that cannot be shown as it is is not
// offered: nobody could say what they chose.
func addChoice(list []span, value, label string) []span {
	if value == "" || untrusted.Text(value) != value || slices.ContainsFunc(list, func(s span) bool { return s.Value == value }) {
		return list
	}
	return append(list, span{value, label})
}

// accept makes an acceptance and goes back to where the decision was made.
func (c *Console) accept(w http.ResponseWriter, r *http.Request, v visit) error {
	f := r.PostForm
	form := acceptForm{
		Package: f.Get("package"), Image: f.Get("image"), Reason: strings.TrimSpace(f.Get("reason")),
		For: f.Get("for"), Until: f.Get("until"), Open: true,
	}
	if back := f.Get("back"); back != "" {
		form.Back = localPath(back)
	}
	if f.Get("kind") != "" {
		return c.acceptFinding(w, r, v, form)
	}
	id := f.Get("vulnerability")
	err := c.acceptAs(r, v, id, form)
	if err == nil {
		redirect(w, r, withNotice(orElse(form.Back, weaknessHref(id)), "accepted"))
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	return c.showVulnerability(w, r, v, c.Status(err), id, vulnerabilityData{Form: form, Problem: said})
}

func (c *Console) acceptAs(r *http.Request, v visit, id string, form acceptForm) error {
	expires, err := form.expiry(v.now)
	if err != nil {
		return err
	}
	_, err = c.Images.Accept(r.Context(), v.who, images.NewAcceptance{
		Vulnerability: id, Package: form.Package, Image: form.Image, Reason: form.Reason, Expires: expires,
	})
	return err
}

// withNotice adds to an address what the page it leads to says was done.
func withNotice(path, done string) string {
	u, err := url.Parse(path)
	if err != nil {
		return "/"
	}
	q := u.Query()
	q.Set("done", done)
	u.RawQuery = q.Encode()
	return u.String()
}

// acceptHref is where a finding of an image is accepted.
func acceptHref(v *finding.Vulnerability, imageID, from string) string {
	q := url.Values{"accept": {"1"}, "image": {imageID}, "package": {v.Package.FullName()}, "from": {from}}
	return weaknessHref(v.ID) + "?" + q.Encode() + "#accept"
}

// bestScore is the base score that is worth most: of the newest version of CVSS.
func bestScore(v *finding.Vulnerability) string {
	var best *finding.Score
	for i := range v.Scores {
		if s := &v.Scores[i]; best == nil || s.Version > best.Version {
			best = s
		}
	}
	if best == nil {
		return ""
	}
	return decimal(best.Base)
}

// endAcceptance takes an acceptance back.
func (c *Console) endAcceptance(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "no acceptance has the number %q", r.PathValue("id"))
	}
	if _, err := c.Images.EndAcceptance(r.Context(), v.who, id); err != nil {
		return err
	}
	redirect(w, r, "/acceptances?done=accept-ended")
	return nil
}
