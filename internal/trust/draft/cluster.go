package draft

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// cluster imports one ClusterImagePolicy after the other.
type cluster struct {
	*sheet
	rules []*clusterRule
}

// clusterRule is a policy of the cluster with the patterns that could be carried
// over.
type clusterRule struct {
	rule
	patterns []*policy.Pattern
	loose    []looseGlob
}

// looseGlob is a glob that meant more than its pattern does: in the host, * went over
// dots and ports.
type looseGlob struct {
	host *regexp.Regexp
	path string
}

// newLooseGlob returns what a form of a glob meant; false if it is not loose.
func newLooseGlob(form string) (looseGlob, bool) {
	host, rest, ok := strings.Cut(form, "/")
	if !ok || host == "**" || !strings.Contains(host, "*") {
		return looseGlob{}, false
	}
	text := strings.ReplaceAll(regexp.QuoteMeta(strings.ToLower(host)), `\*`, "[^/]*")
	return looseGlob{regexp.MustCompile("^" + text + "$"), rest}, true
}

// mayMatch reports whether the glob matched images that a pattern matches.
func (g looseGlob) mayMatch(p *policy.Pattern) bool {
	host, _, _ := strings.Cut(p.Full, "/")
	if strings.Contains(host, "*") {
		host = "**"
	} else if !g.host.MatchString(host) {
		return false
	}
	q, err := policy.ParsePattern(host + "/" + g.path)
	return err != nil || p.Meets(q) // what can't be told is taken for a match, which asks for more
}

// FromClusterImagePolicy makes a policy of ClusterImagePolicies of Sigstore's
// policy controller, several in one file.
//
// There, an image must satisfy all policies that match it; here, one rule counts,
// the most specific. So a rule takes over what policies with wider patterns ask
// of the same images.
func FromClusterImagePolicy(b []byte) (Imported, error) {
	all, err := documents(b)
	if err != nil {
		return Imported{}, err
	}
	c := &cluster{sheet: newSheet("Made from ClusterImagePolicies of Sigstore. Read the remarks: what could not be carried",
		"over is stricter here than it was there.")}
	for _, n := range all {
		doc := (*value)(n)
		group, _, _ := strings.Cut(doc.get("apiVersion").text(), "/")
		if doc.get("kind").text() != "ClusterImagePolicy" || group != "policy.sigstore.dev" {
			c.remark(doc.line(), false, "%q is no ClusterImagePolicy and was left out", doc.get("kind").text())
			continue
		}
		c.policy(doc)
	}
	if len(c.rules) == 0 {
		return Imported{}, fault.New(fault.Invalid, "there is no ClusterImagePolicy with images that could be carried over")
	}
	c.combine()
	return c.result(), nil
}

func (c *cluster) policy(doc *value) {
	spec := doc.get("spec")
	name := doc.get("metadata").get("name").text()
	c.unknown(spec, "spec", "images", "authorities", "policy", "mode", "match")
	r := &clusterRule{rule: rule{name: name}}
	for _, i := range spec.get("images").items() {
		c.glob(r, i.get("glob"))
	}
	if len(r.patterns) == 0 {
		c.remark(doc.line(), true, "policy %q matches nothing that can be carried over, so it was left out", name)
		return
	}
	note := func(wanted bool, v *value, format string, args ...any) {
		r.comments = append(r.comments, c.remark(v.line(), wanted, format, args...))
	}
	if m := spec.get("mode"); m != nil && m.text() != "enforce" {
		note(false, m, "mode %s let images run that fail; here they are denied", m.text())
	}
	if m := spec.get("match"); m != nil {
		note(true, m, "match chose what the policy is for in the cluster; here it is for all images of these names")
	}
	if p := spec.get("policy"); p != nil {
		note(true, p, "the policy in %s can't be carried over: write what it demands in CEL as condition of attestations, and take deny away", p.get("type").text())
		r.deny = "the policy of " + name + " in another language was not carried over"
	}
	c.authorities(r, spec)
	c.rules = append(c.rules, r)
}

