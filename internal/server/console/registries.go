package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

// repositoriesShown bounds the list of repositories on a registry's page; those
// that can't be listed come first, and the others a search of the images finds.
const repositoriesShown = 50

// registriesData is the list of registries, and the form for a new one as it was
// typed.
type registriesData struct {
	List    []registries.View
	Manages bool
	Problem string
	Form    registries.Spec
	Webhook bool
	Made    hookMade
}

// hookMade is a webhook that was just made: the only time that its token is shown.
type hookMade struct{ Name, Address, Token string }

// registryData is the page of one registry.
type registryData struct {
	registries.View
	Manages      bool // may change it
	Checks       bool // may have it looked at, and images scanned anew
	Filter       filter
	Images       []store.RegistryImage
	Repositories []store.RegistryRepository
	MoreRepos    bool
	Older        string // address of the next page, or ""
	Live         string // where the page is followed, "" behind the first page of images
	Problem      string // what is wrong with the filter
	FormProblem  string
	Form         registries.Spec
	Made         hookMade
}

func (c *Console) registries(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.showRegistries(w, r, v, http.StatusOK, registriesData{})
}

func (c *Console) showRegistries(w http.ResponseWriter, r *http.Request, v visit, status int, d registriesData) error {
	if c.Registries == nil {
		return c.nowhere(w, r, v)
	}
	var err error
	if d.List, err = c.Registries.Registries(r.Context()); err != nil {
		return err
	}
	d.Manages = v.who.May(access.ManageRegistries)
	return c.show(w, r, status, registriesBody(c.page(r, v, "registries", "Registries"), d))
}

// registriesLive sends the list anew when something of it changed.
func (c *Console) registriesLive(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Registries == nil {
		return c.nowhere(w, r, v)
	}
	return c.followImages(w, r, "", tabPause, func(s *stream) error {
		list, err := c.Registries.Registries(r.Context())
		if err != nil {
			return err
		}
		p := c.page(r, v, "registries", "")
		p.Now = c.Clock()
		return s.sendNews(r.Context(), "part", registriesPart(p, registriesData{List: list, Manages: v.who.May(access.ManageRegistries)}))
	})
}

// createRegistry has a registry watched. A webhook's token is shown in the answer
// itself: it has no address, and no cache may keep it.
func (c *Console) createRegistry(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Registries == nil {
		return c.nowhere(w, r, v)
	}
	d := registriesData{Webhook: r.PostForm.Get("webhook") != ""}
	var err error
	d.Form, err = specForm(r.PostForm)
	if err == nil {
		var made registries.View
		var token string
		made, token, err = c.Registries.Create(r.Context(), v.who, d.Form, d.Webhook)
		if err == nil && token == "" {
			redirect(w, r, registryHref(made.Name)+"?done=registry-created")
			return nil
		}
		if err == nil {
			return c.showRegistries(w, r, v, http.StatusCreated, registriesData{Made: hookOf(r, made.Name, token)})
		}
	}
	said, ok := refused(err)
	if !ok {
		return err
	}
	d.Problem = said
	return c.showRegistries(w, r, v, c.Status(err), d)
}

func hookOf(r *http.Request, name, token string) hookMade {
	if token == "" {
		return hookMade{}
	}
	return hookMade{Name: name, Token: token, Address: "https://" + r.Host + "/api/v1" + registryHref(name) + "/webhook"}
}

// specForm reads the form of a registry's configuration: lists have a line each.
func specForm(f url.Values) (registries.Spec, error) {
	s := registries.Spec{
		Name: strings.TrimSpace(f.Get("name")), Kind: f.Get("kind"), Host: strings.TrimSpace(f.Get("host")), PlainHTTP: f.Get("plain_http") != "",
		Repositories: strings.Fields(f.Get("repositories")), Tags: strings.Fields(f.Get("tags")), Named: strings.Fields(f.Get("named")),
		MaxAge: strings.TrimSpace(f.Get("max_age")), Platforms: strings.Fields(strings.ReplaceAll(f.Get("platforms"), ",", " ")),
		Every: strings.TrimSpace(f.Get("every")), Queue: strings.TrimSpace(f.Get("queue")),
	}
	var err error
	if text := strings.TrimSpace(f.Get("keep")); text != "" {
		if s.Keep, err = strconv.Atoi(text); err != nil {
			return s, fault.New(fault.Invalid, "keep: want a number")
		}
	}
	if text := strings.TrimSpace(f.Get("rate")); text != "" {
		if s.Rate, err = strconv.ParseFloat(text, 64); err != nil {
			return s, fault.New(fault.Invalid, "rate: want a number")
		}
	}
	return s, nil
}

