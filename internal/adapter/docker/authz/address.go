package authz

import (
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Versions of Docker's interface whose calls this door has read. Older ones take
// settings in places where newer ones don't; in newer ones there may be fields that
// nobody here knows.
const (
	oldestVersion = 21 // of what the ECS agent still asks for
	newestVersion = 56
	// bodyless is the first version in which a start takes no settings.
	bodyless = 24
)

// maxAddress is how long the address of a call may be; the longest that a client
// makes is the list of arguments of a build.
const maxAddress = 64 << 10

// address is where a call goes.
type address struct {
	path    string // without the version
	version int    // after the 1; zero when none is named, which is the engine's newest
	query   url.Values
}

// parseAddress reads the address of a call as the engine's own server does, and
// refuses what that would send elsewhere or could read in another way.
func parseAddress(uri string) (address, error) {
	const remedy = "call the engine by the paths of its documentation, such as /v1.44/containers/json"
	if len(uri) > maxAddress {
		return address{}, refused(remedy, "the address is longer than %d bytes", maxAddress)
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return address{}, refused(remedy, "the address %q is malformed", short(uri))
	}
	for _, c := range []byte(u.Path) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '%' || c == '?' || c == '#' || c == ';' {
			return address{}, refused(remedy, "the path %q has characters that no path of the engine has", short(uri))
		}
	}
	if u.Path == "" || u.Path[0] != '/' || path.Clean(u.Path) != u.Path {
		return address{}, refused(remedy, "the path %q is not in its shortest form", short(u.Path))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, refused(remedy, "the query of %q is malformed", short(u.Path))
	}
	a := address{path: u.Path, query: query}
	first, rest, _ := strings.Cut(u.Path[1:], "/")
	if !looksVersioned(first) {
		return a, nil
	}
	if a.version, err = parseVersion(first[1:]); err != nil {
		return address{}, err
	}
	a.path = "/" + rest
	return a, nil
}

// looksVersioned says whether the engine takes a first segment for a version.
func looksVersioned(s string) bool {
	return len(s) > 1 && s[0] == 'v' && strings.Trim(s[1:], "0123456789.") == ""
}

// parseVersion takes a version in the one form in which it is written. The
// engine itself also takes "1.041" for 1.41.
func parseVersion(s string) (int, error) {
	minor, ok := strings.CutPrefix(s, "1.")
	n, err := strconv.Atoi(minor)
	if !ok || err != nil || strconv.Itoa(n) != minor {
		return 0, refused("ask for a version such as 1.44", "%q is not a version of the engine's interface", short(s))
	}
	switch {
	case n < oldestVersion:
		return 0, refused("use a client of this decade, or set DOCKER_API_VERSION=1.44",
			"version %s of the engine's interface is too old", s)
	case n > newestVersion:
		return 0, refused("update castellan, or set DOCKER_API_VERSION="+newestName(),
			"version %s of the engine's interface is newer than castellan knows (%s)", s, newestName())
	}
	return n, nil
}

func newestName() string { return "1." + strconv.Itoa(newestVersion) }

// lists are the parameters that may be there several times.
func isList(parameter string) bool {
	switch parameter {
	case "t", "names", "changes", "extrahosts", "platform", "type":
		return true
	}
	return false
}

// single refuses parameters that are there twice with different values: the
// engine takes the first, others take the last.
func (a address) single() error {
	for name, values := range a.query {
		if isList(name) {
			continue
		}
		for _, v := range values[1:] {
			if v != values[0] {
				return refused("give it once", "the parameter %q is there twice", short(name))
			}
		}
	}
	return nil
}

// yes reads a parameter as the engine reads one that is true or false.
func (a address) yes(name string) bool {
	switch strings.ToLower(strings.TrimSpace(a.query.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}
