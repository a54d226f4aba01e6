package server

import (
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/exposure"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// imageFilters are the parameters of GET /images; query.Images reads them.
type imageFilters struct {
	Asked
	Text    string `query:"text" doc:"Part of a reference, id or digest"`
	State   string `query:"state" doc:"State of the scan: waiting, running, done, failed, gone"`
	Owner   string `query:"owner" doc:"Only those of this owner, by name; - for those without one"`
	Running bool   `query:"running" doc:"Only those with running workloads"`
	After   string `query:"after" doc:"Id of the last image of the page before"`
	Limit   int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type imagePage struct {
	Images []store.Image `json:"images" nullable:"false" doc:"Those with running workloads first, then those that need attention most"`
	Next   string        `json:"next,omitempty" doc:"The parameter after of the next page; absent on the last"`
}

// imageAnswer is one image, and since when its system gets no fixes.
type imageAnswer struct {
	store.Image
	Unmaintained *scan.ReportUnmaintained `json:"unmaintained,omitempty" doc:"The release of its system gets no fixes any more: findings of the kind nobody will fix are to be expected, and others that nobody looks for"`
}

type imageID struct {
	ID string `path:"id" maxLength:"128" doc:"The engine's image id, sha256: and 64 hex digits"`
}

// FindingFilters are the parameters by which findings are selected;
// query.Vulnerabilities reads them. It is exported because huma looks only at
// exported fields.
type FindingFilters struct {
	Asked
	Severity  string `query:"severity" doc:"The least severity: critical, high, medium, low, negligible"`
	Fixable   bool   `query:"fixable" doc:"Only what has a fix"`
	Exploited bool   `query:"exploited" doc:"Only what is known to be exploited (KEV)"`
	InUse     bool   `query:"in-use" doc:"Only in packages of which a workload executed or mapped a file"`
	Running   bool   `query:"running" doc:"Only in images with running workloads"`
	Owner     string `query:"owner" doc:"Only in images of this owner, by name; - for those without one"`
	Accepted  bool   `query:"accepted" doc:"Accepted findings alone; without it there are none"`
	Package   string `query:"package" doc:"Exact name of the package"`
	Text      string `query:"text" doc:"Part of an id, package name or summary"`
	Offset    int    `query:"offset" minimum:"0" doc:"How many to pass over: next of the page before. The order may have changed meanwhile"`
	Limit     int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 100 unless given"`
}

type imageFindingFilters struct {
	FindingFilters
	ID string `path:"id" maxLength:"128" doc:"The engine's image id"`
}

type weaknessFilters struct {
	FindingFilters
	Image string `query:"image" doc:"Id of one image"`
}

type findingPage struct {
	Vulnerabilities []store.ImageVulnerability `json:"vulnerabilities" nullable:"false" doc:"In the order in which they deserve attention"`
	Next            int                        `json:"next,omitempty" doc:"The parameter offset of the next page; absent on the last"`
}

type weaknessPage struct {
	Vulnerabilities []store.Weakness `json:"vulnerabilities" nullable:"false" doc:"One a line for each weakness over all images, in the order in which they deserve attention"`
	Next            int              `json:"next,omitempty" doc:"The parameter offset of the next page; absent on the last"`
}

type weaknessID struct {
	ID string `path:"id" maxLength:"256" doc:"Id of the weakness, or one of its aliases" example:"CVE-2024-21538"`
}

type acceptancePage struct {
	Acceptances []store.Acceptance `json:"acceptances" nullable:"false" doc:"Newest first; ended and expired ones too"`
}

type acceptanceForm struct {
	Body struct {
		Kind          string    `json:"kind,omitempty" maxLength:"32" doc:"vulnerability (unless given), secret, fault or malware"`
		Vulnerability string    `json:"vulnerability,omitempty" maxLength:"256" doc:"Of a vulnerability: its id, or an alias"`
		Rule          string    `json:"rule,omitempty" maxLength:"256" doc:"Of the others: a secret's rule or fingerprint, the check of a fault, the rule of malware"`
		Path          string    `json:"path,omitempty" maxLength:"512" doc:"Narrows secrets and malware to files, as in /srv/app/test/**"`
		Package       string    `json:"package,omitempty" maxLength:"512" doc:"Narrows it to a package: its name, or a package URL with or without version"`
		Image         string    `json:"image,omitempty" maxLength:"512" doc:"Narrows it to an image: its id, or a reference without tag and digest, which means every image of that repository"`
		Reason        string    `json:"reason" minLength:"1" maxLength:"2000" doc:"Why it can be lived with"`
		Expires       time.Time `json:"expires" doc:"From when on it counts again; within a year"`
	}
}

type acceptanceID struct {
	ID int64 `path:"id" minimum:"1" doc:"The acceptance's number"`
}

func (a *api) imageRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/images", id: "list-images", tag: "images", scope: access.ReadImages,
		summary: "Images that workloads were started from: what runs and needs attention first",
	}, a.listImages)
	handle(a, route{
		method: http.MethodGet, path: "/images/{id}", id: "get-image", tag: "images", scope: access.ReadImages,
		summary: "One image: names, scan, counts of findings",
	}, func(q ask[imageID]) (*body[imageAnswer], error) {
		m, err := a.st.Image(q.ctx, q.input.ID)
		return &body[imageAnswer]{imageAnswer{m, scan.Unmaintained(m.OS, a.cfg.Clock())}}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/images/{id}/inventory", id: "get-image-inventory", tag: "images", scope: access.ReadImages,
		summary: "What the newest scan found inside one image: layers, packages, noteworthy files",
	}, func(q ask[imageID]) (*body[inventory.Inventory], error) {
		inv, err := a.st.Inventory(q.ctx, q.input.ID)
		return &body[inventory.Inventory]{inv}, err
	})
	handle(a, route{
		method: http.MethodGet, path: "/images/{id}/vulnerabilities", id: "list-image-vulnerabilities", tag: "images", scope: access.ReadImages,
		summary: "What is wrong with one image, in the order in which it deserves attention",
	}, a.listImageFindings)
	handle(a, route{
		method: http.MethodPost, path: "/images/{id}/scan", id: "scan-image", tag: "images", scope: access.ManageImages,
		status: http.StatusNoContent, summary: "Have an image scanned anew",
		about: "It waits for an agent that has it; an image that was given up is tried again.",
	}, func(q ask[imageID]) (*empty, error) {
		return &empty{}, a.images.Rescan(q.ctx, q.who, q.input.ID)
	})
	handle(a, route{
		method: http.MethodGet, path: "/scans/status", id: "get-scan-status", tag: "images", scope: access.ReadImages,
		summary: "How scanning goes, and how old the advisories are that images are compared with",
	}, func(q ask[empty]) (*body[images.Status], error) {
		s, err := a.images.Status(q.ctx)
		return &body[images.Status]{s}, err
	})
	a.weaknessRoutes()
	a.acceptanceRoutes()
}

