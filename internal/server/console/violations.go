package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// violationsData is the list of what lay outside, of all groups or one.
type violationsData struct {
	Filter  filter
	Group   asset.Group // "": of all
	Mode    profile.Mode
	List    []store.BehaviourViolation
	Hosts   map[string]string
	Pages   pages
	Live    string
	Problem string
}

func violationFilter(v url.Values) filter {
	return newFilter("/watch/violations", []string{"group", "text", "control", "reaction", "kind", "open", "since"}, v)
}

func (c *Console) violations(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readViolations(r.Context(), v, r.URL.Query())
	if err != nil {
		return err
	}
	if d.Group != "" {
		g, err := c.Watch.Group(r.Context(), v.who, d.Group)
		if err != nil {
			return err
		}
		d.Mode = g.Mode
	}
	return c.show(w, r, status, violationsBody(c.page(r, v, "watch", orElse(string(d.Group), "Violations")), d))
}

func (c *Console) readViolations(ctx context.Context, v visit, asked url.Values) (d violationsData, status int, err error) {
	d.Filter = violationFilter(asked)
	d.Group = asset.Group(d.Filter.get("group"))
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, 0, err
	}
	q, err := violationQuery(d.Filter, asked.Get("before"), v.now)
	var list []store.BehaviourViolation
	if err == nil {
		list, err = c.Watch.Violations(ctx, v.who, q)
	}
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	var more bool
	if d.List, more = onePage(list); more {
		last := &d.List[len(d.List)-1]
		d.Pages.Next = d.Filter.address("before", strconv.FormatInt(last.Last.UnixNano(), 10)+"-"+strconv.FormatInt(last.ID, 10))
	}
	if q.BeforeID != 0 {
		d.Pages.First = d.Filter.address()
	} else {
		d.Live = d.Filter.at("/watch/violations/live")
	}
	return d, http.StatusOK, nil
}

// violationQuery reads what a filter asks for; before is the end of the page before,
// as its address has it.
func violationQuery(f filter, before string, now time.Time) (q store.ViolationQuery, err error) {
	q = store.ViolationQuery{
		Group: asset.Group(f.get("group")), Control: profile.Control(f.get("control")), Reaction: event.Reaction(f.get("reaction")), Kind: event.Kind(f.get("kind")),
		Text: f.get("text"), Open: f.has("open", "true"), Limit: onePageAnd,
	}
	if s := f.get("since"); s != "" {
		if q.Since, err = query.Time(s, now); err != nil {
			return q, err
		}
	}
	if !offered(controlChoices(), string(q.Control)) || !offered(reactionChoices(), string(q.Reaction)) {
		return q, fault.New(fault.Invalid, "there is no such control or reaction").With("choose one of the lists")
	}
	if before == "" {
		return q, nil
	}
	last, id, _ := strings.Cut(before, "-")
	nanos, err := strconv.ParseInt(last, 10, 64)
	if err == nil {
		q.BeforeID, err = strconv.ParseInt(id, 10, 64)
	}
	if err != nil {
		return q, fault.New(fault.Invalid, "no page of the list ends at %.60q", before)
	}
	q.BeforeLast = time.Unix(0, nanos).UTC()
	return q, nil
}

// offered reports whether a value is among choices.
func offered(all []span, value string) bool {
	for _, s := range all {
		if s.Value == value {
			return true
		}
	}
	return false
}

// violationsLive sends the list anew when something of groups changed.
func (c *Console) violationsLive(w http.ResponseWriter, r *http.Request, v visit) error {
	asked := r.URL.Query()
	d, status, err := c.readViolations(r.Context(), v, asked)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	return c.followWatch(w, r, d.Filter.at("/watch/violations/live"), func(ctx context.Context) (templ.Component, error) {
		d, _, err := c.readViolations(ctx, visit{who: v.who, now: c.Clock()}, asked)
		return violationsPart(c.bare(), d), err
	})
}

// violationData is the page of one violation.
type violationData struct {
	store.BehaviourViolation
	Hosts    map[string]string
	Workload *asset.Workload // nil: it is not known any more
	Permit   *store.BehaviourPermit
	// Widths are what can be made normal, Width the one that is chosen.
	Widths  []widthChoice
	Width   string
	Manage  bool
	Signed  bool // profiles must be signed: nobody can make it normal with a button
	Problem string
	Comment string
}

// widthChoice is one way to make a violation normal.
type widthChoice struct {
	watch.Width
	// Would are the changes of the profile that it comes to, Text the same as the
	// profile's text writes it. Both are of the profile as it is now.
	Would []watch.Change
	Text  string
}

// this is what was done alone.
func (d *violationData) this() *widthChoice {
	for i := range d.Widths {
		if d.Widths[i].Word == watch.WidthThis {
			return &d.Widths[i]
		}
	}
	return &widthChoice{}
}

