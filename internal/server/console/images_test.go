package console_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/store"
)

var storefrontImage = consoletest.ImageID("storefront:2.4.1")

// imagePages are all pages about images.
func imagePages() []string {
	paths := []string{
		"/images", "/images?state=failed", "/images?running=true&text=storefront", "/vulnerabilities", "/vulnerabilities?in-use=true&exploited=true&running=true",
		"/vulnerabilities/CVE-2024-21538", "/vulnerabilities/CVE-2020-9999", "/vulnerabilities/CVE-2024-0727", "/vulnerabilities/GHSA-p6mc-m468-83gw",
		"/vulnerabilities/CVE-2020-9999?accept=1&image=%3Cscript%3Ealert(1)&package=" + url.QueryEscape(consoletest.HostileName), "/acceptances", "/acceptances?text=PKCS12",
		"/secrets", "/secrets?severity=high&running=true&owner=%3Cscript%3E", "/secrets?accepted=true", "/faults", "/malware", "/owners",
		"/registries", "/registries/hub", "/registries/shop", "/registries/shop?state=failed&text=read",
	}
	for _, m := range consoletest.New(testNow()).Images {
		for _, view := range []string{"", "/findings", "/secrets", "/faults", "/malware", "/packages"} {
			paths = append(paths, "/images/"+m.ID+view)
		}
		for _, j := range m.Judged {
			paths = append(paths, map[store.FindingKind]string{store.KindSecret: "/secrets/", store.KindFault: "/faults/", store.KindMalware: "/malware/"}[j.Kind]+j.Key)
		}
	}
	return paths
}

// shows asks for a page and reports what it lacks of the texts.
func (h *house) shows(t *testing.T, role access.Role, path string, texts ...string) string {
	t.Helper()
	body := plainText(h.get(t, role, path).Body.String())
	for _, want := range texts {
		if !strings.Contains(body, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	return body
}

var tags = regexp.MustCompile(`<[^>]*>`)

// plainText is a page as it reads.
func plainText(body string) string {
	return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(body, ""))), " ")
}

func TestImagesSayHowTheirScansStand(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/images",
		"being scanned by ip-10-0-3-17", "waiting, after 1 try", "read layer 3: the engine closed the connection",
		"scan failed", "its digest is not what the manifest says", "1 critical", "3 in use", "1 exploited", "Debian GNU/Linux 12 (bookworm)",
		"Compared with advisories up to 20 Nov 2026, 3 days old.", "1 being scanned, 1 waiting for a scan, 1 could not be scanned")
	only := h.shows(t, access.Viewer, "/images?state=failed", "client:1.0.0")
	if strings.Contains(only, "storefront:2.4.1") {
		t.Error("the filter lets another state through")
	}
}

func TestAdviceIsSaidAloud(t *testing.T) {
	built := testNow().Add(-1200 * 24 * time.Hour)
	for _, tc := range []struct {
		name string
		db   images.Database
		says string
	}{
		{"seeded", images.Database{Built: testNow(), Seeded: true, Sources: []scan.DatabaseSource{{Name: "a", Newest: built}}}, "The advisories came with the program and reach to 11 Aug 2023, 1,200 days old: what was published since is not found."},
		{"stale", images.Database{Built: built, Stale: true}, "The advisories reach to 11 Aug 2023, 1,200 days old"},
		{"broken", images.Database{Built: built, Error: "checksum differs", Remedy: "import it again"}, "The advisory file cannot be used: checksum differs; import it again. In force are advisories up to 11 Aug 2023, 1,200 days old."},
		{"not opened yet", images.Database{}, "It is not known yet which advisories are in force."},
		{"fresh", images.Database{Built: testNow()}, "less than a day old."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := shopHouse(t)
			h.images.status.Database = tc.db
			for _, path := range []string{"/", "/images", "/vulnerabilities", "/images/" + storefrontImage} {
				h.shows(t, access.Viewer, path, tc.says)
			}
		})
	}
}

