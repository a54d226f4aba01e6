package oci

import (
	"cmp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Choice says which image is meant where there are several. The zero value
// means the only one, and of an image of several platforms the one for Linux on
// this machine's architecture; if there is none, the only one there is.
type Choice struct {
	// Name is a tag, a reference or a digest, as the layout or archive has it.
	// A registry's image has its name in its reference.
	Name string
	// Platform is what is asked for; without an operating system it is Linux.
	// The zero value leaves it to the rule above.
	Platform inventory.Platform
}

// asked says whether a platform was.
func (c Choice) asked() bool { return c.Platform != inventory.Platform{} }

// wanted is the platform to look for.
func (c Choice) wanted() inventory.Platform {
	p := c.Platform
	p.OS = cmp.Or(p.OS, "linux")
	p.Architecture = cmp.Or(p.Architecture, runtime.GOARCH)
	return p
}

// in is how an image within a layout or an archive is called.
func (c Choice) in(path string) string {
	if c.Name == "" {
		return path
	}
	return path + ":" + c.Name
}

// rank says how well an image of platform has suits want: 0 not at all, more
// is better. A variant that is asked for runs what older ones of arm were built
// for; arm64 without a variant is v8, amd64 is v1.
func rank(has, want inventory.Platform) int {
	const exact = 100
	if has.OS != want.OS || has.Architecture != want.Architecture {
		return 0
	}
	if want.OSVersion != "" && has.OSVersion != want.OSVersion {
		return 0
	}
	h, w := variant(has), variant(want)
	switch {
	case h == w:
		return exact
	case want.Variant == "" && want.Architecture == "arm":
		return 10 + level(h) // the newest, which today's machines run
	case want.Variant == "":
		return exact - 10 - level(h) // the one that most machines run
	case want.Architecture == "arm" && level(h) < level(w):
		return 10 + level(h)
	}
	return 0
}

// variant is a platform's variant with the default spelled out.
func variant(p inventory.Platform) string {
	if p.Variant != "" {
		return p.Variant
	}
	switch p.Architecture {
	case "arm64":
		return "v8"
	case "amd64":
		return "v1"
	}
	return ""
}

// level is the number of a variant as v7; 0 where it has none.
func level(variant string) int {
	if len(variant) == 2 && variant[0] == 'v' && '0' <= variant[1] && variant[1] <= '9' {
		return int(variant[1] - '0')
	}
	return 0
}

// candidate is one manifest that an index led to.
type candidate struct {
	descriptor
	doc   *manifest           // read already; nil if not
	got   *resolved           // loaded already; nil if not
	names []string            // under which it is known there
	above []string            // digests of the indexes that led to it
	top   int                 // which entry of the outermost index it is from
	runs  *inventory.Platform // nil: only its configuration tells
}

// named returns the candidates that are known by name, all for an empty one.
func named(all []candidate, want string) []candidate {
	if want == "" {
		return all
	}
	var out []candidate
	for _, c := range all {
		if c.Digest == want || slices.Contains(c.above, want) || slices.ContainsFunc(c.names, func(n string) bool { return sameName(n, want) }) {
			out = append(out, c)
		}
	}
	return out
}

// sameName says whether two names mean the same image: as they are, or as
// references with what a short one leaves out.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	x, err := name.ParseReference(a)
	if err != nil {
		return false
	}
	y, err := name.ParseReference(b)
	return err == nil && x.Name() == y.Name()
}

// pick returns the candidate that c means. Every candidate has its platform.
func (c Choice) pick(all []candidate) (candidate, error) {
	want := c.wanted()
	best, rest := candidate{}, 0
	at := 0
	for _, k := range all {
		switch r := rank(*k.runs, want); {
		case r > at:
			best, at, rest = k, r, 0
		case r == at && r > 0 && k.top != best.top && k.Digest != best.Digest:
			rest++
		}
	}
	if at > 0 && rest > 0 {
		return candidate{}, fault.New(fault.Invalid, "it holds several images for %s: %s", want, listing(all)).
			With("say which one by its name or digest")
	}
	if at > 0 {
		return best, nil
	}
	if !c.asked() && len(all) == 1 {
		return all[0], nil
	}
	return candidate{}, fault.New(fault.NotFound, "there is no image for %s; there is %s", want, listing(all)).
		With("ask for one of these platforms")
}

// listing lists candidates for an error.
func listing(all []candidate) string {
	var texts []string
	for _, k := range all {
		text := ""
		if k.runs != nil {
			text = k.runs.String()
		}
		if len(k.names) > 0 {
			text = strings.TrimSpace(shown(strings.Join(k.names, " ")) + " " + text)
		}
		texts = append(texts, cmp.Or(text, k.Digest))
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) == 0 {
		return "none"
	}
	if len(texts) > maxListed {
		texts = append(texts[:maxListed], "…")
	}
	return strings.Join(texts, ", ")
}
