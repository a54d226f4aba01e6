package widen

import (
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Thresholds of names below one domain.
const (
	rotating = 4  // names that look made by chance
	many     = 16 // names of any form
)

// shared are domains below which everybody's names are, where the list of public
// suffixes does not say so: what lies below is never one.
var shared = []string{
	"amazonaws.com", "amazonaws.com.cn", "api.aws", "on.aws", "googleapis.com", "windows.net", "azure.com", "azure.net", "cloudapp.net",
	"digitaloceanspaces.com", "r2.dev", "github.com", "githubusercontent.com", "akamaiedge.net", "akamai.net", "edgekey.net",
}

// label is a domain and the names below it.
type label struct {
	below  map[string]*label
	random int // of the names below look made by chance
}

// Domains returns for each name the pattern that stands for it: itself, or
// "*.DOMAIN" where too many names are below one domain. A pattern is never wider
// than what somebody has registered, and never wider than one customer of a cloud.
func Domains(names []string) map[string]string {
	root := &label{}
	for _, name := range names {
		at := root
		for _, l := range backwards(name) {
			at = at.to(l)
		}
	}
	out := make(map[string]string, len(names))
	for _, name := range names {
		out[name] = root.pattern(name)
	}
	return out
}

func (l *label) to(name string) *label {
	if l.below == nil {
		l.below = map[string]*label{}
	}
	next := l.below[name]
	if next == nil {
		next = &label{}
		l.below[name] = next
		if strings.ContainsRune(Shape(name, true), '*') {
			l.random++
		}
	}
	return next
}

func (l *label) pattern(name string) string {
	for _, reverse := range []string{"in-addr.arpa", "ip6.arpa"} {
		if strings.HasSuffix(name, "."+reverse) {
			return "*." + reverse
		}
	}
	labels := backwards(name)
	for i, part := range labels {
		if domain := forwards(labels[:i]); i > 0 && (l.random > rotating || len(l.below) > many) && owned(domain) {
			return "*." + domain
		}
		if l = l.below[part]; l == nil {
			return name
		}
	}
	return name
}

// owned reports whether all names below a domain are of one owner.
func owned(domain string) bool {
	registered, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return false
	}
	return !slices.Contains(shared, registered) && (domain == registered || strings.HasSuffix(domain, "."+registered))
}

// Wide reports whether a pattern "*.DOMAIN" stands for names of more than one
// owner: nobody should permit that.
func Wide(pattern string) bool {
	domain, ok := strings.CutPrefix(pattern, "*.")
	return ok && !owned(domain) && !strings.HasSuffix(domain, ".arpa")
}

func backwards(name string) []string {
	labels := strings.Split(name, ".")
	slices.Reverse(labels)
	return labels
}

func forwards(labels []string) string {
	labels = slices.Clone(labels)
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}
