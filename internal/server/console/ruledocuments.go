package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/detect"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/server/detections"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/written"
)

// RuleDocuments keeps documents of rules that people write.
type RuleDocuments interface {
	Documents(ctx context.Context, who access.Identity) ([]detections.Document, error)
	Document(ctx context.Context, who access.Identity, name string, version int64) (store.DetectionDocument, error)
	Versions(ctx context.Context, who access.Identity, name string, before int64, limit int) ([]store.DetectionDocument, error)
	Check(ctx context.Context, who access.Identity, name, text string) ([]written.Problem, error)
	Set(ctx context.Context, who access.Identity, name, text, comment string, after int64) (store.DetectionDocument, error)
	Remove(ctx context.Context, who access.Identity, name, comment string, after int64) (store.DetectionDocument, error)
}

const (
	// triedFor and triedEvents bound a trial of rules on recorded events: a person
	// waits for it, and events are in memory.
	triedFor    = 8 * time.Second
	triedEvents = 20_000
	triedBack   = 24 * time.Hour
	// triedShown is how many of the threats that it found are shown.
	triedShown = 50
)

// ruleStarter is what the editor of a document begins with.
const ruleStarter = `theme: own

rules:
- id: own-key-read
  title: The key of payments was read
  severity: high  # low, medium, critical
  tactic: credential-access  # of ATT&CK
  techniques: [T1552.001]
  meaning: Only payd may read the key, at its start.
  false_alarms: Backups read it too.
  tuning: Add them to the parameter readers.
  remedy: Change the key, and find out what read it.
  params:
    readers:
      type: list(string)
      value: [payd]
      meaning: programs that may read it
  on: [file.read]
  when: |
    under(file.path, ["/srv/keys"]) &&
      !(process.program in params.readers)
  about: [file.path]
  says: "{process.program} read {file.path}"
`

// documentRoutes adds the pages of rules that people write.
func (c *Console) documentRoutes(seen, done func(access.Scope, string, view)) {
	const at = "/detect/documents"
	seen(access.ReadDetect, "GET /detect/matrix", c.matrix)
	seen(access.ReadDetect, "GET "+at, c.ruleDocuments)
	seen(access.WriteDetect, "GET "+at+"/new", c.newDocument)
	seen(access.ReadDetect, "GET "+at+"/{name}", c.ofDocument(c.policy))
	seen(access.ReadDetect, "GET "+at+"/{name}/live", c.ofDocument(c.policyLive))
	seen(access.ReadDetect, "GET "+at+"/{name}/{version}", c.ofDocument(c.policyVersion))
	seen(access.WriteDetect, "GET "+at+"/{name}/edit", c.ofDocument(c.editPolicy))
	most := int64(maxPolicyForm(store.MaxDetectionDocument))
	typed := func(h view) view { return c.confirmedUpTo(most, h) }
	seen(access.WriteDetect, "POST "+at+"/{name}/check", typed(c.ofDocument(c.checkPolicy)))
	seen(access.WriteDetect, "POST "+at+"/{name}/edit", typed(c.ofDocument(c.changePolicy)))
	done(access.WriteDetect, "POST "+at+"/{name}/remove", c.removeDocument)
}

// documentsData is the list of documents that hold.
type documentsData struct {
	List    []detections.Document
	Manage  bool
	Problem string
	Name    string // of a new one, as it was typed
}

func (c *Console) ruleDocuments(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showDocuments(w, r, v, http.StatusOK, documentsData{})
}

func (c *Console) showDocuments(w http.ResponseWriter, r *http.Request, v visit, status int, d documentsData) (err error) {
	d.Manage = v.who.May(access.WriteDetect)
	if d.List, err = c.Detections.Documents(r.Context(), v.who); err != nil {
		return err
	}
	return c.show(w, r, status, documentsBody(c.page(r, v, "incidents", "Rules of your own"), d, c.detectTabs(v)))
}

// newDocument leads to the editor of a document with the name that was typed.
func (c *Console) newDocument(w http.ResponseWriter, r *http.Request, v visit) error {
	name := strings.TrimSpace(r.URL.Query().Get("name"))
	if _, err := c.Detections.Check(r.Context(), v.who, name, ""); err != nil {
		if said, ok := refused(err); ok {
			return c.showDocuments(w, r, v, c.Status(err), documentsData{Problem: said, Name: name})
		}
		return err
	}
	redirect(w, r, documentHref(name)+"/edit")
	return nil
}

