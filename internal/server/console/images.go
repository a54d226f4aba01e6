package console

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/a-h/templ"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

// imagesData is the list of images.
type imagesData struct {
	Filter  filter
	List    []store.Image
	Hosts   map[string]string // of the agents, by id
	Status  images.Status
	Owners  []string
	Pages   pages
	Live    string // where the list is followed, "" behind its first page
	Problem string // what is wrong with the filter
}

func (c *Console) images(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readImages(r.Context(), r.URL.Query())
	if err != nil {
		return err
	}
	if d.Owners, err = c.ownerNames(r, v); err != nil {
		return err
	}
	return c.show(w, r, status, imagesBody(c.page(r, v, "images", "Images"), d))
}

// readImages reads what the address asks for. A filter that makes no sense is
// told in the list, with the status that it gets.
func (c *Console) readImages(ctx context.Context, asked url.Values) (d imagesData, status int, err error) {
	after := asked.Get("after")
	d.Filter = imageFilter(asked)
	if d.Status, err = c.Images.Status(ctx); err != nil {
		return d, 0, err
	}
	q, err := query.Images(d.Filter.values("after", after))
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	if after == "" {
		d.Live = d.Filter.at("/images/live")
	}
	return d, http.StatusOK, c.listImages(ctx, &d, q)
}

func (c *Console) listImages(ctx context.Context, d *imagesData, q store.ImageQuery) error {
	q.Limit = onePageAnd
	list, err := c.Store.Images(ctx, q)
	if q.After != "" && fault.Is(err, fault.Invalid) { // the one to continue behind is gone
		d.Problem = "The list has changed meanwhile. Begin at its first page."
		return nil
	}
	if err != nil {
		return err
	}
	var more bool
	if d.List, more = onePage(list); len(d.List) > 0 {
		d.Pages = afterPages(d.Filter, d.List[len(d.List)-1].ID, more, q.After == "")
	}
	d.Hosts, err = c.hostNames(ctx)
	return err
}

// imagesLive sends the list anew when something of images changed.
func (c *Console) imagesLive(w http.ResponseWriter, r *http.Request, v visit) error {
	asked := r.URL.Query()
	d, status, err := c.readImages(r.Context(), asked)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	return c.followShow(w, r, d.Filter.at("/images/live", "after", asked.Get("after")), tabPause, func(ctx context.Context) (templ.Component, error) {
		d, _, err := c.readImages(ctx, asked)
		return imagesPart(c.bare(), d), err
	})
}

// followImages sends a view whenever something of one image ("": of any)
// changed, at most once in a pause, until the browser goes or must come back.
func (c *Console) followImages(w http.ResponseWriter, r *http.Request, imageID string, atMost time.Duration, send func(*stream) error) error {
	changes := func(ctx context.Context) (<-chan struct{}, error) { return c.Images.Changed(ctx, imageID) }
	return c.followNews(w, r, changes, atMost, send)
}

// followNews is followImages for changes of whatever kind.
func (c *Console) followNews(w http.ResponseWriter, r *http.Request, changes func(context.Context) (<-chan struct{}, error), atMost time.Duration, send func(*stream) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	changed, err := changes(ctx)
	if err != nil {
		return err
	}
	s := newStream(w)
	follow(ctx, changed, atMost, func() bool {
		err := send(s)
		if err != nil {
			c.Log.Debug("live view ended", "path", r.URL.Path, "error", err)
		}
		return err == nil // else the browser has gone, or asks again
	})
	return nil
}

// imageTitle is what a person knows an image by.
func imageTitle(m store.Image) string {
	if len(m.References) > 0 {
		_, name := splitImage(m.References[0])
		return name
	}
	return shortImage(m.ID)
}

// shortImage is an image's id as people compare it.
func shortImage(id string) string {
	const enough = len("sha256:") + 12
	if len(id) > enough {
		return id[:enough]
	}
	return id
}

// imageHref is the address of an image's page, of one of its views when words
// name it.
func imageHref(id string, view ...string) string {
	href := "/images/" + url.PathEscape(id)
	for _, v := range view {
		href += "/" + v
	}
	return href
}

// weaknessHref is the address of a weakness.
func weaknessHref(id string) string { return "/vulnerabilities/" + url.PathEscape(id) }

// scanWords say how the scan of an image stands, and how that looks.
func scanWords(m store.Image, hosts map[string]string, now time.Time) (word string, t tone) {
	host := orElse(hosts[m.Scan.Agent], m.Scan.Agent) // an agent's, or that it is this server
	switch m.Scan.State {
	case store.ScanRunning:
		return "being scanned by " + orElse(host, "an agent"), calm
	case store.ScanFailed:
		return "scan failed", danger
	case store.ScanGone:
		return "gone before it was scanned", calm
	case store.ScanDone:
		if m.Scan.Matched.IsZero() {
			return "scanned, to be compared", calm
		}
		return "scanned", good
	}
	if m.Scan.Tries > 0 {
		return "waiting, after " + plural(m.Scan.Tries, "try", "tries"), warn
	}
	return "waiting for a scan", calm
}

// osWords name an image's operating system.
func osWords(m store.Image) string {
	switch {
	case m.OS.Name != "":
		return m.OS.Name
	case m.OS.ID != "":
		return m.OS.ID + " " + m.OS.Version
	case m.Scan.Done.IsZero():
		return ""
	}
	return "none"
}

// rescan has an image scanned anew.
func (c *Console) rescan(w http.ResponseWriter, r *http.Request, v visit) error {
	id := r.PathValue("id")
	if err := c.Images.Rescan(r.Context(), v.who, id); err != nil {
		return err
	}
	redirect(w, r, imageHref(id)+"?done=rescan")
	return nil
}

// manages reports whether who looks may decide about images.
func (v visit) manages() bool { return v.who.May(access.ManageImages) }

// scanStateWord is a state of a scan as a filter offers it.
func scanStateWord(s store.ScanState) string {
	switch s {
	case store.ScanWaiting:
		return "waiting"
	case store.ScanRunning:
		return "being scanned"
	case store.ScanDone:
		return "scanned"
	case store.ScanFailed:
		return "failed"
	case store.ScanGone:
		return "gone"
	}
	return string(s)
}