func (a *api) weaknessRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/vulnerabilities", id: "list-vulnerabilities", tag: "vulnerabilities", scope: access.ReadImages,
		summary: "Vulnerabilities over all images, in the order in which they deserve attention",
	}, a.listWeaknesses)
	handle(a, route{
		method: http.MethodGet, path: "/vulnerabilities/{id}", id: "get-vulnerability", tag: "vulnerabilities", scope: access.ReadImages,
		summary: "One vulnerability: the images, groups and workloads that have it, and where it is fixed",
		about:   "An image may also be listed as without it: of the same repository, scanned and compared.",
	}, func(q ask[weaknessID]) (*body[exposure.Exposure], error) {
		e, err := exposure.Of(q.ctx, a.st, q.input.ID)
		e.Images = list(e.Images)
		return &body[exposure.Exposure]{e}, err
	})
}

func (a *api) acceptanceRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/acceptances", id: "list-acceptances", tag: "acceptances", scope: access.ReadImages,
		summary: "Decisions to live with vulnerabilities, secrets, faults and malware for a time",
	}, func(q ask[empty]) (*body[acceptancePage], error) {
		all, err := a.images.Acceptances(q.ctx, q.who)
		return &body[acceptancePage]{acceptancePage{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodPost, path: "/acceptances", id: "accept-vulnerability", tag: "acceptances", scope: access.ManageImages,
		status: http.StatusCreated, summary: "Accept a vulnerability, a secret, a fault or malware for a time, with a reason",
	}, func(q ask[acceptanceForm]) (*body[store.Acceptance], error) {
		b := q.input.Body
		made, err := a.images.Accept(q.ctx, q.who, images.NewAcceptance{
			Kind: store.FindingKind(b.Kind), Vulnerability: b.Vulnerability, Rule: b.Rule, Path: b.Path, Package: b.Package, Image: b.Image, Reason: b.Reason, Expires: b.Expires,
		})
		return &body[store.Acceptance]{made}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/acceptances/{id}", id: "end-acceptance", tag: "acceptances", scope: access.ManageImages,
		summary: "End an acceptance: what it accepted counts again",
		about:   "It stays in the list, with who ended it.",
	}, func(q ask[acceptanceID]) (*body[store.Acceptance], error) {
		ended, err := a.images.EndAcceptance(q.ctx, q.who, q.input.ID)
		return &body[store.Acceptance]{ended}, err
	})
}