func documentHref(name string) string { return "/detect/documents/" + url.PathEscape(name) }

// removeDocument has the rules of a document not hold any more.
func (c *Console) removeDocument(w http.ResponseWriter, r *http.Request, v visit) error {
	after, err := strconv.ParseInt(r.PostForm.Get("after"), 10, 64)
	if err != nil {
		return fault.New(fault.Invalid, "%.40q is no version", r.PostForm.Get("after"))
	}
	_, err = c.Detections.Remove(r.Context(), v.who, r.PathValue("name"), strings.TrimSpace(r.PostForm.Get("comment")), after)
	if err == nil {
		redirect(w, r, "/detect/documents?done=rules-removed")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	return c.showDocuments(w, r, v, c.Status(err), documentsData{Problem: said})
}

// ofDocument has the document that an address names edited as a policy is.
func (c *Console) ofDocument(page func(*book) view) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		return page(c.ruleBook(r.Context(), r.PathValue("name")))(w, r, v)
	}
}

// ruleBook is a document of rules as the editor sees it, for one request.
func (c *Console) ruleBook(ctx context.Context, name string) *book {
	return &book{
		path: documentHref(name), here: "incidents", name: "rules in " + name, up: "/detect/documents", upName: "Rules of your own", glyph: "shield", done: "rules-set",
		most: store.MaxDetectionDocument, comment: audit.MaxComment, starter: ruleStarter, reads: access.ReadDetect, manages: access.WriteDetect,
		hint:    "`rules` are yours, `change` sets parameters of others, `silence` has some not be heard for a time. How they are written is in the page Detection.",
		tryHint: "Try it holds the newest events of the last day against these rules. It changes nothing, and nobody is told.", tryTitle: "What they would have found", tryName: "Try it",
		blank:   noDocument(documentHref(name)),
		changes: func(ctx context.Context, _ access.Identity) (<-chan struct{}, error) { return quietUntil(ctx), nil },
		read: func(ctx context.Context, who access.Identity, version int64) (edition, error) {
			d, err := c.Detections.Document(ctx, who, name, version)
			return editionOf(&d), err
		},
		list: func(ctx context.Context, who access.Identity, before int64, limit int) ([]edition, error) {
			all, err := c.Detections.Versions(ctx, who, name, before, limit)
			if fault.Is(err, fault.NotFound) {
				return nil, nil
			}
			out := make([]edition, len(all))
			for i := range all {
				out[i] = editionOf(&all[i])
			}
			return out, err
		},
		explain: func(who access.Identity, text string) ([]passage, []textProblem, error) {
			if strings.TrimSpace(text) == "" {
				return []passage{{Text: "It has no rules, and changes none."}}, nil, nil
			}
			problems, err := c.Detections.Check(ctx, who, name, text)
			if err != nil || len(problems) > 0 {
				return nil, textProblems(problems), err
			}
			return rulePassages(name, text), nil, nil
		},
		set: func(ctx context.Context, who access.Identity, e entered) error {
			_, err := c.Detections.Set(ctx, who, name, e.Text, e.Comment, e.After)
			return err
		},
		try: func(ctx context.Context, v visit, text string, _ url.Values) (trialResult, error) {
			t, err := c.tryRules(ctx, v, name, text)
			if err != nil {
				return trialResult{}, err
			}
			return trialResult{t.says(), ruleTrialPart(page{Now: v.now, files: c.assets}, t)}, nil
		},
	}
}

func editionOf(d *store.DetectionDocument) edition {
	e := edition{Version: d.Version, Text: d.Text, Actor: d.Actor, Comment: d.Comment, Created: d.Created}
	if d.Removed {
		e.Comment = strings.TrimSuffix("removed: "+d.Comment, ": ")
	}
	return e
}

