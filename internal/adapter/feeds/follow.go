package feeds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

const (
	// maxIndex is how large a list of documents may be: npm's has 20 MB.
	maxIndex = 256 << 20
	// maxFollowed is how many changed documents are fetched one by one; with
	// more the archive is cheaper.
	maxFollowed = 2000
	// maxAge is how long an archive is followed by single documents. After that
	// it is fetched again, which also drops what the publisher deleted.
	maxAge = 7 * 24 * time.Hour
)

// osv fetches an export of osv.dev: the zip the first time, then the documents
// that modified_id.csv says have changed. A mirror need not have the list; then
// the zip is fetched whenever it changes.
func (u *update) osv(ctx context.Context) error {
	const list, archive = "modified_id.csv", "all.zip"
	if !u.exists(archive) || u.f.now().Sub(u.state.Whole) > maxAge {
		return u.whole(ctx, list, archive)
	}
	changed, err := u.fetch(ctx, item{path: list, limit: maxIndex})
	if errors.Is(err, errAbsent) {
		return u.get(ctx, item{path: archive, limit: maxArchive})
	}
	if err != nil || !changed {
		return err
	}
	news, newest, err := u.modified(list)
	if err != nil {
		return err
	}
	if len(news) > maxFollowed {
		return u.whole(ctx, list, archive)
	}
	if err := u.each(ctx, news); err != nil {
		return err
	}
	u.state.Cursor = newest
	return nil
}

// whole fetches the archive, and the list first: what changes in between is in
// both.
func (u *update) whole(ctx context.Context, list, archive string) error {
	cursor := time.Time{}
	_, err := u.fetch(ctx, item{path: list, limit: maxIndex})
	switch {
	case err == nil:
		if _, cursor, err = u.modified(list); err != nil {
			return err
		}
	case !errors.Is(err, errAbsent):
		return err
	}
	if err := u.get(ctx, item{path: archive, limit: maxArchive}); err != nil {
		return err
	}
	u.state.Whole, u.state.Cursor = u.f.now().UTC(), cursor
	return u.dropDocuments()
}

// dropDocuments removes single documents that an archive has replaced.
func (u *update) dropDocuments() error {
	var old []string
	for name := range u.state.Files {
		if strings.HasSuffix(name, ".json") {
			old = append(old, name)
		}
	}
	return u.remove(old...)
}

// modified returns the documents that have changed since the cursor, and the
// latest time in the list: lines of time and identifier, the newest first.
func (u *update) modified(list string) (news []item, newest time.Time, err error) {
	newest = u.state.Cursor
	err = u.lines(list, func(line string) error {
		at, id, ok := strings.Cut(line, ",")
		t := parseTime(at)
		if !ok || t.IsZero() {
			return nil // a heading
		}
		if !safeName(id) {
			return fmt.Errorf("%.60q is no name of a document", id)
		}
		if t.After(newest) {
			newest = t
		}
		if t.After(u.state.Cursor) && len(news) <= maxFollowed {
			news = append(news, item{path: id + ".json", limit: maxDocument, optional: true})
		}
		return nil
	})
	return news, newest, err
}

// safeName reports whether an identifier may be part of a path and an address.
func safeName(id string) bool {
	if id == "" || len(id) > 200 || id[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:", r))
	})
}

