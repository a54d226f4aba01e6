package console

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// What the pages of one image show at most; they say so when there is more.
const (
	findingsRead  = 5_000 // of one image, in the order of attention
	findingsShown = 400   // each with its line
	stepsShown    = 5     // on the overview
	packagesShown = 300
	problemsShown = 50
	filesShown    = 100
)

// imageTabs lists the views of an image, the overview first: its address has no
// name.
func imageTabs() []tab {
	tabs := []tab{{"", "Overview"}, {"findings", "Vulnerabilities"}}
	for _, k := range findingKinds() {
		tabs = append(tabs, tab{k.Many, k.title()})
	}
	return append(tabs, tab{"packages", "Packages"})
}

// imageData is the page of one image, whichever view of it.
type imageData struct {
	store.Image
	Tab     string
	Hosts   map[string]string
	Status  images.Status
	Manages bool // who looks may have it scanned anew and accept
	// Inside is nil before the first scan.
	Inside    *inventory.Inventory
	Steps     []scan.Step // what to do, best first
	Wait      []scan.Step // what has no fix yet
	Accepted  []finding.Vulnerability
	Read      int  // findings that were read
	Cut       bool // there are more
	Layers    []layerView
	Workloads []asset.Workload
	Entries   []store.RegistryImage // where registries hold it
	Trust     []imageTrust          // who has signed it; Trusts says that this is known here
	Trusts    bool
	Filter    filter // of the findings
	Problem   string
	Packages  []packageView
	Text      string // what packages are searched for
	Found     int    // packages that were found
	// Kind is of the view's findings, if it is one of secrets, faults or malware,
	// and Judged what they are, accepted ones last.
	Kind   findingKind
	Judged []store.Finding
	// Unmaintained says since when its system gets no fixes; nil: it does.
	Unmaintained *scan.ReportUnmaintained
}

// notLooked reports whether the version that scanned the image looked for no
// secrets and no malware.
func (d imageData) notLooked() bool {
	return !d.Scan.Done.IsZero() && d.Scan.Analysis < scan.Analysis
}

// layerView is one layer and what it brought.
type layerView struct {
	inventory.Layer
	Number   int
	Packages int
	Findings bySeverity
}

// packageView is one package and what is wrong with it.
type packageView struct {
	inventory.Package
	Findings bySeverity
	InUse    bool
}

// readImage reads what all views of an image have above them.
func (c *Console) readImage(r *http.Request, v visit) (imageData, error) {
	ctx := r.Context()
	one, err := c.Store.Image(ctx, r.PathValue("id"))
	if err != nil {
		return imageData{}, err
	}
	d := imageData{Image: one, Tab: r.PathValue("tab"), Manages: v.manages(), Unmaintained: scan.Unmaintained(one.OS, v.now)}
	d.Kind, _ = kindOf(d.Tab)
	if d.Status, err = c.Images.Status(ctx); err != nil {
		return d, err
	}
	d.Hosts, err = c.hostNames(ctx)
	return d, err
}

// readInside reads what the newest scan found inside.
func (c *Console) readInside(ctx context.Context, d *imageData) error {
	switch inv, err := c.Store.Inventory(ctx, d.ID); {
	case err == nil:
		d.Inside = &inv
	case !fault.Is(err, fault.NotFound):
		return err
	}
	return nil
}

// readFindings reads an image's findings in the order of attention, as many as
// are worth reading.
func (c *Console) readFindings(ctx context.Context, q store.VulnerabilityQuery) (found []finding.Vulnerability, cut bool, err error) {
	q.Limit = store.MaxPage
	for len(found) < findingsRead {
		q.Offset = len(found)
		page, err := c.Store.Vulnerabilities(ctx, q)
		if err != nil {
			return nil, false, err
		}
		for i := range page {
			found = append(found, page[i].Vulnerability)
		}
		if len(page) < store.MaxPage {
			return found, false, nil
		}
	}
	return found, true, nil
}

func (c *Console) image(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readImageOverview(r, v)
	if err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, imageBody(c.page(r, v, "images", imageTitle(d.Image)), d))
}

