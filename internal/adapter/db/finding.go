package db

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

// PutInventory implements store.Findings.
func (d *DB) PutInventory(ctx context.Context, imageID, job string, inv inventory.Inventory, now time.Time) error {
	packed, err := pack(inv)
	if err != nil {
		return fmt.Errorf("encode the inventory of image %s: %w", imageID, err)
	}
	return d.write(ctx, "store inventory", func(ctx context.Context, w *writer) error {
		number, text, err := w.jobOf(ctx, imageID, job)
		if err != nil {
			return err
		}
		var b imageBody
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			return corrupt(d.path, fmt.Errorf("decode image %s: %w", imageID, err))
		}
		b.OS, b.Packages, b.Problems = inv.OS, len(inv.Packages), inv.Problems
		if inv.Image != nil {
			b.Platform, b.Layers = inv.Image.Platform, len(inv.Image.Layers)
		}
		body, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("encode image %s: %w", imageID, err)
		}
		_, err = w.exec(ctx, `UPDATE images SET state = ?, job = '', pending = 0, scanned = 1, tries = 0, next = 0, error = '',
			done = ?, analysis = ?, matched = 0, database = '', body = ? WHERE number = ?`,
			string(store.ScanDone), nanos(now), inv.Analysis, string(body), number)
		if err != nil {
			return err
		}
		_, err = w.exec(ctx, `INSERT INTO inventories (image, body) VALUES (?,?)
			ON CONFLICT (image) DO UPDATE SET body = excluded.body`, number, packed)
		return err
	})
}

// jobOf returns the image whose job this is.
func (w *writer) jobOf(ctx context.Context, imageID, job string) (number int64, body string, err error) {
	var own string
	err = w.row(ctx, "SELECT number, job, body FROM images WHERE id = ?", []any{imageID}, &number, &own, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", noImage(imageID)
	}
	if err == nil && (job == "" || own != job) {
		err = fault.New(fault.Conflict, "image %s is no longer scanned by this job", imageID)
	}
	return number, body, err
}

// detail is what is the same of a weakness in every image.
type detail struct {
	Aliases    []string            `json:"aliases,omitempty"`
	SeverityBy string              `json:"severity_by,omitempty"`
	Scores     []finding.Score     `json:"scores,omitempty"`
	Summary    string              `json:"summary,omitempty"`
	Weaknesses []string            `json:"weaknesses,omitempty"`
	References []string            `json:"references,omitempty"`
	Advisories []finding.Statement `json:"advisories"`
	Published  time.Time           `json:"published,omitzero"`
	Modified   time.Time           `json:"modified,omitzero"`
}

// line is one finding, taken apart for its row.
type line struct {
	v       *finding.Vulnerability
	detail  []byte
	summed  [sha256.Size]byte // of detail
	body    []byte
	hash    []byte
	rank    int64
	fixable bool
	place   int
}

// newLine takes a finding apart. What it owns of files is left out: the
// inventory has it.
func newLine(v *finding.Vulnerability, place int) (line, error) {
	own := *v
	own.Package.Files = nil
	d := detail{
		Aliases: v.Aliases, SeverityBy: v.SeverityBy, Scores: v.Scores, Summary: v.Summary, Weaknesses: v.Weaknesses,
		References: v.References, Advisories: v.Advisories, Published: v.Published, Modified: v.Modified,
	}
	own.Aliases, own.SeverityBy, own.Scores, own.Summary, own.Weaknesses = nil, "", nil, "", nil
	own.References, own.Advisories, own.Published, own.Modified = nil, nil, time.Time{}, time.Time{}
	l := line{v: v, fixable: v.State == finding.Fixable, rank: rankOf(v), place: place}
	var err error
	if l.detail, err = json.Marshal(d); err != nil {
		return line{}, fmt.Errorf("encode weakness %s: %w", v.ID, err)
	}
	if l.body, err = json.Marshal(own); err != nil {
		return line{}, fmt.Errorf("encode finding %s: %w", v.Fingerprint, err)
	}
	l.summed = sha256.Sum256(l.detail)
	h := sha256.New()
	h.Write(l.summed[:])
	h.Write(l.body)
	const enough = 16 // bytes: two states of one finding don't meet by chance
	l.hash = h.Sum(nil)[:enough]
	return l, nil
}

// rankOf orders findings over all images as a match orders those of one: in use
// first, then known to be exploited, then by severity and probability.
func rankOf(v *finding.Vulnerability) int64 {
	rank := int64(v.Severity)<<epssBits | millionths(v)
	if v.KEV != nil {
		rank |= 1 << (epssBits + severityBits)
	}
	if v.InUse {
		rank |= 1 << (epssBits + severityBits + 1)
	}
	return rank
}

const (
	epssBits     = 20 // for 0 to 1,000,000
	severityBits = 8
)

// millionths is the probability of exploitation, as it is kept.
func millionths(v *finding.Vulnerability) int64 {
	if v.EPSS == nil {
		return 0
	}
	const million = 1_000_000
	return min(max(int64(v.EPSS.EPSS*million), 0), million)
}

