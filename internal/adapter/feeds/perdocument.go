package feeds

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pull"
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
// same index. Which form of the documents can be read is tried first.
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
	form, err := u.readableForm(ctx, marks)
	if err != nil {
		return err
	}
	err = u.each(ctx, u.due(marks, form))
	return errors.Join(err, u.dropOtherForm(form.end))
}

// amazonForm is a form in which the state of a CVE is published: the end of its
// name, and where, if that is not where the index is.
type amazonForm struct{ end, at string }

// amazonForms are those that are known, the best attested first. None is
// documented; see amazonCVEReader.
var amazonForms = [...]amazonForm{
	{end: ".json"},
	{end: ".json", at: "https://alas.aws.amazon.com/cve/json/v1/"}, // named as their source in findings of Amazon's own scanner
	{end: ".html"},
}

// item is the state of a CVE in this form.
func (f amazonForm) item(cve, mark string) item {
	it := item{path: cve + f.end, limit: maxDocument, optional: true, mark: mark}
	if f.at != "" {
		it.url = f.at + it.path
	}
	return it
}

// readableForm returns the first form in which one of the newest CVEs can be read.
// Without looking at one first, a change of the form would cost a request for each
// CVE, and replace all that can be read by what can't.
func (u *update) readableForm(ctx context.Context, marks map[string]string) (amazonForm, error) {
	const tried = 3 // what is listed is not always there at once
	newest := slices.SortedFunc(maps.Keys(marks), func(a, b string) int { return byCVE(b, a) })
	var failed error
	for _, form := range amazonForms {
		if form.at != "" && u.f.mirror != "" {
			continue // a mirror has each under its one name
		}
		for _, cve := range newest[:min(len(newest), tried)] {
			it := form.item(cve, marks[cve])
			_, err := u.fetch(ctx, it)
			if err == nil {
				err = u.readable(it.path)
			}
			if err == nil {
				return form, nil
			}
			if ctx.Err() != nil || fault.Is(err, fault.Unavailable) && form.at == "" { // the form may be the right one
				return form, err
			}
			failed = errors.Join(failed, fmt.Errorf("%s: %w", it.path, err))
		}
	}
	return amazonForm{}, fmt.Errorf("the state of a CVE is published in no form that this version reads: %w", failed)
}

// dropOtherForm removes documents with another end of which there is one with this.
func (u *update) dropOtherForm(end string) error {
	var old []string
	for name := range u.state.Files {
		cve := strings.TrimSuffix(name, path.Ext(name))
		if _, ok := u.state.Files[cve+end]; ok && name != cve+end && isCVE(cve) {
			old = append(old, name)
		}
	}
	return u.remove(old...)
}

// readable fails if a file of the source is no document that can be read.
func (u *update) readable(name string) error {
	data, err := os.ReadFile(u.path(name))
	if err != nil {
		return err
	}
	var tally Tally
	return newParser(u.source, &tally).document(data, func(*advisory.Advisory) bool { return true })
}

// byCVE orders CVE numbers by their year, then by their number.
func byCVE(a, b string) int {
	x, y := strings.SplitN(a, "-", 3), strings.SplitN(b, "-", 3)
	return cmp.Or(strings.Compare(x[1], y[1]), compareNumbers(x[2], y[2]))
}

// due returns the documents that are to be asked for: those that are new or whose
// line has changed, and the oldest of those that were not asked for for long.
func (u *update) due(marks map[string]string, form amazonForm) []item {
	var news, old []item
	for cve, mark := range marks {
		it := form.item(cve, mark)
		have, known := u.state.Files[it.path]
		switch {
		case !known || have.Mark != mark || have.URL != u.url(it):
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
