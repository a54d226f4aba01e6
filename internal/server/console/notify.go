package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/notify"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// notifyData is the page of notification targets, and the form for a new one as
// it was typed.
type notifyData struct {
	List    []notice.Target
	Manages bool
	Problem string
	Form    targetForm
	// Made and Secret are of the webhook that was just added or changed: the only
	// time that its secret is shown.
	Made   string
	Secret string
	// Edited is the target that was changed, or whose form was refused, as it was
	// typed.
	Edited int64
}

// editForm is the form for a target that is there.
func (d notifyData) editForm(t notice.Target) targetForm {
	if d.Edited == t.ID {
		return d.Form
	}
	return formOf(t)
}

// addForm is the form for a new target.
func (d notifyData) addForm() targetForm {
	if d.Edited != 0 {
		return newTargetForm()
	}
	return d.Form
}

// targetForm is the form for a new target. What may be a secret is not shown
// again: it is typed anew.
type targetForm struct {
	Name, Type, Severity, Interval                    string
	Repositories, Groups                              string
	Plain, Scanned, Vulnerable, Fixable, KEV, Running bool
}

// newTargetForm is the form before somebody typed.
func newTargetForm() targetForm {
	return targetForm{Type: string(notice.Webhook), Severity: finding.High.String(), Interval: "15m", Vulnerable: true}
}

// formOf is a target as its form has it; its patterns are shown as texts of others
// are, which is why editTarget keeps those that come back as they were shown.
func formOf(t notice.Target) targetForm {
	f := targetForm{
		Name: t.Name, Type: string(t.Type), Severity: t.Filter.Severity.String(), Interval: t.Interval.String(),
		Repositories: untrusted.Text(strings.Join(t.Filter.Repositories, " ")), Groups: untrusted.Text(strings.Join(t.Filter.Groups, " ")),
		Plain:      !strings.HasPrefix(t.Address, "https://") && !strings.HasPrefix(t.Address, "tls://"),
		Vulnerable: len(t.Filter.Kinds) == 0 || slices.Contains(t.Filter.Kinds, notice.ImageVulnerable),
		Scanned:    slices.Contains(t.Filter.Kinds, notice.ImageScanned), Fixable: t.Filter.Fixable, KEV: t.Filter.Exploited, Running: t.Filter.Running,
	}
	for _, s := range intervals() {
		if known, err := query.Duration(s.Value); err == nil && known == t.Interval {
			f.Interval = s.Value
		}
	}
	return f
}

// intervalsWith are the choices, and what a target has if it is none of them.
func intervalsWith(have string) []span {
	all := intervals()
	if have == "" || slices.ContainsFunc(all, func(s span) bool { return s.Value == have }) {
		return all
	}
	return append(all, span{have, "every " + have})
}

// targetTypes are the choices of how a target is reached.
func targetTypes() []span {
	return []span{
		{string(notice.Webhook), "webhook: signed JSON"}, {string(notice.Slack), "Slack, Mattermost, Rocket.Chat"},
		{string(notice.Syslog), "syslog (RFC 5424)"},
	}
}

// intervals are the choices of how often a target is told something at most.
func intervals() []span {
	return []span{{"1m", "once a minute"}, {"15m", "four times an hour"}, {"1h", "once an hour"}, {"24h", "once a day"}}
}

func (c *Console) notify(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showNotify(w, r, v, http.StatusOK, notifyData{Form: newTargetForm()})
}

func (c *Console) showNotify(w http.ResponseWriter, r *http.Request, v visit, status int, d notifyData) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	var err error
	if d.List, err = c.Notify.Targets(r.Context(), v.who); err != nil {
		return err
	}
	d.Manages = v.who.May(access.ManageNotify)
	return c.show(w, r, status, notifyBody(c.page(r, v, "notify", "Notifications"), d))
}

