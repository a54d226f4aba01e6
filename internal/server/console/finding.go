package console

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// holdersShown bounds the images that the page of a finding lists.
const holdersShown = 100

// findingData is the page of one secret, fault or malware.
type findingData struct {
	Kind           findingKind
	One            store.Finding
	First          time.Time
	Open, Accepted []store.Finding
	Images         map[string]store.Image // of those shown, by id
	Acceptances    []store.Acceptance     // that are about it and hold
	Names          map[string]string      // of the images that these are about, by id
	Manages        bool                   // who looks may accept
	Form           acceptForm
	Problem        string
}

// findingHolder is an image that has it.
type findingHolder struct {
	store.Finding
	Reference, Owner string
	Running          int
}

// shown lists the images that have it, those where it counts first, of these
// those that run.
func (d findingData) shown() (out []findingHolder) {
	for _, f := range slices.Concat(d.Open, d.Accepted) {
		m, known := d.Images[f.ImageID]
		if !known {
			continue
		}
		h := findingHolder{Finding: f, Owner: m.Owner, Running: m.Running}
		if len(m.References) > 0 {
			h.Reference = m.References[0]
		}
		out = append(out, h)
	}
	slices.SortStableFunc(out, func(a, b findingHolder) int {
		if (a.Accepted == nil) != (b.Accepted == nil) {
			return map[bool]int{true: -1, false: 1}[a.Accepted == nil]
		}
		return b.Running - a.Running
	})
	return out
}

func (c *Console) finding(k findingKind) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		form := acceptForm{For: acceptFor, Open: r.URL.Query().Has("accept"), Image: r.URL.Query().Get("image")}
		return c.showFinding(w, r, v, http.StatusOK, r.PathValue("key"), findingData{Kind: k, Form: form})
	}
}

func (c *Console) showFinding(w http.ResponseWriter, r *http.Request, v visit, status int, key string, d findingData) error {
	ctx := r.Context()
	if err := c.readFinding(ctx, key, &d); err != nil {
		return err
	}
	all, err := c.Images.Acceptances(ctx, v.who)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Holds(v.now) && d.isMeant(a) {
			d.Acceptances = append(d.Acceptances, a)
		}
	}
	if d.Names, err = c.imageNamesOf(ctx, d.Acceptances); err != nil {
		return err
	}
	d.Manages = v.manages()
	return c.show(w, r, status, findingBody(c.page(r, v, d.Kind.Many, d.One.Title), d))
}

