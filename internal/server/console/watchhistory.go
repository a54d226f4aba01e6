package console

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	permitsShown = 50  // what people made normal, on one page
	wordsShown   = 200 // changes in words
)

// changesData is the page of what changed in a profile.
type changesData struct {
	Group     asset.Group
	Versions  []profile.Version // of the image, the newest first
	Version   string            // whose changes are shown
	Images    []watch.Change    // what it does that those before did not
	Revisions []store.BehaviourRevision
	Older     string // address of the history's next page, or ""
	Permits   []store.BehaviourPermit
	Manage    bool
	Learning  bool
}

func (c *Console) watchChanges(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, d := r.Context(), changesData{Group: name, Manage: v.who.May(access.ManageBehaviour)}
	before, err := strconv.ParseInt(orElse(r.URL.Query().Get("before"), "0"), 10, 64)
	if err != nil || before < 0 {
		return fault.New(fault.NotFound, "no revision is called %.40q", r.URL.Query().Get("before"))
	}
	p, err := c.Watch.Profile(ctx, v.who, name, 0)
	if err != nil {
		return err
	}
	d.Learning = p.Learning
	for i := len(p.Versions) - 1; i >= 0; i-- {
		d.Versions = append(d.Versions, p.Versions[i])
	}
	if d.Version = r.URL.Query().Get("image"); d.Version == "" && len(d.Versions) > 0 {
		d.Version = d.Versions[0].Digest
	}
	if d.Images, err = c.Watch.VersionChanges(ctx, v.who, name, d.Version); err != nil {
		return err
	}
	if d.Revisions, err = c.Watch.Revisions(ctx, v.who, name, before, versionsShown+1); err != nil {
		return err
	}
	if len(d.Revisions) > versionsShown {
		d.Revisions = d.Revisions[:versionsShown]
		d.Older = ofGroupHref("/watch/changes", name) + "&before=" + strconv.FormatInt(d.Revisions[versionsShown-1].Revision, 10) + "#h-history"
	}
	if d.Permits, err = c.Watch.Permits(ctx, v.who, name, 0, permitsShown); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, changesBody(c.page(r, v, "watch", string(name)), d))
}

// imageChoices are the versions of the image to choose from.
func (d *changesData) imageChoices() (out []span) {
	for _, x := range d.Versions {
		label := shortImage(x.Digest)
		if x.Reference != "" {
			_, name := splitImage(x.Reference)
			label = name + " · " + label
		}
		out = append(out, span{x.Digest, label})
	}
	return out
}

// revisionHref is the address of a revision of a profile.
func revisionHref(g asset.Group, revision int64) string {
	return ofGroupHref("/watch/profile/"+strconv.FormatInt(revision, 10), g)
}

// hardenData is what a profile comes to for those who hold a container to it without
// an agent.
type hardenData struct {
	Group   asset.Group
	Outputs []hardened
	Why     string // nothing comes of it
}

// hardened is one output with its notes.
type hardened struct {
	harden.Output
	Title, Says, Name string
	Notes             []harden.Note
	Why               string // it can't be made
}

// hardenedOutputs are those that need nothing but the profile.
func hardenedOutputs() []hardened {
	return []hardened{
		{Output: harden.AppArmor, Title: "AppArmor", Says: "a profile for hosts with AppArmor: load it with apparmor_parser, name it in the task definition's dockerSecurityOptions"},
		{Output: harden.Seccomp, Title: "seccomp", Says: "a filter of system calls: docker run --security-opt seccomp=FILE"},
		{Output: harden.SELinux, Title: "SELinux", Says: "a CIL module for hosts with SELinux, such as Amazon Linux 2023: semodule -i FILE"},
		{Output: harden.Landlock, Title: "Landlock", Says: "rules that castellan harden run puts in force around the application, also on Fargate"},
	}
}

func (c *Console) watchHarden(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	p, err := c.Watch.Profile(r.Context(), v.who, name, 0)
	if err != nil {
		return err
	}
	d := hardenData{Group: name}
	if watch.Entries(&p.Profile) == 0 {
		d.Why = "The profile permits nothing yet: there is nothing to write."
		return c.show(w, r, http.StatusOK, hardenBody(c.page(r, v, "watch", string(name)), d))
	}
	for _, o := range hardenedOutputs() {
		made, err := harden.Compile(&p.Profile, harden.Options{Outputs: []harden.Output{o.Output}})
		switch {
		case err != nil && fault.Is(err, fault.Unknown):
			return err
		case err != nil:
			o.Why = sentence(err)
		default:
			o.Name, o.Notes = made.Files[0].Name, made.Notes
		}
		d.Outputs = append(d.Outputs, o)
	}
	return c.show(w, r, http.StatusOK, hardenBody(c.page(r, v, "watch", string(name)), d))
}

