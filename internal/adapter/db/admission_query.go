package db

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const verdictColumns = "v.id, v.received, v.at, v.asked, v.request_id, v.agent, v.actor, v.door, v.outcome, v.audited, v.facts_lost, v.request, v.verdict, v.line"

// verdictRow is a verdict as its row has it.
type verdictRow struct {
	store.AdmissionLine
	asked            time.Time
	lost             bool
	request, verdict int64 // bodies
}

// scanVerdict reads the columns above.
func scanVerdict(scan func(...any) error) (v verdictRow, err error) {
	var received, at, asked int64
	var line []byte
	if err := scan(&v.ID, &received, &at, &asked, &v.Request, &v.Agent, &v.Actor, &v.Door, &v.Outcome, &v.Audited, &v.lost, &v.request, &v.verdict, &line); err != nil {
		return v, err
	}
	v.Received, v.At, v.asked = fromNanos(received), fromNanos(at), fromNanos(asked)
	var l admissionLine
	if err := json.Unmarshal(line, &l); err != nil {
		return v, fmt.Errorf("decode verdict %d: %w", v.ID, err)
	}
	v.Action, v.Declared, v.Policy, v.Place, v.Family = l.Action, l.Declared, l.Policy, l.Place, l.Family
	v.Images, v.Rules, v.Reasons, v.Message = l.Images, l.Rules, l.Reasons, l.Message
	return v, nil
}

// AdmissionLines implements store.AdmissionVerdicts.
func (d *DB) AdmissionLines(ctx context.Context, q store.AdmissionQuery) (all []store.AdmissionLine, err error) {
	err = d.read(ctx, "read verdicts", func(s *snapshot) error {
		rows, err := s.verdicts(ctx, q, pageSizeOf(q.Limit))
		for i := range rows {
			all = append(all, rows[i].AdmissionLine)
		}
		return err
	})
	return all, err
}

// verdicts are the rows that a query asks for, newest first.
func (s *snapshot) verdicts(ctx context.Context, q store.AdmissionQuery, limit int) (all []verdictRow, err error) {
	from, f, err := s.admissionFilter(ctx, q)
	if err != nil {
		return nil, err
	}
	query := "SELECT " + verdictColumns + " FROM " + from + " WHERE " + strings.Join(f.parts, " AND ")
	err = s.query(ctx, query, append(f.args, limit), func(r *sql.Rows) (bool, error) {
		v, err := scanVerdict(r.Scan)
		all = append(all, v)
		return true, err
	})
	return all, err
}

// admissionFilter makes the tables, conditions and order of a query. The first
// term leads: its list is in the order of the page, and the others are looked up
// for each that it names.
func (s *snapshot) admissionFilter(ctx context.Context, q store.AdmissionQuery) (from string, f fragments, err error) {
	var terms []admissionTerm
	for _, t := range [...]admissionTerm{
		{termImageName, q.Image}, {termGroup, string(q.Group)}, {termFamily, q.Family}, {termService, q.Service}, {termHost, q.Host},
		{termRule, q.Rule}, {termCluster, q.Cluster},
	} {
		if len(t.term) > maxTextBytes {
			return "", f, fault.New(fault.Invalid, "at most %d bytes of text can be asked for", maxTextBytes)
		}
		if t.term != "" {
			terms = append(terms, t)
		}
	}
	least, most, err := s.span(ctx, q)
	if err != nil {
		return "", f, err
	}
	id := "v.id"
	from = "admission_verdicts v"
	if len(terms) > 0 {
		id, from = "t.verdict", "admission_terms t CROSS JOIN admission_verdicts v ON v.id = t.verdict"
		f.add("t.kind = ? AND t.term = ?", terms[0].kind, terms[0].term)
		terms = terms[1:]
	}
	f.add(id+" >= ? AND "+id+" < ?", least, most)
	for _, t := range terms {
		f.add("EXISTS (SELECT 1 FROM admission_terms x WHERE x.kind = ? AND x.term = ? AND x.verdict = v.id)", t.kind, t.term)
	}
	if q.RequestID != "" {
		f.add("v.request_id = ?", q.RequestID)
	}
	if q.Outcome != "" {
		f.add("v.outcome = ?", string(q.Outcome))
	}
	if q.Door != "" {
		f.add("v.door = ?", string(q.Door))
	}
	if q.Audited {
		f.add("v.audited = 1")
	}
	f.parts[len(f.parts)-1] += " ORDER BY " + id + " DESC LIMIT ?"
	return from, f, nil
}

// span puts times and the end of the page before into ids: they grow with time.
func (s *snapshot) span(ctx context.Context, q store.AdmissionQuery) (least, most int64, err error) {
	const all = int64(1) << 62
	least, most = 0, all
	first := func(at time.Time, none int64) (id int64, err error) {
		err = s.row(ctx, "SELECT id FROM admission_verdicts WHERE received >= ? ORDER BY received, id LIMIT 1", []any{nanos(at)}, &id)
		if errors.Is(err, sql.ErrNoRows) {
			return none, nil
		}
		return id, err
	}
	if !q.Since.IsZero() {
		if least, err = first(q.Since, all); err != nil {
			return 0, 0, err
		}
	}
	if !q.Until.IsZero() {
		if most, err = first(q.Until, all); err != nil {
			return 0, 0, err
		}
	}
	if q.Before > 0 {
		most = min(most, q.Before)
	}
	return least, most, nil
}

