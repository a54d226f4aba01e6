// Package cvss works out scores of vectors of the Common Vulnerability Scoring
// System, versions 2.0, 3.0, 3.1 and 4.0, from FIRST's specifications.
//
// It is for what publishers say of a weakness, so what only a user knows about
// his own systems is not applied to versions 2 and 3: their score is the base
// score. Version 4.0 has one score, of all metrics that the vector names.
package cvss

import (
	"errors"
	"fmt"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
)

// MaxLength bounds a vector. All metrics of version 4.0 together take 170 bytes.
const MaxLength = 512

// Score is what a vector comes to.
type Score struct {
	Version string // 2.0, 3.0, 3.1 or 4.0
	Base    float64
}

// Parse reads a vector and works out its score. Metrics may be in any order, each
// at most once; all of the base group must be there.
func Parse(vector string) (Score, error) {
	if len(vector) > MaxLength {
		return Score{}, fmt.Errorf("CVSS vector of %d bytes, at most %d are read", len(vector), MaxLength)
	}
	score, err := parse(vector)
	if err != nil {
		return Score{}, fmt.Errorf("CVSS vector %q: %w", vector, err)
	}
	return score, nil
}

func parse(vector string) (Score, error) {
	version, metrics, ok := strings.Cut(vector, "/")
	switch {
	case ok && version == "CVSS:4.0":
		return score4(metrics)
	case ok && (version == "CVSS:3.1" || version == "CVSS:3.0"):
		return score3(strings.TrimPrefix(version, "CVSS:"), metrics)
	case strings.HasPrefix(version, "CVSS:"):
		return Score{}, errors.New("unknown version")
	}
	return score2(strings.TrimSuffix(strings.TrimPrefix(vector, "("), ")"))
}

// Severity returns the qualitative rating of a score: of the specifications for
// versions 3 and 4, of NVD for version 2, which has none of its own.
func (s Score) Severity() finding.Severity {
	switch {
	case s.Version == "":
		return finding.Unknown
	case s.Version == "2.0":
		switch {
		case s.Base < 4:
			return finding.Low
		case s.Base < 7:
			return finding.Medium
		}
		return finding.High
	case s.Base == 0:
		return finding.Negligible
	case s.Base < 4:
		return finding.Low
	case s.Base < 7:
		return finding.Medium
	case s.Base < 9:
		return finding.High
	}
	return finding.Critical
}

// metric is one metric: its name, and its values in the order in which they are
// numbered. Values that stand for "not defined" are not among them.
type metric struct {
	name   string
	values string // separated by blanks
}

// undefined is the number of a value that is missing or "not defined".
const undefined = -1

// read numbers the values of a vector by the metrics of a version. notDefined is
// how that version writes that a metric means nothing.
func read(vector string, metrics []metric, notDefined string, levels []int8) error {
	for i := range levels {
		levels[i] = undefined
	}
	var seen uint64
	for part := range strings.SplitSeq(vector, "/") {
		name, value, _ := strings.Cut(part, ":")
		i, n := find(metrics, name, value, notDefined)
		switch {
		case i < 0:
			return fmt.Errorf("unknown metric %q", part)
		case n < undefined:
			return fmt.Errorf("unknown value in %q", part)
		case seen&(1<<i) != 0:
			return fmt.Errorf("metric %s twice", name)
		}
		seen |= 1 << i
		levels[i] = int8(n)
	}
	return nil
}

// find returns the number of a metric and of its value; the value's is less than
// undefined if there is no such value.
func find(metrics []metric, name, value, notDefined string) (i, n int) {
	for i, m := range metrics {
		if m.name != name {
			continue
		}
		if value == notDefined {
			return i, undefined
		}
		n := 0
		for v := range strings.SplitSeq(m.values, " ") {
			if v == value && v != "-" {
				return i, n
			}
			n++
		}
		return i, undefined - 1
	}
	return -1, 0
}

// whole returns an error unless the first metrics, the base group, all have a
// value.
func whole(metrics []metric, levels []int8, base int) error {
	for i := range base {
		if levels[i] == undefined {
			return fmt.Errorf("metric %s is missing", metrics[i].name)
		}
	}
	return nil
}