// glob adds what a glob matches. One that can't be carried over becomes a rule
// that denies all that it may have matched: without it, a policy with a wider
// glob would be enough.
func (c *cluster) glob(r *clusterRule, v *value) {
	g := v.text()
	switch g {
	case "*":
		g = "docker.io/library/*"
	case "*/*":
		g = "docker.io/*/*"
	}
	for _, anyTag := range []string{"@sha256:*", "@sha256:**", "@*", "@**", ":**", ":*"} {
		g = strings.TrimSuffix(g, anyTag)
	}
	forms := []string{g}
	if parts := strings.Split(g, "/"); len(parts) > 1 && strings.HasSuffix(g, "**") && parts[len(parts)-1] != "**" {
		g = strings.TrimRight(g, "*")
		forms = []string{g + "*", g + "*/**"} // the rest of the part, and parts below
	}
	for _, form := range forms {
		p, err := policy.ParsePattern(form)
		if err != nil {
			c.refused(v, form)
			return
		}
		if loose, is := newLooseGlob(form); is {
			r.loose = append(r.loose, loose)
			r.comments = append(r.comments, c.remark(v.line(), false, "in the host of %q, * stands here for a part without dots; rules for hosts with more of them ask for the same", form))
		}
		if !slices.ContainsFunc(r.patterns, func(q *policy.Pattern) bool { return q.Full == p.Full }) {
			r.patterns = append(r.patterns, p)
		}
	}
}

// refused denies what a glob may have matched that has no meaning here.
func (c *cluster) refused(v *value, g string) {
	name, _, _ := strings.Cut(g, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon] // tags move: what is verified is a digest
	}
	parts := strings.Split(name, "/")
	p, err := policy.ParsePattern(name)
	for n := len(parts) - 1; err != nil && n > 0; n-- {
		p, err = policy.ParsePattern(strings.Join(append(slices.Clone(parts[:n]), "**"), "/"))
	}
	if err != nil {
		if p, err = policy.ParsePattern("**"); err != nil {
			return // it can be parsed
		}
	}
	r := &clusterRule{rule: rule{name: "glob " + v.text()}, patterns: []*policy.Pattern{p}}
	r.deny = "what was required of some of these images could not be carried over"
	r.comments = []string{c.remark(v.line(), true, "glob %q has no meaning here (tags have none, ** stands for whole parts): %s is denied until you write what it needs", v.text(), p.Text)}
	c.rules = append(c.rules, r)
}

// authorities carries over who must have signed. Any of them was enough.
func (c *cluster) authorities(r *clusterRule, spec *value) {
	var plain []string
	var manners []demand
	var attested int
	all := spec.get("authorities").items()
	for i, a := range all {
		who, manner := c.authority(r, a, i)
		if who == "" {
			continue
		}
		if list := a.get("attestations").items(); len(list) > 0 {
			attested++
			for _, t := range list {
				r.attest = append(r.attest, c.attestation(t, who, manner))
			}
			continue
		}
		plain, manners = append(plain, who), append(manners, manner)
	}
	switch {
	case r.deny != "":
	case len(plain)+attested == 0:
		r.deny = "none of the authorities of " + r.name + " could be carried over"
		return
	}
	alike := !slices.ContainsFunc(manners, func(d demand) bool { return !slices.Equal(d.fields, manners[0].fields) })
	if attested == 0 && alike && len(plain) > 0 {
		slices.Sort(plain)
		plain = slices.Compact(plain)
		r.require = []demand{{fields: append([]field{{"signers", list(plain)}, {"threshold", "1"}}, manners[0].fields...)}}
		return
	}
	for i, who := range plain {
		r.require = append(r.require, demand{fields: append([]field{{"signers", list([]string{who})}}, manners[i].fields...)})
	}
	if len(plain)+attested > 1 {
		r.comments = append(r.comments, c.remark(spec.get("authorities").line(), true, "any one of the authorities was enough; they ask for different things, so here all are required"))
	}
}

// authority returns the signer of an authority, and how it must have signed; ""
// if it was left out.
func (c *cluster) authority(r *clusterRule, a *value, number int) (who string, manner demand) {
	c.unknown(a, "an authority", "name", "key", "keyless", "static", "source", "ctlog", "attestations", "rfc3161timestamp", "signatureFormat")
	name := a.get("name").text()
	if name == "" {
		name = r.name
	}
	manner.fields = []field{{"kinds", "[sigstore]"}}
	note := func(wanted bool, v *value, format string, args ...any) {
		r.comments = append(r.comments, c.remark(v.line(), wanted, format, args...))
	}
	if s := a.get("source"); s != nil {
		note(true, s, "signatures of other places (source) are not looked for: they must be beside the image")
	}
	if a.get("ctlog").get("url") != nil || a.get("ctlog").get("trustRootRef") != nil {
		manner.fields = append(manner.fields, field{"log", "true"})
	}
	if stamps := a.get("rfc3161timestamp"); stamps != nil {
		manner.fields = append(manner.fields, field{"time", "true"})
		note(false, stamps, "where a transparency log says when it was signed, time: true needs no time stamp")
	}
	if a.get("static") == nil && a.get("signatureFormat").text() != "bundle" {
		manner.fields = append(manner.fields, field{"allowOld", "true"})
		note(false, a, "authority %q accepts cosign's signatures of before bundles; leave allowOld out when all are signed anew", name)
	}
	switch {
	case a.get("static") != nil:
		s := a.get("static")
		if s.get("action").text() == "fail" {
			note(false, s, "static: fail denies")
			r.deny = cmp.Or(s.get("message").text(), "the policy "+r.name+" denies it")
			return "", manner
		}
		note(true, s, "static: pass lets images run whoever made them. There is no such mode here: it was left out")
		return "", manner
	case a.get("key") != nil:
		return c.key(r, a.get("key"), name), manner
	case a.get("keyless") != nil:
		return c.keyless(r, a.get("keyless"), name), manner
	}
	note(true, a, "authority %q is neither key nor keyless and was left out (number %d)", name, number+1)
	return "", manner
}