func (c *Console) readImageOverview(r *http.Request, v visit) (imageData, error) {
	ctx := r.Context()
	d, err := c.readImage(r, v)
	if err != nil {
		return d, err
	}
	if err := c.readInside(ctx, &d); err != nil {
		return d, err
	}
	found, cut, err := c.readFindings(ctx, store.VulnerabilityQuery{ImageID: d.ID})
	if err != nil {
		return d, err
	}
	d.Read, d.Cut = len(found), cut
	d.group(found)
	d.Layers = layersOf(d.Inside, found)
	if d.Entries, err = c.Store.ImageEntries(ctx, d.ID); err != nil {
		return d, err
	}
	if d.Trust, err = c.readImageTrust(ctx, v, d.ID); err != nil {
		return d, err
	}
	d.Trusts = c.Trust != nil
	d.Workloads, err = c.Store.Workloads(ctx, store.WorkloadQuery{ImageID: d.ID, States: []asset.State{asset.Running}, Limit: linesShown})
	return d, err
}

// group puts findings together by what makes them go.
func (d *imageData) group(found []finding.Vulnerability) {
	for _, s := range scan.Steps(found) {
		if s.To != "" {
			d.Steps = append(d.Steps, s)
		} else {
			d.Wait = append(d.Wait, s)
		}
	}
}

// layersOf says what each layer brought. A package belongs to the first layer
// that shows it.
func layersOf(inv *inventory.Inventory, found []finding.Vulnerability) []layerView {
	if inv == nil || inv.Image == nil {
		return nil
	}
	out := make([]layerView, len(inv.Image.Layers))
	for i, l := range inv.Image.Layers {
		out[i] = layerView{Layer: l, Number: i + 1}
	}
	at := func(p *inventory.Package) *layerView {
		if len(p.Places) == 0 || p.Places[0].Layer < 1 || p.Places[0].Layer > len(out) {
			return nil
		}
		return &out[p.Places[0].Layer-1]
	}
	for i := range inv.Packages {
		if l := at(&inv.Packages[i]); l != nil {
			l.Packages++
		}
	}
	for i := range found {
		if l := at(&found[i].Package); l != nil {
			l.Findings[min(found[i].Severity, finding.Critical)]++
		}
	}
	return out
}

// size is what all layers are as they are stored; 0 when that is not known of
// each.
func (d imageData) size() (n int64) {
	for _, l := range d.Layers {
		if l.Size <= 0 {
			return 0
		}
		n += l.Size
	}
	return n
}

// imageLive sends the overview of an image anew when something of it changed.
func (c *Console) imageLive(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readImageOverview(r, v)
	if err != nil {
		return err
	}
	return c.followImages(w, r, d.ID, tabPause, func(s *stream) error {
		d, err := c.readImageOverview(r, v)
		if err != nil {
			return err
		}
		p := c.page(r, v, "images", "")
		p.Now = c.Clock()
		return s.send(r.Context(), "part", "", imagePart(p, d))
	})
}

// imageTab answers with one view of an image.
func (c *Console) imageTab(w http.ResponseWriter, r *http.Request, v visit) error {
	d, err := c.readImage(r, v)
	if err != nil {
		return err
	}
	status := http.StatusOK
	switch {
	case d.Tab == "findings":
		status, err = c.readFindingsTab(r, &d)
	case d.Kind.Many != "":
		status, err = c.readImageFindings(r, &d)
	case d.Tab == "packages":
		err = c.readPackagesTab(r, &d)
	default:
		return fault.New(fault.NotFound, "an image has no page called %q", d.Tab)
	}
	if err != nil {
		return err
	}
	return c.show(w, r, status, imageTabBody(c.page(r, v, "images", imageTitle(d.Image)), d))
}

func (c *Console) readFindingsTab(r *http.Request, d *imageData) (status int, err error) {
	ctx := r.Context()
	d.Filter = vulnerabilityFilter(imageHref(d.ID, "findings"), r.URL.Query())
	q, err := query.Vulnerabilities(d.Filter.values("image", ""))
	if err != nil {
		said, ok := refused(err)
		if !ok {
			return 0, err
		}
		d.Problem = said
		return c.Status(err), nil
	}
	q.ImageID = d.ID
	found, cut, err := c.readFindings(ctx, q)
	if err != nil {
		return 0, err
	}
	d.Read, d.Cut = len(found), cut
	d.group(found)
	q.Accepted = true
	d.Accepted, _, err = c.readFindings(ctx, q)
	return http.StatusOK, err
}

