package query

import (
	"net/url"
	"time"

	"github.com/castellan-security/castellan/internal/store"
)

// Times that are looked back unless the question says otherwise.
const (
	flowsBack   = 24 * time.Hour
	samplesBack = time.Hour
)

// minStep is the least step between two samples: agents take them in seconds.
const minStep = time.Second

// Flows reads workload, group, since, until and limit. The error is Invalid and
// names the parameter.
func Flows(v url.Values, now time.Time) (store.FlowQuery, error) {
	r := &reader{v: v}
	q := store.FlowQuery{
		WorkloadID: r.text("workload", maxName),
		Group:      r.text("group", maxName),
		Limit:      int(r.number("limit", store.MaxFlows)),
	}
	q.Since, q.Until = r.span(now, flowsBack)
	if q.Limit == 0 {
		q.Limit = store.MaxFlows
	}
	if r.err != nil {
		return store.FlowQuery{}, r.err
	}
	return q, nil
}

// Samples reads since, until and step; without a step it is as long as makes
// the answer fit. The error is Invalid and names the parameter.
func Samples(v url.Values, now time.Time) (since, until time.Time, step time.Duration, err error) {
	r := &reader{v: v}
	since, until = r.span(now, samplesBack)
	long := until.Sub(since)
	if text := v.Get("step"); text != "" {
		if step, err = Duration(text); err != nil {
			r.fail("step", "%w", err)
		} else if step < minStep || long/step > store.MaxSamples {
			r.fail("step", "want at least %s, and at most %d steps in all", minStep, store.MaxSamples)
		}
	} else if long/minStep > store.MaxSamples {
		step = (long/store.MaxSamples + minStep).Truncate(minStep)
	}
	if r.err != nil {
		return time.Time{}, time.Time{}, 0, r.err
	}
	return since, until, step, nil
}

// span reads since and until: to now, and from back before that, unless they
// say otherwise.
func (r *reader) span(now time.Time, back time.Duration) (since, until time.Time) {
	since, until = r.time("since", now), r.time("until", now)
	if until.IsZero() {
		until = now
	}
	if since.IsZero() {
		since = until.Add(-back)
	}
	if !since.Before(until) {
		r.fail("until", "lies before since")
	}
	return since, until
}