// key adds the key of an authority and its signer.
func (c *cluster) key(r *clusterRule, k *value, name string) string {
	c.unknown(k, "a key", "data", "kms", "secretRef", "hashAlgorithm")
	if h := k.get("hashAlgorithm"); h != nil && h.text() != "sha256" {
		r.comments = append(r.comments, c.remark(h.line(), false, "hashAlgorithm %s is not carried over: it follows from the key", h.text()))
	}
	var comments, lines []string
	switch data, kms := k.get("data").text(), k.get("kms").text(); {
	case strings.TrimSpace(data) != "":
		lines = block("pem", data)
	case kms != "":
		file := quote(c.free("file", name) + ".pub")
		comments = []string{c.remark(k.line(), true, "nothing is asked of a KMS to verify: save the public key of %s as %s", kms, file)}
		lines = []string{"file: " + file}
		if arn := strings.TrimPrefix(kms, "awskms:///"); strings.HasPrefix(arn, "arn:aws") && strings.Contains(arn, ":key/") {
			lines = append(lines, "kms: "+quote(arn))
		}
	default:
		file := quote(c.free("file", name) + ".pub")
		comments = []string{c.remark(k.line(), true, "the key is in a secret of the cluster: save its public key as %s", file)}
		lines = []string{"file: " + file}
	}
	return c.signer(name, nil, "key: "+quote(c.sheet.key(name, comments, lines...)))
}

// keyless adds the signer of a keyless authority: any of its identities.
func (c *cluster) keyless(r *clusterRule, k *value, name string) string {
	c.unknown(k, "keyless", "url", "identities", "ca-cert", "trustRootRef", "insecureIgnoreSCT")
	note := func(v *value, format string, args ...any) {
		r.comments = append(r.comments, c.remark(v.line(), true, format, args...))
	}
	if ca := k.get("ca-cert"); ca != nil {
		note(ca, "an authority with its own ca-cert can't be carried over and was left out: write a trusted root for it")
		return ""
	}
	if v := k.get("insecureIgnoreSCT"); v.text() == "true" {
		note(v, "insecureIgnoreSCT is not carried over: certificates must be in a certificate transparency log")
	}
	var lines []string
	for _, id := range k.get("identities").items() {
		c.unknown(id, "an identity", "issuer", "subject", "issuerRegExp", "subjectRegExp")
		if twice := both(id); twice != "" {
			note(id, "an identity with %s and %sRegExp says two things; it was left out", twice, twice)
			continue
		}
		issuer, subject := c.either(r, id, "issuer"), c.either(r, id, "subject")
		if issuer == "" || subject == "" {
			note(id, "an identity without issuer or subject is anybody; it was left out")
			continue
		}
		lines = append(lines, "- keyless: {issuer: "+issuer+", subject: "+subject+"}")
	}
	if len(lines) == 0 {
		note(k, "keyless without identities accepts anybody whom Fulcio knows. There is no such mode here: it was left out")
		return ""
	}
	const file = "trusted_root.json"
	if !slices.Contains(c.sigstore, file) {
		c.sigstore = append(c.sigstore, file)
		c.intro = append(c.intro, c.remark(k.line(), true, "keyless signatures need the trusted root of their Sigstore: save it as %s", file))
	}
	if ref := k.get("trustRootRef"); ref != nil {
		note(ref, "trustRootRef %s is not read: what is in it must be in roots.sigstore", ref.text())
	}
	return c.signer(name, nil, append([]string{"identities:"}, indent(lines)...)...)
}