func TestImageTellsLayersAndRemedies(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/images/"+storefrontImage,
		"Move lodash to 4.17.21: 1 gone", "Move libssl3, openssl to 3.0.11-1~deb12u2: 2 gone",
		"RUN npm ci --omit=dev", "RUN apt-get update", "26.9 MiB", "linux/amd64", "broken/package.json layer 4 not JSON: unexpected end of input",
		"1 package could not be compared", "storefront", "on ip-10-0-3-17")
	h.shows(t, access.Viewer, "/images/"+storefrontImage+"/findings",
		"What to do, best first", "No fix yet", "zlib1g 1:1.2.13.dfsg-1: 1 known, will not be fixed", "Accepted", "the program never opens PKCS12 files", "until 28 Nov 2026, by user:mira")
	h.shows(t, access.Viewer, "/images/"+storefrontImage+"/packages?text=lodash", "1 package,", "layer 4", "1 critical", "in use")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("client:1.0.0"), "It could not be scanned, after 3 tries.", "pull the image anew on that host")
	h.shows(t, access.Viewer, "/images/"+consoletest.ImageID("store:16"), "ip-10-0-3-17 scans it now, and has until")
	narrowed := h.shows(t, access.Viewer, "/images/"+storefrontImage+"/findings?severity=high&fixable=true", "CVE-2024-21538")
	if strings.Contains(narrowed, "CVE-2023-3817") || strings.Contains(narrowed, "No fix yet") {
		t.Error("the filter lets a medium one, or one without a fix, through")
	}
}

func TestWeaknessTellsWhereItIs(t *testing.T) {
	h := shopHouse(t)
	body := h.get(t, access.Viewer, "/vulnerabilities/GHSA-p6mc-m468-83gw").Body.String()
	text := plainText(body)
	for _, want := range []string{
		"CVE-2024-21538", "Prototype pollution in zipObjectDeep", "CVSS 3.19.8 by nvd", "94% within 30 days", "known to be, listed", "used by ransomware",
		"Also calledGHSA-p6mc-m468-83gw", "lodash 4.17.15 → fixed in 4.17.21", "layer 4", "Without it:123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop/storefront:2.4.2",
		"shop/storefront/storefront on ip-10-0-3-17",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if !strings.Contains(body, `<a href="https://github.com/advisories/GHSA-p6mc-m468-83gw" rel="noreferrer noopener external">`) {
		t.Error("a reference is no link that says nothing of where it comes from")
	}
	if strings.Contains(body, "plain.example") || strings.Contains(body, "javascript:") {
		t.Error("an address that is not https became a link")
	}
	h.shows(t, access.Viewer, "/vulnerabilities/CVE-2024-0727", "accepted until 28 Nov 2026", "the program never opens PKCS12 files")
}

func TestReferencesOfAttackersAreNoLinks(t *testing.T) {
	h := shopHouse(t)
	body := h.get(t, access.Viewer, "/vulnerabilities/CVE-2020-9999").Body.String()
	if strings.Contains(body, "evil.example") {
		t.Error("a reference that is no plain address became a link")
	}
}

func TestWhatARoleMayNotIsNotOffered(t *testing.T) {
	h := shopHouse(t)
	for _, path := range []string{"/images/" + storefrontImage, "/images/" + storefrontImage + "/findings", "/vulnerabilities/CVE-2024-21538", "/acceptances"} {
		viewer, operator := h.get(t, access.Viewer, path).Body.String(), h.get(t, access.Operator, path).Body.String()
		offers := regexp.MustCompile(`action="(/images/[^"]*/scan|/acceptances|/acceptances/\d+/end)"[^>]*>\s*<input type="hidden"|class="accept-link"`)
		if offers.MatchString(viewer) {
			t.Errorf("%s offers a viewer what is refused", path)
		}
		if !offers.MatchString(operator) {
			t.Errorf("%s offers an operator nothing", path)
		}
	}
	for _, path := range []string{"/images/" + storefrontImage + "/scan", "/acceptances", "/acceptances/3/end"} {
		if got := h.post(t, access.Viewer, path, "vulnerability=CVE-2024-21538&reason=x&for=7d").Code; got != http.StatusForbidden {
			t.Errorf("%s by a viewer: got %d, want 403", path, got)
		}
	}
	if len(h.accounts.calls) != 0 {
		t.Errorf("done all the same: %v", h.accounts.calls)
	}
}

func TestDecisionsAboutImages(t *testing.T) {
	for _, tc := range []struct{ name, path, form, call, to string }{
		{"scan anew", "/images/" + storefrontImage + "/scan", "", "scan " + storefrontImage, "/images/" + storefrontImage + "?done=rescan"},
		{"end", "/acceptances/3/end", "", "end 3", "/acceptances?done=accept-ended"},
		{"accept for a time", "/acceptances", "vulnerability=CVE-2023-3817&reason=+next+release+&for=7d",
			"accept CVE-2023-3817 in  of  until 2026-11-30 14:30:20: next release", "/vulnerabilities/CVE-2023-3817?done=accepted"},
		{"accept until a day, in a package of an image, and back", "/acceptances",
			"vulnerability=CVE-2023-3817&reason=r&for=30d&until=2027-01-31&package=libssl3&image=" + storefrontImage + "&back=/images/" + storefrontImage + "/findings",
			"accept CVE-2023-3817 in libssl3 of " + storefrontImage + " until 2027-02-01 00:00:00: r", "/images/" + storefrontImage + "/findings?done=accepted"},
		{"the way back stays here", "/acceptances", "vulnerability=CVE-2023-3817&reason=r&for=7d&back=//evil.example/",
			"accept CVE-2023-3817 in  of  until 2026-11-30 14:30:20: r", "/?done=accepted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := shopHouse(t)
			w := h.post(t, access.Operator, tc.path, tc.form)
			if got := w.Header().Get("Location"); got != tc.to || w.Code != http.StatusSeeOther {
				t.Errorf("got %d to %q, want %q", w.Code, got, tc.to)
			}
			if diff := cmp.Diff(h.accounts.calls, []string{tc.call}); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
		})
	}
}

