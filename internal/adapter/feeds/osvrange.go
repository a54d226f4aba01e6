package feeds

import (
	"cmp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/advisory"
)

// event is one change of state on the line of versions.
type event struct {
	kind    kind
	version string
}

type kind uint8

const (
	introduced kind = iota
	fixed
	last // affected
	limit
)

// rangesOf reads the ranges of one package.
func (o *osvReader) rangesOf() []advisory.Range {
	r := &o.json
	if !r.Array() {
		return nil
	}
	var all []advisory.Range
	for r.Next() {
		typ := ""
		o.events = o.events[:0]
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "type":
					typ = o.words.of(r.Bytes())
				case "events":
					o.readEvents()
				default: // repo, database_specific: no effect on the evaluation
					r.Skip()
				}
			}
		}
		switch {
		case typ == "GIT":
			o.tally.skip(SkipGitRange)
		case typ != "SEMVER" && typ != "ECOSYSTEM":
			o.tally.skip(SkipUnknownRange)
		default:
			all = appendRanges(all, o.events, typ == "SEMVER")
		}
	}
	return all
}

func (o *osvReader) readEvents() {
	r := &o.json
	if !r.Array() {
		return
	}
	for r.Next() {
		if o.ranges == 0 {
			r.Fail(errRanges)
			return
		}
		o.ranges--
		if !r.Object() {
			continue
		}
		for r.Next() {
			e := event{}
			switch string(r.Key()) {
			case "introduced":
				e.kind = introduced
			case "fixed":
				e.kind = fixed
			case "last_affected":
				e.kind = last
			case "limit":
				e.kind = limit
			default:
				r.Skip()
				continue
			}
			e.version = r.Text()
			if len(e.version) > maxName {
				r.Fail(errTooLong)
			}
			o.events = append(o.events, e)
		}
	}
}

// appendRanges appends the stretches that the events of one range describe.
//
// Events may come in any order. As a rule they are pairs, an introduction and
// its end, and mean what they say whatever the order of the pairs. Otherwise
// they must be sorted, which wants the order of the ecosystem's versions: exact
// for SEMVER, and by the numbers in the versions for others, whose own orders are
// scan's. Nothing here ends a stretch that the publisher left open.
func appendRanges(all []advisory.Range, events []event, semver bool) []advisory.Range {
	semver = semver && !slices.ContainsFunc(events, func(e event) bool { return !isSemver(e.version) })
	order := natural
	if semver {
		order = compareSemver
	}
	events, end := limits(events, order)
	if semver || !paired(events) {
		slices.SortStableFunc(events, func(a, b event) int { return compareEvents(a, b, order) })
	}
	if len(events) > 0 && !slices.ContainsFunc(events, func(e event) bool { return e.kind == introduced }) {
		events = append([]event{{introduced, "0"}}, events...) // not permitted; it is in all versions before
	}
	open := false
	var from string
	for _, e := range events {
		switch {
		case e.kind == introduced && !open:
			open, from = true, e.version
		case e.kind == introduced || !open: // nothing changes
		default:
			open = false
			if semver {
				e = earlier(e, end)
			}
			all = appendRange(all, from, e, order)
		}
	}
	if open {
		all = appendRange(all, from, event{fixed, end}, order)
	}
	return all
}

// earlier returns what ends a stretch first, its own end or the limit.
func earlier(e event, limit string) event {
	c := compareSemver(limit, e.version)
	if limit != "" && (c < 0 || c == 0 && e.kind == last) {
		return event{fixed, limit}
	}
	return e
}

// compareEvents orders events by their versions. An introduction in "0" is before
// all versions, also before the pre-releases of 0.0.0.
func compareEvents(a, b event, order func(a, b string) int) int {
	first := func(e event) bool { return e.kind == introduced && e.version == "0" }
	switch {
	case first(a) && first(b):
		return 0
	case first(a):
		return -1
	case first(b):
		return 1
	}
	return order(a.version, b.version)
}

// paired reports whether each introduction is followed by its end, but for the
// last.
func paired(events []event) bool {
	for i, e := range events {
		if (e.kind == introduced) != (i%2 == 0) {
			return false
		}
	}
	return true
}

