package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// Kinds of terms by which verdicts are found.
const (
	termRule = 1 + iota
	termGroup
	termFamily
	termCluster
	termService
	termImageName // digest, the engine's id, or repository
	termHost
)

// Kinds of sums.
const (
	sumOutcome = 1 + iota
	sumDoor
	sumReason // effect, a space, and the rule
)

const (
	// maxVerdictTerms bounds the terms of one verdict: a task of ten containers has some
	// fifty.
	maxVerdictTerms = 256
	// fewTold bounds the images and rules that a line tells of.
	fewTold = 8
	// maxLineText bounds each text of a line.
	maxLineText = 512
	// maxReasonSums bounds the rules that are counted a day: agents name them, and
	// may name whatever they like.
	maxReasonSums = 2_000
)

// admissionLine is what lists tell of a verdict beside the columns.
type admissionLine struct {
	Action   admission.Action `json:"action"`
	Declared bool             `json:"declared,omitempty"`
	Policy   string           `json:"policy,omitempty"`
	Place    admission.Place  `json:"place"`
	Family   string           `json:"family,omitempty"`
	Images   []string         `json:"images"`
	Rules    []string         `json:"rules"`
	Reasons  int              `json:"reasons"`
	Message  string           `json:"message,omitempty"`
}

// admissionRow is a verdict on its way into the store.
type admissionRow struct {
	v                *store.AdmissionVerdict
	request, verdict []byte // JSON, of what verdicts share
	line             string
	audited          bool
	lost             bool
	terms            []admissionTerm
}

type admissionTerm struct {
	kind int
	term string
}

// PutAdmissionVerdicts implements store.AdmissionVerdicts.
func (d *DB) PutAdmissionVerdicts(ctx context.Context, vs []store.AdmissionVerdict) error {
	if len(vs) > store.MaxAdmissionBatch {
		return fault.New(fault.Invalid, "%d verdicts at once, at most %d are taken", len(vs), store.MaxAdmissionBatch)
	}
	rows := make([]admissionRow, 0, len(vs))
	for i := range vs {
		r, err := newAdmissionRow(&vs[i])
		if err != nil {
			return err
		}
		rows = append(rows, r)
		yield(i)
	}
	if len(rows) == 0 {
		return nil
	}
	return d.write(ctx, "store verdicts", func(ctx context.Context, w *writer) error {
		b := admissionBatch{sums: admissionSums{}}
		defer b.packer.close()
		for i := range rows {
			if err := w.putAdmission(ctx, &rows[i], &b); err != nil {
				return err
			}
			yield(i)
		}
		if err := w.bulk(ctx, "INSERT INTO admission_facts (verdict, position, body) VALUES ", "", 3, b.facts); err != nil {
			return err
		}
		if err := w.bulk(ctx, "INSERT INTO admission_terms (kind, term, verdict) VALUES ", "", 3, b.terms); err != nil {
			return err
		}
		return w.putSums(ctx, b.sums)
	})
}

// yield lets others go first after every few of many: decisions wait for the same
// processors, and Go would let them wait ten milliseconds at a time.
func yield(done int) {
	const few = 4
	if done%few == few-1 {
		runtime.Gosched()
	}
}

// admissionBatch is what the verdicts that are stored together have in common:
// rows that are written together, too.
type admissionBatch struct {
	packer       bodyPacker
	sums         admissionSums
	facts, terms []any
}

// newAdmissionRow encodes a verdict.
func newAdmissionRow(v *store.AdmissionVerdict) (r admissionRow, err error) {
	request, verdict := v.Request, v.Verdict
	request.ID, request.At, verdict.Request, verdict.At = "", time.Time{}, "", time.Time{}
	r = admissionRow{v: v, lost: v.FactsLost}
	if r.request, err = json.Marshal(request); err != nil {
		return r, fmt.Errorf("encode request %.80q: %w", v.Request.ID, err)
	}
	if r.verdict, err = json.Marshal(verdict); err != nil {
		return r, fmt.Errorf("encode the verdict of request %.80q: %w", v.Request.ID, err)
	}
	if len(r.request) > store.MaxAdmissionRequest || len(r.verdict) > store.MaxAdmissionReasons {
		return r, fault.New(fault.Invalid, "request %.80q has %d bytes and its verdict %d; at most %d and %d are kept",
			v.Request.ID, len(r.request), len(r.verdict), store.MaxAdmissionRequest, store.MaxAdmissionReasons)
	}
	size := 0
	for i := range v.Facts {
		size += len(v.Facts[i].JSON)
	}
	r.lost = r.lost || size > store.MaxAdmissionFacts
	r.audited = slices.ContainsFunc(v.Verdict.Reasons, func(x admission.Reason) bool { return x.Effect == admission.Audited })
	line, err := json.Marshal(lineOf(v))
	r.line, r.terms = string(line), termsOf(v)
	return r, err
}

// lineOf is what lists tell of a verdict.
func lineOf(v *store.AdmissionVerdict) admissionLine {
	l := admissionLine{Action: v.Request.Action, Declared: v.Verdict.Declared, Policy: v.Verdict.Policy, Place: v.Request.Place,
		Family: clip(v.Request.Task.Family), Images: []string{}, Rules: []string{}, Reasons: len(v.Verdict.Reasons)}
	p := &l.Place
	for _, t := range [...]*string{&p.Account, &p.Region, &p.Cluster, &p.Service, &p.Host, &p.File, &l.Policy} {
		*t = clip(*t)
	}
	for i := range v.Request.Task.Containers {
		if name := clip(v.Request.Task.Containers[i].Image.Reference); len(l.Images) < fewTold && name != "" && !slices.Contains(l.Images, name) {
			l.Images = append(l.Images, name)
		}
	}
	for i := range v.Verdict.Reasons {
		if rule := clip(v.Verdict.Reasons[i].Rule); len(l.Rules) < fewTold && !slices.Contains(l.Rules, rule) {
			l.Rules = append(l.Rules, rule)
		}
	}
	if len(v.Verdict.Reasons) > 0 {
		l.Message = clip(v.Verdict.Reasons[0].Message)
	}
	return l
}

