// Package webhook reads what registries send by themselves when something was
// pushed or deleted: the notifications of CNCF distribution, Harbor, GitHub,
// Docker Hub, Quay, Azure Container Registry, Google Artifact Registry and JFrog
// Artifactory. What one sends is recognised by its form.
//
//	changes, err := webhook.Parse(body, r.Header.Get("Content-Type"))
//
// What it reads was written by somebody else, perhaps to mislead: a change is a
// hint that it is worth asking the registry, not a fact. It is not for deciding
// who may send one.
package webhook

import (
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

const (
	// MaxBody bounds a notification. GitHub's, the longest, tell all of a
	// repository and an organization in some 30 KiB; distribution's may have
	// several hundred events of one KiB each.
	MaxBody = 1 << 20
	// maxChanges bounds the changes of one notification. Quay tells all tags that
	// a push had, distribution a queue that had to wait.
	maxChanges = 1000
	// maxHost bounds the name of a host, with its port.
	maxHost = 260
)

// form is one kind of notification.
type form struct {
	name string
	// is says whether a document with these members is one.
	is func(document) bool
	// read returns what changed. What it returns is checked afterwards.
	read func(document) ([]asset.RegistryChange, error)
}

// forms are all that are known, those first that cannot be taken for another.
func forms() []form {
	return []form{
		{"CNCF distribution's", isDistribution, readDistribution},
		{"Harbor's", isHarbor, readHarbor},
		{"Harbor's as a cloud event", isHarborCloudEvent, readHarborCloudEvent},
		{"GitHub's", isGitHub, readGitHub},
		{"Docker Hub's", isDockerHub, readDockerHub},
		{"Quay's", isQuay, readQuay},
		{"Azure's", isAzure, readAzure},
		{"Google's", isGoogle, readGoogle},
		{"Artifactory's", isArtifactory, readArtifactory},
	}
}

// document is a notification by its members.
type document map[string]json.RawMessage

// has says whether all these members are there.
func (d document) has(names ...string) bool {
	for _, n := range names {
		if _, ok := d[n]; !ok {
			return false
		}
	}
	return true
}

// text returns a member that is a string, else "".
func (d document) text(name string) string {
	var s string
	if json.Unmarshal(d[name], &s) != nil {
		return "" // of another kind, or not there
	}
	return s
}

// Parse returns what a notification says has changed: nothing for one of a known
// form about something else, as a pull, a scan or a test. The content type may be
// empty. The error is of kind Invalid for a form that isn't known, and for names
// that no image can have when there are no others.
//
// Digest or Tag may be missing, not both, unless the registry tells neither of
// its repository. Host is as the registry knows itself, which may be another name
// than the one it is configured by.
func Parse(body []byte, contentType string) ([]asset.RegistryChange, error) {
	if len(body) > MaxBody {
		return nil, fault.New(fault.Invalid, "a notification of %d bytes, and at most %d are read", len(body), MaxBody).
			With("is that address meant for a registry's notifications?")
	}
	if t, _, err := mime.ParseMediaType(contentType); contentType != "" && (err != nil || !isJSON(t)) {
		return nil, fault.New(fault.Invalid, "a notification of type %.80q, and JSON is read", contentType).
			With("have it sent as application/json")
	}
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, fault.New(fault.Invalid, "parse notification: %w", brief(err)).With("have it sent as a JSON object")
	}
	for _, f := range forms() {
		if !f.is(d) {
			continue
		}
		changes, err := f.read(d)
		if err == nil {
			changes, err = checked(changes)
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "read notification of %s form: %w", f.name, brief(err)).
				With("look at what was sent, in the registry's own log of its webhooks")
		}
		return changes, nil
	}
	return nil, fault.New(fault.Invalid, "a notification of no form that is known").
		With("known are those of CNCF distribution, Harbor, GitHub, Docker Hub, Quay, Azure, Google and Artifactory")
}

// isJSON says whether a media type is of JSON.
func isJSON(t string) bool {
	return t == "application/json" || t == "text/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")
}

// brief is an error without what was read: messages of the JSON package may quote
// some of it.
func brief(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return errors.New("a member is a " + kind.Value + " and should be another kind of value")
	}
	return err
}

// errNames is why nothing is left of a notification.
var errNames = errors.New("it has a repository, tag or digest that cannot be one")

// checked leaves out changes that no image can have, or that are of signatures and
// the like, and those told twice.
func checked(all []asset.RegistryChange) ([]asset.RegistryChange, error) {
	var out []asset.RegistryChange
	seen := map[asset.RegistryChange]bool{}
	wrong := false
	for _, c := range all {
		if asset.IsAttachedTag(c.Tag) {
			continue
		}
		c.Host = strings.ToLower(c.Host)
		bad := !asset.IsRepository(c.Repository) || !isHost(c.Host) || c.Tag != "" && !asset.IsTag(c.Tag)
		if c.Digest != "" && inventory.CheckDigest(c.Digest) != nil {
			c.Digest = "" // the tag leads to it, or the repository does
			bad = bad || c.Tag == ""
		}
		if bad {
			wrong = true
			continue
		}
		if seen[c] {
			continue
		}
		if len(out) == maxChanges {
			return nil, errors.New("it has more changes than any registry tells at once")
		}
		seen[c] = true
		out = append(out, c)
	}
	if wrong && len(out) == 0 {
		return nil, errNames
	}
	return out, nil
}

// isHost says whether s is a host, with a port if it has one. A registry may not
// know its own: then it is empty.
func isHost(s string) bool {
	if s == "" {
		return true
	}
	u, err := url.Parse("https://" + s)
	if err != nil || u.Host != s || len(s) > maxHost || u.Hostname() == "" {
		return false
	}
	return net.ParseIP(u.Hostname()) != nil || strings.Trim(u.Hostname(), "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}

// image is where a reference says an image is.
type image struct{ host, repository, tag, digest string }

// split reads a reference that begins with a host: host/repository:tag@digest.
// Whether the parts can be what they are taken for is checked later.
func split(reference string) image {
	var i image
	reference, i.digest, _ = strings.Cut(reference, "@")
	i.host, i.repository, _ = strings.Cut(reference, "/")
	if at := strings.LastIndexByte(i.repository, ':'); at >= 0 {
		i.repository, i.tag = i.repository[:at], i.repository[at+1:]
	}
	return i
}

// unix is the time of seconds since 1970; the zero time for none, and for what is
// beyond all reason.
func unix(seconds float64) time.Time {
	const last = 1 << 33 // in the year 2242
	if !(seconds > 0 && seconds < last) {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// moment reads a time of RFC 3339; the zero time for anything else.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
