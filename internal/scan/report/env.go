package report

import (
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/finding"
)

// writeEnv writes the verdict and the numbers as NAME=VALUE, for a script to read.
// No value holds anything but letters, digits and dashes. What is accepted, known
// before or doubtful is in no number.
func writeEnv(w io.Writer, reports []Report, _ Options) error {
	verdict := "none" // nothing was demanded
	var violations, unreadable, fixable, exploited int
	var kinds [4]int
	var by [finding.Critical + 1]int
	for i := range reports {
		r := &reports[i]
		if r.Gate != nil {
			if verdict == "none" {
				verdict = "passed"
			}
			if !r.Gate.Passed() {
				verdict = "failed"
			}
			violations += len(r.Gate.Violations) + len(r.Gate.Problems)
		}
		unreadable += len(r.Inventory.Problems)
		vulnerabilities := r.counts()
		fixable += vulnerabilities.Fixable
		exploited += vulnerabilities.KEV
		faults, notes := r.faultCounts()
		faults.Shown -= notes
		for k, c := range []counts{vulnerabilities, r.secretCounts().counts, faults, r.malwareCounts().counts} {
			kinds[k] += c.Shown
			for s, n := range c.by {
				by[s] += n
			}
		}
	}
	_, err := fmt.Fprintf(w, `CASTELLAN_VERDICT=%s
CASTELLAN_VIOLATIONS=%d
CASTELLAN_VULNERABILITIES=%d
CASTELLAN_SECRETS=%d
CASTELLAN_FAULTS=%d
CASTELLAN_MALWARE=%d
CASTELLAN_CRITICAL=%d
CASTELLAN_HIGH=%d
CASTELLAN_MEDIUM=%d
CASTELLAN_LOW=%d
CASTELLAN_FIXABLE=%d
CASTELLAN_EXPLOITED=%d
CASTELLAN_UNREADABLE=%d
`, verdict, violations, kinds[0], kinds[1], kinds[2], kinds[3], by[finding.Critical], by[finding.High], by[finding.Medium], by[finding.Low], fixable, exploited, unreadable)
	return err
}
