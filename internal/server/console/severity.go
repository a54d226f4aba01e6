package console

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/server/images"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// worstFirst lists the severities as people read them.
func worstFirst() []finding.Severity { return append(query.Severities(), finding.Unknown) }

// bySeverity is how many findings of each severity there are, as a picture and
// in words.
type bySeverity [finding.Critical + 1]int

func countsOf(c store.Counts) bySeverity {
	return bySeverity{
		finding.Unknown: c.Unknown, finding.Negligible: c.Negligible, finding.Low: c.Low,
		finding.Medium: c.Medium, finding.High: c.High, finding.Critical: c.Critical,
	}
}

func (b bySeverity) total() (n int) {
	for _, c := range b {
		n += c
	}
	return n
}

// stripe is one part of a bar that is 100 wide.
type stripe struct {
	Severity finding.Severity
	X, Width string
}

// stripes share the bar out; what is there at all can be seen.
func (b bySeverity) stripes() []stripe {
	const least = 2.0 // of 100
	all, wide := float64(b.total()), 0.0
	width := map[finding.Severity]float64{}
	for _, s := range worstFirst() {
		if b[s] > 0 {
			width[s] = max(100*float64(b[s])/all, least)
			wide += width[s]
		}
	}
	var out []stripe
	x := 0.0
	for _, s := range worstFirst() {
		if w := width[s] * 100 / wide; w > 0 {
			out = append(out, stripe{s, decimal(x), decimal(w)})
			x += w
		}
	}
	return out
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// epssWords write a probability as people say it; below one in a thousand is
// nothing worth a place.
func epssWords(p float64) string {
	switch {
	case p < 0.001:
		return ""
	case p < 0.1:
		return decimal(100*p) + "%"
	}
	return strconv.Itoa(int(100*p+0.5)) + "%"
}

// stateOfFix says in words what is known of a fix.
func stateOfFix(s finding.State) string {
	switch s {
	case finding.Fixable:
		return "a fix is out"
	case finding.Unfixed:
		return "no fix yet"
	case finding.Deferred:
		return "put off by the publisher"
	case finding.WontFix:
		return "will not be fixed"
	case finding.EndOfLife:
		return "the release gets no fixes any more"
	case finding.UnderInvestigation:
		return "under investigation"
	case finding.NotAffected:
		return "not affected"
	case finding.Withdrawn:
		return "the advisory was taken back"
	}
	return untrusted.Text(string(s))
}

// links are the references that are addresses of pages elsewhere and nothing
// else, each once.
func links(references []string) []string {
	const most = 30 // the API has all of them
	var out []string
	seen := map[string]bool{}
	for _, ref := range references {
		u, err := url.Parse(ref)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || seen[ref] || untrusted.Text(ref) != ref || strings.ContainsAny(ref, " \"<>`\\^{|}") {
			continue
		}
		seen[ref] = true
		if out = append(out, ref); len(out) == most {
			break
		}
	}
	return out
}

// advice says how old the advisories are that images are compared with, and
// whether that is too old.
func advice(s images.Status, now time.Time) (says string, t tone) {
	d := s.Database
	age := day(d.Newest()) + ", " + old(now.Sub(d.Newest()))
	switch {
	case d.Built.IsZero():
		return "It is not known yet which advisories are in force.", calm
	case d.Error != "":
		return "The advisory file cannot be used: " + untrusted.Text(d.Error) + remedyWords(d.Remedy) + ". In force are advisories up to " + age + ".", danger
	case d.Seeded:
		return "The advisories came with the program and reach to " + age + ": what was published since is not found. On the server: castellan scan db update", warn
	case d.Stale:
		return "The advisories reach to " + age + ": what was published since is not found. On the server: castellan scan db update", warn
	}
	return "Compared with advisories up to " + age + ".", calm
}

// remedyWords add what to do, when that is known.
func remedyWords(remedy string) string {
	if remedy == "" {
		return ""
	}
	return "; " + untrusted.Text(remedy)
}

func old(d time.Duration) string {
	switch days := int(d.Hours() / 24); {
	case days < 1:
		return "less than a day old"
	default:
		return plural(days, "day", "days") + " old"
	}
}

// progress says what scans are under way.
func progress(s images.Status) string {
	var parts []string
	add := func(n int, words string) {
		if n > 0 {
			parts = append(parts, count(n)+" "+words)
		}
	}
	add(s.Running, "being scanned")
	add(s.Waiting, "waiting for a scan")
	add(s.Failed, "could not be scanned")
	add(s.Unmatched, "to be compared with newer advisories")
	return strings.Join(parts, ", ")
}

// brief is the first line of a text, as much of it as a list has room for.
func brief(s string) string {
	const most = 140
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// lastDay is the last day on which something holds that ends at t: what ends at
// the first moment of a day held until the day before had gone by.
func lastDay(t time.Time) string { return day(t.Add(-time.Nanosecond)) }

// scanning adds to a sentence about some images what all of them wait for.
func scanning(s images.Status) string {
	if says := progress(s); says != "" {
		return "; altogether " + says
	}
	return ""
}

// separated stands between a text and what follows, if anything does.
func separated(next string) string {
	if next == "" {
		return ""
	}
	return " · "
}
