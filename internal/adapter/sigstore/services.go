package sigstore

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Services are the addresses of a Sigstore. Empty ones are not asked.
type Services struct {
	Fulcio string   // gives certificates for OIDC tokens
	Logs   []LogURL // all of them are written to
	Stamps []string // time-stamping authorities; all of them are asked
	OIDC   string   // issuer at which persons sign in; it is asked by a SignIn alone
}

// LogURL is the address of a Rekor.
type LogURL struct {
	URL     string
	Version int // 1 or 2
}

// PublicServices are those of the Sigstore that the Open Source Security
// Foundation runs. What is signed there is public for ever, with the e-mail
// address or repository of who signs: it is never a default.
func PublicServices() Services {
	return Services{
		Fulcio: "https://fulcio.sigstore.dev",
		Logs:   []LogURL{{"https://rekor.sigstore.dev", 1}},
		Stamps: []string{"https://timestamp.sigstore.dev/api/v1/timestamp"},
		OIDC:   PublicIssuer,
	}
}

// ReadServices reads a signing configuration (protobuf-specs, SigningConfig v0.2,
// as JSON) and takes what is valid at a time and of a version that is known:
// the newest Fulcio, and as many logs and authorities as it asks for.
func ReadServices(doc []byte, at time.Time) (Services, error) {
	if len(doc) > maxRoot {
		return Services{}, fmt.Errorf("the signing configuration has %d bytes, more than %d", len(doc), maxRoot)
	}
	o, err := parseObject(doc)
	if err != nil {
		return Services{}, fmt.Errorf("read the signing configuration: %w", err)
	}
	if media := o.text("mediaType"); !strings.HasPrefix(media, "application/vnd.dev.sigstore.signingconfig.v0.2") {
		return Services{}, fmt.Errorf("read the signing configuration: the media type is %q, want application/vnd.dev.sigstore.signingconfig.v0.2+json", clip(media))
	}
	var s Services
	for _, ca := range pick(o, "caUrls", at, 1, 1) {
		s.Fulcio = ca.URL
	}
	for _, i := range pick(o, "oidcUrls", at, 1, 1) {
		s.OIDC = i.URL
	}
	s.Logs = pick(o, "rekorTlogUrls", at, wanted(o.object("rekorTlogConfig")), 2)
	for _, t := range pick(o, "tsaUrls", at, wanted(o.object("tsaConfig")), 1) {
		s.Stamps = append(s.Stamps, t.URL)
	}
	if err := o.err(); err != nil {
		return Services{}, fmt.Errorf("read the signing configuration: %w", err)
	}
	return s, s.valid()
}

// wanted is how many services of a kind are to be used.
func wanted(config object) int {
	switch config.text("selector") {
	case "ALL":
		return maxInRoot
	case "EXACT":
		return int(min(config.integer("count"), maxInRoot))
	}
	return 1
}

// pick takes the services that are valid, those of the highest version first,
// and of one operator one.
func pick(o object, name string, at time.Time, count, versions int) []LogURL {
	var all []LogURL
	seen := map[string]bool{}
	for v := versions; v >= 1; v-- {
		for _, each := range o.objects(name, maxInRoot) {
			version, operator := int(each.integer("majorApiVersion")), each.text("operator")
			window := readWindow(each.object("validFor"))
			if version != v || !window.holds(at) || len(all) == count || operator != "" && seen[operator] {
				continue
			}
			seen[operator] = true
			all = append(all, LogURL{each.text("url"), version})
		}
	}
	return all
}

// valid checks the addresses.
func (s Services) valid() error {
	all := append([]string{s.Fulcio}, s.Stamps...)
	for _, l := range s.Logs {
		if l.Version != 1 && l.Version != 2 {
			return fmt.Errorf("the log %s has version %d: 1 and 2 are known", l.URL, l.Version)
		}
		all = append(all, l.URL)
	}
	for _, each := range all {
		u, err := url.Parse(each)
		if err == nil && (each == "" || (u.Scheme == "https" || u.Scheme == "http") && u.Host != "") {
			continue
		}
		return fmt.Errorf("%q is not the address of a service of Sigstore", clip(each))
	}
	// The token goes there; time stamps and log entries prove themselves.
	if u, err := url.Parse(s.Fulcio); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
		return fmt.Errorf("the OIDC token would go to %s in the clear: the address of Fulcio must begin with https", u.Host)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