// addTarget adds a target and shows a secret that was made for it in the answer
// itself: it has no address, and no cache may keep it.
func (c *Console) addTarget(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	form := typedTarget(r)
	n, err := form.target(r.PostForm.Get("url"), r.PostForm.Get("secret"))
	if err == nil {
		var made notice.Target
		var secret string
		if made, secret, err = c.Notify.Add(r.Context(), v.who, n); err == nil {
			return c.showNotify(w, r, v, http.StatusCreated, notifyData{Form: newTargetForm(), Made: made.Name, Secret: secret})
		}
	}
	said, ok := refusedTarget(err)
	if !ok {
		return err
	}
	return c.showNotify(w, r, v, c.Status(err), notifyData{Form: form, Problem: said})
}

// refusedTarget says why a target is not as the form wants it, where somebody who
// looks at the page can do something about it.
func refusedTarget(err error) (string, bool) {
	if fault.Is(err, fault.Unsupported) || fault.Is(err, fault.Corrupt) {
		return sentence(err), true
	}
	return refused(err)
}

// typedTarget is the form that was sent.
func typedTarget(r *http.Request) targetForm {
	get := r.PostForm.Get
	return targetForm{
		Name: get("name"), Type: get("type"), Severity: get("severity"), Interval: get("interval"),
		Repositories: get("repositories"), Groups: get("groups"),
		Plain: r.PostForm.Has("plain"), Scanned: r.PostForm.Has("scanned"), Vulnerable: r.PostForm.Has("vulnerable"),
		Fixable: r.PostForm.Has("fixable"), KEV: r.PostForm.Has("exploited"), Running: r.PostForm.Has("running"),
	}
}

// editTarget changes a target, and shows a secret that was made for it as addTarget
// does. Address and secret stay where none is typed.
func (c *Console) editTarget(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "no target has the number %q", r.PathValue("id"))
	}
	form := typedTarget(r)
	change, err := form.change(r.PostForm.Get("url"), r.PostForm.Get("secret"), r.PostForm.Has("new-secret"))
	if err == nil {
		err = c.keepPatterns(r, v, id, form, &change)
	}
	if err == nil {
		var secret string
		var t notice.Target
		if t, secret, err = c.Notify.Edit(r.Context(), v.who, id, change); err == nil {
			if secret == "" {
				redirect(w, r, "/notify?done=target-changed")
				return nil
			}
			return c.showNotify(w, r, v, http.StatusOK, notifyData{Form: formOf(t), Made: t.Name, Secret: secret, Edited: id})
		}
	}
	said, ok := refusedTarget(err)
	if !ok {
		return err
	}
	return c.showNotify(w, r, v, c.Status(err), notifyData{Form: form, Edited: id, Problem: said})
}

// keepPatterns leaves patterns as they are that were not typed anew.
func (c *Console) keepPatterns(r *http.Request, v visit, id int64, form targetForm, change *notify.TargetChange) error {
	all, err := c.Notify.Targets(r.Context(), v.who)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.ID != id {
			continue
		}
		was := formOf(t)
		if form.Repositories == was.Repositories {
			change.Repositories = nil
		}
		if form.Groups == was.Groups {
			change.Groups = nil
		}
	}
	return nil
}

// change is what the form asks for of a target that is there.
func (f targetForm) change(url, secret string, newSecret bool) (c notify.TargetChange, err error) {
	n, err := f.target(url, secret)
	if err != nil {
		return c, err
	}
	c = notify.TargetChange{
		Name: &n.Name, Plain: &n.Destination.Plain, Interval: &n.Interval, Kinds: &n.Filter.Kinds, Severity: &n.Filter.Severity, NewSecret: newSecret,
		Fixable: &n.Filter.Fixable, Exploited: &n.Filter.Exploited, Running: &n.Filter.Running, Repositories: &n.Filter.Repositories, Groups: &n.Filter.Groups,
	}
	if strings.TrimSpace(url) != "" {
		c.URL = &url
	}
	if secret != "" {
		c.Secret = &secret
	}
	return c, nil
}