// limits takes the limits out of events and returns the highest of them, "" for
// none: versions from there on are not spoken of.
func limits(events []event, order func(a, b string) int) ([]event, string) {
	if !slices.ContainsFunc(events, func(e event) bool { return e.kind == limit }) {
		return events, ""
	}
	end, endless := "", false
	events = slices.DeleteFunc(events, func(e event) bool {
		if e.kind != limit {
			return false
		}
		endless = endless || strings.Contains(e.version, "*")
		if end == "" || order(e.version, end) > 0 {
			end = e.version
		}
		return true
	})
	if endless {
		end = ""
	}
	return events, end
}

// appendRange appends one stretch, unless no version is in it.
func appendRange(all []advisory.Range, from string, end event, order func(a, b string) int) []advisory.Range {
	if end.kind == fixed && end.version != "" && from != "0" && order(from, end.version) == 0 {
		return all
	}
	s := advisory.Range{Introduced: from}
	if from == "0" {
		s.Introduced = ""
	}
	if end.kind == last {
		s.Last = end.version
	} else {
		s.Fixed = end.version
	}
	return append(all, s)
}

// compareSemver orders semantic versions (https://semver.org, section 11).
func compareSemver(a, b string) int {
	if a == b {
		return 0
	}
	a, b = strings.TrimPrefix(a, "v"), strings.TrimPrefix(b, "v")
	a, _, _ = strings.Cut(a, "+")
	b, _, _ = strings.Cut(b, "+")
	coreA, preA, isPreA := strings.Cut(a, "-")
	coreB, preB, isPreB := strings.Cut(b, "-")
	if c := compareParts(coreA, coreB, true); c != 0 {
		return c
	}
	if isPreA != isPreB {
		if isPreA {
			return -1
		}
		return 1
	}
	return compareParts(preA, preB, false)
}

// isSemver reports whether v is a semantic version, or one with parts missing at
// its end, as "0" is. Databases call others so, too: "3.0.0a".
func isSemver(v string) bool {
	if v == "*" {
		return true
	}
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
	core, _, _ := strings.Cut(v, "-")
	parts := 0
	for part := range strings.SplitSeq(core, ".") {
		if parts++; !isNumber(part) {
			return false
		}
	}
	return parts <= 3
}

// compareParts compares what is between points, one by one. In the core of a
// version missing parts are zero.
func compareParts(a, b string, core bool) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if core {
			x, y = cmp.Or(x, "0"), cmp.Or(y, "0")
		}
		if c := comparePart(x, y); c != 0 {
			return c
		}
	}
	return 0
}

func comparePart(x, y string) int {
	numX, numY := isNumber(x), isNumber(y)
	switch {
	case x == "" || y == "": // fewer parts come first
		return cmp.Compare(len(x), len(y))
	case numX && numY:
		return compareNumbers(x, y)
	case numX != numY: // numbers come before words
		if numX {
			return -1
		}
		return 1
	}
	return cmp.Compare(x, y)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// compareNumbers compares digits of any length.
func compareNumbers(x, y string) int {
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
}

// natural orders versions by the numbers in them, an epoch first.
func natural(a, b string) int {
	epochA, restA := epoch(a)
	epochB, restB := epoch(b)
	if c := compareNumbers(epochA, epochB); c != 0 {
		return c
	}
	for restA != "" && restB != "" {
		var x, y string
		x, restA = run(restA)
		y, restB = run(restB)
		if c := comparePart(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(restA), len(restB))
}

func epoch(v string) (epoch, rest string) {
	if e, rest, ok := strings.Cut(v, ":"); ok && isNumber(e) {
		return e, rest
	}
	return "", v
}

// run takes the digits, or all up to the next digits, from the beginning of s.
func run(s string) (first, rest string) {
	digit := s[0] >= '0' && s[0] <= '9'
	i := 1
	for i < len(s) && (s[i] >= '0' && s[i] <= '9') == digit {
		i++
	}
	return s[:i], s[i:]
}