func TestAcceptancesNameTheirImage(t *testing.T) {
	h := shopHouse(t)
	unknown := "sha256:" + strings.Repeat("9", 64)
	for _, image := range []string{storefrontImage, unknown} {
		h.post(t, access.Operator, "/acceptances", "vulnerability=CVE-2023-3817&reason=r&for=7d&image="+image)
	}
	for _, path := range []string{"/acceptances", "/vulnerabilities/CVE-2023-3817"} {
		h.shows(t, access.Viewer, path, "in every package of shop/storefront:2.4.1", "in every package of sha256:999999999999")
	}
}

func TestARefusedAcceptanceKeepsWhatWasTyped(t *testing.T) {
	h := shopHouse(t)
	w := h.post(t, access.Operator, "/acceptances", "vulnerability=CVE-2023-3817&reason=typed&until=someday&image="+storefrontImage)
	body := w.Body.String()
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(plainText(body), `"someday" is neither a day like 2027-01-31`) || !strings.Contains(body, `value="typed"`) {
		t.Errorf("got %d without the reason and what was typed", w.Code)
	}
	if !strings.Contains(body, `<option value="`+storefrontImage+`" selected>`) {
		t.Error("the chosen image is forgotten")
	}
	h.images.refuse = fault.New(fault.Invalid, "the reason is too short").With("say why")
	w = h.post(t, access.Operator, "/acceptances", "vulnerability=CVE-2023-3817&reason=x&for=7d")
	if !strings.Contains(w.Body.String(), "The reason is too short. Say why.") {
		t.Errorf("got %d without the refusal", w.Code)
	}
}

