package registries

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/server/query"
)

// Limits and defaults of a registry's configuration.
const (
	// DefaultEvery is how often a registry is asked unless somebody says
	// otherwise. Where it tells of changes itself, that is only for what was lost.
	DefaultEvery = 15 * time.Minute
	minEvery     = time.Minute
	maxEvery     = 7 * 24 * time.Hour
	maxRate      = 1_000
	maxKeep      = 100_000
	maxNamed     = 1_000
	maxHost      = 255
	maxURL       = 1_024
)

// Spec is a registry's configuration as people write it: in forms, in the API and
// in files. Its fields mean what those of asset.Registry do.
type Spec struct {
	Name         string   `json:"name" maxLength:"63" doc:"Unique: lower case letters, digits and dashes"`
	Kind         string   `json:"kind,omitempty" doc:"oci: any registry; ecr: Amazon ECR by its own API. Left out: ecr for a host of Amazon ECR, else oci"`
	Host         string   `json:"host" maxLength:"255" doc:"Host of the registry, with a port where it has one. A name without a dot needs a port, unless it is localhost: image names begin with a repository of Docker Hub otherwise"`
	PlainHTTP    bool     `json:"plain_http,omitempty" doc:"Permit requests without TLS"`
	Repositories []string `json:"repositories,omitempty" doc:"Patterns of repositories: * is any text without a slash, ** any text, a leading ! excludes; the last that matches decides. None: all"`
	Tags         []string `json:"tags,omitempty" doc:"Patterns of tags, as those of repositories"`
	Named        []string `json:"named,omitempty" doc:"Repositories that are watched beside those that the registry lists: many list none"`
	Keep         int      `json:"keep,omitempty" minimum:"0" doc:"Only so many of the newest images of each repository; 0 is all"`
	MaxAge       string   `json:"max_age,omitempty" doc:"Only images that are not older: 90d, 12h"`
	Platforms    []string `json:"platforms,omitempty" doc:"Platforms of multi-platform images that are scanned, as in linux/arm64. None: those that run in the fleet, else linux/amd64"`
	Every        string   `json:"every,omitempty" doc:"How often the registry is asked for news: 15m unless given"`
	Rate         float64  `json:"rate,omitempty" minimum:"0" doc:"Requests a second at most; the doors know what is usual unless given: 10, and 5 for Amazon ECR"`
	Queue        string   `json:"queue,omitempty" maxLength:"1024" doc:"URL of an SQS queue to which EventBridge sends the events of Amazon ECR"`
}

// SpecOf returns the configuration of a registry as people write it.
func SpecOf(r asset.Registry) Spec {
	return Spec{
		Name: r.Name, Kind: string(r.Kind), Host: r.Host, PlainHTTP: r.PlainHTTP, Repositories: r.Repositories, Tags: r.Tags,
		Named: r.Named, Keep: r.Keep, MaxAge: long(r.MaxAge), Platforms: r.Platforms, Every: long(r.Every), Rate: r.Rate, Queue: r.Queue,
	}
}

// long writes a duration as people do; "" for none.
func long(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return ""
	case d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
	hostForm  = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`)
	ecrForm   = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)$`)
	queueForm = regexp.MustCompile(`^https?://[A-Za-z0-9.:-]+/[A-Za-z0-9/_.-]+$`)
)

// Registry returns the configuration checked and completed. The error is Invalid
// and names the field.
func (s Spec) Registry() (asset.Registry, error) {
	r := asset.Registry{
		Name: strings.TrimSpace(s.Name), Kind: asset.RegistryKind(s.Kind), Host: strings.TrimSpace(s.Host), PlainHTTP: s.PlainHTTP,
		Repositories: tidy(s.Repositories), Tags: tidy(s.Tags), Named: tidy(s.Named), Keep: s.Keep, Platforms: tidy(s.Platforms),
		Rate: s.Rate, Queue: strings.TrimSpace(s.Queue),
	}
	if r.Kind == "" {
		r.Kind = asset.RegistryOCI
		if ecrForm.MatchString(r.Host) {
			r.Kind = asset.RegistryECR
		}
	}
	for _, d := range []struct {
		field, text string
		to          *time.Duration
	}{{"max_age", s.MaxAge, &r.MaxAge}, {"every", s.Every, &r.Every}} {
		if d.text = strings.TrimSpace(d.text); d.text == "" {
			continue
		}
		v, err := query.Duration(d.text)
		if err != nil {
			return r, fault.New(fault.Invalid, "%s: %w", d.field, err).With("write it as in 15m, 12h or 90d")
		}
		*d.to = v
	}
	return r, check(r)
}

