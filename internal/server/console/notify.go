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
	"github.com/castellan-security/castellan/internal/server/query"
)

// notifyData is the page of notification targets, and the form for a new one as
// it was typed.
type notifyData struct {
	List    []notice.Target
	Dead    []notice.Dead
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

func (c *Console) notify(w http.ResponseWriter, r *http.Request, v visit) error {
	form := newTargetForm()
	if kind := notice.Type(r.URL.Query().Get("type")); slices.Contains(notice.Types(), kind) {
		form.Type = string(kind)
	}
	return c.showNotify(w, r, v, http.StatusOK, notifyData{Form: form})
}

func (c *Console) showNotify(w http.ResponseWriter, r *http.Request, v visit, status int, d notifyData) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	var err error
	if d.List, err = c.Notify.Targets(r.Context(), v.who); err != nil {
		return err
	}
	if d.Dead, err = c.Notify.Dead(r.Context(), v.who, 0); err != nil {
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
		case notice.Incident:
			out = append(out, "incidents")
		case notice.Violation:
			out = append(out, "violations of profiles")
		case notice.Response:
			out = append(out, "responses")
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
	for _, p := range f.Clusters {
		out = append(out, "cluster "+p)
	}
	for _, p := range f.Owners {
		out = append(out, "owner "+p)
	}
	return out
}

// underWay says of a notification that did not get through yet how it goes on.
func underWay(s *notice.State) string {
	if s.Tries == 0 {
		return "A notification is on its way."
	}
	return "A notification did not get through in " + plural(s.Tries, "try", "tries") + "; the next is at " + moment(s.Next) + "."
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

// when says when else a target is told something, and what waits for nothing.
func when(s notice.Schedule) string {
	var parts []string
	zone := s.Zone
	if zone == "" {
		zone = "UTC"
	}
	if len(s.At) > 0 {
		parts = append(parts, "at "+strings.Join(s.At, ", "))
	}
	if len(s.Quiet) > 0 {
		parts = append(parts, "quiet "+strings.Join(s.Quiet, ", "))
	}
	if len(parts) > 0 {
		parts = append(parts, zone)
	}
	if s.Urgent > finding.Unknown {
		parts = append(parts, "at once what happens and is "+s.Urgent.String()+" or graver")
	}
	return strings.Join(parts, ", ")
}

// targetHref is where something is done with a target.
func targetHref(t notice.Target, deed string) string {
	return "/notify/" + strconv.FormatInt(t.ID, 10) + "/" + deed
}
