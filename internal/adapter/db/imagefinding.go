package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/store"
)

// Secrets, faults and malware are few: each is one row, found by its key, and
// which image has it another, with what is to be told of it. Lists over all images
// walk the former in their order and ask for each line of the page who has it.

// kept is a finding of an image as its row has it.
type kept struct {
	first    int64
	severity int64
	accepted bool
	body     string
}

// imageFindings returns what is kept of an image, by the numbers of the findings.
func (w *writer) imageFindings(ctx context.Context, image int64) (map[int64]kept, error) {
	st, err := w.stmt(ctx, "SELECT finding, severity, accepted, first, body FROM image_findings WHERE image = ?")
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, image)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[int64]kept{}
	for rows.Next() {
		var number int64
		var k kept
		if err := rows.Scan(&number, &k.severity, &k.accepted, &k.first, &k.body); err != nil {
			return nil, err
		}
		all[number] = k
	}
	return all, rows.Err()
}

// replaceImageFindings makes found all secrets, faults and malware that an image
// has. What is as it was is not written again.
func (w *writer) replaceImageFindings(ctx context.Context, image, now int64, found []store.Finding) error {
	before, err := w.imageFindings(ctx, image)
	if err != nil {
		return err
	}
	seen := make(map[int64]bool, len(found))
	for i := range found {
		f := &found[i]
		number, err := w.findingNumber(ctx, f, now)
		if err != nil {
			return err
		}
		if seen[number] {
			continue // a key names one thing
		}
		seen[number] = true
		was, there := before[number]
		if !there {
			was.first = now
		}
		own := *f
		own.First, own.ImageID = fromNanos(was.first), "" // columns have them
		body, err := json.Marshal(own)
		if err != nil {
			return fmt.Errorf("encode finding %s: %w", f.Key, err)
		}
		is := kept{first: was.first, severity: int64(f.Severity), accepted: f.Accepted != nil, body: string(body)}
		if there && is == was {
			continue
		}
		if _, err := w.exec(ctx, `INSERT INTO image_findings (image, finding, severity, accepted, first, body) VALUES (?,?,?,?,?,?)
			ON CONFLICT (image, finding) DO UPDATE SET severity = excluded.severity, accepted = excluded.accepted, body = excluded.body`,
			image, number, is.severity, is.accepted, is.first, is.body); err != nil {
			return err
		}
	}
	for number := range before {
		if seen[number] {
			continue
		}
		if _, err := w.exec(ctx, "DELETE FROM image_findings WHERE image = ? AND finding = ?", image, number); err != nil {
			return err
		}
	}
	return nil
}

// findingNumber returns the row of a finding, and makes it if there is none.
func (w *writer) findingNumber(ctx context.Context, f *store.Finding, now int64) (number int64, err error) {
	var severity int64
	var search string
	text := findingWords(f)
	err = w.row(ctx, "SELECT number, severity, search FROM findings WHERE kind = ? AND key = ?", []any{string(f.Kind), f.Key}, &number, &severity, &search)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return w.insert(ctx, "INSERT INTO findings (kind, key, severity, first, runs, search) VALUES (?,?,?,?,0,?)",
			string(f.Kind), f.Key, int64(f.Severity), now, text)
	case err != nil:
		return 0, err
	case severity != int64(f.Severity) || search != text:
		_, err = w.exec(ctx, "UPDATE findings SET severity = ?, search = ? WHERE number = ?", int64(f.Severity), text, number)
	}
	return number, err
}

// findingWords is what FindingQuery.Text looks at.
func findingWords(f *store.Finding) string {
	words := []string{f.Rule, f.Title}
	if s := f.Secret; s != nil {
		words = append(words, s.Path, s.Name, s.Account, s.Fingerprint)
	}
	if m := f.Fault; m != nil {
		words = append(words, m.Subject, m.Evidence)
	}
	if m := f.Malware; m != nil {
		words = append(words, m.Path, m.Family, m.SHA256, m.Fingerprint)
	}
	return strings.Join(words, "\n")
}

// countFindings adds those to the counts of an image that nobody accepted.
func countFindings(c *store.Counts, found []store.Finding) {
	for i := range found {
		if found[i].Accepted != nil {
			continue
		}
		switch found[i].Kind {
		case store.KindSecret:
			c.Secrets++
		case store.KindFault:
			c.Faults++
		case store.KindMalware:
			c.Malware++
		}
	}
}

// pruneFindings removes those that no image has any more. One that ran when days
// were last counted stays until they are counted again.
func pruneFindings(ctx context.Context, w *writer) (int64, bool, error) {
	n, err := w.exec(ctx, `DELETE FROM findings WHERE number IN (SELECT f.number FROM findings f
		WHERE f.runs = 0 AND NOT EXISTS (SELECT 1 FROM image_findings n WHERE n.finding = f.number) LIMIT ?)`, pruneRows)
	return 0, n == pruneRows, err
}
