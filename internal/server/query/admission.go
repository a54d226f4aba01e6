package query

import (
	"math"
	"net/url"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/store"
)

// Outcomes lists the words that the parameter outcome takes, what was refused first.
func Outcomes() []admission.Outcome {
	return []admission.Outcome{admission.Deny, admission.Wait, admission.Allow}
}

// Admission reads outcome, door, rule, group, family, cluster, service, image, host,
// audited, since, until, before and limit. since and until are as in Time. The error
// is Invalid and names the parameter.
func Admission(v url.Values, now time.Time) (store.AdmissionQuery, error) {
	r := &reader{v: v}
	q := store.AdmissionQuery{
		Outcome: admission.Outcome(r.text("outcome", maxName)),
		Door:    admission.Door(r.text("door", maxName)),
		Rule:    r.text("rule", maxName),
		Group:   asset.Group(r.text("group", maxName)),
		Family:  r.text("family", maxName),
		Cluster: r.text("cluster", maxName),
		Service: r.text("service", maxName),
		Image:   r.text("image", maxName),
		Host:    r.text("host", maxName),
		Audited: r.flag("audited"),
		Since:   r.time("since", now),
		Until:   r.time("until", now),
		Before:  r.number("before", math.MaxInt64),
		Limit:   r.limit(),
	}
	if q.Outcome != "" && !slices.Contains(Outcomes(), q.Outcome) {
		r.fail("outcome", "%q is not an outcome; the outcomes are %v", clip(string(q.Outcome)), Outcomes())
	}
	if q.Door != "" && !slices.Contains(admission.Doors(), q.Door) {
		r.fail("door", "%q is not a door; the doors are %v", clip(string(q.Door)), admission.Doors())
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since) {
		r.fail("until", "lies before since")
	}
	if r.err != nil {
		return store.AdmissionQuery{}, r.err
	}
	return q, nil
}
