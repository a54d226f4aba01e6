package feeds

import (
	"context"
	"fmt"
	"io/fs"
	"time"
)

// seedSources are those whose content may be part of the program: what their
// licences ask for is an attribution, which Origin carries. No other source may
// be added without reading its licence.
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
