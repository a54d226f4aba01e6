package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/untrusted"
	"github.com/castellan-security/castellan/internal/watch"
)

const (
	// entriesBeside is how much of each list is shown beside the others, and
	// entriesAlone of one that is looked at alone.
	entriesBeside = 15
	callsBeside   = 400 // names of system calls, which need no line each
	entriesAlone  = 1_000
)

// profileData is the page of a profile.
type profileData struct {
	Group    asset.Group
	Filter   filter
	Profiled behaviour.Profiled
	Sections []section // those in which something was found
	Total    int       // entries in all
	Found    int
	Versions map[string]string // names of images, by digest
	Hosts    map[string]string
	Starting []string // names of starting profiles
	Offered  string   // the one of its image
	Manage   bool
	Mode     profile.Mode
	Problem  string
	Form     url.Values // of an entry that could not be added
}

func profileFilter(v url.Values) filter {
	return newFilter("/watch/profile", []string{"group", "what", "text", "source"}, v)
}

func (c *Console) watchProfile(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	d, err := c.readProfile(r.Context(), v, name, r.URL.Query())
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, profileBody(c.page(r, v, "watch", string(name)), d))
}

func (c *Console) readProfile(ctx context.Context, v visit, name asset.Group, asked url.Values) (d profileData, err error) {
	d.Group, d.Filter, d.Form, d.Manage = name, profileFilter(asked), url.Values{}, v.who.May(access.ManageBehaviour)
	d.Starting = watch.StartingNames()
	g, err := c.Watch.Group(ctx, v.who, name)
	if err != nil {
		return d, err
	}
	d.Offered, d.Mode = g.Starting, g.Mode
	if d.Profiled, err = c.Watch.Profile(ctx, v.who, name, 0); err != nil {
		return d, err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, err
	}
	d.Versions = versionNames(&d.Profiled.Profile)
	what, text, source := d.Filter.get("what"), d.Filter.get("text"), d.Filter.get("source")
	most := entriesBeside
	if what != "" {
		most = entriesAlone
	}
	for _, s := range sectionsOf(&d.Profiled.Profile) {
		d.Total += len(s.Entries)
		if what != "" && s.What != what {
			continue
		}
		var found []entry
		for i := range s.Entries {
			if s.Entries[i].fits(text, source) {
				found = append(found, s.Entries[i])
			}
		}
		if s.Found = len(found); s.Found == 0 {
			continue
		}
		d.Found += s.Found
		shown := most
		if s.What == "calls" && what == "" {
			shown = callsBeside
		}
		s.Entries = found[:min(len(found), shown)]
		d.Sections = append(d.Sections, s)
	}
	return d, nil
}

// narrowed reports that a search narrows the profile.
func (d *profileData) narrowed() bool {
	return d.Filter.get("what")+d.Filter.get("text")+d.Filter.get("source") != ""
}

// where says on which hosts and in which images an entry was seen.
func (d *profileData) where(e *entry) string {
	var out []string
	for _, id := range e.Hosts {
		out = append(out, hostName(d.Hosts, id))
	}
	const most = 3
	if n := len(out); n > most {
		out = append(out[:most], plural(n-most, "other host", "other hosts"))
	}
	return strings.Join(out, ", ")
}

// images says in which versions of the image it was seen.
func (d *profileData) images(e *entry) string {
	first, latest := d.Versions[e.Version], d.Versions[e.Latest]
	switch {
	case first == "" && latest == "":
		return ""
	case first == latest || latest == "":
		return "in " + first
	case first == "":
		return "up to " + latest
	}
	return "from " + first + " to " + latest
}

// sourceChoices are what the filter for sources offers.
func sourceChoices() []span {
	return []span{{"", "whoever added it"}, {string(profile.Learned), "learned"}, {string(profile.Person), "by a person"}, {string(profile.Initial), "starting profile"}}
}

