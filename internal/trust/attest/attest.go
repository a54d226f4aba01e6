// Package attest prepares what is to be attested of an image: it knows the types
// of predicates by their short names, and refuses a document that is not of the
// type that it is called, or a scan of another image. A false attestation would
// only be seen when somebody is denied by it, or worse, when he is not.
//
// It is not for signing, which the door of Sigstore does, and not for what a
// policy wants to read in a predicate.
package attest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/trust/policy"
)

// MaxPredicate bounds a predicate: more would not be looked into by a policy.
const MaxPredicate = 16 << 20

// Type returns the type of predicate that a short name or a URI means. Of a name
// that stands for several the first is what is written.
func Type(name string) (string, error) {
	if all := policy.PredicateTypes(name); len(all) > 0 {
		return all[0], nil
	}
	if scheme, rest, ok := strings.Cut(name, "://"); ok && scheme != "" && rest != "" && !strings.ContainsAny(name, " \t\r\n") {
		return name, nil
	}
	return "", fault.New(fault.Invalid, "type %q of an attestation is not known", name).
		With("write a URI, or one of " + strings.Join(policy.PredicateNames(), ", "))
}

// shapes are by which names documents of a type are known.
func shapes() map[string][]string {
	return map[string][]string{
		first("cyclonedx"):        {"bomFormat"},
		first("spdx"):             {"spdxVersion", "@graph"},
		first("openvex"):          {"statements"},
		first("vuln"):             {"scanner"},
		first("slsaprovenance1"):  {"buildDefinition"},
		first("slsaprovenance02"): {"builder"},
		policy.ScanPredicate:      {"reports"},
	}
}

func first(name string) string { return policy.PredicateTypes(name)[0] }

// Predicate returns the predicate of a type that a document is. A whole statement
// is refused, as it would be attested within another one.
func Predicate(typ string, doc []byte) ([]byte, error) {
	if len(doc) > MaxPredicate {
		return nil, fault.New(fault.Invalid, "a predicate of %d bytes, and at most %d are read again", len(doc), MaxPredicate).With("attest less")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return nil, fault.New(fault.Invalid, "the predicate is no object of JSON: %w", err).With("SBOMs are attested in their JSON forms")
	}
	if fields["predicateType"] != nil || fields["_type"] != nil {
		return nil, fault.New(fault.Invalid, "this is a whole in-toto statement, not a predicate").With("take the predicate out: jq .predicate FILE")
	}
	if wanted := shapes()[typ]; wanted != nil && !slices.ContainsFunc(wanted, func(name string) bool { return fields[name] != nil }) {
		return nil, fault.New(fault.Invalid, "the predicate is none of type %s: it has no %s", typ, strings.Join(wanted, " or ")).
			With("say its right --type" + hint(fields))
	}
	if typ == policy.ScanPredicate {
		return finished(fields)
	}
	return doc, nil
}

// hint says what a document may be.
func hint(fields map[string]json.RawMessage) string {
	for typ, names := range shapes() {
		for _, n := range names {
			if fields[n] == nil {
				continue
			}
			for _, short := range policy.PredicateNames() {
				if policy.PredicateTypes(short)[0] == typ {
					return ": it looks like " + short
				}
			}
		}
	}
	return ""
}

// scanned is what is read of a report of castellan scan.
type scanned struct {
	Made      time.Time `json:"made"`
	Inventory struct {
		Image *struct {
			Digest string `json:"digest"`
		} `json:"image"`
	} `json:"inventory"`
}

// reports reads a report's parts.
func reports(b json.RawMessage) ([]scanned, error) {
	var all []scanned
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fault.New(fault.Invalid, "the predicate is no report of castellan scan: %w", err).With("castellan scan IMAGE -o json=FILE makes one")
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, "the report is empty: nothing was scanned")
	}
	return all, nil
}

// finished adds to a report when its oldest part was finished, which is how old a
// policy takes it for.
func finished(fields map[string]json.RawMessage) ([]byte, error) {
	all, err := reports(fields["reports"])
	if err != nil {
		return nil, err
	}
	oldest := all[0].Made
	for _, r := range all {
		if r.Made.Before(oldest) {
			oldest = r.Made
		}
	}
	if oldest.IsZero() {
		return nil, fault.New(fault.Invalid, "the report does not say when it was made")
	}
	if fields["finished"], err = json.Marshal(oldest.UTC()); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// Scanned returns the digests of the images that a scan's predicate is about.
func Scanned(predicate []byte) ([]string, error) {
	var doc struct {
		Reports json.RawMessage `json:"reports"`
	}
	if err := json.Unmarshal(predicate, &doc); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	all, err := reports(doc.Reports)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range all {
		if r.Inventory.Image == nil || r.Inventory.Image.Digest == "" {
			return nil, fault.New(fault.Invalid, "the report does not say of which image it is").With("scan the image by its digest in the registry: castellan scan registry:IMAGE@sha256:… -o json=FILE")
		}
		out = append(out, r.Inventory.Image.Digest)
	}
	return out, nil
}