func (c *Console) readPackagesTab(r *http.Request, d *imageData) error {
	ctx := r.Context()
	if err := c.readInside(ctx, d); err != nil || d.Inside == nil {
		return err
	}
	found, cut, err := c.readFindings(ctx, store.VulnerabilityQuery{ImageID: d.ID})
	if err != nil {
		return err
	}
	d.Cut = cut
	d.Text = strings.TrimSpace(r.URL.Query().Get("text"))
	d.Packages = packagesOf(d.Inside, found, d.Text)
	d.Found = len(d.Packages)
	d.Packages = d.Packages[:min(len(d.Packages), packagesShown)]
	return nil
}

// packagesOf lists packages whose name, type or place holds a text, those with
// the gravest findings first.
func packagesOf(inv *inventory.Inventory, found []finding.Vulnerability, text string) []packageView {
	text = strings.ToLower(text)
	type place struct {
		key  inventory.Key
		path string
	}
	of := func(p *inventory.Package) place {
		at := place{key: p.Key()}
		if len(p.Places) > 0 {
			at.path = p.Places[0].Path
		}
		return at
	}
	wrong := map[place]packageView{}
	for i := range found {
		f := &found[i]
		w := wrong[of(&f.Package)]
		w.Findings[min(f.Severity, finding.Critical)]++
		w.InUse = w.InUse || f.InUse
		wrong[of(&f.Package)] = w
	}
	var out []packageView
	for i := range inv.Packages {
		p := &inv.Packages[i]
		at := of(p)
		if text != "" && !strings.Contains(strings.ToLower(p.FullName()+" "+p.Version+" "+p.Type+" "+at.path), text) {
			continue
		}
		v := wrong[at]
		v.Package = *p
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b packageView) int {
		for s := finding.Critical; s > finding.Unknown; s-- {
			if n := cmp.Compare(b.Findings[s], a.Findings[s]); n != 0 {
				return n
			}
		}
		return cmp.Compare(b.Findings[finding.Unknown], a.Findings[finding.Unknown])
	})
	return out
}

// whence says which layer and file brought a package.
func whence(places []inventory.Place) (layer int, path string, more int) {
	if len(places) == 0 {
		return 0, "", 0
	}
	return places[0].Layer, places[0].Path, len(places) - 1
}

func layerWords(layer int) string {
	if layer == 0 {
		return ""
	}
	return ", layer " + count(layer)
}

func moreWords(more int) string {
	if more == 0 {
		return ""
	}
	return " and " + plural(more, "other place", "other places")
}

// untilWords say until when an agent may take for a scan.
func untilWords(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", and has until " + moment(t)
}

// further says what the overview does not list.
func (d imageData) further() string {
	var parts []string
	if n := len(d.Steps) - stepsShown; n > 0 {
		parts = append(parts, plural(n, "further step", "further steps"))
	}
	if n := len(d.Wait); n > 0 {
		parts = append(parts, plural(n, "package without a fix yet", "packages without a fix yet"))
	}
	return capital(strings.Join(parts, ", and "))
}

// stepNames lists what moves together, the first ones of many.
func stepNames(s scan.Step) string {
	const shown = 4
	if len(s.Names) <= shown {
		return strings.Join(s.Names, ", ")
	}
	return strings.Join(s.Names[:shown], ", ") + " and " + count(len(s.Names)-shown) + " more"
}

// counts adds up what is gone with a step, each weakness once.
func stepCounts(s scan.Step) (b bySeverity) {
	seen := map[string]bool{}
	for _, v := range s.Gone {
		if !seen[v.ID] {
			seen[v.ID] = true
			b[min(v.Severity, finding.Critical)]++
		}
	}
	return b
}

// shareOut says how many lines of each step are shown, so that all steps of a
// page together have no more than a page holds.
func shareOut(steps []scan.Step) []int {
	left, out := findingsShown, make([]int, len(steps))
	for i, s := range steps {
		out[i] = min(len(s.Gone), left)
		left -= out[i]
	}
	return out
}
