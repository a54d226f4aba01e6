package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

func TestRegistriesSayHowTheyAre(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/registries",
		"hub", "registry.example", "could not be looked at", "shop", "1,238", "12 critical", "140 high", "8 unknown", "1 repository can't be listed")
	h.shows(t, access.Viewer, "/registries/hub", "It could not be looked at, 3 tries in a row", "Log in: docker login registry.example", "Nothing is known of what it holds")
	h.shows(t, access.Viewer, "/registries/shop",
		"1,238 images in 40 repositories · 32 to be scanned · 2 failed", "shop/web", "v1.0 latest", "scan failed", "read layer 3: the registry closed the connection",
		"waiting for a scan", "gone", "403 Forbidden; may the role call ecr:DescribeImages? – tried again in 4 min",
		"Images wait for their scan because the registry does not let them be read. One tries in 12 min.", "429 Too Many Requests", "Ask it less often",
		"the newest 10 of each repository, not older than 180d", "its webhook", "and 2 others")
	body := h.shows(t, access.Viewer, "/registries/shop?state=failed", "scan failed")
	if strings.Contains(body, "v1.0 latest") {
		t.Error("the filter leaves in what it should take out")
	}
	h.shows(t, access.Viewer, "/registries/shop?text=nothinghasthis", "No image fits these filters")
	h.shows(t, access.Viewer, "/images/"+storefrontImage, "Which registries hold it", "shop/web in shop")
	if w := h.get(t, access.Viewer, "/registries/shop?state=nowhere"); w.Code != http.StatusUnprocessableEntity && w.Code != http.StatusBadRequest {
		t.Errorf("a filter without sense: got %d", w.Code)
	}
	if w := h.get(t, access.Viewer, "/registries/nowhere"); w.Code != http.StatusNotFound {
		t.Errorf("none of that name: got %d", w.Code)
	}
}

func TestRegistriesAreChanged(t *testing.T) {
	h := shopHouse(t)
	form := url.Values{"name": {"attic"}, "host": {"attic.example"}, "repositories": {"a/**\r\n!a/b\r\n"}}.Encode()
	if w := h.post(t, access.Operator, "/registries", form); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/registries/attic?done=registry-created" {
		t.Errorf("create: got %d to %s", w.Code, w.Header().Get("Location"))
	}
	if w := h.post(t, access.Operator, "/registries", form+"&webhook=true"); w.Code != http.StatusCreated || !strings.Contains(w.Body.String(), "csw_SECRET") ||
		!strings.Contains(w.Body.String(), "/api/v1/registries/attic/webhook") {
		t.Errorf("with a webhook: got %d without its token and address", w.Code)
	}
	bad := h.post(t, access.Operator, "/registries", url.Values{"name": {"attic"}, "host": {"https://attic.example"}, "tags": {consoletest.HostileName}}.Encode())
	if body := bad.Body.String(); bad.Code == http.StatusSeeOther || !strings.Contains(body, "is an address") || !strings.Contains(body, `value="https://attic.example"`) {
		t.Errorf("a wrong host: got %d, want what was typed and what is wrong", bad.Code)
	}
	for path, form := range map[string]string{
		"/registries/shop/check": "", "/registries/shop/remove": "", "/registries/shop/scan": "image=2",
		"/registries/shop/edit": url.Values{"host": {"registry.example"}, "tags": {"v*"}, "keep": {"4"}}.Encode(),
	} {
		if w := h.post(t, access.Operator, path, form); w.Code != http.StatusSeeOther {
			t.Errorf("%s: got %d", path, w.Code)
		}
	}
	if w := h.post(t, access.Operator, "/registries/shop/edit", "host=registry.example&webhook=new"); !strings.Contains(w.Body.String(), "csw_SECRET") {
		t.Errorf("a new webhook: got %d without its token", w.Code)
	}
	if w := h.post(t, access.Operator, "/registries/shop/edit", "host=registry.example&keep=many"); !strings.Contains(w.Body.String(), "want a number") {
		t.Errorf("no number: got %d", w.Code)
	}
	asked := strings.Join(h.accounts.calls, "\n")
	for _, want := range []string{"create attic attic.example [a/** !a/b] operator", "check shop", "delete shop", "rescan entry 2", "update shop [v*] keep 4"} {
		if !strings.Contains(asked, want) {
			t.Errorf("nobody asked for %q", want)
		}
	}
}

func TestWhoMayNotChangeRegistriesIsNotOfferedIt(t *testing.T) {
	h := shopHouse(t)
	for _, path := range []string{"/registries", "/registries/shop"} {
		if body := h.get(t, access.Viewer, path).Body.String(); strings.Contains(body, `method="post" action="/registries`) {
			t.Errorf("%s offers a viewer to change something", path)
		}
		if body := h.get(t, access.Operator, path).Body.String(); !strings.Contains(body, `method="post" action="/registries`) {
			t.Errorf("%s offers an operator nothing", path)
		}
	}
	if w := h.post(t, access.Viewer, "/registries", "name=x&host=y.example"); w.Code != http.StatusForbidden {
		t.Errorf("a viewer creates: got %d", w.Code)
	}
}