// lines calls do for each line of a file of the source.
func (u *update) lines(name string, do func(line string) error) error {
	f, err := os.Open(u.path(name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		if err := do(strings.TrimRight(scan.Text(), "\r")); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// each fetches files side by side. It stops at the first error, and keeps what
// came before it.
func (u *update) each(ctx context.Context, items []item) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan item)
	var wg sync.WaitGroup
	for range perHost {
		wg.Go(func() {
			for it := range work {
				if err := u.get(ctx, it); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, it := range items {
		select {
		case work <- it:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// csaf fetches Red Hat's documents: the archive that archive_latest.txt names, with
// its checksum, then what changes.csv says has changed. deletions.csv, which the
// reader keeps to, says what was taken back.
func (u *update) csaf(ctx context.Context) error {
	for _, it := range [...]item{
		{path: "archive_latest.txt", limit: maxName},
		{path: "changes.csv", limit: maxIndex},
		{path: "deletions.csv", limit: maxIndex, optional: true},
	} {
		if err := u.get(ctx, it); err != nil {
			return err
		}
	}
	news, newest, err := u.changes()
	if err != nil {
		return err
	}
	if u.state.Archive == "" || !u.exists(u.state.Archive) || len(news) > maxFollowed || u.f.now().Sub(u.state.Whole) > 4*maxAge {
		return u.csafArchive(ctx)
	}
	if err := u.each(ctx, news); err != nil {
		return err
	}
	u.state.Cursor = newest
	return nil
}

// csafArchive fetches the archive, and what has changed since it was made.
func (u *update) csafArchive(ctx context.Context) error {
	name := ""
	if err := u.lines("archive_latest.txt", func(line string) error {
		name += strings.TrimSpace(line)
		return nil
	}); err != nil {
		return err
	}
	if !safeName(name) || !isArchive(name) {
		return fmt.Errorf("archive_latest.txt names %.60q: no archive", name)
	}
	sum, err := u.sumOf(ctx, name)
	if err != nil {
		return err
	}
	if err := u.get(ctx, item{path: name, limit: maxArchive, sum: sum}); err != nil {
		return err
	}
	made := u.madeAt(name)
	if old := u.state.Archive; old != "" && old != name {
		if err := u.remove(old); err != nil {
			return err
		}
	}
	u.state.Archive, u.state.Whole, u.state.Cursor = name, u.f.now().UTC(), made
	if err := u.dropDocuments(); err != nil {
		return err
	}
	news, newest, err := u.changes()
	if err != nil {
		return err
	}
	if err := u.each(ctx, news); err != nil {
		return err
	}
	u.state.Cursor = newest
	return nil
}

// madeAt returns when an archive was made: by the date in its name, or by what its
// server says.
func (u *update) madeAt(name string) time.Time {
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '_' || r == '.' }) {
		if t := day(part); !t.IsZero() {
			return t
		}
	}
	if t, err := time.Parse(time.RFC1123, u.state.Files[name].LastModified); err == nil {
		return t.Add(-24 * time.Hour) // it takes its time to make one
	}
	return time.Time{}
}

// sumOf returns the checksum that stands beside an archive, if there is one.
func (u *update) sumOf(ctx context.Context, name string) (checksum, error) {
	it := item{path: name + ".sha256", limit: maxName}
	if _, err := u.fetch(ctx, it); errors.Is(err, errAbsent) {
		return checksum{}, nil
	} else if err != nil {
		return checksum{}, err
	}
	sum := ""
	err := u.lines(it.path, func(line string) error {
		if word, _, _ := strings.Cut(line, " "); sum == "" {
			sum = word
		}
		return nil
	})
	return checksum{"sha256", sum}, err
}

// changes returns the documents that changed since the cursor: lines of quoted path
// and time.
func (u *update) changes() (news []item, newest time.Time, err error) {
	newest = u.state.Cursor
	err = u.lines("changes.csv", func(line string) error {
		name, at, ok := strings.Cut(strings.ReplaceAll(line, `"`, ""), ",")
		t := parseTime(at)
		if !ok || t.IsZero() {
			return nil
		}
		if folder, file := path.Split(name); !isNumber(strings.TrimSuffix(folder, "/")) || !safeName(file) || !strings.HasSuffix(file, ".json") {
			return fmt.Errorf("%.60q is no name of a document", name)
		}
		if t.After(newest) {
			newest = t
		}
		if t.After(u.state.Cursor) && len(news) <= maxFollowed {
			news = append(news, item{path: name, limit: maxCSAF, optional: true})
		}
		return nil
	})
	return news, newest, err
}