// AdmissionRecords implements store.AdmissionVerdicts.
func (d *DB) AdmissionRecords(ctx context.Context, q store.AdmissionQuery) (all []store.AdmissionVerdict, err error) {
	limit := q.Limit
	if limit <= 0 || limit > store.MaxAdmissionRecords {
		limit = store.MaxAdmissionRecords
	}
	err = d.read(ctx, "read verdicts", func(s *snapshot) error {
		rows, err := s.verdicts(ctx, q, limit)
		if err != nil {
			return err
		}
		all, err = s.records(ctx, rows)
		return err
	})
	return all, err
}

// AdmissionVerdict implements store.AdmissionVerdicts.
func (d *DB) AdmissionVerdict(ctx context.Context, id int64) (v store.AdmissionVerdict, err error) {
	err = d.read(ctx, "read verdict", func(s *snapshot) error {
		var rows []verdictRow
		err := s.query(ctx, "SELECT "+verdictColumns+" FROM admission_verdicts v WHERE v.id = ?", []any{id}, func(r *sql.Rows) (bool, error) {
			row, err := scanVerdict(r.Scan)
			rows = append(rows, row)
			return true, err
		})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return fault.New(fault.NotFound, "no verdict %d is kept", id).With("castellan admit verdicts lists those that are")
		}
		all, err := s.records(ctx, rows)
		if err == nil {
			v = all[0]
		}
		return err
	})
	return v, err
}

// records completes rows with what they share with others, each read once.
func (s *snapshot) records(ctx context.Context, rows []verdictRow) (all []store.AdmissionVerdict, err error) {
	b := bodyReader{s: s, read: map[int64][]byte{}}
	defer b.o.close()
	for i := range rows {
		r := &rows[i]
		v := store.AdmissionVerdict{ID: r.ID, Received: r.Received, Agent: r.Agent, Actor: r.Actor, FactsLost: r.lost}
		if err := b.decode(ctx, r.request, &v.Request); err != nil {
			return nil, err
		}
		if err := b.decode(ctx, r.verdict, &v.Verdict); err != nil {
			return nil, err
		}
		v.Request.ID, v.Request.At, v.Verdict.Request, v.Verdict.At = r.Request, r.asked, r.Request, r.At
		if v.Facts, err = b.facts(ctx, r.ID); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// bodyReader reads bodies, and remembers them for the length of a page.
type bodyReader struct {
	s    *snapshot
	o    bodyOpener
	read map[int64][]byte
	size int
}

// maxRemembered bounds what is remembered of one page.
const maxRemembered = 64 << 20

func (b *bodyReader) plain(ctx context.Context, id int64) ([]byte, error) {
	if plain, ok := b.read[id]; ok {
		return plain, nil
	}
	var packed []byte
	if err := b.s.row(ctx, "SELECT body FROM admission_bodies WHERE id = ?", []any{id}, &packed); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return nil, corrupt(b.s.d.path, fmt.Errorf("a verdict rests on body %d, which is not there", id))
		}
		return nil, err
	}
	plain, err := b.o.open(packed)
	if err != nil {
		return nil, corrupt(b.s.d.path, err)
	}
	if b.size += len(plain); b.size > maxRemembered {
		clear(b.read)
		b.size = len(plain)
	}
	b.read[id] = plain
	return plain, nil
}

func (b *bodyReader) decode(ctx context.Context, id int64, v any) error {
	plain, err := b.plain(ctx, id)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return corrupt(b.s.d.path, fmt.Errorf("decode body %d: %w", id, err))
	}
	return nil
}

// facts are those of a verdict's images.
func (b *bodyReader) facts(ctx context.Context, verdict int64) (all []store.AdmissionFacts, err error) {
	var ids []int64
	err = b.s.query(ctx, "SELECT body FROM admission_facts WHERE verdict = ? ORDER BY position", []any{verdict}, func(r *sql.Rows) (bool, error) {
		var id int64
		err := r.Scan(&id)
		ids = append(ids, id)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		plain, err := b.plain(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, store.AdmissionFacts{Hash: sum(plain), JSON: plain})
	}
	return all, nil
}

// AdmissionTotals implements store.AdmissionVerdicts.
func (d *DB) AdmissionTotals(ctx context.Context, since time.Time) (t store.AdmissionTotals, err error) {
	t = store.AdmissionTotals{Outcomes: map[admission.Outcome]int64{}, Doors: map[admission.Door]int64{}, Rules: []store.AdmissionRuleTotal{}}
	rules := map[string]int64{}
	err = d.read(ctx, "count verdicts", func(s *snapshot) error {
		return s.query(ctx, "SELECT kind, name, count FROM admission_sums WHERE day >= ?", []any{dayOf(since)}, func(r *sql.Rows) (bool, error) {
			var kind int
			var name string
			var n int64
			err := r.Scan(&kind, &name, &n)
			switch kind {
			case sumOutcome:
				t.Outcomes[admission.Outcome(name)] += n
			case sumDoor:
				t.Doors[admission.Door(name)] += n
			case sumReason:
				rules[name] += n
			}
			return true, err
		})
	})
	for name, n := range rules {
		effect, rule, _ := strings.Cut(name, " ")
		t.Rules = append(t.Rules, store.AdmissionRuleTotal{Rule: rule, Effect: admission.Effect(effect), Reasons: n})
	}
	slices.SortFunc(t.Rules, func(a, b store.AdmissionRuleTotal) int {
		return cmp.Or(cmp.Compare(b.Reasons, a.Reasons), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Effect, b.Effect))
	})
	t.Rules = t.Rules[:min(len(t.Rules), store.MaxAdmissionRules)]
	return t, err
}
