package draft

import (
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// notation imports one statement after the other.
type notation struct {
	*sheet
	folder string            // of the trust stores
	stores map[string]string // names by what Notation writes
	scopes map[string]bool
}

// FromNotation makes a policy of Notation's trustpolicy.json or
// trustpolicy.oci.json. Certificates are looked for in a folder that is laid out
// as Notation's trust store: x509/KIND/NAME below it.
func FromNotation(b []byte, folder string) (Imported, error) {
	all, err := documents(b)
	if err != nil {
		return Imported{}, err
	}
	if len(all) != 1 || (*value)(all[0]).get("trustPolicies") == nil {
		return Imported{}, fault.New(fault.Invalid, "no trust policy of Notation: there are no trustPolicies")
	}
	doc := (*value)(all[0])
	if v := doc.get("version"); v.text() != "1.0" {
		return Imported{}, fault.New(fault.Invalid, "line %d: version %q of Notation's trust policy is not known", v.line(), v.text()).With("1.0 is")
	}
	n := &notation{
		sheet:  newSheet("Made from a trust policy of Notation. Read the remarks: what could not be carried over", "is stricter here than it was there."),
		folder: folder, stores: map[string]string{}, scopes: map[string]bool{},
	}
	n.unknown(doc, "the policy", "version", "trustPolicies")
	for _, statement := range doc.get("trustPolicies").items() {
		if statement.get("registryScopes") == nil {
			return Imported{}, fault.New(fault.Invalid, "line %d: a statement without registryScopes", statement.line()).With("policies for blobs can't be imported: they are not about images")
		}
		n.statement(statement)
	}
	return n.result(), nil
}

func (n *notation) statement(v *value) {
	n.unknown(v, "a statement", "name", "registryScopes", "signatureVerification", "trustStores", "trustedIdentities")
	r := rule{name: v.get("name").text()}
	for _, scope := range v.get("registryScopes").items() {
		n.scope(&r, scope)
	}
	if len(r.match) == 0 {
		n.remark(v.line(), false, "statement %q matches nothing that can be carried over, so it was left out: its images are denied", r.name)
		return
	}
	verification := v.get("signatureVerification")
	n.unknown(verification, "signatureVerification", "level", "override", "verifyTimestamp")
	level := verification.get("level")
	if level.text() == "skip" {
		r.deny = "Notation was told to skip signatures of it; say who must sign it"
		r.comments = append(r.comments, n.remark(level.line(), true, "skip lets images run whoever made them. There is no such mode here: they are denied until a rule says who must sign them"))
		n.rules = append(n.rules, r)
		return
	}
	d := demand{}
	who := n.identities(v, &r)
	n.level(verification, v, &d)
	if len(who) == 0 {
		if r.deny == "" {
			r.deny = "none of the identities that Notation trusted could be carried over"
		}
		n.rules = append(n.rules, r)
		return
	}
	d.fields = append([]field{{"signers", list(who)}, {"threshold", "1"}, {"kinds", "[notary]"}}, d.fields...)
	r.require = []demand{d}
	n.rules = append(n.rules, r)
}

// scope adds what a rule is for.
func (n *notation) scope(r *rule, v *value) {
	pattern := v.text()
	if pattern == "*" {
		pattern = "**"
	}
	p, err := policy.ParsePattern(pattern)
	switch {
	case err != nil || pattern != "**" && strings.Contains(pattern, "*"):
		n.remark(v.line(), false, "scope %q is no repository and was left out", pattern)
	case n.scopes[p.Full]:
		n.remark(v.line(), true, "scope %q is there twice; the second one was left out", pattern)
	default:
		n.scopes[p.Full] = true
		r.match = append(r.match, pattern)
	}
}

// level carries over how strictly signatures are held against the policy.
func (n *notation) level(verification, statement *value, d *demand) {
	level := verification.get("level")
	enforced := map[string]bool{"authenticity": true, "authenticTimestamp": true, "expiry": true, "revocation": true}
	switch level.text() {
	case "strict":
	case "permissive":
		enforced["authenticTimestamp"], enforced["expiry"], enforced["revocation"] = false, false, false
	case "audit":
		enforced = map[string]bool{}
	default:
		d.comments = append(d.comments, n.remark(level.line(), false, "level %q is not known; it was taken for strict", level.text()))
	}
	override := verification.get("override")
	n.unknown(override, "override", "authenticity", "authenticTimestamp", "expiry", "revocation")
	for _, name := range []string{"authenticity", "authenticTimestamp", "expiry", "revocation"} {
		if o := override.get(name); o != nil {
			enforced[name] = o.text() == "enforce"
		}
	}
	for _, name := range []string{"authenticity", "authenticTimestamp", "expiry"} {
		if !enforced[name] {
			d.comments = append(d.comments, n.remark(verification.line(), false, "%s was only logged or skipped; here it is enforced", name))
		}
	}
	if !enforced["revocation"] {
		d.fields = append(d.fields, field{"revocation", "soft"})
	} else {
		d.comments = append(d.comments, n.remark(verification.line(), true, "Notation asks for revocation over the network; here nothing is asked: add revocation lists to roots.revoked, or say revocation: soft"))
	}
	always := verification.get("verifyTimestamp")
	stamps := false
	for _, s := range statement.get("trustStores").items() {
		stamps = stamps || strings.HasPrefix(s.text(), "tsa:")
	}
	switch {
	case !stamps:
	case always == nil || always.text() != "afterCertExpiry":
		d.fields = append(d.fields, field{"time", "true"})
	default:
		d.comments = append(d.comments, n.remark(always.line(), false, "afterCertExpiry: a time stamp that is there is always checked here; it is needed only where the certificate has ended"))
	}
}

// store adds a trust store, and returns its name and kind.
func (n *notation) store(v *value) (name, kind string) {
	kind, wanted, _ := strings.Cut(v.text(), ":")
	if kind != "ca" && kind != "signingAuthority" && kind != "tsa" || wanted == "" {
		n.remark(v.line(), true, "trust store %q is of no known kind and was left out", v.text())
		return "", ""
	}
	if have := n.stores[v.text()]; have != "" {
		return have, kind
	}
	name = n.free("store", wanted)
	n.stores[v.text()] = name
	folder := path.Join(n.folder, "x509", kind, path.Base("/"+wanted))
	n.sheet.stores = append(n.sheet.stores, entry{name, nil, []string{"kind: " + kind, "folder: " + quote(folder)}})
	return name, kind
}

// identities adds a signer for each identity of a statement.
func (n *notation) identities(v *value, r *rule) []string {
	var ca, authorities []string
	for _, s := range v.get("trustStores").items() {
		switch name, kind := n.store(s); kind {
		case "ca":
			ca = append(ca, name)
		case "signingAuthority":
			authorities = append(authorities, name)
		}
	}
	var who []string
	for _, id := range v.get("trustedIdentities").items() {
		text := id.text()
		kind, subject, _ := strings.Cut(text, ":")
		subject = strings.TrimSpace(subject)
		switch {
		case text == "*":
			r.deny = "Notation was told to accept any certificate of its trust stores; say whose"
			r.comments = append(r.comments, n.remark(id.line(), true, `"*" accepts every certificate of the trust stores. There is no such mode here: its images are denied until a rule names signers`))
			return nil
		case kind == "x509.subject":
			if _, err := policy.ParseName(subject); err != nil {
				n.remark(id.line(), true, "identity %q was left out: %v", text, err)
				continue
			}
			var lines []string
			for _, s := range append(ca, authorities...) {
				lines = append(lines, "- certificate: {store: "+quote(s)+", subject: "+quote(subject)+"}")
			}
			who = n.add(who, id, r.name, lines)
		case strings.HasPrefix(text, "arn:") && strings.Contains(text, ":signer:"):
			if err := policy.CheckProfile(text); err != nil {
				n.remark(id.line(), true, "identity %q was left out: %v; there is %s", text, err, policy.ProfileForms)
				continue
			}
			var lines []string
			for _, s := range authorities {
				lines = append(lines, "- awsSigner: {store: "+quote(s)+", profile: "+quote(text)+"}")
			}
			who = n.add(who, id, r.name, lines)
		default:
			n.remark(id.line(), true, "identity %q is of no known kind and was left out", text)
		}
	}
	return who
}

func (n *notation) add(who []string, id *value, name string, lines []string) []string {
	if len(lines) == 0 {
		n.remark(id.line(), true, "identity %q has no trust store that could vouch for it and was left out", id.text())
		return who
	}
	signer := n.signer(name, nil, append([]string{"identities:"}, indent(lines)...)...)
	if slices.Contains(who, signer) {
		return who
	}
	return append(who, signer)
}

func indent(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = "  " + l
	}
	return out
}
