package feeds

import (
	"context"
	"fmt"
	"io/fs"
	"time"
)

// seedSources are those whose content may be part of the program: what their
// licences ask for is an attribution and their terms, which Origin carries. No other
// source may be added without reading its licence. Those of npm, Maven, NuGet and
// Packagist may not, though osv.dev's are CC-BY: a folder may instead hold what was
// converted from other databases under other licences, and its documents don't say.
func seedSources() []string { return []string{"osv/Go", "osv/PyPI", "osv/Debian", "kev"} }

// Origin is what a seed has from one source.
type Origin struct {
	Source Source
	Files  []string // in the layout
	// Newest is the latest change among the advisories: how old the seed is.
	Newest     time.Time
	Advisories int
}

// Notice is the line that must go with what is made of it.
func (o Origin) Notice() string {
	return fmt.Sprintf("%s: %d entries as of %s. %s. Licence: %s.",
		o.Source.Title, o.Advisories, o.Newest.Format(time.DateOnly), o.Source.Attribution, o.Source.Licence)
}

// Terms is what must be said of its licence beside the notice: where to read it, and
// its words where they must go with what is passed on.
func (o Origin) Terms() string {
	switch o.Source.Licence {
	case ccBy4:
		return "CC-BY-4.0: https://creativecommons.org/licenses/by/4.0/legalcode; offered as is, without warranties of any kind."
	case cc0:
		return "CC0-1.0: https://creativecommons.org/publicdomain/zero/1.0/legalcode"
	case debianText:
		return debianTerms
	}
	return ""
}

// debianTerms are those of Debian's texts (https://www.debian.org/license).
const debianTerms = `Of Debian's texts (https://www.debian.org/license), copyright Software in the Public Interest, Inc. and others; what is
from before 25 January 2012 may be distributed only subject to the terms and conditions set forth in the Open Publication
License, v1.0 or later (https://opencontent.org/openpub/), what is newer under this one:

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`

// Seed tells what of a folder in the layout goes into the database that the
// program carries, for a first scan without a network. All of it is read once, so
// that what is told is what is there; a file that cannot be read is an error, and
// so is a broken document: a seed is made with care or not at all. The caller
// reads the sources of the origins with Parse and Exploited.
func Seed(ctx context.Context, fsys fs.FS) ([]Origin, error) {
	var all []Origin
	for _, name := range seedSources() {
		s, _ := Named(name)
		files, err := list(ctx, fsys, s.Dir)
		if err != nil {
			return nil, fmt.Errorf("seed from %s: %w", name, err)
		}
		var tally Tally
		if err := readThrough(ctx, s, fsys, &tally); err != nil {
			return nil, fmt.Errorf("seed from %s: %w", name, err)
		}
		if tally.Failed > 0 {
			f := tally.Failures[0]
			return nil, fmt.Errorf("seed from %s: %d broken documents, the first %s: %w", name, tally.Failed, f.Document, f.Err)
		}
		all = append(all, Origin{Source: s, Files: files, Newest: tally.Newest, Advisories: tally.Advisories})
	}
	return all, nil
}

// readThrough reads a source for its tally.
func readThrough(ctx context.Context, s Source, fsys fs.FS, tally *Tally) error {
	if s.Format == KEV {
		for _, err := range Exploited(ctx, fsys, tally) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, err := range Parse(ctx, s, fsys, tally) {
		if err != nil {
			return err
		}
	}
	return nil
}