func (c *Console) registry(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readRegistry(r, v)
	if err != nil {
		return err
	}
	return c.show(w, r, status, registryBody(c.page(r, v, "registries", d.Name), d))
}

// readRegistry reads what the address asks for. A filter that makes no sense is
// told in the list, with the status that it gets.
func (c *Console) readRegistry(r *http.Request, v visit) (d registryData, status int, err error) {
	ctx, name := r.Context(), r.PathValue("name")
	after := r.URL.Query().Get("after")
	d.Filter, d.Manages, d.Checks = registryFilter(name, r.URL.Query()), v.who.May(access.ManageRegistries), v.manages()
	if c.Registries == nil {
		return d, 0, fault.New(fault.NotFound, "no registry is watched here")
	}
	if d.View, err = c.Registries.Registry(ctx, name); err != nil {
		return d, 0, err
	}
	d.Form = d.Spec
	if err := c.listRepositories(ctx, &d); err != nil {
		return d, 0, err
	}
	q, err := query.RegistryImages(d.Filter.values("after", after))
	if err != nil {
		d.Problem, status, err = c.unlisted(err)
		return d, status, err
	}
	if after == "" {
		d.Live = d.Filter.at(registryHref(name) + "/live")
	}
	q.Registry = name
	return d, http.StatusOK, c.listRegistryImages(ctx, &d, q)
}

func (c *Console) listRepositories(ctx context.Context, d *registryData) error {
	all, err := c.Store.RegistryRepositories(ctx, store.RegistryRepositoryQuery{Registry: d.Name, Limit: repositoriesShown + 1})
	if err != nil {
		return err
	}
	d.MoreRepos = len(all) > repositoriesShown
	d.Repositories = all[:min(len(all), repositoriesShown)]
	return nil
}

// listRegistryImages reads one more than a page, to know whether there is another.
func (c *Console) listRegistryImages(ctx context.Context, d *registryData, q store.RegistryImageQuery) error {
	q.Limit = store.DefaultPage + 1
	list, err := c.Store.RegistryImages(ctx, q)
	if q.After != 0 && fault.Is(err, fault.Invalid) { // the one to continue behind is gone
		d.Problem = "The list has changed meanwhile. Begin at its first page."
		return nil
	}
	if err != nil {
		return err
	}
	if len(list) > store.DefaultPage {
		list = list[:store.DefaultPage]
		d.Older = d.Filter.address("after", strconv.FormatInt(list[len(list)-1].ID, 10))
	}
	d.Images = list
	return nil
}

// registryLive sends what moves on a registry's page.
func (c *Console) registryLive(w http.ResponseWriter, r *http.Request, v visit) error {
	d, status, err := c.readRegistry(r, v)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fault.New(fault.Invalid, "%s", d.Problem)
	}
	return c.followImages(w, r, "", tabPause, func(s *stream) error {
		d, _, err := c.readRegistry(r, v)
		if err != nil {
			return err
		}
		p := c.page(r, v, "registries", "")
		p.Now = c.Clock()
		return s.sendNews(r.Context(), "part", registryPart(p, d))
	})
}

// changeRegistry does what a button or the form of a registry's page asks for.
func (c *Console) changeRegistry(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Registries == nil {
		return c.nowhere(w, r, v)
	}
	ctx, name := r.Context(), r.PathValue("name")
	switch r.PathValue("change") {
	case "check":
		if err := c.Registries.Check(ctx, v.who, name); err != nil {
			return err
		}
		redirect(w, r, registryHref(name)+"?done=registry-checked")
		return nil
	case "remove":
		if err := c.Registries.Delete(ctx, v.who, name); err != nil {
			return err
		}
		redirect(w, r, "/registries?done=registry-removed")
		return nil
	case "edit":
		return c.editRegistry(w, r, v)
	case "scan":
		id, err := strconv.ParseInt(r.PostForm.Get("image"), 10, 64)
		if err != nil {
			return fault.New(fault.NotFound, "no image of a registry has the number %q", r.PostForm.Get("image"))
		}
		if err := c.Registries.Rescan(ctx, v.who, id); err != nil {
			return err
		}
		redirect(w, r, registryHref(name)+"?done=registry-rescan")
		return nil
	}
	return c.nowhere(w, r, v)
}