// whatChoices are what the filter for lists offers.
func whatChoices() []span { return append([]span{{"", "all kinds"}}, kindTitles()...) }

// profileText is a profile as a file: of a revision, or as it is now.
func (c *Console) profileText(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	revision, err := strconv.ParseInt(orElse(r.URL.Query().Get("revision"), "0"), 10, 64)
	if err != nil || revision < 0 {
		return fault.New(fault.NotFound, "no revision is called %.40q", r.URL.Query().Get("revision"))
	}
	p, err := c.Watch.Profile(r.Context(), v.who, name, revision)
	if err != nil {
		return err
	}
	attach(w, fileName(name)+".yaml", p.Text)
	return nil
}

// attach answers with a file to be kept, never shown.
func attach(w http.ResponseWriter, name, content string) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(content)) // the browser went away; there is nobody to tell
}

// fileName makes a name of a group that every system takes.
func fileName(g asset.Group) string {
	const most = 100
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
			return r
		}
		return '.'
	}, string(g))
	return strings.Trim(name[:min(len(name), most)], ".") + ""
}

// addEntry permits something besides. Why it can't is said above the form, which stays
// as it was filled in.
func (c *Console) addEntry(w http.ResponseWriter, r *http.Request, v visit) error {
	f := r.PostForm
	name, err := named(f)
	if err != nil {
		return err
	}
	text := f.Get("text") // as a rehearsal suggests
	if text == "" {
		text, err = newEntry{f.Get("what"), strings.TrimSpace(f.Get("value")), strings.TrimSpace(f.Get("port")), f.Get("origin"), ""}.text()
	}
	var p *profile.Profile
	if err == nil {
		p, err = permitted(text)
	}
	comment := strings.TrimSpace(f.Get("comment"))
	if err == nil && comment == "" {
		err = fault.New(fault.Invalid, "say why it is permitted: those who read the history want to know")
	}
	if err == nil {
		_, err = c.Watch.Amend(r.Context(), v.who, name, behaviour.Amendment{Add: p, Comment: comment})
	}
	return c.amended(w, r, v, name, "entry-added", err)
}

// removeEntry permits something no more.
func (c *Console) removeEntry(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.PostForm)
	if err != nil {
		return err
	}
	p, err := c.Watch.Profile(r.Context(), v.who, name, 0)
	if err != nil {
		return err
	}
	e, ok := find(&p.Profile, r.PostForm.Get("what"), r.PostForm.Get("name")+"\x00"+r.PostForm.Get("also"))
	if !ok {
		err = fault.New(fault.Conflict, "the profile does not have it any more")
	} else {
		_, err = c.Watch.Amend(r.Context(), v.who, name, behaviour.Amendment{Remove: &e.only, Comment: strings.TrimSpace(r.PostForm.Get("comment"))})
	}
	return c.amended(w, r, v, name, "entry-removed", err)
}

// startProfile gives a group a starting profile.
func (c *Console) startProfile(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.PostForm)
	if err != nil {
		return err
	}
	_, err = c.Watch.Start(r.Context(), v.who, name, r.PostForm.Get("name"))
	return c.amended(w, r, v, name, "profile-started", err)
}

// amended goes back to the profile, or says there why it was not changed.
func (c *Console) amended(w http.ResponseWriter, r *http.Request, v visit, name asset.Group, done string, err error) error {
	if err == nil {
		redirect(w, r, ofGroupHref("/watch/profile", name, "done", done))
		return nil
	}
	said, ok := refusedHere(err)
	if !ok {
		return err
	}
	d, again := c.readProfile(r.Context(), v, name, url.Values{"group": {string(name)}})
	if again != nil {
		return again
	}
	d.Problem, d.Form = said, r.PostForm
	return c.show(w, r, c.Status(err), profileBody(c.page(r, v, "watch", string(name)), d))
}

// entryShown is an entry's name as text of a page.
func entryShown(e *entry) string { return untrusted.Text(e.Name) }
