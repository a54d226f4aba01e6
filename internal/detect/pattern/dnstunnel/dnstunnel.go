// Package dnstunnel finds data that is carried in names and answers of the DNS.
package dnstunnel

import (
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

// Bounds of what is remembered.
const (
	maxDomains = 2048 // pairs of a container and a domain
	maxNames   = 512  // of one
	maxSpan    = 7 * 24 * time.Hour
	spare      = 4 // times as many names of a while are looked at as are needed
)

// What names of tunnels are like, by what iodine, dnscat2, dns2tcp and Cobalt Strike
// send: the length of what stands before the domain, on average.
const (
	longName  = 25 // coded: nobody gives 25 names so long, without words, within minutes
	fullName  = 50 // coded: as full as names get, of which a few are enough
	shortName = 14 // of questions for types that carry texts
	// Answers that carry data down: a question is short then.
	leastAnswer = 100     // bytes of one, on average, the message's head included
	leastDown   = 8 << 10 // bytes of all
	mostCoded   = 0.7     // share of names that look coded
	mostRare    = 0.7     // share of questions for types that carry texts
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "network-name-tunnel", Theme: "network", Title: "Data is carried by the DNS", Severity: finding.High,
		Tactic: threat.CommandAndControl, Techniques: []string{"T1071.004", "T1048", "T1572"}, Kinds: []event.Kind{event.KindQuery, event.KindAnswer},
		Meaning:    "A container asked for many different names of one domain that look like coded data, or for texts and other rare types of many names, as tunnels do.",
		FalseAlarm: "Virus scanners and mail filters that ask block lists by hashes and addresses, and CDNs and clouds with coded names, as far as harmless does not name them.",
		Tuning:     "Add the end of the domain to harmless, or raise names and slow_names.",
		Remedy:     "Cut the container's network, let the resolver refuse the domain, and find what was carried out: the names have it, mostly in hex or base32.",
	},
		pattern.Int("names", 25, "different names of one domain within the while"),
		pattern.Int("full_names", 4, "different coded names of one domain within the while that have 50 bytes and more before the domain"),
		pattern.Duration("within", 10*time.Minute, "that while"),
		pattern.Int("slow_names", 120, "different coded names of one domain within the long while"),
		pattern.Duration("slow_within", 12*time.Hour, "the long while"),
		pattern.List("harmless", "ends of names that are not counted", ".amazonaws.com", ".amazonaws.com.cn", ".aws.dev", ".api.aws", ".on.aws", ".acm-validations.aws",
			".internal", ".local", ".localdomain", ".consul", ".arpa", ".cloudfront.net", ".akamai.net", ".akamaiedge.net", ".akadns.net", ".fastly.net", ".edgekey.net",
			".azure.com", ".windows.net", ".azureedge.net", ".trafficmanager.net", ".googleapis.com", ".googleusercontent.com", ".gvt1.com",
			".spamhaus.org", ".spamhaus.net", ".sophosxl.net", ".mcafee.com", ".trendmicro.com", ".cymru.com", ".barracudacentral.org", ".surbl.org", ".uribl.com", ".spamcop.net", ".sorbs.net", ".avast.com", ".avg.com", ".kaspersky-labs.com", ".e5.sk", ".eset.com", ".clamav.net"),
	)
}

type tunnel struct {
	names, full, slow  int
	within, slowWithin time.Duration
	harmless           []string
	domains            *keep.Map[domain, *asked]
}

type domain struct {
	workload pattern.Workload
	name     string
}

// asked is what was asked for below a domain, and answered.
type asked struct {
	fast, slow pattern.Spread
	since      time.Time // when the sums began
	// Sums over the different names since then.
	n, bytes, coded, rare, full int
	// Of the answers since then.
	answers, down, missing int
	trail                  pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &tunnel{
		names: int(v.Int("names", 5, maxNames)), slow: int(v.Int("slow_names", 5, maxNames)), full: int(v.Int("full_names", 3, maxNames)),
		within: v.Duration("within", time.Hour), slowWithin: v.Duration("slow_within", maxSpan), harmless: v.List("harmless"),
	}
	d.domains = keep.New[domain, *asked](maxDomains, max(d.within, d.slowWithin))
	return pattern.Detector(about, pattern.On(d.query, event.KindQuery), pattern.On(d.answer, event.KindAnswer)), v.Err()
}

// rare are the types of questions that carry texts, or that nobody asks for but tunnels.
func rare(typ string) bool {
	switch typ {
	case "TXT", "NULL", "CNAME", "MX", "SRV", "TYPE10", "TYPE65399":
		return true
	}
	return false
}

func (d *tunnel) of(e *event.Event) (k domain, below string) {
	k = domain{pattern.WorkloadOf(e), rule.Domain(e.DNS.Name)}
	if n := len(e.DNS.Name) - len(k.name) - 1; n > 0 {
		below = e.DNS.Name[:n]
	}
	return k, below
}

