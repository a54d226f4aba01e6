package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// maxBuckets bounds what EventRate returns a kind: more points than any chart
// has pixels.
const maxBuckets = 5_000

const sqlRates = `SELECT start - start % ?, kind, sum(events) FROM event_rates
	WHERE workload = ? AND span = ? AND start >= ? AND start < ? GROUP BY 1, 2 ORDER BY 1, 2`

// EventRate implements store.EventStats. Steps of whole hours are answered
// from hourly sums, all others from sums a minute; a step that is not whole
// minutes is rounded up.
func (d *DB) EventRate(ctx context.Context, workloadID string, since, until time.Time, step time.Duration) (rates []store.Rate, err error) {
	seconds := max(int64((step+time.Minute-1)/time.Minute), 1) * minuteSpan
	from, to := since.Unix(), until.Add(time.Second-1).Unix()
	from -= floorMod(from, seconds)
	to += floorMod(-to, seconds)
	if (to-from)/seconds > maxBuckets {
		return nil, fault.New(fault.Invalid, "more than %d buckets: ask for a longer step or a shorter time", maxBuckets)
	}
	span := int64(minuteSpan)
	if seconds%hourSpan == 0 {
		span = hourSpan
	}
	err = d.read(ctx, "read event rate", func(s *snapshot) error {
		workload := int64(0)
		if workloadID != "" {
			id, err := s.termID(ctx, dimWorkload, workloadID)
			if err != nil || id == 0 {
				return err
			}
			workload = id
		}
		rates, err = s.rates(ctx, []any{seconds, workload, span, from, to})
		return err
	})
	return rates, err
}

func (s *snapshot) rates(ctx context.Context, args []any) ([]store.Rate, error) {
	type sum struct{ start, kind, events int64 }
	var sums []sum
	err := s.query(ctx, sqlRates, args, func(r *sql.Rows) (bool, error) {
		var v sum
		err := r.Scan(&v.start, &v.kind, &v.events)
		sums = append(sums, v)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	rates := make([]store.Rate, 0, len(sums))
	for _, v := range sums {
		kind, err := s.text(ctx, v.kind)
		if err != nil {
			return nil, err
		}
		rates = append(rates, store.Rate{Start: time.Unix(v.start, 0).UTC(), Kind: event.Kind(kind), Count: v.events})
	}
	return rates, nil
}