func TestAcceptancesByWhatTheyStillAre(t *testing.T) {
	h := shopHouse(t)
	text := h.shows(t, access.Operator, "/acceptances", "until 28 Nov 2026", "expired 21 Nov 2026", "ended 4 Sep 2026", "ended by user:mira", "every image")
	holds, past := strings.Index(text, "What holds"), strings.Index(text, "What holds no longer")
	for id, before := range map[string]bool{"CVE-2024-0727": true, "CVE-2023-3817": false, "CVE-2023-5363": false} {
		if at := strings.Index(text, id); at < holds || (at < past) != before {
			t.Errorf("%s is in the wrong list", id)
		}
	}
	found := h.shows(t, access.Viewer, "/acceptances?text=pkcs12", "CVE-2024-0727")
	if strings.Contains(found, "CVE-2023-3817") {
		t.Error("the search finds what lacks the text")
	}
}

func TestOverviewNamesWhatIsWorst(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/", "What is wrong with what runs", "CVE-2024-21538", "lodash, 1 workload, fixed in lodash 4.17.21", "1 could not be scanned")
	h.shows(t, access.Viewer, "/workloads/"+consoletest.Storefront, "What is in it", "2 critical", "3 in use")
	h.shows(t, access.Viewer, "/workloads?image="+storefrontImage, "storefront")
}

func TestImagesFollow(t *testing.T) {
	h := shopHouse(t)
	stream := h.follow(t, "/images/live", "")
	if m := next(t, stream); m.name != "part" || !strings.Contains(m.data, `id="i`+storefrontImage+`"`) {
		t.Fatalf("got %q: %.200s", m.name, m.data)
	}
	one := h.follow(t, "/images/"+consoletest.ImageID("worker:2.4.0")+"/live", "")
	if m := next(t, one); !strings.Contains(plainText(m.data), "It waits for an agent whose host has it.") {
		t.Fatalf("got %q: %.200s", m.name, m.data)
	}
	h.store.mu.Lock()
	for i := range h.store.shop.Images {
		if h.store.shop.Images[i].ID == consoletest.ImageID("worker:2.4.0") {
			h.store.shop.Images[i].Scanning = true
		}
	}
	h.store.mu.Unlock()
	h.images.touch()
	if m := next(t, one); !strings.Contains(plainText(m.data), "ip-10-0-3-17 scans it now") {
		t.Errorf("the image's page was not sent anew: %.300s", plainText(m.data))
	}
	if m := next(t, stream); strings.Count(plainText(m.data), "being scanned by") != 2 {
		t.Error("the list was not sent anew")
	}
}

func TestVulnerabilitiesFollow(t *testing.T) {
	h := shopHouse(t)
	h.shows(t, access.Viewer, "/vulnerabilities?severity=high", `CVE-2024-21538`)
	stream := h.follow(t, "/vulnerabilities/live?severity=high", "")
	m := next(t, stream)
	if m.name != "part" || !strings.Contains(m.data, `id="vCVE-2024-21538"`) {
		t.Fatalf("got %q: %.200s", m.name, m.data)
	}
	h.store.mu.Lock()
	for i := range h.store.shop.Images {
		h.store.shop.Images[i].Findings = nil
	}
	h.store.mu.Unlock()
	h.images.touch()
	if m = next(t, stream); strings.Contains(m.data, "CVE-2024-21538") {
		t.Errorf("the list was not sent anew: %.300s", plainText(m.data))
	}
}

// TestListsWhosePlaceIsGone: retention took the one that the next page is behind.
func TestListsWhosePlaceIsGone(t *testing.T) {
	h := shopHouse(t)
	for _, path := range []string{"/workloads?after=" + strings.Repeat("0", 64), "/images?after=sha256:" + strings.Repeat("0", 64)} {
		h.shows(t, access.Viewer, path, "The list has changed meanwhile. Begin at its first page.")
	}
}

func TestImageThatIsGone(t *testing.T) {
	h := shopHouse(t)
	worker := consoletest.ImageID("worker:2.4.0")
	h.store.mu.Lock()
	for i := range h.store.shop.Images {
		h.store.shop.Images[i].Gone = h.store.shop.Images[i].ID == worker
	}
	h.store.mu.Unlock()
	h.shows(t, access.Viewer, "/images/"+worker, "The last container of it ended before any agent could scan it.")
	h.shows(t, access.Viewer, "/images?state=gone", "shop/worker:2.4.0", "gone before it was scanned")
}
