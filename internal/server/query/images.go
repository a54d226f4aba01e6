package query

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// maxOffset bounds how deep a listing of findings may be turned: a fleet has no
// more, and what is deeper nobody reads page by page.
const maxOffset = 10_000_000

// Images reads text, state, owner, running, after and limit. The error is Invalid and
// names the parameter.
func Images(v url.Values) (store.ImageQuery, error) {
	r := &reader{v: v}
	q := store.ImageQuery{
		Text:    r.text("text", maxText),
		State:   store.ScanState(r.text("state", maxName)),
		Owner:   r.text("owner", maxName),
		Running: r.flag("running"),
		After:   r.text("after", maxName),
		Limit:   r.limit(),
	}
	if q.State != "" && !slices.Contains(ScanStates(), q.State) {
		r.fail("state", "%q is not a state of a scan; the states are %v", clip(string(q.State)), ScanStates())
	}
	if r.err != nil {
		return store.ImageQuery{}, r.err
	}
	return q, nil
}

// ScanStates lists the words that the parameter state of images takes.
func ScanStates() []store.ScanState {
	return []store.ScanState{store.ScanWaiting, store.ScanRunning, store.ScanDone, store.ScanFailed, store.ScanGone}
}

// Vulnerabilities reads image, id, package, severity, fixable, exploited,
// in-use, running, owner, accepted, text, offset and limit. The error is Invalid and
// names the parameter.
func Vulnerabilities(v url.Values) (store.VulnerabilityQuery, error) {
	r := &reader{v: v}
	q := store.VulnerabilityQuery{
		ImageID:   r.text("image", maxName),
		ID:        r.text("id", maxName),
		Package:   r.text("package", maxName),
		Fixable:   r.flag("fixable"),
		Exploited: r.flag("exploited"),
		InUse:     r.flag("in-use"),
		Running:   r.flag("running"),
		Owner:     r.text("owner", maxName),
		Accepted:  r.flag("accepted"),
		Text:      r.text("text", maxText),
		Offset:    int(r.number("offset", maxOffset)),
		Limit:     r.limit(),
	}
	q.Severity = r.severity()
	if r.err != nil {
		return store.VulnerabilityQuery{}, r.err
	}
	return q, nil
}

// Findings reads image, key, severity, owner, running, accepted, text, offset and
// limit, for findings of a kind. The error is Invalid and names the parameter.
func Findings(kind store.FindingKind, v url.Values) (store.FindingQuery, error) {
	r := &reader{v: v}
	q := store.FindingQuery{
		Kind:     kind,
		ImageID:  r.text("image", maxName),
		Key:      r.text("key", maxName),
		Severity: r.severity(),
		Owner:    r.text("owner", maxName),
		Running:  r.flag("running"),
		Accepted: r.flag("accepted"),
		Text:     r.text("text", maxText),
		Offset:   int(r.number("offset", maxOffset)),
		Limit:    r.limit(),
	}
	if r.err != nil {
		return store.FindingQuery{}, r.err
	}
	return q, nil
}

// severity reads the parameter of that name.
func (r *reader) severity() finding.Severity {
	word := r.v.Get("severity")
	if word == "" {
		return finding.Unknown
	}
	s, err := finding.ParseSeverity(word)
	if err != nil {
		r.fail("severity", "%q is not a severity; the severities are %v", clip(word), Severities())
	}
	return s
}

// Severities lists the words that the parameter severity takes, the gravest
// first. It asks for what is at least that grave, so that "unknown" asks for
// nothing and is not among them.
func Severities() []finding.Severity {
	return []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Low, finding.Negligible}
}

// Expiry returns when a decision ends that is to hold for a time ("30d", "12h")
// or until a day ("2027-01-31", that day included) or a moment (RFC 3339). One
// of the two must be given.
func Expiry(long, until string, now time.Time) (time.Time, error) {
	long, until = strings.TrimSpace(long), strings.TrimSpace(until)
	switch {
	case long != "" && until != "":
		return time.Time{}, fault.New(fault.Invalid, "say either for how long or until when, not both")
	case long != "":
		d, err := Duration(long)
		if err != nil {
			return time.Time{}, fault.New(fault.Invalid, "%q is no length of time like 12h or 30d", clip(long))
		}
		if d == 0 {
			return time.Time{}, fault.New(fault.Invalid, "for no time at all is never")
		}
		return now.Add(d), nil
	case until == "":
		return time.Time{}, fault.New(fault.Invalid, "say for how long (30d) or until when (2027-01-31)")
	}
	if day, err := time.Parse(time.DateOnly, until); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, until)
	if err != nil {
		return time.Time{}, fault.New(fault.Invalid, "%q is neither a day like 2027-01-31 nor a time like 2027-01-31T12:00:00Z", clip(until))
	}
	return t, nil
}
