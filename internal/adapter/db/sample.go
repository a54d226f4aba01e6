package db

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxSampleBytes bounds the texts of one sample: a host cannot lack more
	// than a sample has fields.
	maxSampleBytes = 1 << 10
	// sampleForm is the first byte of a stored sample; within a form fields
	// are only added at the end.
	sampleForm = 1
)

// PutSamples implements store.Samples.
func (d *DB) PutSamples(ctx context.Context, samples []asset.Sample) error {
	for i := range samples {
		if n := sampleText(&samples[i]); n > maxSampleBytes {
			return fault.New(fault.Invalid, "a sample of %.80q has %d bytes of text, at most %d fit", samples[i].WorkloadID, n, maxSampleBytes)
		}
	}
	if len(samples) == 0 {
		return nil
	}
	return d.write(ctx, "store samples", func(ctx context.Context, w *writer) error {
		if err := w.load(ctx); err != nil {
			return err
		}
		values := make([]any, 0, 4*len(samples))
		for i := range samples {
			v := &samples[i]
			workload, err := w.term(ctx, dimWorkload, v.WorkloadID)
			if err != nil {
				return err
			}
			values = append(values, workload, nanos(v.Time), appendSample(nil, v), 1)
		}
		err := w.bulk(ctx, "INSERT INTO samples (workload, time, body, raw) VALUES ",
			" ON CONFLICT (workload, time) DO UPDATE SET body = excluded.body, raw = excluded.raw", 4, values)
		if err != nil {
			return err
		}
		return w.putCounters(ctx)
	})
}

func sampleText(v *asset.Sample) int {
	n := len(v.WorkloadID)
	for _, m := range v.Missing {
		n += len(m) + 1
	}
	return n
}

// sampleNumbers are the fields without a sign in the order in which they are
// stored.
func sampleNumbers(v *asset.Sample) [11]*uint64 {
	return [...]*uint64{
		&v.CPULimit, &v.Memory, &v.MemoryLimit, &v.Pids, &v.PidsLimit, &v.Descriptors,
		&v.DiskRead, &v.DiskWritten, &v.NetworkReceived, &v.NetworkSent, &v.OOMKills,
	}
}

func appendSample(b []byte, v *asset.Sample) []byte {
	b = append(b, sampleForm)
	b = binary.AppendVarint(b, int64(v.CPU))
	b = binary.AppendVarint(b, int64(v.Throttled))
	for _, n := range sampleNumbers(v) {
		b = binary.AppendUvarint(b, *n)
	}
	return appendTexts(b, v.Missing)
}

// decodeSample fills in what appendSample wrote.
func decodeSample(body []byte, v *asset.Sample) error {
	if len(body) == 0 || body[0] != sampleForm {
		return errSample
	}
	r := &payloadReader{b: body[1:]}
	v.CPU, v.Throttled = time.Duration(r.varint()), time.Duration(r.varint())
	for _, n := range sampleNumbers(v) {
		*n = r.uvarint()
	}
	v.Missing = r.texts()
	if r.bad {
		return errSample
	}
	return nil
}

var errSample = errors.New("the stored form of a sample is damaged")

const sqlSamples = `SELECT time, body FROM samples WHERE workload = ? AND time >= ? AND time < ?
	ORDER BY time DESC LIMIT ?`

// Samples implements store.Samples. Steps begin at multiples of step since the
// Unix epoch. Where there are more than MaxSamples it returns the newest.
func (d *DB) Samples(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) (samples []asset.Sample, err error) {
	err = d.read(ctx, "read samples", func(s *snapshot) error {
		workload, err := s.termID(ctx, dimWorkload, workloadID)
		if err != nil || workload == 0 {
			return err
		}
		from, to := nanos(since), nanos(until)
		if step <= 0 {
			samples, err = s.samples(ctx, workload, from, to, store.MaxSamples)
			return err
		}
		// One seek a step, from the newest down: what lies between is not read.
		for len(samples) < store.MaxSamples {
			last, err := s.samples(ctx, workload, from, to, 1)
			if err != nil || len(last) == 0 {
				return err
			}
			samples = append(samples, last[0])
			at := nanos(last[0].Time)
			to = at - floorMod(at, int64(step))
		}
		return nil
	})
	for i := range samples {
		samples[i].WorkloadID = workloadID
	}
	slices.Reverse(samples)
	return samples, err
}

// samples returns the newest of a span, newest first.
func (s *snapshot) samples(ctx context.Context, workload, from, to int64, limit int) ([]asset.Sample, error) {
	var found []asset.Sample
	err := s.query(ctx, sqlSamples, []any{workload, from, to, limit}, func(r *sql.Rows) (bool, error) {
		var v asset.Sample
		var at int64
		var body []byte
		if err := r.Scan(&at, &body); err != nil {
			return false, err
		}
		v.Time = fromNanos(at)
		if err := decodeSample(body, &v); err != nil {
			return false, corrupt(s.d.path, fmt.Errorf("a sample of workload %d: %w", workload, err))
		}
		found = append(found, v)
		return true, nil
	})
	return found, err
}

const (
	// rawSamples is how long all samples are kept, thinStep how far apart they
	// are afterwards: a chart of more than a day has no pixels for more.
	rawSamples = 24 * time.Hour
	thinStep   = 5 * time.Minute
	// samplesAhead is how far an agent's clock may be ahead. Charts end now, so
	// what lies beyond is never seen, and no age would ever remove it.
	samplesAhead = 24 * time.Hour
	// thinOnce is how many spans of thinStep one transaction thins out.
	thinOnce = 200
)

// thinSamples leaves the last sample of each step of those that are old.
func thinSamples(now time.Time) pruneStep {
	cut := nanos(now.Add(-rawSamples))
	cut -= floorMod(cut, int64(thinStep))
	return func(ctx context.Context, w *writer) (int64, bool, error) {
		var total int64
		for range thinOnce {
			var workload, at int64
			err := w.row(ctx, "SELECT workload, time FROM samples WHERE raw = 1 AND time < ? ORDER BY time LIMIT 1",
				[]any{cut}, &workload, &at)
			if errors.Is(err, sql.ErrNoRows) {
				return total, false, nil
			}
			if err != nil {
				return total, false, err
			}
			n, err := w.thin(ctx, workload, at-floorMod(at, int64(thinStep)))
			if err != nil {
				return total, false, err
			}
			total += n
		}
		return total, true, nil
	}
}

// thin leaves the last sample of one workload in one step.
func (w *writer) thin(ctx context.Context, workload, from int64) (int64, error) {
	to := from + int64(thinStep)
	var last int64
	err := w.row(ctx, "SELECT max(time) FROM samples WHERE workload = ? AND time >= ? AND time < ?", []any{workload, from, to}, &last)
	if err != nil {
		return 0, err
	}
	n, err := w.exec(ctx, "DELETE FROM samples WHERE workload = ? AND time >= ? AND time < ?", workload, from, last)
	if err != nil {
		return 0, err
	}
	_, err = w.exec(ctx, "UPDATE samples SET raw = 0 WHERE workload = ? AND time = ?", workload, last)
	return n, err
}