// PutFindings implements store.Findings. Lines that are as they were are not
// written again.
func (d *DB) PutFindings(ctx context.Context, f store.ImageFindings) error {
	lines, counts := make([]line, 0, len(f.Vulnerabilities)), store.Counts{}
	for i := range f.Vulnerabilities {
		v := &f.Vulnerabilities[i]
		if v.State == finding.NotAffected || v.State == finding.Withdrawn {
			continue // nothing to decide
		}
		l, err := newLine(v, i)
		if err != nil {
			return err
		}
		lines = append(lines, l)
		countFinding(&counts, l.v)
	}
	summary, err := json.Marshal(counts)
	if err != nil {
		return fmt.Errorf("encode counts: %w", err)
	}
	return d.write(ctx, "store findings", func(ctx context.Context, w *writer) error {
		var number int64
		err := w.row(ctx, "SELECT number FROM images WHERE id = ?", []any{f.ImageID}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return noImage(f.ImageID)
		}
		if err != nil {
			return err
		}
		if err := w.replaceFindings(ctx, number, f.Matched, lines); err != nil {
			return err
		}
		_, err = w.exec(ctx, "UPDATE images SET matched = ?, database = ?, gaps = ?, attention = ?, counts = ? WHERE number = ?",
			nanos(f.Matched), f.Database, f.Gaps, attention(counts), string(summary), number)
		return err
	})
}

func countFinding(c *store.Counts, v *finding.Vulnerability) {
	if v.Accepted != nil {
		c.Accepted++
		return
	}
	for _, n := range [...]struct {
		is bool
		of *int
	}{
		{v.Severity == finding.Critical, &c.Critical}, {v.Severity == finding.High, &c.High},
		{v.Severity == finding.Medium, &c.Medium}, {v.Severity == finding.Low, &c.Low},
		{v.Severity == finding.Negligible, &c.Negligible}, {v.Severity == finding.Unknown, &c.Unknown},
		{v.State == finding.Fixable, &c.Fixable}, {v.KEV != nil, &c.Exploited}, {v.InUse, &c.InUse},
	} {
		if n.is {
			*n.of++
		}
	}
}

// attention orders images: by what is known to be exploited, then by how much
// of each severity there is.
func attention(c store.Counts) int64 {
	const digits = 10_000 // more of one kind than anybody tells apart
	var n int64
	for _, of := range [...]int{c.Exploited, c.Critical, c.High, c.Medium} {
		n = n*digits + int64(min(of, digits-1))
	}
	return n
}

// known is a finding as its row has it.
type known struct {
	number, first int64
	hash          []byte
}

func (w *writer) findings(ctx context.Context, image int64) (map[string]known, error) {
	st, err := w.stmt(ctx, "SELECT fingerprint, number, first, hash FROM vulnerabilities WHERE image = ?")
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, image)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]known{}
	for rows.Next() {
		var print string
		var k known
		if err := rows.Scan(&print, &k.number, &k.first, &k.hash); err != nil {
			return nil, err
		}
		all[print] = k
	}
	return all, rows.Err()
}

func (w *writer) replaceFindings(ctx context.Context, image int64, now time.Time, lines []line) error {
	before, err := w.findings(ctx, image)
	if err != nil {
		return err
	}
	for _, l := range lines {
		was, there := before[l.v.Fingerprint]
		delete(before, l.v.Fingerprint)
		if there && bytes.Equal(was.hash, l.hash) {
			continue // its position among equals may be another, which orders nothing that matters
		}
		first := nanos(now)
		if there {
			first = was.first
			if _, err := w.exec(ctx, "DELETE FROM vulnerabilities WHERE number = ?", was.number); err != nil {
				return err
			}
		}
		if err := w.addFinding(ctx, image, first, l); err != nil {
			return err
		}
	}
	for _, gone := range before {
		if _, err := w.exec(ctx, "DELETE FROM vulnerabilities WHERE number = ?", gone.number); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) addFinding(ctx context.Context, image, first int64, l line) error {
	var id int64
	err := w.row(ctx, "SELECT id FROM details WHERE hash = ?", []any{l.summed[:]}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		id, err = w.insert(ctx, "INSERT INTO details (hash, body) VALUES (?,?)", l.summed[:], string(l.detail))
	}
	if err != nil {
		return err
	}
	v := l.v
	for _, alias := range v.Aliases {
		if _, err := w.exec(ctx, "INSERT INTO aliases (alias, weakness) VALUES (?,?) ON CONFLICT DO NOTHING", alias, v.ID); err != nil {
			return err
		}
	}
	accepted := v.Accepted != nil
	_, err = w.exec(ctx, `INSERT INTO vulnerabilities (image, fingerprint, weakness, package, severity, fixable, exploited,
		in_use, accepted, epss, rank, position, first, detail, hash, search, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
		ON CONFLICT (image, fingerprint) DO NOTHING`, // a fingerprint twice in one match is one finding
		image, v.Fingerprint, v.ID, v.Package.Name, int64(v.Severity), l.fixable, v.KEV != nil, v.InUse, accepted,
		millionths(v), l.rank, l.place, first, id, l.hash, findingText(v), string(l.body))
	return err
}

// findingText is what VulnerabilityQuery.Text looks at.
func findingText(v *finding.Vulnerability) string {
	return strings.Join(append([]string{v.ID, v.Package.Name}, v.Aliases...), "\n")
}

// Unmatched implements store.Findings.
func (d *DB) Unmatched(ctx context.Context, database string, limit int) (ids []string, err error) {
	err = d.read(ctx, "read images to compare", func(s *snapshot) error {
		return s.query(ctx, "SELECT id FROM images WHERE scanned = 1 AND database <> ? ORDER BY idle, seen, id LIMIT ?",
			[]any{database, pageSizeOf(limit)}, func(r *sql.Rows) (bool, error) {
				var id string
				err := r.Scan(&id)
				ids = append(ids, id)
				return true, err
			})
	})
	return ids, err
}
