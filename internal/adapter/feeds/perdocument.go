package feeds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/feeds/pull"
	"github.com/castellan-security/castellan/internal/fault"
)

const (
	// maxRefreshed is how many documents are asked for again in one update though
	// nothing says that they have changed: in a fortnight of daily updates all.
	maxRefreshed = 2000
	// refreshAfter is how long what was asked for is taken for current.
	refreshAfter = 14 * 24 * time.Hour
	// maxCVEs is how many CVEs a list may have; there are 300,000 in all.
	maxCVEs = 2_000_000
)

// amazonCVE fetches the state of each CVE in Amazon Linux, one document each. The
// index page lists all; a document is asked for when its line there has changed,
// and now and then, because the index doesn't show everything. A mirror has the
// same index.
func (u *update) amazonCVE(ctx context.Context) error {
	const index = "index.html"
	if _, err := u.fetch(ctx, item{path: index, url: u.base() + "/", limit: maxIndex}); err != nil {
		return err
	}
	page, err := os.ReadFile(u.path(index))
	if err != nil {
		return err
	}
	marks := cvesIn(page)
	if len(marks) == 0 {
		return fault.New(fault.Invalid, "the index lists no CVE: its form has changed")
	}
	if len(marks) > maxCVEs {
		return tooMany("CVEs", maxCVEs)
	}
	return u.each(ctx, u.due(marks))
}

// due returns the documents that are to be asked for: those that are new or whose
// line has changed, and the oldest of those that were not asked for for long.
func (u *update) due(marks map[string]string) []item {
	var news, old []item
	for cve, mark := range marks {
		name := cve + ".json"
		it := item{path: name, limit: maxDocument, optional: true, mark: mark}
		have, known := u.state.Files[name]
		switch {
		case !known || have.Mark != mark:
			news = append(news, it)
		case u.f.now().Sub(have.Checked) > refreshAfter:
			old = append(old, it)
		}
	}
	byName := func(a, b item) int { return strings.Compare(b.path, a.path) } // the newest first
	slices.SortFunc(news, byName)
	slices.SortFunc(old, func(a, b item) int {
		if c := u.state.Files[a.path].Checked.Compare(u.state.Files[b.path].Checked); c != 0 {
			return c
		}
		return byName(a, b)
	})
	return append(news, old[:min(len(old), maxRefreshed)]...)
}

// cvesIn returns the CVEs that a page lists, each with a mark of its line in a
// table, or of nothing but its name.
func cvesIn(page []byte) map[string]string {
	number := regexp.MustCompile(`CVE-[0-9]{4}-[0-9]{4,19}`)
	marks := map[string]string{}
	for row := range strings.SplitSeq(string(page), "<tr") {
		row, _, _ = strings.Cut(row, "</tr")
		sum := sha256.Sum256([]byte(row))
		for _, cve := range number.FindAllString(row, -1) {
			if _, known := marks[cve]; !known {
				marks[cve] = hex.EncodeToString(sum[:8])
			}
		}
	}
	return marks
}

// ubuntuPage is how many CVEs a page of the tracker holds; more it doesn't give.
const ubuntuPage = 20

// ubuntu fetches the pages of the CVE tracker, the oldest CVEs first so that pages
// stay what they are. It takes some thousand requests, of which most answer that
// nothing has changed.
func (u *update) ubuntu(ctx context.Context) error {
	for from := 0; ; {
		var items []item
		for range perHost {
			items = append(items, item{
				path:   fmt.Sprintf("cves-%06d.json", from),
				remote: "cves.json?limit=" + strconv.Itoa(ubuntuPage) + "&offset=" + strconv.Itoa(from) + "&order=oldest&show_hidden=true",
				limit:  maxDocument, optional: u.f.mirror != "",
			})
			from += ubuntuPage
		}
		if err := u.each(ctx, items); err != nil {
			return err
		}
		last := items[len(items)-1].path
		if !u.exists(last) {
			return nil // a mirror's last page
		}
		full, err := u.isFullPage(last)
		if err != nil || !full {
			return err
		}
		if from > maxCVEs {
			return errors.New("the tracker's pages have no end")
		}
	}
}

// isFullPage reports whether a page holds as many CVEs as it can.
func (u *update) isFullPage(name string) (bool, error) {
	data, err := os.ReadFile(u.path(name))
	if err != nil {
		return false, err
	}
	var r pull.Reader
	r.Reset(data)
	n := 0
	if r.Object() {
		for r.Next() {
			if string(r.Key()) == "cves" && r.Kind() == pull.List {
				for r.Array(); r.Next(); n++ {
					r.Skip()
				}
				continue
			}
			r.Skip()
		}
	}
	return n >= ubuntuPage, r.End()
}