func (d *tunnel) query(s *rule.Subject) *rule.Match {
	e := s.Event
	if e.DNS == nil {
		return nil
	}
	k, below := d.of(e)
	isRare := rare(e.DNS.Type)
	if below == "" || len(below) < shortName && !isRare || reversed(below) || pattern.EndsAny(e.DNS.Name, d.harmless) {
		return nil
	}
	at, ok := d.domains.Get(k, e.Time)
	if !ok {
		at = d.domains.Put(k, &asked{since: e.Time}, e.Time)
	}
	a := *at
	if e.Time.Sub(a.since) > d.within {
		*a = asked{slow: a.slow, since: e.Time, fast: a.fast}
		a.fast.Clear()
	}
	hash := pattern.HashText(e.DNS.Name)
	if a.fast.Has(hash) {
		return nil
	}
	isCoded := coded(below)
	most := spare * max(d.names, d.full)
	if a.fast.Len() >= most {
		return nil // not seen to be a tunnel, and which names are new is not known any more
	}
	n := a.fast.Add(hash, e.Time, d.within, most)
	a.n, a.bytes = a.n+1, a.bytes+len(below)
	if isCoded {
		a.coded++
	}
	if isRare {
		a.rare++
	}
	a.trail.Add(e)
	slow := 0
	if isCoded && len(below) >= fullName {
		a.full++
	}
	if isCoded && len(below) >= longName {
		slow = a.slow.Add(hash, e.Time, d.slowWithin, d.slow)
	}
	return d.weigh(s, k, a, n, slow)
}

// weigh says whether what was asked for is a tunnel.
func (d *tunnel) weigh(s *rule.Subject, k domain, a *asked, n, slow int) *rule.Match {
	var why string
	length := float64(a.bytes) / float64(max(a.n, 1))
	isCoded, isRare := float64(a.coded) >= mostCoded*float64(a.n), float64(a.rare) >= mostRare*float64(a.n)
	switch {
	case n >= d.names && isCoded && length >= longName:
		why = fmt.Sprintf("asked for %d coded names of %s within %s, %d bytes in all", n, k.name, d.within, a.bytes)
	case a.full >= d.full && a.full*2 > a.n:
		why = fmt.Sprintf("asked for %d coded names of %s as long as can be within %s, %d bytes in all", a.full, k.name, d.within, a.bytes)
	case n >= d.names && isCoded && isRare && length >= shortName:
		why = fmt.Sprintf("asked for texts of %d coded names of %s within %s, %d bytes in all", n, k.name, d.within, a.bytes)
	case n >= d.names && isRare && a.down >= leastDown && a.down/max(a.answers, 1) >= leastAnswer:
		why = fmt.Sprintf("asked for texts of %d names of %s within %s, and was answered %d bytes", n, k.name, d.within, a.down)
	case slow >= d.slow:
		n, why = slow, fmt.Sprintf("asked for %d coded names of %s within %s", slow, k.name, d.slowWithin)
	default:
		return nil
	}
	says := fmt.Sprintf("%s %s, such as %s", pattern.Who(s), why, s.Event.DNS.Name)
	if a.missing*2 > a.n {
		says += "; most have no answer, so that the data goes one way"
	}
	m := rule.MatchOf(s, says, k.name)
	m.Before, m.Count = a.trail.Before(s.Event), uint64(n)
	d.domains.Delete(k)
	return m
}

func (d *tunnel) answer(s *rule.Subject) *rule.Match {
	e := s.Event
	if e.DNS == nil || d.domains.Len() == 0 {
		return nil
	}
	k, below := d.of(e)
	if below == "" {
		return nil
	}
	if at, ok := d.domains.Get(k, e.Time); ok {
		a := *at
		if e.DNS.Code != "" && e.DNS.Code != "NOERROR" {
			a.missing++
		} else if rare(e.DNS.Type) {
			a.answers++
			a.down += e.DNS.Size
		}
	}
	return nil
}

// coded says that a name looks like data and not like words: letters and digits
// alternate, or there are hardly any vowels. Hex, base32, base64 and base36 are so.
func coded(name string) bool {
	const leastLetters = 12
	letters, vowels, digits, turns, all := 0, 0, 0, 0, 0
	last := byte(0) // of the two kinds
	for i := range len(name) {
		kind := byte(0)
		switch c := name[i]; {
		case c >= 'a' && c <= 'z':
			kind = 'a'
			letters++
			if c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y' {
				vowels++
			}
		case c >= '0' && c <= '9':
			kind = '0'
			digits++
		default:
			last = 0 // dots and hyphens part words from numbers, as ip-10-0-3-7
			continue
		}
		all++
		if last != 0 && kind != last {
			turns++
		}
		last = kind
	}
	if all < leastLetters {
		return false
	}
	return turns*6 >= all || digits*2 > all && letters > 0 && turns*8 >= all || letters >= leastLetters && vowels*5 < letters
}

// reversed says that a name is an address in the form of block lists: 4.3.2.1 or the
// 32 digits of one of IPv6, each with a dot.
func reversed(name string) bool {
	label, labels := 0, 1
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			label, labels = 0, labels+1
			continue
		case c >= '0' && c <= '9' || labels >= 8 && c >= 'a' && c <= 'f' || c >= 'a' && c <= 'f' && len(name) == 63:
		default:
			// What a block list is called stands behind the address.
			return labels > 4 && label == 0
		}
		if label++; label > 3 {
			return labels > 4
		}
	}
	return labels >= 4
}