// pathNumber reads the number that an address names something by.
func pathNumber(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, fault.New(fault.NotFound, "nothing has the number %.40q", r.PathValue("id"))
	}
	return id, nil
}

func (c *Console) violation(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	d, err := c.readViolation(r.Context(), v, id)
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, violationBody(c.page(r, v, "watch", "Violation "+strconv.FormatInt(id, 10)), d))
}

func (c *Console) readViolation(ctx context.Context, v visit, id int64) (d violationData, err error) {
	d.Manage, d.Signed = v.who.May(access.ManageBehaviour), len(c.Watch.Signers()) > 0
	if d.BehaviourViolation, err = c.Watch.Violation(ctx, v.who, id); err != nil {
		return d, err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, err
	}
	switch one, err := c.Store.Workload(ctx, d.WorkloadID); {
	case err == nil:
		d.Workload = &one
	case !fault.Is(err, fault.NotFound):
		return d, err
	}
	if d.PermitID != 0 {
		d.Permit, err = c.permitOf(ctx, v, d.Group, d.PermitID)
		return d, err
	}
	if d.Violation.Permit == nil {
		return d, nil
	}
	now, err := c.Watch.Profile(ctx, v.who, d.Group, 0)
	if fault.Is(err, fault.NotFound) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	for _, w := range watch.Widths(&d.Violation) {
		d.Widths = append(d.Widths, widthChoice{w, watch.Changes(&now.Profile, watch.Merge(&now.Profile, w.Permit)), entryLines(w.Permit)})
	}
	d.Width = watch.WidthThis
	return d, nil
}

// permitOf reads a permit; nil if it is not among the newest of the group.
func (c *Console) permitOf(ctx context.Context, v visit, g asset.Group, id int64) (*store.BehaviourPermit, error) {
	all, err := c.Watch.Permits(ctx, v.who, g, id+1, 1)
	if err != nil || len(all) == 0 || all[0].ID != id {
		return nil, err
	}
	return &all[0], nil
}

// entryLines are the entries of a profile as its text has them, without its head.
func entryLines(p *profile.Profile) string {
	_, entries, _ := strings.Cut(bare(string(watch.Write(p, ""))), "\n\n")
	return entries
}

// permitViolation makes it normal. Why it can't is said above the form.
func (c *Console) permitViolation(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	comment := strings.TrimSpace(r.PostForm.Get("comment"))
	if comment == "" {
		err = fault.New(fault.Invalid, "say why it is normal: those who read the history want to know")
	} else {
		_, err = c.Watch.Permit(r.Context(), v.who, id, behaviour.Permitting{Width: r.PostForm.Get("width"), Comment: comment})
	}
	if err == nil {
		redirect(w, r, violationHref(id)+"?done=permitted")
		return nil
	}
	said, ok := refusedHere(err)
	if !ok {
		return err
	}
	d, again := c.readViolation(r.Context(), v, id)
	if again != nil {
		return again
	}
	d.Problem, d.Comment = said, comment
	if _, ok := watch.WidthNamed(&d.Violation, r.PostForm.Get("width")); ok {
		d.Width = orElse(r.PostForm.Get("width"), watch.WidthThis)
	}
	return c.show(w, r, c.Status(err), violationBody(c.page(r, v, "watch", "Violation "+strconv.FormatInt(id, 10)), d))
}

// undoPermit takes a permit back, and goes to where it was asked for.
func (c *Console) undoPermit(w http.ResponseWriter, r *http.Request, v visit) error {
	id, err := pathNumber(r)
	if err != nil {
		return err
	}
	p, err := c.Watch.Undo(r.Context(), v.who, id, strings.TrimSpace(r.PostForm.Get("comment")))
	if err != nil {
		return err
	}
	if r.PostForm.Get("from") == "changes" {
		redirect(w, r, ofGroupHref("/watch/changes", p.Group, "done", "permit-undone"))
		return nil
	}
	redirect(w, r, violationHref(p.ViolationID)+"?done=permit-undone")
	return nil
}

// violationDoer says who did it, where that is known.
func violationDoer(v *store.BehaviourViolation) string {
	return orElse(v.Program, "an unknown program")
}

var _ Watch = (*behaviour.Service)(nil)

// narrowed reports that something but the group narrows the list.
func (d *violationsData) narrowed() bool {
	return len(d.Filter.v) > 1 || len(d.Filter.v) == 1 && d.Group == ""
}

func reactionGlyph(r event.Reaction) string {
	switch r {
	case event.ReactionDenied, event.ReactionKilled:
		return "stop"
	}
	return "eye"
}

// happened reports that what lay outside was done all the same.
func happened(v *profile.Violation) bool {
	return v.Reaction != event.ReactionDenied && v.Reaction != event.ReactionKilled
}

// wouldWords introduce what making a violation normal changes.
func wouldWords(would []watch.Change) string {
	for _, x := range would {
		if !x.Added {
			return "This changes in the profile, and nothing else:"
		}
	}
	return "This is added to the profile, and nothing else:"
}
