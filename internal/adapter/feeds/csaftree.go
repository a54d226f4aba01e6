package feeds

import (
	"net/url"
	"strings"

	"github.com/castellan-security/castellan/internal/pull"
)

// tree is the product tree of a CSAF document: what the identifiers of products
// in it stand for.
type tree struct {
	products  map[string]product
	relations map[string]relation
	groups    map[string][]string
}

// product is a leaf of the tree.
type product struct{ cpe, purl string }

// relation says that a product is a component of another: a package of a release,
// or of a module that in turn is one of a release.
type relation struct{ component, of string }

// read reads a product tree.
func (t *tree) read(r *pull.Reader) {
	t.products, t.relations, t.groups = map[string]product{}, map[string]relation{}, map[string][]string{}
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "branches":
			t.branches(r)
		case "full_product_names":
			if r.Array() {
				for r.Next() {
					t.product(r)
				}
			}
		case "relationships":
			t.relationships(r)
		case "product_groups":
			t.productGroups(r)
		default:
			r.Skip()
		}
	}
}

// branches reads branches of branches; how deep they may nest is the reader's
// limit.
func (t *tree) branches(r *pull.Reader) {
	if !r.Array() {
		return
	}
	for r.Next() {
		if !r.Object() {
			continue
		}
		for r.Next() {
			switch string(r.Key()) {
			case "branches":
				t.branches(r)
			case "product":
				t.product(r)
			default: // category, name
				r.Skip()
			}
		}
	}
}

func (t *tree) product(r *pull.Reader) {
	var id string
	var p product
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "product_id":
				id = r.Text()
			case "product_identification_helper":
				if !r.Object() {
					continue
				}
				for r.Next() {
					switch string(r.Key()) {
					case "cpe":
						p.cpe = r.Scalar()
					case "purl":
						p.purl = r.Scalar()
					default:
						r.Skip()
					}
				}
			default:
				r.Skip()
			}
		}
	}
	if len(t.products)+len(t.relations) >= maxProducts {
		r.Fail(tooMany("products", maxProducts))
		return
	}
	t.products[id] = p
}

func (t *tree) relationships(r *pull.Reader) {
	if !r.Array() {
		return
	}
	for r.Next() {
		var rel relation
		id := ""
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "product_reference":
					rel.component = r.Text()
				case "relates_to_product_reference":
					rel.of = r.Text()
				case "full_product_name":
					if !r.Object() {
						continue
					}
					for r.Next() {
						if string(r.Key()) == "product_id" {
							id = r.Text()
						} else {
							r.Skip()
						}
					}
				default:
					r.Skip()
				}
			}
		}
		if len(t.products)+len(t.relations) >= maxProducts {
			r.Fail(tooMany("products", maxProducts))
			return
		}
		t.relations[id] = rel
	}
}

func (t *tree) productGroups(r *pull.Reader) {
	if !r.Array() {
		return
	}
	for r.Next() {
		var id string
		var members []string
		if r.Object() {
			for r.Next() {
				switch string(r.Key()) {
				case "group_id":
					id = r.Text()
				case "product_ids":
					members = r.Strings(maxProducts)
				default:
					r.Skip()
				}
			}
		}
		t.groups[id] = members
	}
}

// component is an RPM of a release.
type component struct {
	cpe     string // of the release
	name    string
	version string // with epoch and release; empty: none in particular
	arch    string // src for source packages; empty: not said
	module  string // "nodejs:18"
}

// maxRelations is how many relations lead from a component to its release: one,
// or two by way of a module.
const maxRelations = 4

// component resolves an identifier; ok is false for what is no RPM of a release.
func (t *tree) component(id string) (c component, ok bool) {
	rel, found := t.relations[id]
	if !found {
		return c, false
	}
	if !c.take(t.products[rel.component].purl, rel.component) {
		return c, false
	}
	platform := rel.of
	for range maxRelations {
		next, more := t.relations[platform]
		if !more {
			break
		}
		if module := moduleOfPURL(t.products[next.component].purl); module != "" {
			c.module = module
		}
		platform = next.of
	}
	c.cpe = t.products[platform].cpe
	return c, c.cpe != "" && c.name != ""
}

// take reads the package URL of an RPM, and reports whether it is one:
//
//	pkg:rpm/redhat/nodejs@18.17.1-1.module%2Bel8?arch=x86_64&epoch=1&rpmmod=nodejs:18:8080…
//	pkg:rpmmod/redhat/ruby:2.6/ruby
func (c *component) take(purl, id string) bool {
	rest, qualifiers, _ := strings.Cut(purl, "?")
	typ, rest, ok := strings.Cut(strings.TrimPrefix(rest, "pkg:"), "/")
	if !ok {
		return false
	}
	path, version, _ := strings.Cut(rest, "@")
	parts := strings.Split(path, "/")
	c.name = unescape(parts[len(parts)-1])
	switch {
	case typ == "rpmmod" && len(parts) == 3: // a package of a module, in no version
		c.module, c.arch = unescape(parts[1]), "src"
		return true
	case typ != "rpm":
		return false
	}
	c.version = unescape(version)
	epoch := ""
	for q := range strings.SplitSeq(qualifiers, "&") {
		key, value, _ := strings.Cut(q, "=")
		switch value = unescape(value); key {
		case "arch":
			c.arch = value
		case "epoch":
			epoch = value
		case "rpmmod":
			c.module = streamOf(value)
		}
	}
	if epoch == "" && c.version != "" { // "nodejs-1:18.17.1-1…"
		if e, ok := strings.CutPrefix(id, c.name+"-"); ok {
			if e, _, ok := strings.Cut(e, ":"); ok && isNumber(e) {
				epoch = e
			}
		}
	}
	c.version = evr(epoch, c.version, "")
	return true
}

// moduleOfPURL returns the stream that pkg:rpmmod/redhat/nodejs@18:8080… names.
func moduleOfPURL(purl string) string {
	rest, ok := strings.CutPrefix(purl, "pkg:rpmmod/redhat/")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, "?")
	name, version, ok := strings.Cut(rest, "@")
	if !ok || strings.Contains(name, "/") {
		return ""
	}
	return streamOf(unescape(name) + ":" + unescape(version))
}

// streamOf shortens name:stream:version:context to name:stream.
func streamOf(module string) string {
	parts := strings.SplitN(module, ":", 3)
	if len(parts) < 2 {
		return module
	}
	return parts[0] + ":" + parts[1]
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// platform turns the CPE of a release into its ecosystem; enterprise is false for
// what is no release of a distribution that is known here.
func platform(cpe string) (ecosystem string, enterprise bool) {
	if rest, ok := strings.CutPrefix(cpe, "cpe:2.3:"); ok { // o:redhat:enterprise_linux:9:*:baseos:*:*:*:*:*
		cpe = "cpe:/" + strings.ReplaceAll(rest, "*", "")
	}
	rest, ok := strings.CutPrefix(cpe, "cpe:/")
	if !ok {
		return "", false
	}
	_, rest, _ = strings.Cut(rest, ":") // o, a or h
	vendor, product, _ := strings.Cut(rest, ":")
	switch vendor {
	case "redhat":
		return redHat(product)
	case "amazon":
		if release, ok := strings.CutPrefix(product, "amazon_linux:"); ok {
			release, _, _ = strings.Cut(release, ":")
			return "Amazon Linux:" + release, release != ""
		}
	}
	return "", false
}
