package oci

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// errHidden is why a registry's repositories are not known.
var errHidden = errors.New("the registry shows no catalogue of its repositories")

// catalog calls each with the names of all repositories, as long as it returns
// true.
func (r *Registry) catalog(ctx context.Context, in *repository, each func(name string) bool) error {
	seen := map[string]bool{}
	wrong := skipped{}
	defer func() { wrong.log(r, in, "repository") }()
	return in.pages(ctx, "/v2/_catalog", "repositories", maxRepositories, func(names []string) (bool, error) {
		for _, n := range names {
			if !asset.IsRepository(n) {
				wrong.add(n)
				continue
			}
			if seen[n] {
				continue
			}
			if len(seen) == maxRepositories {
				return false, tooMany("repositories", maxRepositories, "name those that are meant, instead of asking for all")
			}
			seen[n] = true
			if !each(n) {
				return false, nil
			}
		}
		return true, nil
	})
}

// tags returns the tags of a repository that may be images' and that want says
// yes to, in the registry's order. Those that were read before an error are
// returned with it.
func (r *Registry) tags(ctx context.Context, in *repository, want func(string) bool) ([]string, error) {
	var tags []string
	seen := map[string]bool{}
	wrong := skipped{}
	defer func() { wrong.log(r, in, "tag") }()
	err := in.pages(ctx, "/v2/"+in.name.RepositoryStr()+"/tags/list", "tags", maxTags, func(names []string) (bool, error) {
		for _, t := range names {
			switch {
			case !asset.IsTag(t):
				wrong.add(t)
			case asset.IsAttachedTag(t), seen[t], !want(t):
			case len(tags) == maxTags:
				return false, tooMany("tags that are wanted", maxTags, "name fewer tags by patterns")
			default:
				seen[t] = true
				tags = append(tags, t)
			}
		}
		return true, nil
	})
	return tags, err
}

func tooMany(what string, limit int, remedy string) error {
	return fault.New(fault.Invalid, "more than %d %s", limit, what).With(remedy)
}

// skipped counts names that cannot be used, which only a registry that is broken
// or hostile gives.
type skipped struct {
	count int
	first string
}

func (s *skipped) add(name string) {
	if s.count++; s.count == 1 {
		s.first = shown(name)
	}
}

func (s *skipped) log(r *Registry, in *repository, what string) {
	if s.count > 0 {
		r.log.Warn("names left out that no "+what+" can have", "registry", in.name.RegistryStr(), "count", s.count, "first", strconv.Quote(s.first))
	}
}

// pages asks for a list page by page and calls each with the member of that name
// of every page, as long as it returns true.
func (r *repository) pages(ctx context.Context, path, member string, limit int, each func([]string) (bool, error)) error {
	address := url.URL{Scheme: r.scheme, Host: r.name.RegistryStr(), Path: path, RawQuery: "n=" + strconv.Itoa(pageSize)}
	for range maxPages {
		names, next, err := r.page(ctx, address, member, limit)
		if err != nil {
			return err
		}
		more, err := each(names)
		if err != nil || !more || next == "" {
			return err
		}
		if next == address.RawQuery {
			return fault.New(fault.Invalid, "a page of the list leads to itself").With("the registry is broken, or the proxy before it")
		}
		address.RawQuery = next
	}
	return tooMany("pages", maxPages, "have the registry give larger pages")
}

// page asks for one page. It returns the query of the next one; empty when there
// is none.
func (r *repository) page(ctx context.Context, address url.URL, member string, limit int) (names []string, next string, err error) {
	b, header, err := r.list(ctx, address, "")
	if err != nil {
		return nil, "", err
	}
	var raw json.RawMessage
	if _, err = members(b, map[string]*json.RawMessage{member: &raw}); err == nil {
		names, err = list[string](raw, limit, member)
	}
	if err != nil {
		return nil, "", fault.New(fault.Invalid, "parse the registry's answer: %w", err).With("is that a registry, and is nothing else in front of it?")
	}
	next, err = nextPage(header.Values("Link"), address)
	return names, next, err
}

