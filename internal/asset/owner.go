package asset

import (
	"fmt"
	"path"
	"strings"
)

// Owner is who is responsible for something: a team or a person.
type Owner struct {
	Name    string `json:"name"`
	Contact string `json:"contact,omitempty"` // an address, a channel, a page
}

// OwnerRule says who is responsible for images. Image or Group is set, not both.
type OwnerRule struct {
	// Image is a pattern of repositories, without tag and digest: "shop/*",
	// "registry.example/team-a/**"; "**" is every image.
	Image string `json:"image,omitempty"`
	// Group is a pattern of groups: "prod/shop/*", "prod/**". It means the images
	// that their workloads were started from.
	Group string `json:"group,omitempty"`
	Owner
}

// Pattern is that of the rule, whatever it is about.
func (r OwnerRule) Pattern() string {
	if r.Group != "" {
		return r.Group
	}
	return r.Image
}

// Limits of a rule.
const (
	maxOwnerPattern = 512
	maxOwnerWords   = 200
)

// Check returns an error if a rule is none.
func (r OwnerRule) Check() error {
	switch {
	case (r.Image == "") == (r.Group == ""):
		return fmt.Errorf("want a pattern of images or one of groups")
	case len(r.Pattern()) > maxOwnerPattern:
		return fmt.Errorf("the pattern has more than %d bytes", maxOwnerPattern)
	case r.Image != "" && Repository(r.Image) != r.Image:
		return fmt.Errorf("image pattern %.80q names one version; leave out tag and digest", r.Image)
	case strings.TrimSpace(r.Name) == "":
		return fmt.Errorf("the owner has no name")
	case strings.TrimSpace(r.Name) == "-":
		return fmt.Errorf("an owner cannot be called -: that asks for images without one")
	case len(r.Name) > maxOwnerWords || len(r.Contact) > maxOwnerWords:
		return fmt.Errorf("name and contact have %d bytes at most", maxOwnerWords)
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(r.Pattern(), "/**"), "/") {
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("pattern %.80q: %w", r.Pattern(), err)
		}
		if part == "" {
			return fmt.Errorf("pattern %.80q has an empty part", r.Pattern())
		}
	}
	return nil
}

// fits reports whether a rule is about an image of that repository, or about a
// group.
func (r OwnerRule) fits(repository string, group Group) bool {
	if r.Group != "" {
		return fitsPattern(r.Group, string(group))
	}
	return r.Image != "" && fitsPattern(r.Image, repository)
}

// everything is the pattern that fits all.
const everything = "**"

// fitsPattern matches part by part; "/**" at the end stands for one part or more.
func fitsPattern(pattern, name string) bool {
	if pattern == everything {
		return true
	}
	head, rest := strings.CutSuffix(pattern, "/**")
	parts, want := strings.Split(name, "/"), strings.Split(head, "/")
	if rest && len(parts) <= len(want) || !rest && len(parts) != len(want) {
		return false
	}
	for i, w := range want {
		// A pattern that is none was refused when it was made.
		if ok, err := path.Match(w, parts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// Owners are the rules by which it is told who is responsible. The last one that
// fits decides.
type Owners []OwnerRule

// Of returns who is responsible for an image, by one of its references, or by the
// group that runs it; either may be empty. The zero value: nobody is named.
func (o Owners) Of(reference string, group Group) Owner {
	if i := o.last(reference, group); i >= 0 {
		return o[i].Owner
	}
	return Owner{}
}

// OfAll returns who is responsible for an image with several names, run by several
// groups.
func (o Owners) OfAll(references []string, groups []Group) Owner {
	last := -1
	for _, r := range references {
		last = max(last, o.last(r, ""))
	}
	for _, g := range groups {
		last = max(last, o.last("", g))
	}
	if last < 0 {
		return Owner{}
	}
	return o[last].Owner
}

// last is the place of the last rule that fits, -1 if none does.
func (o Owners) last(reference string, group Group) int {
	repository := ""
	if reference != "" {
		repository = Repository(reference)
	}
	for i := len(o) - 1; i >= 0; i-- {
		if repository != "" && o[i].Image != "" && o[i].fits(repository, "") || group != "" && o[i].Group != "" && o[i].fits("", group) {
			return i
		}
	}
	return -1
}