// rulePassages say in words which rules a document has.
func rulePassages(name, text string) (out []passage) {
	engine, err := detect.New([]detect.Text{{Name: name, Body: []byte(text)}})
	if err != nil {
		return nil // which Check has told, beside the other documents
	}
	lines := map[string]int{}
	for i, line := range splitLines(text) {
		if _, id, ok := strings.Cut(line, "id:"); ok {
			id, _, _ = strings.Cut(id, "#")
			lines[strings.Trim(strings.TrimSpace(id), `"'`)] = i + 1
		}
	}
	for _, r := range engine.Rules() {
		if r.Source == threat.BuiltIn {
			continue
		}
		kinds := make([]string, len(r.Kinds))
		for i, k := range r.Kinds {
			kinds[i] = string(k)
		}
		out = append(out, passage{Line: lines[r.ID], Text: r.Title, Parts: []passage{
			{Text: r.Severity.String() + ", " + tacticWords([]threat.Tactic{r.Tactic}) + ", " + strings.Join(r.Techniques, ", ")},
			{Text: "It looks at " + strings.Join(kinds, ", ")},
			{Text: r.Meaning},
		}})
	}
	if len(out) == 0 {
		return []passage{{Text: "It has no rules of its own, and changes or silences others."}}
	}
	return out
}

// ruleTrial is what rules found in recorded events.
type ruleTrial struct {
	Events  int
	From    time.Time // of the oldest that was held against them
	Whole   bool      // all of the last day were
	Threats []threat.Threat
	Count   int
	Rules   []detect.Stats
}

// tryRules holds the newest events of the last day against the rules of a text.
func (c *Console) tryRules(ctx context.Context, v visit, name, text string) (t ruleTrial, err error) {
	engine, err := detect.New([]detect.Text{{Name: name, Body: []byte(text)}})
	if err != nil {
		if problems := written.ProblemsOf(err); problems != nil {
			return t, written.Refused(problems)
		}
		return t, err
	}
	own := map[string]bool{}
	for _, r := range engine.Rules() {
		own[r.ID] = r.Source != threat.BuiltIn
	}
	only := slices.ContainsFunc(engine.Rules(), func(r *threat.Rule) bool { return own[r.ID] })
	events, whole, err := c.recorded(ctx, v.now.Add(-triedBack))
	if err != nil {
		return t, err
	}
	t.Events, t.Whole = len(events), whole
	if len(events) > 0 {
		t.From = events[0].Time
	}
	take := func(found []threat.Threat) {
		for i := range found {
			if only && !own[found[i].Rule] {
				continue
			}
			if t.Count++; len(t.Threats) < triedShown {
				t.Threats = append(t.Threats, found[i])
			}
		}
	}
	for i := range events {
		take(engine.Observe(&events[i]))
	}
	take(engine.Rest())
	for _, st := range engine.Stats() {
		if own[st.Rule] || !only && st.Hits > 0 {
			t.Rules = append(t.Rules, st)
		}
	}
	return t, nil
}

// recorded reads the newest events since a time in the order in which they happened;
// whole says that there are no more of them.
func (c *Console) recorded(ctx context.Context, since time.Time) (events []event.Event, whole bool, err error) {
	within, stop := context.WithTimeout(ctx, triedFor)
	defer stop()
	q := store.EventQuery{Since: since, Limit: store.MaxPage}
	for len(events) < triedEvents {
		page, err := c.Store.Events(within, q)
		if err != nil {
			if errors.Is(within.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
				break // what was read so far is tried
			}
			return nil, false, err
		}
		events = append(events, page.Events...)
		if !page.Partial && len(page.Events) < store.MaxPage {
			whole = true
			break
		}
		if len(page.Events) == 0 {
			break
		}
		q.Before = page.Events[len(page.Events)-1].ID
	}
	slices.SortStableFunc(events, func(a, b event.Event) int { return a.Time.Compare(b.Time) })
	return events, whole, nil
}

// says is a trial in a sentence.
func (t *ruleTrial) says() string {
	s := plural(t.Events, "event of the last day was", "events of the last day were") + " held against them: "
	if t.Count == 0 {
		return s + "nothing was found."
	}
	return s + plural(t.Count, "threat was", "threats were") + " found."
}

// trialFound is how what a trial found looks.
func trialFound(t ruleTrial) tone {
	if t.Count == 0 {
		return good
	}
	return warn
}

// noDocument says that there is none.
func noDocument(href string) func(bool) templ.Component {
	return func(manages bool) templ.Component { return noDocumentWords(href, manages) }
}
