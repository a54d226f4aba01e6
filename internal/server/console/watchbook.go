package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// maxProfileText bounds the text of a profile in the editor: what a browser's
	// field and a person can handle. Larger ones are imported on the command line.
	maxProfileText = 1 << 20
	maxProfileForm = 6*maxProfileText + maxForm
	// passagesShown is how much of each list the editor says in words.
	passagesShown = 12
)

// ofGroup has the profile of the group that an address names edited as a policy is.
func (c *Console) ofGroup(page func(*book) view) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		name, err := named(r.URL.Query())
		if err != nil {
			return err
		}
		return page(c.profileBook(name))(w, r, v)
	}
}

// profileBook is the profile of a group as the editor sees it.
func (c *Console) profileBook(g asset.Group) *book {
	return &book{
		path: "/watch/profile", query: "?group=" + url.QueryEscape(string(g)), here: "watch", name: "profile of " + string(g), glyph: "eye", done: "profile-set",
		most: maxProfileText, comment: audit.MaxComment, starter: string(watch.Write(&profile.Profile{Group: g}, "")),
		reads: access.ReadBehaviour, manages: access.ManageBehaviour,
		hint:    "`*` stands for any part of one name, `**` at the end for everything below. What stays the same keeps what it rests on; what the text leaves out is permitted no more.",
		tryHint: "Rehearse holds the recorded events against this text: what would protect have blocked? It changes nothing.", tryTitle: "What protect would have blocked",
		tryField: replaySpan(rehearseDays), tryName: "Rehearse",
		read: func(ctx context.Context, who access.Identity, version int64) (edition, error) {
			p, err := c.Watch.Profile(ctx, who, g, version)
			if err != nil {
				return edition{}, err
			}
			e := edition{Version: p.Revision, Digest: p.Digest, Text: bare(p.Text)}
			older, err := c.Watch.Revisions(ctx, who, g, p.Revision+1, 1)
			if err == nil && len(older) > 0 && older[0].Revision == p.Revision {
				e.Actor, e.Comment, e.Created = older[0].Actor, older[0].Comment, older[0].Created
			}
			return e, err
		},
		list: func(ctx context.Context, who access.Identity, before int64, limit int) ([]edition, error) {
			all, err := c.Watch.Revisions(ctx, who, g, before, limit)
			out := make([]edition, len(all))
			for i, r := range all {
				out[i] = edition{Version: r.Revision, Actor: r.Actor, Comment: r.Comment, Created: r.Created}
			}
			return out, err
		},
		explain: func(who access.Identity, text string) ([]passage, []textProblem, error) {
			return c.explainProfile(who, text)
		},
		signers: c.Watch.Signers(),
		set: func(ctx context.Context, who access.Identity, e entered) error {
			_, err := c.Watch.Import(ctx, who, g, behaviour.Edit{Text: e.Text, Signature: e.Signature, Comment: e.Comment, After: e.After})
			return err
		},
		try: func(ctx context.Context, v visit, text string, form url.Values) (trialResult, error) {
			return c.tryProfile(ctx, v, g, text, form)
		},
	}
}

// bare is the text of a profile without what its entries rest on: that changes with
// every event, and is not read.
func bare(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// explainProfile says what the text of a profile permits, or what is wrong with it.
func (c *Console) explainProfile(who access.Identity, text string) ([]passage, []textProblem, error) {
	problems, err := c.Watch.CheckProfile(who, text)
	if err != nil {
		return nil, nil, err
	}
	out := make([]textProblem, len(problems))
	for i, p := range problems {
		out[i] = textProblem{p.Line, p.Column, p.Text, p.Remedy}
	}
	if len(out) > 0 {
		return nil, out, nil
	}
	d, err := watch.Read([]byte(text), behaviour.DocumentName)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "%w", err)
	}
	return profilePassages(d.Profile, text), out, nil
}

// profilePassages say in words what a profile permits, with the lines of its text.
func profilePassages(p *profile.Profile, text string) []passage {
	lines := map[string]int{}
	for i, line := range splitLines(text) {
		if key, _, ok := strings.Cut(line, ":"); ok && key == strings.TrimSpace(key) {
			lines[key] = i + 1
		}
	}
	parts := map[string][]passage{}
	for _, x := range watch.Changes(&profile.Profile{}, p) {
		parts[x.What] = append(parts[x.What], passage{Text: capital(x.Sentence)})
	}
	var out []passage
	for _, s := range sectionsOf(p) {
		if len(s.Entries) == 0 {
			continue
		}
		all := parts[s.What]
		if more := len(all) - passagesShown; more > 0 {
			all = append(all[:passagesShown:passagesShown], passage{Text: "and " + plural(more, "further thing", "further things")})
		}
		out = append(out, passage{Line: lines[s.What], Text: s.Title + ": " + count(len(s.Entries)), Parts: all})
	}
	if len(out) == 0 {
		return []passage{{Text: "It permits nothing: whatever the group does lies outside."}}
	}
	return out
}

// tryProfile rehearses a text over some days.
func (c *Console) tryProfile(ctx context.Context, v visit, g asset.Group, text string, form url.Values) (trialResult, error) {
	days, err := strconv.Atoi(orElse(form.Get("days"), strconv.Itoa(rehearseDays)))
	if err != nil || days < 1 || days > maxReplayDays {
		return trialResult{}, fault.New(fault.Invalid, "want a number of days from 1 to %d", maxReplayDays)
	}
	r, err := c.Watch.Rehearse(ctx, v.who, behaviour.Rehearse{Group: g, Text: text, Since: v.now.Add(-time.Duration(days) * 24 * time.Hour)})
	if err != nil {
		return trialResult{}, err
	}
	hosts, err := c.hostNames(ctx)
	if err != nil {
		return trialResult{}, err
	}
	return trialResult{r.Sentence, rehearsedPart(page{Now: v.now, files: c.assets}, rehearseData{Group: g, Result: &r, Hosts: hosts})}, nil
}

// revisionData is the page of one revision.
type revisionData struct {
	Group asset.Group
	store.BehaviourRevision
	Digest  string
	Text    string
	Since   int64 // the revision before it; 0: none is kept
	Changes []watch.Change
	Newest  bool
	Manage  bool
}

// watchRevision shows a revision of a profile, and what it changed.
func (c *Console) watchRevision(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, d := r.Context(), revisionData{Group: name, Manage: v.who.May(access.ManageBehaviour)}
	number, err := strconv.ParseInt(r.PathValue("version"), 10, 64)
	if err != nil || number < 1 {
		return fault.New(fault.NotFound, "no revision is called %.40q", r.PathValue("version"))
	}
	p, err := c.Watch.Profile(ctx, v.who, name, number)
	if err != nil {
		return err
	}
	d.Digest, d.Text = p.Digest, p.Text
	around, err := c.Watch.Revisions(ctx, v.who, name, number+1, 2)
	if err != nil {
		return err
	}
	if len(around) == 0 || around[0].Revision != number {
		return fault.New(fault.NotFound, "revision %d is not kept any more", number)
	}
	d.BehaviourRevision = around[0]
	if len(around) > 1 {
		d.Since = around[1].Revision
		if d.Changes, err = c.Watch.Changes(ctx, v.who, name, d.Since, number); err != nil {
			return err
		}
	}
	newest, err := c.Watch.Revisions(ctx, v.who, name, 0, 1)
	if err != nil {
		return err
	}
	d.Newest = len(newest) > 0 && newest[0].Revision == number
	return c.show(w, r, http.StatusOK, revisionBody(c.page(r, v, "watch", "Revision "+strconv.FormatInt(number, 10)), d))
}
