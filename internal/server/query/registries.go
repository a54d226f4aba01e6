package query

import (
	"math"
	"net/url"
	"slices"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/store"
)

// RegistryImages reads repository, state, severity, text, after and limit. The
// error is Invalid and names the parameter.
func RegistryImages(v url.Values) (store.RegistryImageQuery, error) {
	r := &reader{v: v}
	q := store.RegistryImageQuery{
		Repository: r.text("repository", maxName),
		State:      store.RegistryState(r.text("state", maxName)),
		Text:       r.text("text", maxText),
		After:      r.number("after", math.MaxInt64),
		Limit:      r.limit(),
	}
	if q.State != "" && !slices.Contains(store.RegistryStates(), q.State) {
		r.fail("state", "%q is not a state of an image of a registry; the states are %v", clip(string(q.State)), store.RegistryStates())
	}
	if word := v.Get("severity"); word != "" {
		i := slices.IndexFunc(RegistrySeverities(), func(s finding.Severity) bool { return s.String() == word })
		if i < 0 {
			r.fail("severity", "%q is not a severity; the severities are %v", clip(word), RegistrySeverities())
		}
		q.Severity = len(RegistrySeverities()) - i + 1 // 1 is what nobody has rated
	}
	if r.err != nil {
		return store.RegistryImageQuery{}, r.err
	}
	return q, nil
}

// RegistrySeverities lists the words that the parameter severity of a registry's
// images takes, the gravest first.
func RegistrySeverities() []finding.Severity {
	return []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Low}
}
