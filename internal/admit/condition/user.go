package condition

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/castellan-security/castellan/internal/admission"
)

// who is what a user, as images and containers write one, says by itself.
type who int

const (
	root  who = iota
	other     // a number other than 0
	name      // which number it is stands in the image
)

// runsAs reads a user with or without a group. Engines read numbers with signs and
// zeros in front; one that is none of Linux', some of them take for a name.
func runsAs(user string) who {
	user = userOf(user)
	n, err := strconv.Atoi(user)
	switch {
	case user == "root", user == "", err == nil && n == 0:
		return root
	case err == nil && n > 0 && n <= math.MaxInt32:
		return other
	}
	return name
}

// userOf cuts off the group.
func userOf(user string) string {
	user, _, _ = strings.Cut(strings.TrimSpace(user), ":")
	return user
}

// runsAsRoot says whether a container does; it is unknown as long as the image is.
func runsAsRoot(o *Object) any {
	c := of[container](o)
	if u := o.view.unknownAt(o.path, "user"); u != nil {
		return u
	}
	if c.User != "" {
		return isRoot(c.image, c.User)
	}
	i := of[Image](c.image)
	if i.scan != nil && (i.Facts == nil || i.Facts.User == "") {
		return i.scan
	}
	return isRoot(c.image, i.Facts.User)
}

// processRoot says whether a process runs as root that is put into the request's
// container.
func processRoot(v *View, user string) any {
	switch {
	case len(v.containers) == 0 && runsAs(user) == name:
		return v.miss(Missing{What: "process.root", Text: "it is not known which container " + user + " is a user of", Remedy: "name the user by a number"})
	case len(v.containers) == 0:
		return types.Bool(runsAs(user) == root)
	case user == "":
		return v.containers[0].field(v.schema.structs["Container"].byName["root"])
	}
	return isRoot(of[container](v.containers[0]).image, user)
}

// isRoot says whether a user is root in an image. A name that the image does not
// have counts as root: nobody knows which number something that puts it there later
// gives it, and without that no container of it starts.
func isRoot(image *Object, user string) any {
	switch runsAs(user) {
	case root:
		return types.True
	case other:
		return types.False
	}
	u, unknown := usersOf(image)
	if unknown != nil {
		return unknown
	}
	_, known := slices.BinarySearch(u.Others, userOf(user))
	return types.Bool(!known)
}

// named is a field of an image's users.
func named(image *Object, list func(*admission.Users) []string) any {
	u, unknown := usersOf(image)
	if unknown != nil {
		return unknown
	}
	return texts(list(u))
}

// usersOf returns the users of an image, or why they are unknown.
func usersOf(image *Object) (*admission.Users, *types.Unknown) {
	i := of[Image](image)
	if i.scan != nil {
		return nil, i.scan
	}
	if i.Facts.Users != nil {
		return i.Facts.Users, nil
	}
	called := i.Name()
	return nil, image.view.miss(Missing{
		What: "image.users", State: admission.Failed, Image: called,
		Text:   "the users of " + called + " are not known: it was scanned before /etc/passwd was looked at, or that could not be read",
		Remedy: "scan the image again, or name its user by a number",
	})
}
