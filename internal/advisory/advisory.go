// Package advisory holds the words for what others publish about weaknesses in
// packages: one form for every feed, in which adapter/feeds hands advisories to
// scan, which compiles them into one file and matches inventories with them.
//
// It is not for what we conclude about a package (see finding). All text in it
// comes from feeds: untrusted, bounded where it is read.
package advisory

import "time"

// Advisory is one publication of one feed about one weakness, or about several
// that are fixed together.
type Advisory struct {
	// ID is the publisher's own: DSA-5343-1, GHSA-…, ALAS2023-2024-501, or a
	// CVE number where the publisher has none of its own.
	ID string
	// Aliases are other names of the same weakness; CVEs that an advisory of a
	// distribution fixes are in Upstream, because it may fix several.
	Aliases  []string
	Upstream []string
	Related  []string // similar, not the same
	// Source names the feed: "osv/Go", "debian", "alpine", "amazon", …
	Source    string
	Published time.Time
	Modified  time.Time
	// Withdrawn is when the publisher took it back; zero: it stands.
	Withdrawn  time.Time
	Summary    string
	Details    string
	Scores     []Score
	Rating     Rating // of the publisher, for all that it affects
	Weaknesses []string
	References []Reference
	Affected   []Affected
}

// Score is a CVSS vector as published; base scores are worked out from it.
type Score struct {
	// Vector begins with its version (CVSS:3.1/, CVSS:4.0/), or is one of
	// version 2 (AV:N/AC:L/Au:N/…).
	Vector string
	// By says who scored, where the feed tells it: nvd, the publisher's name.
	By string
}

// Rating is how grave a publisher calls a weakness, in the words that most of
// them share.
type Rating uint8

// The ratings, from none given to the gravest.
const (
	Unrated Rating = iota
	Negligible
	Low
	Medium
	High
	Critical
)

var ratings = [...]string{"unrated", "negligible", "low", "medium", "high", "critical"}

// String returns the rating in lower case.
func (r Rating) String() string {
	if int(r) < len(ratings) {
		return ratings[r]
	}
	return ratings[Unrated]
}

// Reference is where to read on.
type Reference struct {
	Kind string // advisory, fix, report, web, …: OSV's words in lower case
	URL  string
}

// Affected is one package that an advisory speaks of.
type Affected struct {
	// Ecosystem and Package are the key of the look-up. Ecosystem is OSV's name
	// with its release: "Debian:12", "Alpine:v3.20", "Ubuntu:22.04:LTS",
	// "Amazon Linux:2023", "Red Hat:9", "PyPI". Package is the name as
	// inventory.Package.FullName gives it, in the form that the ecosystem takes
	// for the same (see Normalize).
	Ecosystem string
	Package   string
	// Of says which packages of a distribution the name means.
	Of Of
	// Arches limits it to these architectures; Repository to packages of that
	// repository, module stream or extra. Empty: all.
	Arches     []string
	Repository string
	// A version is affected if a range holds it, or if it is listed.
	Ranges   []Range
	Versions []string
	// Status is what the publisher says beyond ranges.
	Status Status
	Rating Rating // for this package, where it differs
	Scores []Score
	// Note is the publisher's reason in its own words, for a state that needs
	// one: "Minor issue", "vulnerable code not present".
	Note string
}

// Of says which name of a distribution's package is meant.
type Of uint8

// The names.
const (
	OfPackage Of = iota // the package itself: all ecosystems but distributions
	OfSource            // all binary packages built from this source package
	OfBinary            // this binary package
)

// Range is a stretch of versions in the order of the ecosystem: from Introduced
// ("" or "0": from the first) up to, and without, Fixed; or up to, and with,
// Last; or, with neither, without end.
type Range struct {
	Introduced string
	Fixed      string
	Last       string
}

// Status is what a publisher says about a package beyond which versions have
// the weakness. The states are kept apart; none of them is "unknown".
type Status uint8

// The states. IsAffected is the zero value, so that forgetting can never hide a
// weakness.
const (
	IsAffected         Status = iota // in the ranges, with or without a fix
	NotAffected                      // looked at, not vulnerable
	WontFix                          // will not be fixed in this release
	EndOfLife                        // the release gets no fixes any more
	Deferred                         // a fix may come with another one: no-dsa, postponed
	UnderInvestigation               // not yet looked at
)

var statuses = [...]string{"affected", "not affected", "will not fix", "end of life", "deferred", "under investigation"}

// String returns the state in words.
func (s Status) String() string {
	if int(s) < len(statuses) {
		return statuses[s]
	}
	return statuses[IsAffected]
}

// Exploited says that a weakness is used in attacks (CISA's catalogue of known
// exploited vulnerabilities).
type Exploited struct {
	CVE        string    `json:"cve"`
	Name       string    `json:"name,omitempty"`
	Added      time.Time `json:"added"`
	Due        time.Time `json:"due,omitzero"`
	Ransomware bool      `json:"ransomware,omitempty"`
	Action     string    `json:"action,omitempty"`
}

// Probability is how likely a weakness is to be used within thirty days (FIRST's
// EPSS).
type Probability struct {
	CVE        string    `json:"cve"`
	EPSS       float32   `json:"epss"`       // 0 to 1
	Percentile float32   `json:"percentile"` // 0 to 1
	Date       time.Time `json:"date,omitzero"`
}
