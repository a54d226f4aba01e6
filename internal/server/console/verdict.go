package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/server/gate"
	"github.com/castellan-security/castellan/internal/store"
)

// maxImagesSought bounds the images of one request whose pages are looked for.
const maxImagesSought = 32

// verdictData is the page of one verdict.
type verdictData struct {
	gate.Record
	Hosts   map[string]string
	Version int64             // of the policy by which; 0: not one of the fleet's, or not kept
	Pages   map[string]string // ids of images that have a page, by digest and by the engine's id
	Whole   string            // the request as JSON
	Manage  bool
}

func (c *Console) verdict(w http.ResponseWriter, r *http.Request, v visit) error {
	ctx, d := r.Context(), verdictData{Manage: v.who.May(access.ManageAdmission)}
	var err error
	if d.Record, err = c.Admission.Verdict(ctx, v.who, r.PathValue("id")); err != nil {
		return err
	}
	if d.Hosts, err = c.hostNames(ctx); err != nil {
		return err
	}
	if d.Version, err = c.versionOf(ctx, v, &d.Record); err != nil {
		return err
	}
	if v.who.May(access.ReadImages) {
		if d.Pages, err = c.imagePages(ctx, d.Request.Task.Containers); err != nil {
			return err
		}
	}
	whole, err := json.MarshalIndent(d.Request, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the request of verdict %d: %w", d.ID, err)
	}
	d.Whole = string(whole)
	return c.show(w, r, http.StatusOK, verdictBody(c.page(r, v, "admission", d.title()), d))
}

// versionOf returns the version of the policy by which was decided, the last one
// that was there by then.
func (c *Console) versionOf(ctx context.Context, v visit, x *gate.Record) (int64, error) {
	all, err := c.Admission.Policies(ctx, v.who, 0, store.MaxAdmissionPolicies)
	if err != nil || x.Verdict.Policy == "" {
		return 0, err
	}
	for _, p := range all {
		if p.Digest == x.Verdict.Policy && !p.Created.After(x.Received) {
			return p.Version, nil
		}
	}
	return 0, nil
}

// imagePages returns the images of containers that have a page.
func (c *Console) imagePages(ctx context.Context, all []admission.Container) (map[string]string, error) {
	pages := map[string]string{}
	for i := range all {
		for _, name := range []string{all[i].Image.ID, all[i].Image.Digest} {
			if _, sought := pages[name]; sought || name == "" || len(pages) >= maxImagesSought {
				continue
			}
			known, held, err := c.Store.ImagesNamed(ctx, name)
			if err != nil {
				return nil, err
			}
			pages[name] = firstPage(known, held)
		}
	}
	return pages, nil
}

// firstPage is the id of the first image that has a page, or "".
func firstPage(known []store.Image, held []store.RegistryImage) string {
	if len(known) > 0 {
		return known[0].ID
	}
	for i := range held {
		if all := held[i].Platforms; len(all) > 0 {
			return all[0].ImageID
		}
	}
	return ""
}

// pageOf is the id of an image that has a page, or "".
func (d verdictData) pageOf(i *admission.Image) string {
	return orElse(d.Pages[i.ID], d.Pages[i.Digest])
}

// title is what people know the request by.
func (d verdictData) title() string {
	t := &d.Request.Task
	switch {
	case t.Family != "" && t.Revision != "":
		return t.Family + ":" + t.Revision
	case t.Family != "":
		return t.Family
	case len(t.Containers) > 0:
		_, name := splitImage(t.Containers[0].Image.Name())
		return name
	case d.Request.Call != nil:
		return d.Request.Call.Name
	case len(d.Request.Repositories) > 0:
		return d.Request.Repositories[0].Name
	}
	return d.Request.ID
}

// group is the group that workloads of a container are of, "" if it is of no
// service.
func (d verdictData) group(c *admission.Container) string {
	x := &d.Request.Place
	if x.Cluster == "" || x.Service == "" || c.Name == "" {
		return ""
	}
	return string(asset.Group(x.Cluster + "/" + x.Service + "/" + c.Name))
}

// factsName is what people know an image by of which facts are kept.
func (d verdictData) factsName(digest string) string {
	for i := range d.Request.Task.Containers {
		if m := &d.Request.Task.Containers[i].Image; m.Digest == digest && m.Reference != "" {
			return m.Reference
		}
	}
	return shortImage(digest)
}

// lineHref is where a reason's rule stands in the policy, "" if that is not known.
func (d verdictData) lineHref(r *admission.Reason) string {
	if d.Version == 0 || r.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s#l%d", versionHref("/admission/policy", d.Version), r.Line)
}

// mayExcept reports that somebody could make an exception for what a reason says.
func (d verdictData) mayExcept(r *admission.Reason) bool {
	return d.Manage && r.Rule != "" && (r.Effect == admission.Denies || r.Effect == admission.Waits || r.Effect == admission.Audited)
}

// traits are what is worth knowing of how a container was to run.
func traits(c *admission.Container) (out []string) {
	if c.Privileged {
		out = append(out, "privileged")
	}
	if c.User != "" {
		out = append(out, "as user "+c.User)
	}
	if len(c.CapAdd) > 0 {
		out = append(out, "with "+strings.Join(c.CapAdd, ", "))
	}
	for _, x := range []struct{ name, mode string }{{"network", c.Network}, {"PID", c.PID}, {"IPC", c.IPC}, {"user", c.UserNS}} {
		if x.mode != "" {
			out = append(out, x.name+" namespace "+x.mode)
		}
	}
	for _, m := range c.Mounts {
		if m.Kind == "bind" {
			out = append(out, m.Source+" at "+m.Target)
		}
	}
	if len(c.Devices) > 0 {
		out = append(out, "devices "+strings.Join(c.Devices, ", "))
	}
	if c.ReadOnlyRoot {
		out = append(out, "read-only root")
	}
	return out
}

// vulnerable counts what was known to be wrong with an image, and what of it is
// exploited.
func vulnerable(s *admission.Scan) (by bySeverity, exploited int) {
	by = bySeverity{}
	for i := range s.Vulnerabilities {
		x := &s.Vulnerabilities[i]
		if x.Accepted {
			continue
		}
		by[x.Severity]++
		if x.KEV {
			exploited++
		}
	}
	return by, exploited
}

// foundWords count what else a scan had found.
func foundWords(s *admission.Scan) string {
	var out []string
	for _, x := range []struct {
		all       []admission.Found
		one, many string
	}{{s.Secrets, "secret", "secrets"}, {s.Malware, "malware", "malware"}, {s.Faults, "fault", "faults"}} {
		open := 0
		for i := range x.all {
			if !x.all[i].Accepted {
				open++
			}
		}
		if open > 0 {
			out = append(out, plural(open, x.one, x.many))
		}
	}
	return strings.Join(out, ", ")
}