// both returns which of its fields an identity has in both ways; "" if none. Tools
// differ in which they believe.
func both(id *value) string {
	for _, name := range []string{"issuer", "subject"} {
		if id.get(name).text() != "" && id.get(name+"RegExp").text() != "" {
			return name
		}
	}
	return ""
}

// either returns a field, or the expression that may stand for it, as YAML.
func (c *cluster) either(r *clusterRule, id *value, name string) string {
	if exact := id.get(name); exact.text() != "" {
		if strings.Contains(exact.text(), "*") {
			return "{exact: " + quote(exact.text()) + "}"
		}
		return quote(exact.text())
	}
	expression := id.get(name + "RegExp")
	if e := expression.text(); e != "" {
		if !strings.HasPrefix(e, "^") || !strings.HasSuffix(e, "$") {
			r.comments = append(r.comments, c.remark(expression.line(), false, "%sRegExp %s matched parts of a value; here it must match the whole", name, e))
		}
		return "{regexp: " + quote(e) + "}"
	}
	return ""
}

// attestation carries over an attestation. What it must say is written in another
// language: it can never hold until somebody has written it in CEL.
func (c *cluster) attestation(t *value, who string, manner demand) demand {
	c.unknown(t, "an attestation", "name", "predicateType", "policy")
	d := demand{fields: append([]field{{"type", quote(shortType(t.get("predicateType").text()))}, {"signers", list([]string{who})}}, manner.fields...)}
	if p := t.get("policy"); p != nil {
		d.comments = append(d.comments, c.remark(p.line(), true, "what the attestation must say is written in %s: write it in CEL instead of false, which never holds", p.get("type").text()))
		d.fields = append(d.fields, field{"condition", `"false"`})
	}
	return d
}

// shortType returns our name for one of cosign's.
func shortType(s string) string {
	switch s {
	case "slsaprovenance":
		return "slsaprovenance02"
	case "spdxjson":
		return "spdx"
	case "custom":
		return "https://cosign.sigstore.dev/attestation/v1"
	}
	return s
}

// combine writes the rules so that the most specific one asks for all that the
// wider ones ask for. Patterns of a policy that have the same wider ones share a
// rule.
func (c *cluster) combine() {
	done := map[string]bool{}
	for i, r := range c.rules {
		var groups []string
		patterns := map[string][]*policy.Pattern{}
		others := map[string][]*clusterRule{}
		for _, p := range r.patterns {
			if done[p.Full] {
				continue // with the first policy of that pattern
			}
			done[p.Full] = true
			wider := c.wider(i, p)
			var names []string
			for _, w := range wider {
				names = append(names, fmt.Sprintf("%p", w))
			}
			g := strings.Join(names, " ")
			if patterns[g] == nil {
				groups = append(groups, g)
			}
			patterns[g], others[g] = append(patterns[g], p), wider
		}
		for _, g := range groups {
			c.sheet.rules = append(c.sheet.rules, c.merged(r, patterns[g], others[g]))
		}
	}
}

// wider returns the other policies that match all that a pattern matches.
func (c *cluster) wider(i int, p *policy.Pattern) []*clusterRule {
	var out []*clusterRule
	for j, other := range c.rules {
		if j == i {
			continue
		}
		within := slices.ContainsFunc(other.patterns, p.Within)
		// Without the second, an image of such a host would need less than it did.
		if within || slices.ContainsFunc(other.loose, func(g looseGlob) bool { return g.mayMatch(p) }) {
			out = append(out, other)
		}
		for _, q := range other.patterns {
			if within {
				break
			}
			if j > i && !q.Within(p) && p.Meets(q) {
				c.remark(0, true, "%s (of %s) and %s (of %s) match some images both, and neither is the more specific one: add a rule for those", p.Text, c.rules[i].name, q.Text, other.name)
			}
		}
	}
	return out
}

// merged is the rule of some patterns with what others ask of the same images.
func (c *cluster) merged(r *clusterRule, patterns []*policy.Pattern, others []*clusterRule) rule {
	out := r.rule
	out.name = c.free("rule", r.name)
	for _, p := range patterns {
		out.match = append(out.match, p.Text)
	}
	out.comments = slices.Clone(r.comments)
	out.require, out.attest = slices.Clone(r.require), slices.Clone(r.attest)
	for _, other := range others {
		if out.deny == "" {
			out.deny = other.deny
		}
		out.require = append(out.require, other.require...)
		out.attest = append(out.attest, other.attest...)
		out.comments = append(out.comments, "With what "+other.name+" asks, which matches the same images.")
	}
	return out
}
