package console

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// acceptancesShown bounds each list of the page; a search finds the rest.
	acceptancesShown = 300
	// soon is when an acceptance's end is near enough to be looked at anew.
	soon = 14 * 24 * time.Hour
)

// acceptancesData is the page of decisions to live with weaknesses.
type acceptancesData struct {
	Text    string
	Holding []store.Acceptance // what ends first, first
	Past    []store.Acceptance // ended or expired, newest first
	Cut     bool               // there are more than are shown
	All     int
	Manages bool
	Names   map[string]string // of the images that some are about, by id
}

func (c *Console) acceptances(w http.ResponseWriter, r *http.Request, v visit) error {
	ctx := r.Context()
	all, err := c.Images.Acceptances(ctx, v.who)
	if err != nil {
		return err
	}
	d := acceptancesData{Text: strings.TrimSpace(r.URL.Query().Get("text")), Manages: v.manages(), All: len(all)}
	for _, a := range all {
		switch text := strings.ToLower(a.Name() + " " + string(a.Kind) + " " + a.Path + " " + a.Package + " " + a.Image + " " + a.Reason + " " + a.By); {
		case !strings.Contains(text, strings.ToLower(d.Text)):
		case a.Holds(v.now):
			d.Holding = append(d.Holding, a)
		default:
			d.Past = append(d.Past, a)
		}
	}
	slices.SortStableFunc(d.Holding, func(a, b store.Acceptance) int { return a.Expires.Compare(b.Expires) })
	d.Cut = len(d.Holding) > acceptancesShown || len(d.Past) > acceptancesShown
	d.Holding = d.Holding[:min(len(d.Holding), acceptancesShown)]
	d.Past = d.Past[:min(len(d.Past), acceptancesShown)]
	if d.Names, err = c.imageNamesOf(ctx, d.Holding, d.Past); err != nil {
		return err
	}
	return c.show(w, r, http.StatusOK, acceptancesBody(c.page(r, v, "vulnerabilities", "Acceptances"), d))
}

// imageNamesOf returns what people know the images by that acceptances are about.
func (c *Console) imageNamesOf(ctx context.Context, lists ...[]store.Acceptance) (map[string]string, error) {
	names := map[string]string{}
	for _, a := range slices.Concat(lists...) {
		_, id := scopeOf(a)
		if _, known := names[id]; id == "" || known {
			continue
		}
		m, err := c.Store.Image(ctx, id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		names[id] = ""
		if err == nil {
			names[id] = imageTitle(m)
		}
	}
	return names, nil
}

// ends says until when an acceptance holds, and how that looks.
func ends(a store.Acceptance, now time.Time) (string, tone) {
	switch left := a.Expires.Sub(now); {
	case !a.Ended.IsZero():
		return "ended " + day(a.Ended), calm
	case left <= 0:
		return "expired " + lastDay(a.Expires), calm
	case left < soon:
		return "until " + lastDay(a.Expires), warn
	}
	return "until " + lastDay(a.Expires), good
}

// scopeOf says where an acceptance holds.
func scopeOf(a store.Acceptance) (says, imageID string) {
	switch {
	case a.Image == "":
		return "every image", ""
	case strings.HasPrefix(a.Image, "sha256:"):
		return shortImage(a.Image), a.Image
	}
	return asset.Repository(a.Image), ""
}

// acceptedHref is where what an acceptance names can be seen.
func acceptedHref(a store.Acceptance) string {
	k, ok := kindNamed(string(a.Kind))
	if !ok {
		return weaknessHref(a.Vulnerability)
	}
	f := lineFilter(k.path(), nil)
	return f.address("text", a.Rule, "accepted", "true")
}

// acceptedKind says what kind of finding it is, if that is not plain by its name.
func acceptedKind(a store.Acceptance) string {
	if a.Kind == "" {
		return ""
	}
	return " (" + string(a.Kind) + ")"
}

// acceptedIn says where in an image an acceptance holds.
func acceptedIn(a store.Acceptance) string {
	switch a.Kind {
	case "":
		return orElse(a.Package, "every package")
	case store.KindFault:
		return "the settings"
	}
	return orElse(a.Path, "every file")
}
