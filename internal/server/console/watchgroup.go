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
	"github.com/castellan-security/castellan/internal/server/behaviour"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/watch"
)

// groupData is the overview of a group.
type groupData struct {
	behaviour.Detail
	Hosts   map[string]string // names of agents' hosts
	Recent  recentOutside
	Runs    int            // hosts on which it runs now
	Entries map[string]int // of its profile, by list
	Limits  profile.Limits
	Manage  bool
	// Problem is why what a form asked for was not done, and Form what it asked for.
	Problem string
	Form    url.Values
	// Anyway says that protecting was refused because the profile is not settled.
	Anyway bool
}

// groupChange does what a form about a group asks for, and names the notice of it.
type groupChange func(ctx context.Context, v visit, g asset.Group, form url.Values) (done string, err error)

// groupChanges are what can be changed on the overview, by the end of their address.
func (c *Console) groupChanges() map[string]groupChange {
	return map[string]groupChange{
		"mode": c.setMode, "decline": c.decline, "answers": c.setAnswers, "promotion": c.setGroupPromotion, "limits": c.setLimits,
		"release": c.setReleased, "forget": c.forgetGroup,
	}
}

func (c *Console) watchGroup(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	d, err := c.readGroup(r.Context(), v, name)
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, groupBody(c.page(r, v, "watch", string(name)), d))
}

func (c *Console) readGroup(ctx context.Context, v visit, name asset.Group) (d groupData, err error) {
	d.Manage, d.Form = v.who.May(access.ManageBehaviour), url.Values{}
	if d.Detail, err = c.Watch.Group(ctx, v.who, name); err != nil {
		return d, err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return d, err
	}
	if d.Recent, err = c.recentlyOutside(ctx, v, name); err != nil {
		return d, err
	}
	standings, err := c.Watch.Standings(v.who, []asset.Group{name})
	if err != nil {
		return d, err
	}
	d.Runs = standings[name].Hosts
	p, err := c.Watch.Profile(ctx, v.who, name, 0)
	if err != nil {
		return d, err
	}
	d.Limits, d.Entries = p.Limits, map[string]int{}
	for _, s := range sectionsOf(&p.Profile) {
		d.Entries[s.What] = len(s.Entries)
	}
	return d, nil
}

// entries is how much its profile has in all.
func (d *groupData) entries() (n int) {
	for _, of := range d.Entries {
		n += of
	}
	return n
}

// changeGroup does what a form asks for. Why it can't is said on the overview, whose
// form stays as it was filled in.
func (c *Console) changeGroup(do groupChange) view {
	return func(w http.ResponseWriter, r *http.Request, v visit) error {
		name, err := named(r.PostForm)
		if err != nil {
			return err
		}
		done, err := do(r.Context(), v, name, r.PostForm)
		if err == nil {
			if done == "group-forgotten" {
				redirect(w, r, "/watch?done="+done)
				return nil
			}
			redirect(w, r, ofGroupHref("/watch/group", name, "done", done))
			return nil
		}
		said, ok := refusedHere(err)
		if !ok {
			return err
		}
		d, again := c.readGroup(r.Context(), v, name)
		if again != nil {
			return again
		}
		d.Problem, d.Form = said, r.PostForm
		d.Anyway = fault.Is(err, fault.Conflict) && r.PostForm.Get("mode") == string(profile.Protect)
		return c.show(w, r, c.Status(err), groupBody(c.page(r, v, "watch", string(name)), d))
	}
}

func (c *Console) setMode(ctx context.Context, v visit, g asset.Group, form url.Values) (string, error) {
	m, ok := profile.ParseMode(form.Get("mode"))
	if !ok {
		return "", fault.New(fault.Invalid, "say which mode: discover, monitor or protect")
	}
	_, err := c.Watch.SetMode(ctx, v.who, g, behaviour.Decision{Mode: m, Anyway: form.Get("anyway") == "true", Comment: strings.TrimSpace(form.Get("comment"))})
	return "group-" + m.String(), err
}

func (c *Console) decline(ctx context.Context, v visit, g asset.Group, _ url.Values) (string, error) {
	_, err := c.Watch.Decline(ctx, v.who, g)
	return "group-declined", err
}

func (c *Console) setAnswers(ctx context.Context, v visit, g asset.Group, form url.Values) (string, error) {
	answers := map[profile.Control]profile.Answer{}
	for _, x := range profile.Controls() {
		if a := form.Get(string(x)); a != "" {
			answers[x] = profile.Answer(a)
		}
	}
	_, err := c.Watch.SetAnswers(ctx, v.who, g, answers, strings.TrimSpace(form.Get("comment")))
	return "group-controls", err
}

func (c *Console) setGroupPromotion(ctx context.Context, v visit, g asset.Group, form url.Values) (string, error) {
	if form.Get("promote") == inherits {
		return "group-promotion", c.Watch.SetPromotion(ctx, v.who, g, nil)
	}
	p, err := promotionOf(form)
	if err != nil {
		return "", err
	}
	return "group-promotion", c.Watch.SetPromotion(ctx, v.who, g, p)
}