func (a *api) listImages(q ask[imageFilters]) (*body[imagePage], error) {
	iq, err := query.Images(q.input.values)
	if err != nil {
		return nil, err
	}
	iq.Limit = pageOf(iq.Limit)
	found, err := a.st.Images(q.ctx, iq)
	if err != nil {
		return nil, err
	}
	next := nextAfter(found, iq.Limit, func(m *store.Image) string { return m.ID })
	return &body[imagePage]{imagePage{Images: list(found), Next: next}}, nil
}

func (a *api) listImageFindings(q ask[imageFindingFilters]) (*body[findingPage], error) {
	vq, err := findingQuery(q.input.FindingFilters)
	if err != nil {
		return nil, err
	}
	if _, err := a.st.Image(q.ctx, q.input.ID); err != nil {
		return nil, err // an unknown image is not one without findings
	}
	vq.ImageID = q.input.ID
	found, err := a.st.Vulnerabilities(q.ctx, vq)
	if err != nil {
		return nil, err
	}
	return &body[findingPage]{findingPage{Vulnerabilities: list(found), Next: nextOffset(vq.Offset, vq.Limit, len(found))}}, nil
}

func (a *api) listWeaknesses(q ask[weaknessFilters]) (*body[weaknessPage], error) {
	vq, err := findingQuery(q.input.FindingFilters)
	if err != nil {
		return nil, err
	}
	found, err := a.st.Weaknesses(q.ctx, vq)
	if err != nil {
		return nil, err
	}
	return &body[weaknessPage]{weaknessPage{Vulnerabilities: list(found), Next: nextOffset(vq.Offset, vq.Limit, len(found))}}, nil
}

func findingQuery(f FindingFilters) (store.VulnerabilityQuery, error) {
	vq, err := query.Vulnerabilities(f.values)
	vq.Limit = pageOf(vq.Limit)
	return vq, err
}

// schemaName names the schema of a type. Several packages have words for the
// same thing at different times (an image that runs, one that is known, one that
// was read), so those of the nouns for scans are told by their package.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	switch pkg := t.PkgPath(); {
	case t == reflect.TypeFor[store.Image]():
		return "KnownImage"
	case strings.HasSuffix(pkg, "/inventory"):
		return "Inventory" + strings.TrimPrefix(name, "Inventory")
	case strings.HasSuffix(pkg, "/finding"):
		return "Finding" + name
	case strings.HasSuffix(pkg, "/notice"):
		return "Notify" + name
	case strings.HasSuffix(pkg, "/advisory"):
		return "Advisory" + strings.TrimPrefix(name, "Advisory")
	case strings.HasSuffix(pkg, "/admission"), strings.HasSuffix(pkg, "/gate"):
		return "Admit" + name
	case strings.HasSuffix(pkg, "internal/profile"):
		return "Profile" + strings.TrimPrefix(name, "Profile")
	case strings.HasSuffix(pkg, "/behaviour"), strings.Contains(pkg, "/internal/watch"):
		return "Watch" + name
	case strings.HasSuffix(pkg, "internal/threat"):
		return "Threat" + strings.TrimPrefix(name, "Threat")
	case strings.HasSuffix(pkg, "server/trail"):
		return "Trail" + name
	case strings.HasSuffix(pkg, "/detections"):
		return "Detect" + name
	case strings.HasSuffix(pkg, "/exposure"):
		return "Exposure" + strings.TrimPrefix(name, "Exposure")
	}
	return name
}