// readFinding reads one finding and the images that have it.
func (c *Console) readFinding(ctx context.Context, key string, d *findingData) error {
	for accepted, to := range map[bool]*[]store.Finding{false: &d.Open, true: &d.Accepted} {
		var err error
		q := store.FindingQuery{Kind: d.Kind.FindingKind, Key: key, Accepted: accepted, Limit: store.MaxPage}
		if *to, err = c.Store.FindingsIn(ctx, q); err != nil {
			return err
		}
	}
	all := slices.Concat(d.Open, d.Accepted)
	if key == "" || len(all) == 0 {
		return fault.New(fault.NotFound, "no image has this %s any more, or ever had it", d.Kind.One)
	}
	d.One, d.First = all[0], all[0].First
	d.Images = map[string]store.Image{}
	for i, f := range all {
		if f.First.Before(d.First) {
			d.First = f.First
		}
		if i >= holdersShown {
			continue
		}
		m, err := c.Store.Image(ctx, f.ImageID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil {
			d.Images[f.ImageID] = m
		}
	}
	return nil
}

// isMeant reports whether an acceptance may be about it: its kind and its rule or
// fingerprint.
func (d findingData) isMeant(a store.Acceptance) bool {
	if a.Kind != d.Kind.FindingKind {
		return false
	}
	return slices.ContainsFunc(d.rules(), func(s span) bool { return strings.EqualFold(s.Value, a.Rule) })
}

// rules are the choices of what an acceptance is about.
func (d findingData) rules() []span {
	var out []span
	switch {
	case d.One.Secret != nil:
		out = addChoice(out, d.One.Secret.Fingerprint, "this secret, by its fingerprint")
	case d.One.Malware != nil:
		out = addChoice(out, d.One.Malware.Fingerprint, "this file, by its fingerprint")
	}
	return addChoice(out, d.One.Rule, "whatever "+d.Kind.Rule+" "+d.One.Rule+" finds")
}

// paths are the choices of where in an image it is accepted.
func (d findingData) paths() []span {
	out := []span{{"", "everywhere"}}
	for _, f := range slices.Concat(d.Open, d.Accepted) {
		path := ""
		if f.Secret != nil && f.Secret.Source == "" {
			path = f.Secret.Path
		} else if f.Malware != nil {
			path = f.Malware.Path
		}
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, `*?[\`) {
			continue
		}
		out = addChoice(out, path, "only "+path)
		if i := strings.LastIndexByte(path, '/'); i > 0 {
			out = addChoice(out, path[:i]+"/**", "everything below "+path[:i])
		}
		break
	}
	return addChoice(out, d.Form.Path, d.Form.Path)
}

// scopes are the choices of where an acceptance holds.
func (d findingData) scopes() []span {
	out := []span{{"", "every image"}}
	holders := d.shown()
	for _, h := range holders {
		if h.Reference != "" {
			repository := asset.Repository(h.Reference)
			out = addChoice(out, repository, "every image of "+repository)
		}
	}
	for _, h := range holders {
		out = addChoice(out, h.ImageID, "only "+orElse(h.Reference, shortImage(h.ImageID)))
	}
	return addChoice(out, d.Form.Image, d.Form.Image)
}

// acceptFinding makes an acceptance of a secret, a fault or malware.
func (c *Console) acceptFinding(w http.ResponseWriter, r *http.Request, v visit, form acceptForm) error {
	f := r.PostForm
	k, ok := kindNamed(f.Get("kind"))
	if !ok {
		return fault.New(fault.Invalid, "the form names no kind of finding").With("Go back, reload the page and send the form again.")
	}
	form.Rule, form.Path = f.Get("rule"), f.Get("path")
	expires, err := form.expiry(v.now)
	if err == nil {
		_, err = c.Images.Accept(r.Context(), v.who, images.NewAcceptance{
			Kind: k.FindingKind, Rule: form.Rule, Path: form.Path, Image: form.Image, Reason: form.Reason, Expires: expires,
		})
	}
	if err == nil {
		redirect(w, r, withNotice(k.href(f.Get("key")), "accepted"))
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	return c.showFinding(w, r, v, c.Status(err), f.Get("key"), findingData{Kind: k, Form: form, Problem: said})
}

// kindNamed returns the kind of that name.
func kindNamed(name string) (findingKind, bool) {
	all := findingKinds()
	i := slices.IndexFunc(all, func(k findingKind) bool { return string(k.FindingKind) == name })
	if i < 0 {
		return findingKind{}, false
	}
	return all[i], true
}

// expiry is when an acceptance ends that a form makes.
func (f acceptForm) expiry(now time.Time) (time.Time, error) {
	if f.Until != "" {
		return query.Expiry("", f.Until, now) // the day was typed, the other is only what stood there
	}
	return query.Expiry(f.For, "", now)
}

// ownerChoices are the owners to choose from, and what the address says if it is
// none of them.
func ownerChoices(f filter, owners []string) []string {
	if have := f.get("owner"); have != "" && have != store.NoOwner && untrusted.Text(have) == have && !slices.Contains(owners, have) {
		return append(slices.Clone(owners), have)
	}
	return owners
}

// lineOwners names whose the images are that a line is told with.
func lineOwners(l store.FindingLine) string {
	var names []string
	for _, m := range l.In {
		if m.Owner != "" && !slices.Contains(names, m.Owner) {
			names = append(names, m.Owner)
		}
	}
	return strings.Join(names, ", ")
}

// readImageFindings reads the findings of one image of the kind that the view is
// of.
func (c *Console) readImageFindings(r *http.Request, d *imageData) (status int, err error) {
	ctx := r.Context()
	d.Filter = lineFilter(imageHref(d.ID, d.Tab), r.URL.Query())
	q, err := query.Findings(d.Kind.FindingKind, d.Filter.values("image", "", "accepted", ""))
	if err != nil {
		said, ok := refused(err)
		if !ok {
			return 0, err
		}
		d.Problem = said
		return c.Status(err), nil
	}
	q.ImageID, q.Limit = d.ID, findingsShown+1
	for _, q.Accepted = range []bool{false, true} {
		found, err := c.Store.FindingsIn(ctx, q)
		if err != nil {
			return 0, err
		}
		d.Judged = append(d.Judged, found...)
	}
	d.Cut = len(d.Judged) > findingsShown
	d.Judged = d.Judged[:min(len(d.Judged), findingsShown)]
	return http.StatusOK, nil
}