func (c *Console) editRegistry(w http.ResponseWriter, r *http.Request, v visit) error {
	name := r.PathValue("name")
	form, err := specForm(r.PostForm)
	form.Name = name
	hook := map[string]registries.Webhook{"new": registries.WebhookAnew, "none": registries.WebhookEnds}[r.PostForm.Get("webhook")]
	var token string
	if err == nil {
		_, token, err = c.Registries.Update(r.Context(), v.who, form, hook)
	}
	if err == nil && token == "" {
		redirect(w, r, registryHref(name)+"?done=registry-changed")
		return nil
	}
	said, ok := "", true
	if err != nil {
		if said, ok = refused(err); !ok {
			return err
		}
	}
	d, status, rerr := c.readRegistry(r, v)
	if rerr != nil {
		return rerr
	}
	if err != nil {
		d.FormProblem, d.Form, status = said, form, c.Status(err)
	}
	d.Made = hookOf(r, name, token)
	return c.show(w, r, status, registryBody(c.page(r, v, "registries", name), d))
}

// registryFilter is what the images of a registry are narrowed by.
func registryFilter(name string, v url.Values) filter {
	return newFilter(registryHref(name), []string{"text", "repository", "state", "severity"}, v)
}

// registryHref is the address of a registry's page.
func registryHref(name string) string { return "/registries/" + url.PathEscape(name) }

// registryWords say how a registry is, and how that looks.
func registryWords(v registries.View) (string, tone) {
	switch {
	case v.Looking:
		return "being looked at", calm
	case v.Poll.Error != "":
		return "could not be looked at", danger
	case v.Totals.Failing > 0:
		return plural(v.Totals.Failing, "repository", "repositories") + " can't be listed", warn
	case v.Paused != nil:
		return "scans wait", warn
	case v.Poll.Ended.IsZero():
		return "waits for its first look", calm
	}
	return "well", good
}

// gravest are how many images have which gravest weakness.
func gravest(t store.RegistryTotals) bySeverity {
	return bySeverity{finding.Unknown: t.Unrated, finding.Low: t.Low, finding.Medium: t.Medium, finding.High: t.High, finding.Critical: t.Critical}
}

// waits is how many images of a registry are still to be scanned.
func waits(t store.RegistryTotals) int {
	return t.States[store.RegistryWaiting] + t.States[store.RegistryRunning]
}

// entryWords say how the scan of a registry's image stands, and how that looks.
func entryWords(m store.RegistryImage) (string, tone) {
	switch m.State {
	case store.RegistryRunning:
		return "being scanned", calm
	case store.RegistryDone:
		return "scanned", good
	case store.RegistryFailed:
		return "scan failed", danger
	case store.RegistrySkipped:
		return "no image", calm
	case store.RegistryLeft:
		return "left out by the rules", calm
	case store.RegistryGone:
		return "gone", calm
	}
	if m.Tries > 0 {
		return "waiting, after " + plural(m.Tries, "try", "tries"), warn
	}
	return "waiting for a scan", calm
}

// entryState is a state as a filter offers it.
func entryState(s store.RegistryState) string {
	word, _ := entryWords(store.RegistryImage{State: s})
	return word
}

// entryAge is when an image was pushed or, where the registry does not tell, when
// it was built or first listed; told says which.
func entryAge(m store.RegistryImage) (at time.Time, told string) {
	const firstImages = 2013 // what says that it is older has no date
	switch {
	case !m.Pushed.IsZero():
		return m.Pushed, "pushed"
	case m.Created.Year() >= firstImages:
		return m.Created, "built"
	}
	return m.First, "first listed"
}

// platformWord names a platform in short.
func platformWord(p inventory.Platform) string {
	if p.OS == "linux" {
		return strings.TrimPrefix(p.String(), "linux/")
	}
	return p.String()
}

// lines writes a list as a form shows it.
func lines(words []string) string { return strings.Join(words, "\n") }

// number writes what a form shows of a number; nothing for none.
func number[N int | float64](n N) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