// hardenFile is one output as a file.
func (c *Console) hardenFile(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	p, err := c.Watch.Profile(r.Context(), v.who, name, 0)
	if err != nil {
		return err
	}
	for _, o := range hardenedOutputs() {
		if string(o.Output) != r.PathValue("output") {
			continue
		}
		made, err := harden.Compile(&p.Profile, harden.Options{Outputs: []harden.Output{o.Output}})
		if err != nil {
			return err
		}
		attach(w, fileName(asset.Group(made.Files[0].Name)), made.Files[0].Content)
		return nil
	}
	return fault.New(fault.NotFound, "there is no output %.40q", r.PathValue("output"))
}

// first are the notes that are read before an output is used: what it refuses though it
// was learned, and what somebody has to do.
func (h *hardened) first() []harden.Note {
	return slices.DeleteFunc(slices.Clone(h.Notes), func(n harden.Note) bool { return n.Effect == harden.Wider })
}

// wider are the others.
func (h *hardened) wider() []harden.Note {
	return slices.DeleteFunc(slices.Clone(h.Notes), func(n harden.Note) bool { return n.Effect != harden.Wider })
}

// hardenWords say in which way an output is not the profile.
func hardenWords(n *harden.Note) (string, tone) {
	switch n.Effect {
	case harden.Wider:
		return "wider", warn
	case harden.Narrower:
		return "narrower", danger
	}
	return "to do", calm
}

// rehearseDays is how far back a rehearsal goes unless it is said.
const rehearseDays = 7

// rehearseShown bounds the cases that are shown.
const rehearseShown = 100

// rehearseData is the page of a rehearsal.
type rehearseData struct {
	Group   asset.Group
	Mode    profile.Mode
	Days    int
	Asked   bool
	Result  *behaviour.Rehearsed // nil: nothing came of it
	Hosts   map[string]string
	Problem string
	Manage  bool
	csrf    string
}

// blocked are the cases that protect would have blocked, others those that it would
// have reported.
func (d *rehearseData) split() (blocked, others []watch.Case) {
	for _, x := range d.Result.Cases[:min(len(d.Result.Cases), rehearseShown)] {
		if x.Blocked {
			blocked = append(blocked, x)
		} else {
			others = append(others, x)
		}
	}
	return blocked, others
}

// wrong counts the kinds of it that look like ordinary work.
func (d *rehearseData) wrong() (n int) {
	for i := range d.Result.Cases {
		if d.Result.Cases[i].Blocked && d.Result.Cases[i].Judgement == watch.JudgedWrong {
			n++
		}
	}
	return n
}

func (c *Console) watchRehearse(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	d := rehearseData{Group: name, Days: rehearseDays, Manage: v.who.May(access.ManageBehaviour), csrf: v.csrf}
	g, err := c.Watch.Group(r.Context(), v.who, name)
	if err != nil {
		return err
	}
	d.Mode = g.Mode
	status := http.StatusOK
	if asked := r.URL.Query().Get("days"); asked != "" {
		d.Asked = true
		err := c.rehearse(r, v, &d, asked)
		said, ok := refused(err)
		switch {
		case err == nil:
		case ok:
			d.Problem, status = said, c.Status(err)
		default:
			return err
		}
	}
	if d.Hosts, err = c.hostNames(r.Context()); err != nil {
		return err
	}
	return c.show(w, r, status, rehearseBody(c.page(r, v, "watch", string(name)), d))
}

func (c *Console) rehearse(r *http.Request, v visit, d *rehearseData, asked string) error {
	n, err := strconv.Atoi(asked)
	if err != nil || n < 1 || n > maxReplayDays {
		return fault.New(fault.Invalid, "want a number of days from 1 to %d", maxReplayDays)
	}
	d.Days = n
	out, err := c.Watch.Rehearse(r.Context(), v.who, behaviour.Rehearse{Group: d.Group, Since: v.now.AddDate(0, 0, -n)})
	if err == nil {
		d.Result = &out
	}
	return err
}
