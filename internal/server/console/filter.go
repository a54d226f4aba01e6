package console

import (
	"net/url"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// filter is what a list is narrowed by, as the address says it. The names are
// those of the API (see query), so an address of the console and one of the
// API differ in their path alone.
type filter struct {
	path  string
	names []string // in the order of the address
	v     url.Values
}

// eventFilter keeps what the list of events understands; the rest of the
// address is somebody else's.
func eventFilter(v url.Values) filter {
	return newFilter("/events", []string{
		"kind", "text", "workload", "group", "agent", "executable", "process", "path", "peer",
		"origin", "entered", "host", "since", "until",
	}, v)
}

// workloadFilter does the same for the list of workloads.
func workloadFilter(v url.Values) filter {
	return newFilter("/workloads", []string{"state", "text", "group", "cluster", "agent", "image"}, v)
}

// imageFilter does the same for the list of images.
func imageFilter(v url.Values) filter {
	return newFilter("/images", []string{"text", "state", "owner", "running"}, v)
}

// trustFilter does the same for the list of images by the trust policy.
func trustFilter(v url.Values) filter {
	return newFilter("/trust", []string{"state", "running", "signer", "repository", "image"}, v)
}

// admissionFilter does the same for the list of verdicts on deployments.
func admissionFilter(v url.Values) filter {
	return newFilter("/admission", []string{
		"outcome", "door", "rule", "group", "family", "cluster", "service", "image", "host", "audited", "since", "until",
	}, v)
}

// vulnerabilityFilter does the same for the list of vulnerabilities, and for
// those of one image, which is at another address.
func vulnerabilityFilter(path string, v url.Values) filter {
	return newFilter(path, []string{"text", "severity", "fixable", "exploited", "in-use", "running", "owner", "package", "image", "accepted"}, v)
}

// lineFilter does the same for the lists of secrets, faults and malware.
func lineFilter(path string, v url.Values) filter {
	return newFilter(path, []string{"text", "severity", "running", "owner", "image", "accepted"}, v)
}

func newFilter(path string, names []string, v url.Values) filter {
	f := filter{path: path, names: names, v: url.Values{}}
	for _, name := range names {
		var words []string
		for _, s := range v[name] {
			if s = strings.TrimSpace(s); s == "" || s == "false" || s == "0" {
				continue
			}
			if name == "kind" || name == "origin" || name == "state" {
				words = append(words, strings.Split(s, ",")...)
				continue
			}
			words = []string{s}
		}
		if len(words) > 0 {
			f.v[name] = slices.Compact(words)
		}
	}
	return f
}

// get returns the value of a name, and has reports whether a word is among
// those of a list.
func (f filter) get(name string) string { return f.v.Get(name) }

func (f filter) has(name, word string) bool { return slices.Contains(f.v[name], word) }

// empty reports that nothing narrows the list.
func (f filter) empty() bool { return len(f.v) == 0 }

// values are what query reads, with paging added.
func (f filter) values(extra ...string) url.Values {
	out := url.Values{}
	for name, words := range f.v {
		out[name] = slices.Clone(words)
	}
	for i := 0; i+1 < len(extra); i += 2 {
		if extra[i+1] == "" {
			out.Del(extra[i])
			continue
		}
		out.Set(extra[i], extra[i+1])
	}
	return out
}

// address is the filter as an address, its names always in the same order.
// Pairs of name and value in extra replace what the filter says; an empty
// value takes the name away.
func (f filter) address(extra ...string) string { return f.at(f.path, extra...) }

func (f filter) at(path string, extra ...string) string {
	v := f.values(extra...)
	var b strings.Builder
	b.WriteString(path)
	sep := byte('?')
	put := func(name string) {
		for _, s := range v[name] {
			b.WriteByte(sep)
			b.WriteString(name + "=" + url.QueryEscape(s))
			sep = '&'
		}
		v.Del(name)
	}
	for _, name := range f.names {
		put(name)
	}
	for _, name := range []string{"before", "after", "offset", "limit", "done"} {
		put(name)
	}
	return b.String()
}

// chip is one part of a filter as it is shown, and the address without it.
type chip struct {
	Name    string
	Value   string
	Without string
}

// chips lists what narrows the list now.
func (f filter) chips() []chip {
	var out []chip
	for _, name := range f.names {
		words, ok := f.v[name]
		if !ok {
			continue
		}
		value := strings.Join(words, ", ")
		if value == "true" {
			value = "yes"
		}
		out = append(out, chip{Name: name, Value: value, Without: f.address(name, "")})
	}
	return out
}

// eventsOf is the address of the events narrowed by pairs of name and value.
func eventsOf(pairs ...string) string { return eventFilter(nil).address(pairs...) }

// ofProcess is the address of all events of one process.
func ofProcess(agentID string, k event.Key) string {
	return eventsOf("agent", agentID, "process", k.String())
}

// originWords are the words that the filter for origins offers.
func originWords() []string { return query.OriginWords() }

// span is one choice of how far back to look.
type span struct{ Value, Label string }

func spans() []span {
	return []span{
		{"", "any time"}, {"5m", "last 5 minutes"}, {"15m", "last 15 minutes"}, {"1h", "last hour"},
		{"6h", "last 6 hours"}, {"24h", "last 24 hours"}, {"7d", "last 7 days"},
	}
}

// choices are spans, and what the address says when it is none of them.
func (f filter) choices() []span {
	all := spans()
	have := f.get("since")
	if slices.ContainsFunc(all, func(s span) bool { return s.Value == have }) {
		return all
	}
	return append(all, span{have, "since " + untrusted.Text(have)})
}