// inherits stands in a form for a promotion that is the fleet's.
const inherits = "fleet"

// promotionOf reads how modes change by themselves from a form.
func promotionOf(form url.Values) (*store.BehaviourPromotion, error) {
	p := &store.BehaviourPromotion{Promote: form.Get("promote"), Most: profile.Mode(form.Get("most")), NewVersion: form.Get("new_version")}
	if s := strings.TrimSpace(form.Get("hours")); s != "" {
		const most = 90 * 24 // what the service takes
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			return nil, fault.New(fault.Invalid, "want a number of hours from 1 to %d", most)
		}
		p.After = time.Duration(n) * time.Hour
	}
	return p, nil
}

// setPromotion says how the modes of all groups change by themselves that have
// nothing of their own.
func (c *Console) setPromotion(w http.ResponseWriter, r *http.Request, v visit) error {
	p, err := promotionOf(r.PostForm)
	if err == nil {
		err = c.Watch.SetPromotion(r.Context(), v.who, "", p)
	}
	if err == nil {
		redirect(w, r, "/watch?done=fleet-promotion")
		return nil
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d, _, again := c.readWatch(r.Context(), v, url.Values{})
	if again != nil {
		return again
	}
	d.Problem, d.Manage = said, true
	return c.show(w, r, c.Status(err), watchBody(c.page(r, v, "watch", "Behaviour"), d))
}

func (c *Console) setReleased(ctx context.Context, v visit, g asset.Group, form url.Values) (string, error) {
	releases := form.Get("released") == "true"
	_, err := c.Watch.SetReleased(ctx, v.who, g, releases, strings.TrimSpace(form.Get("comment")))
	if releases {
		return "group-released", err
	}
	return "group-armed", err
}

func (c *Console) forgetGroup(ctx context.Context, v visit, g asset.Group, form url.Values) (string, error) {
	return "group-forgotten", c.Watch.Forget(ctx, v.who, g, strings.TrimSpace(form.Get("comment")))
}

// limitField is one limit as a form has it.
type limitField struct {
	Name, Label, Hint string
	Value             string
}

// limitFields are the limits of a profile, as its text writes them.
func limitFields(l profile.Limits) []limitField {
	number := func(n uint64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatUint(n, 10)
	}
	return []limitField{
		{"processes", "Processes", "threads included", number(l.Processes)},
		{"memory", "Memory", "512 MiB", exactSize(l.Memory)},
		{"cpuMillis", "CPU", "thousandths of a processor", number(l.CPU)},
		{"descriptors", "Open files", "of one process", number(l.Descriptors)},
		{"writesPerSecond", "Written to disks a second", "16 MiB", exactSize(l.WriteBytes)},
		{"connectionsPerSecond", "New connections a second", "", number(l.NewConnections)},
	}
}

// exactSize writes bytes in the largest unit that loses nothing.
func exactSize(n uint64) string {
	if n == 0 {
		return ""
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for i < len(units)-1 && n%1024 == 0 {
		n /= 1024
		i++
	}
	return strconv.FormatUint(n, 10) + " " + units[i]
}

// setLimits sets how much a container of a group may take. An empty field is no limit.
func (c *Console) setLimits(ctx context.Context, v visit, g asset.Group, form url.Values) (string, error) {
	text := "profile: 1\nlimits:\n"
	some := false
	for _, f := range limitFields(profile.Limits{}) {
		s := strings.TrimSpace(form.Get(f.Name))
		if s == "" {
			continue
		}
		if strings.Trim(s, "0123456789 .BKMGTi") != "" {
			return "", fault.New(fault.Invalid, "%s: %.40q is no amount", strings.ToLower(f.Label), s).With("write a number; for memory and what is written a size such as 512 MiB")
		}
		text, some = text+"  "+f.Name+": "+s+"\n", true
	}
	var l profile.Limits
	if some {
		d, err := watch.Read([]byte(text), "limits")
		if err != nil {
			return "", fault.New(fault.Invalid, "%w", err)
		}
		l = d.Profile.Limits
	}
	_, err := c.Watch.Amend(ctx, v.who, g, behaviour.Amendment{Limits: &l, Comment: strings.TrimSpace(form.Get("comment"))})
	return "group-limits", err
}

// hostsData is how agents hold a group.
type hostsData struct {
	behaviour.Detail
	Hosts  map[string]string
	Runs   int // hosts on which it runs now
	Manage bool
}

func (c *Console) watchHosts(w http.ResponseWriter, r *http.Request, v visit) error {
	name, err := named(r.URL.Query())
	if err != nil {
		return err
	}
	d := hostsData{Manage: v.who.May(access.ManageBehaviour)}
	if d.Detail, err = c.Watch.Group(r.Context(), v.who, name); err != nil {
		return err
	}
	if d.Hosts, err = c.hostNames(r.Context()); err != nil {
		return err
	}
	standings, err := c.Watch.Standings(v.who, []asset.Group{name})
	if err != nil {
		return err
	}
	d.Runs = standings[name].Hosts
	return c.show(w, r, http.StatusOK, groupHostsBody(c.page(r, v, "watch", string(name)), d))
}