// list reads a document that lists something, of a media type if one is named. A
// connection that breaks within is tried again.
func (r *repository) list(ctx context.Context, address url.URL, mediaType string) ([]byte, http.Header, error) {
	for attempt := 1; ; attempt++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
		if err != nil {
			return nil, nil, err
		}
		if mediaType != "" {
			req.Header.Set("Accept", mediaType)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			return nil, nil, r.explain("ask registry "+r.name.RegistryStr(), err)
		}
		if resp.StatusCode != http.StatusOK {
			err := r.refusal(resp)
			_ = resp.Body.Close() // what it said was read
			return nil, nil, err
		}
		b, err := readBounded(resp.Body, maxListing, "list")
		_ = resp.Body.Close() // all of it was read, or an error says why not
		if err == nil {
			return b, resp.Header, nil
		}
		if attempt == maxAttempts || fault.Of(err) != fault.Unknown || ctx.Err() != nil {
			return nil, nil, r.explain("ask registry "+r.name.RegistryStr(), err)
		}
	}
}

// nextPage returns the query of the page after that at address, from headers as
// RFC 8288 writes them: <address>; rel="next". Of the address only the query is
// used, and it must be of the same registry: whatever a registry says, it is
// asked for the same list, by the same protocol.
func nextPage(links []string, address url.URL) (string, error) {
	for _, l := range links {
		for l != "" {
			var target, rel string
			target, rel, l = link(l)
			if !strings.EqualFold(rel, "next") || target == "" {
				continue
			}
			u, err := address.Parse(target)
			if err != nil {
				return "", fault.New(fault.Invalid, "the next page's address %q cannot be read", shown(target)).With("the registry is broken, or the proxy before it")
			}
			if hostname(u) != hostname(&address) {
				return "", fault.New(fault.Denied, "%s sent us to %s for the next page", address.Host, shown(u.Host)).
					With("have the registry know by which name it is reached from here")
			}
			return u.RawQuery, nil
		}
	}
	return "", nil
}

// hostname is the host that an address names, with its port unless that is the
// one that goes without saying. Proxies that end TLS have registries believe that
// they are spoken to in the clear, so the ports of both protocols count as one.
func hostname(u *url.URL) string {
	switch u.Port() {
	case "", "80", "443":
		return strings.ToLower(u.Hostname())
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), u.Port()))
}

// link reads the first of the links in s, its first relation, and returns the
// rest.
func link(s string) (target, rel, rest string) {
	_, s, ok := strings.Cut(s, "<")
	if !ok {
		return "", "", ""
	}
	target, s, ok = strings.Cut(s, ">")
	if !ok {
		return "", "", ""
	}
	end, quoted := len(s), false
	for i := range len(s) {
		if s[i] == '"' {
			quoted = !quoted
		}
		if s[i] == ',' && !quoted {
			end = i
			break
		}
	}
	for p := range strings.SplitSeq(s[:end], ";") {
		key, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(key), "rel") && rel == "" {
			rel, _, _ = strings.Cut(strings.Trim(strings.TrimSpace(value), `"`), " ")
		}
	}
	return strings.TrimSpace(target), rel, s[end:]
}

// hidden says of a registry that refuses its catalogue that it shows none: most
// public ones don't, whoever asks. A user who could not log in is another matter.
func hidden(err error, in *repository) error {
	var refused *transport.Error
	if err == nil || in == nil || !errors.As(err, &refused) {
		return err
	}
	switch refused.StatusCode {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
	case http.StatusUnauthorized:
		if !in.byToken || in.client == nil {
			return err
		}
	default:
		unsupported := func(d transport.Diagnostic) bool { return d.Code == transport.UnsupportedErrorCode }
		if !slices.ContainsFunc(refused.Errors, unsupported) {
			return err
		}
	}
	return fault.New(fault.Unsupported, "%w: %w", errHidden, err).
		With("name the repositories that are to be watched, or log in with a user who may list them")
}