// target is what the form asks for.
func (f targetForm) target(url, secret string) (n notify.NewTarget, err error) {
	n.Name = f.Name
	n.Destination = notice.Destination{Type: notice.Type(f.Type), URL: url, Secret: secret, Plain: f.Plain}
	if f.Vulnerable {
		n.Filter.Kinds = append(n.Filter.Kinds, notice.ImageVulnerable)
	}
	if f.Scanned {
		n.Filter.Kinds = append(n.Filter.Kinds, notice.ImageScanned)
	}
	if len(n.Filter.Kinds) == 0 {
		return n, fault.New(fault.Invalid, "choose what the target is told of")
	}
	if n.Filter.Severity, err = finding.ParseSeverity(f.Severity); err != nil {
		return n, fault.New(fault.Invalid, "choose a severity")
	}
	if n.Interval, err = query.Duration(f.Interval); err != nil {
		return n, fault.New(fault.Invalid, "choose how often")
	}
	n.Filter.Fixable, n.Filter.Exploited, n.Filter.Running = f.Fixable, f.KEV, f.Running
	n.Filter.Repositories, n.Filter.Groups = strings.Fields(f.Repositories), strings.Fields(f.Groups)
	return n, nil
}

// testTarget sends a target something and says what came of it.
func (c *Console) testTarget(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.changeTarget(w, r, v, "target-tested", func(id int64) error { return c.Notify.Test(r.Context(), v.who, id) })
}

func (c *Console) removeTarget(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.changeTarget(w, r, v, "target-removed", func(id int64) error { return c.Notify.Remove(r.Context(), v.who, id) })
}

func (c *Console) changeTarget(w http.ResponseWriter, r *http.Request, v visit, done string, change func(int64) error) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return fault.New(fault.NotFound, "no target has the number %q", r.PathValue("id"))
	}
	err = change(id)
	if err == nil {
		redirect(w, r, "/notify?done="+done)
		return nil
	}
	said, ok := refused(err)
	if fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Corrupt) || fault.Is(err, fault.Denied) && v.who.May(access.ManageNotify) {
		said, ok = sentence(err), true // it is what the page is asked for
	}
	if !ok {
		return err
	}
	return c.showNotify(w, r, v, c.Status(err), notifyData{Form: newTargetForm(), Problem: said})
}

// health says how it goes with a target, and how that looks.
func health(t notice.Target) (string, tone) {
	switch s := t.State; {
	case s.Error != "" && s.Tries > 0:
		return "not reached", danger
	case s.Error != "":
		return "last try failed", danger
	case s.Delivered.IsZero():
		return "nothing sent yet", calm
	}
	return "reached", good
}

// wants says in words what a target is told.
func wants(f notice.Filter) []string {
	var out []string
	kinds := f.Kinds
	if len(kinds) == 0 {
		kinds = []notice.Kind{notice.ImageVulnerable}
	}
	for _, k := range kinds {
		switch k {
		case notice.ImageVulnerable:
			out = append(out, "images that became vulnerable")
		case notice.ImageScanned:
			out = append(out, "images scanned first")
		default:
			out = append(out, string(k))
		}
	}
	if f.Severity > finding.Unknown {
		out = append(out, f.Severity.String()+" or graver")
	}
	for _, e := range []struct {
		asked bool
		says  string
	}{{f.Exploited, "known to be exploited"}, {f.Fixable, "with a fix"}, {f.Running, "images that run"}} {
		if e.asked {
			out = append(out, e.says)
		}
	}
	for _, p := range f.Repositories {
		out = append(out, "repository "+p)
	}
	for _, p := range f.Groups {
		out = append(out, "group "+p)
	}
	return out
}

// often says how often a target is told something at most.
func often(d time.Duration) string {
	for _, s := range intervals() {
		if known, err := query.Duration(s.Value); err == nil && known == d {
			return "at most " + s.Label
		}
	}
	return fmt.Sprintf("at most every %s", d)
}

// targetHref is where something is done with a target.
func targetHref(t notice.Target, deed string) string {
	return "/notify/" + strconv.FormatInt(t.ID, 10) + "/" + deed
}
