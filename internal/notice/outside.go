package notice

import (
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
)

// MaxOutside bounds the violations of one notice; the console has all.
const MaxOutside = 20

// Outside is something that a workload did and the profile of its group has not.
type Outside struct {
	// Fingerprint is the same for what differs only in time, process and host.
	Fingerprint string `json:"fingerprint"`
	Sentence    string `json:"sentence"`
	Control     string `json:"control"` // exec, file, network, privilege, resource
	// Reaction is what happened to it: reported, audited, denied or killed.
	Reaction string           `json:"reaction"`
	Severity finding.Severity `json:"severity"`
	Count    int              `json:"count"`
	First    time.Time        `json:"first"`
	Last     time.Time        `json:"last"`
}

// Fold makes n stand for have, too, which was to be told before it of the same
// Subject: what is new of it is added, so that a storm is one notice. Only notices of
// violations fold; of others the newer one replaces the older.
func (n *Notice) Fold(have *Notice) {
	if n.Kind != Violation || have.Kind != Violation {
		return
	}
	n.Outside = slices.Clone(n.Outside)
	n.LeftOut += have.LeftOut
	n.Count += have.Count
	for i := range have.Outside {
		h := &have.Outside[i]
		k := slices.IndexFunc(n.Outside, func(o Outside) bool { return o.Fingerprint == h.Fingerprint })
		if k < 0 {
			n.Outside = append(n.Outside, *h)
			continue
		}
		o := &n.Outside[k]
		o.Count += h.Count
		o.Severity = max(o.Severity, h.Severity)
		if h.First.Before(o.First) {
			o.First = h.First
		}
	}
	if have.Time.After(n.Time) {
		n.Time, n.Workload = have.Time, have.Workload
	}
	n.Told()
}

// Told puts the violations of a notice in order, the gravest and newest first, and
// makes its title, severity and detail of them. Those that have no room are counted.
func (n *Notice) Told() {
	slices.SortStableFunc(n.Outside, func(a, b Outside) int {
		if a.Severity != b.Severity {
			return int(b.Severity) - int(a.Severity)
		}
		return b.Last.Compare(a.Last)
	})
	if more := len(n.Outside) - MaxOutside; more > 0 {
		n.Outside, n.LeftOut = n.Outside[:MaxOutside], n.LeftOut+more
	}
	if len(n.Outside) == 0 {
		return
	}
	group := ""
	if n.Workload != nil {
		group = n.Workload.Group
	}
	n.Severity = n.Outside[0].Severity
	n.Title = group + ": " + n.Outside[0].Sentence
	n.Detail = ""
	kinds := len(n.Outside) + n.LeftOut
	if kinds == 1 {
		return
	}
	n.Title = fmt.Sprintf("%s did %d things that its profile has not: %s, …", group, kinds, n.Outside[0].Sentence)
	for i := range n.Outside {
		o := &n.Outside[i]
		n.Detail += oneLine(o.Sentence)
		if o.Count > 1 {
			n.Detail += fmt.Sprintf(" (%d times)", o.Count)
		}
		n.Detail += "\n"
	}
	if n.LeftOut > 0 {
		n.Detail += fmt.Sprintf("and %d more", n.LeftOut)
	}
}

// oneLine has a text of others make no lines of its own.
func oneLine(s string) string {
	b := []rune(s)
	for i, r := range b {
		if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 || r == 0x85 {
			b[i] = ' '
		}
	}
	return string(b)
}