// tidy drops spaces and empty words.
func tidy(words []string) []string {
	var out []string
	for _, w := range words {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// check returns what is wrong with a configuration.
func check(r asset.Registry) error {
	switch {
	case !nameForm.MatchString(r.Name):
		return fault.New(fault.Invalid, "name: %.80q is no name of a registry", r.Name).
			With("use lower case letters, digits and dashes, 63 at most")
	case r.Kind != asset.RegistryOCI && r.Kind != asset.RegistryECR:
		return fault.New(fault.Invalid, "kind: %.40q is none", r.Kind).With("say oci, or ecr for Amazon ECR")
	case strings.Contains(r.Host, "://"):
		return fault.New(fault.Invalid, "host: %.80q is an address", r.Host).With("leave out https:// and the path; plain HTTP is permitted by plain_http")
	case len(r.Host) > maxHost || !hostForm.MatchString(r.Host):
		return fault.New(fault.Invalid, "host: %.80q is no host", r.Host).With("write it as in registry.example or registry.example:5000")
	case r.Host != "localhost" && !strings.ContainsAny(r.Host, ".:"):
		// As docker and every other tool read an image's name.
		return fault.New(fault.Invalid, "host: %.80q has neither a dot nor a port, and %.80s/app would be an image of Docker Hub", r.Host, r.Host).
			With("write its port, as in " + r.Host + ":443 or " + r.Host + ":5000, or its full name")
	case r.Kind == asset.RegistryECR && !ecrForm.MatchString(r.Host):
		return fault.New(fault.Invalid, "host: %.80q is none of Amazon ECR", r.Host).
			With("write it as in 123456789012.dkr.ecr.eu-central-1.amazonaws.com, or say kind: oci")
	case r.Keep < 0 || r.Keep > maxKeep:
		return fault.New(fault.Invalid, "keep: want a number from 0 to %d", maxKeep)
	case r.Every != 0 && (r.Every < minEvery || r.Every > maxEvery):
		return fault.New(fault.Invalid, "every: want a time from %s to %s", minEvery, long(maxEvery)).
			With("a registry that tells of its changes itself need not be asked often: set up its webhook")
	case r.Rate < 0 || r.Rate > maxRate:
		return fault.New(fault.Invalid, "rate: want a number up to %d", maxRate)
	case r.Queue != "" && r.Kind != asset.RegistryECR:
		return fault.New(fault.Invalid, "queue: only Amazon ECR sends its events to a queue").With("use the registry's webhook")
	case len(r.Queue) > maxURL || r.Queue != "" && !queueForm.MatchString(r.Queue):
		return fault.New(fault.Invalid, "queue: %.80q is no URL of a queue", r.Queue).
			With("copy the URL that Amazon SQS shows, as in https://sqs.eu-central-1.amazonaws.com/123456789012/castellan")
	}
	if _, port, err := net.SplitHostPort(r.Host); err == nil && (len(port) > 5 || port == "0") {
		return fault.New(fault.Invalid, "host: %.80q has no port that can be", r.Host)
	}
	return checkLists(r)
}

func checkLists(r asset.Registry) error {
	if err := checkPatterns("repositories", r.Repositories); err != nil {
		return err
	}
	if err := checkPatterns("tags", r.Tags); err != nil {
		return err
	}
	if len(r.Named) > maxNamed {
		return fault.New(fault.Invalid, "named: %d repositories, want %d at most", len(r.Named), maxNamed)
	}
	for _, n := range r.Named {
		if !asset.IsRepository(n) {
			return fault.New(fault.Invalid, "named: %.80q is no name of a repository", n).
				With("write it without the registry and without a tag, as in shop/web")
		}
	}
	if slices.Contains(r.Platforms, "") {
		return fault.New(fault.Invalid, "platforms: an empty one")
	}
	_, err := platformsOf(r)
	return err
}

// platformsOf reads the platforms of a configuration.
func platformsOf(r asset.Registry) ([]inventory.Platform, error) {
	const most = 16
	if len(r.Platforms) > most {
		return nil, fault.New(fault.Invalid, "platforms: %d, want %d at most", len(r.Platforms), most)
	}
	var all []inventory.Platform
	for _, text := range r.Platforms {
		parts := strings.Split(text, "/")
		if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") || strings.ContainsFunc(text, func(c rune) bool { return !isNameRune(c) }) {
			return nil, fault.New(fault.Invalid, "platforms: %.40q is none", text).With("write it as in linux/amd64 or linux/arm/v7")
		}
		p := inventory.Platform{OS: parts[0], Architecture: parts[1]}
		if len(parts) == 3 {
			p.Variant = parts[2]
		}
		all = append(all, p)
	}
	return all, nil
}