// termsOf are those by which a verdict is found.
func termsOf(v *store.AdmissionVerdict) (all []admissionTerm) {
	add := func(kind int, text string) {
		t := admissionTerm{kind, clip(text)}
		if text != "" && len(all) < maxVerdictTerms && !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	r := &v.Request
	add(termHost, r.Place.Host)
	add(termCluster, r.Place.Cluster)
	add(termService, r.Place.Service)
	add(termFamily, r.Task.Family)
	for i := range v.Verdict.Reasons {
		add(termRule, v.Verdict.Reasons[i].Rule)
	}
	for i := range r.Task.Containers {
		c := &r.Task.Containers[i]
		add(termGroup, string(groupOf(r, c.Name)))
		for _, image := range c.Images() {
			add(termImageName, image.Digest)
			add(termImageName, image.ID)
			if image.Repository != "" {
				add(termImageName, image.Registry+"/"+image.Repository)
			}
		}
	}
	return all
}

// groupOf is the group that a container would be of.
func groupOf(r *admission.Request, container string) asset.Group {
	w := asset.Workload{Name: container, ECS: asset.ECS{Cluster: r.Place.Cluster, Service: r.Place.Service, Family: r.Task.Family}}
	if r.Task.Family != "" || r.Place.Service != "" {
		w.ECS.Container = container
	}
	return asset.GroupOf(w)
}

// putAdmission stores one verdict, unless the agent has told of it before.
func (w *writer) putAdmission(ctx context.Context, r *admissionRow, b *admissionBatch) error {
	v, p := r.v, &b.packer
	if v.Agent != "" {
		var have int64
		err := w.row(ctx, "SELECT id FROM admission_verdicts WHERE request_id = ? AND agent = ? AND at = ? LIMIT 1",
			[]any{v.Request.ID, v.Agent, nanos(v.Verdict.At)}, &have)
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	request, err := w.sharedBody(ctx, sha256.Sum256(r.request), r.request, p)
	if err != nil {
		return err
	}
	verdict, err := w.sharedBody(ctx, sha256.Sum256(r.verdict), r.verdict, p)
	if err != nil {
		return err
	}
	id, err := w.insert(ctx, `INSERT INTO admission_verdicts (received, at, asked, request_id, agent, actor, door, outcome, audited, facts_lost,
		request, verdict, line) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, nanos(v.Received), nanos(v.Verdict.At), nanos(v.Request.At), v.Request.ID, v.Agent,
		v.Actor, string(v.Request.Door), string(v.Verdict.Outcome), r.audited, r.lost, request, verdict, r.line)
	if err != nil {
		return err
	}
	if !r.lost {
		for i := range v.Facts {
			body, err := w.sharedBody(ctx, v.Facts[i].Hash, v.Facts[i].JSON, p)
			if err != nil {
				return err
			}
			b.facts = append(b.facts, id, i, body)
		}
	}
	for _, t := range r.terms {
		b.terms = append(b.terms, t.kind, t.term, id)
	}
	b.sums.add(v)
	return nil
}

// sharedBody returns the id of a body, and stores it if it is not there.
func (w *writer) sharedBody(ctx context.Context, hash [sha256.Size]byte, plain []byte, p *bodyPacker) (id int64, err error) {
	if id, ok := w.memo.bodies[hash]; ok {
		return id, nil
	}
	err = w.row(ctx, "SELECT id FROM admission_bodies WHERE hash = ?", []any{hash[:]}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		var packed []byte
		if packed, err = p.pack(plain); err != nil {
			return 0, err
		}
		id, err = w.insert(ctx, "INSERT INTO admission_bodies (hash, body) VALUES (?,?)", hash[:], packed)
	}
	if err != nil {
		return 0, err
	}
	if w.memo.bodies == nil || len(w.memo.bodies) >= maxMemo {
		w.memo.bodies = map[[sha256.Size]byte]int64{}
	}
	w.memo.bodies[hash] = id
	return id, nil
}

// admissionSums are what a batch adds to the sums of days.
type admissionSums map[admissionSum]int64

type admissionSum struct {
	day  int64
	kind int
	name string
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

func (a admissionSums) add(v *store.AdmissionVerdict) {
	day := dayOf(v.Received)
	a[admissionSum{day, sumOutcome, string(v.Verdict.Outcome)}]++
	a[admissionSum{day, sumDoor, string(v.Request.Door)}]++
	for i := range v.Verdict.Reasons {
		x := &v.Verdict.Reasons[i]
		a[admissionSum{day, sumReason, clip(string(x.Effect) + " " + x.Rule)}]++
	}
}

// putSums adds to the sums of days. A rule beyond those that are counted a day is
// not counted.
func (w *writer) putSums(ctx context.Context, sums admissionSums) error {
	for s, n := range sums {
		changed, err := w.exec(ctx, "UPDATE admission_sums SET count = count + ? WHERE day = ? AND kind = ? AND name = ?", n, s.day, s.kind, s.name)
		if err != nil {
			return err
		}
		if changed > 0 {
			continue
		}
		_, err = w.exec(ctx, `INSERT INTO admission_sums (day, kind, name, count)
			SELECT ?, ?, ?, ? WHERE (SELECT count(name) FROM admission_sums WHERE day = ? AND kind = ?) < ?`,
			s.day, s.kind, s.name, n, s.day, s.kind, maxReasonSums)
		if err != nil {
			return err
		}
	}
	return nil
}
