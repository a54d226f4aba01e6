package feeds

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/advisory"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/pull"
)

const (
	// maxVEX is how large a VEX document of the user may be.
	maxVEX = 64 << 20
	// maxStatements is how many statements it may have.
	maxStatements = 100_000
)

// Statements reads an OpenVEX document (https://openvex.dev, versions 0.0.1 to
// 0.2.0), by itself or as the predicate of an in-toto statement. Unlike a feed it
// is the user's own word: whatever is wrong with it is an error.
func Statements(r io.Reader) ([]advisory.Exploitability, error) {
	data, err := readAll(r, maxVEX, nil)
	if err != nil {
		return nil, fmt.Errorf("read VEX document: %w", err)
	}
	v := vexReader{}
	all, err := v.document(data)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read VEX document: %w", err).With("check it against https://github.com/openvex/spec")
	}
	return all, nil
}

type vexReader struct {
	json pull.Reader
}

// vexHead is what statements take from their document where they don't say it
// themselves.
type vexHead struct {
	author     string
	timestamp  time.Time
	openVEX    bool
	statements bool
}

func (v *vexReader) document(doc []byte) ([]advisory.Exploitability, error) {
	r := &v.json
	r.Reset(doc)
	var head vexHead
	v.head(&head)
	if err := r.End(); err != nil {
		return nil, err
	}
	if !head.openVEX {
		return nil, errors.New("not OpenVEX: no @context of https://openvex.dev/ns")
	}
	if !head.statements {
		return nil, errors.New("no statements")
	}
	var all []advisory.Exploitability
	r.Reset(doc)
	v.statementsIn(&head, &all)
	return all, r.End()
}

// head reads an object's own members, and those of the objects that documents are
// wrapped in: "predicate" of in-toto, "metadata" of Canonical.
func (v *vexReader) head(head *vexHead) {
	r := &v.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "@context":
			const namespace = "https://openvex.dev/ns"
			s := r.Scalar()
			head.openVEX = head.openVEX || len(s) >= len(namespace) && s[:len(namespace)] == namespace
		case "author":
			head.author = cut(r.Scalar(), maxName)
		case "timestamp":
			head.at(r.Scalar())
		case "last_updated":
			head.at(r.Scalar())
		case "statements":
			head.statements = true
			r.Skip()
		case "predicate", "metadata":
			v.head(head)
		default:
			r.Skip()
		}
	}
}

func (h *vexHead) at(s string) {
	if t := parseTime(s); t.After(h.timestamp) {
		h.timestamp = t
	}
}

func (v *vexReader) statementsIn(head *vexHead, all *[]advisory.Exploitability) {
	r := &v.json
	if !r.Object() {
		return
	}
	for r.Next() {
		switch string(r.Key()) {
		case "statements":
			if !r.Array() {
				continue
			}
			for r.Next() {
				if err := v.statement(head, all); err != nil {
					r.Fail(fmt.Errorf("statement %d: %w", len(*all)+1, err))
					return
				}
			}
		case "predicate":
			v.statementsIn(head, all)
		default:
			r.Skip()
		}
	}
}

// statement appends one statement; if what it is about differs from product to
// product, one for each.
func (v *vexReader) statement(head *vexHead, all *[]advisory.Exploitability) error {
	r := &v.json
	e := advisory.Exploitability{Author: head.author, Timestamp: head.timestamp}
	var products []vexProduct
	var subcomponents []string
	if !r.Object() {
		return errors.New("want an object")
	}
	for r.Next() {
		switch string(r.Key()) {
		case "vulnerability":
			v.vulnerability(&e)
		case "products":
			products = v.products()
		case "subcomponents":
			subcomponents = v.subcomponents()
		case "status":
			e.Status = r.Text()
		case "justification":
			e.Justification = cut(r.Scalar(), maxName)
		case "impact_statement", "status_notes":
			if text := r.Scalar(); text != "" && e.Impact == "" {
				e.Impact = cut(text, maxDetails)
			}
		case "action_statement":
			e.Action = cut(r.Scalar(), maxDetails)
		case "timestamp", "last_updated":
			if t := parseTime(r.Scalar()); !t.IsZero() {
				e.Timestamp = t
			}
		default:
			r.Skip()
		}
	}
	if r.Err() != nil {
		return r.Err()
	}
	if len(products) == 0 {
		return fmt.Errorf("no products for %s: it would be about everything", e.Vulnerability)
	}
	for len(products) > 0 {
		same := products[0].subcomponents
		part := e
		part.Subcomponents = subcomponents
		if len(same) > 0 {
			part.Subcomponents = same
		}
		products = slices.DeleteFunc(products, func(p vexProduct) bool {
			if !slices.Equal(p.subcomponents, same) {
				return false
			}
			part.Products = append(part.Products, p.names...)
			return true
		})
		if err := check(&part); err != nil {
			return err
		}
		if len(*all) == maxStatements {
			return tooMany("statements", maxStatements)
		}
		*all = append(*all, part)
	}
	return nil
}

// vexProduct is one product by all its names, and what in it is meant.
type vexProduct struct{ names, subcomponents []string }

// check holds a statement against what the specification wants of it.
func check(e *advisory.Exploitability) error {
	switch e.Status {
	case advisory.VEXNotAffected, advisory.VEXAffected, advisory.VEXFixed, advisory.VEXUnderInvestigation:
	default:
		return fmt.Errorf("status %.40q: want not_affected, affected, fixed or under_investigation", e.Status)
	}
	if e.Vulnerability == "" {
		return errors.New("no vulnerability is named")
	}
	if len(e.Products) == 0 {
		return fmt.Errorf("a product of %s has no name", e.Vulnerability)
	}
	if e.Status == advisory.VEXNotAffected && e.Justification == "" && e.Impact == "" {
		return fmt.Errorf("%s is not_affected without a justification or impact_statement", e.Vulnerability)
	}
	return checkNames(append(slices.Concat(e.Aliases, e.Products, e.Subcomponents), e.Vulnerability)...)
}

// vulnerability is a name in version 0.0.1, later an object.
func (v *vexReader) vulnerability(e *advisory.Exploitability) {
	r := &v.json
	if r.Kind() == pull.String {
		e.Vulnerability = r.Text()
		return
	}
	id := ""
	if r.Object() {
		for r.Next() {
			switch string(r.Key()) {
			case "@id":
				id = r.Scalar()
			case "name":
				e.Vulnerability = r.Text()
			case "aliases":
				e.Aliases = r.Strings(maxNames)
			default:
				r.Skip()
			}
		}
	}
	if e.Vulnerability == "" {
		e.Vulnerability = id
	}
}

// products are package URLs or objects with an @id, identifiers and hashes.
func (v *vexReader) products() []vexProduct {
	r := &v.json
	if !r.Array() {
		return nil
	}
	var all []vexProduct
	for r.Next() {
		if len(all) == maxNames {
			r.Fail(tooMany("products", maxNames))
			break
		}
		var p vexProduct
		if r.Kind() == pull.String {
			p.names = appendNew(nil, r.Text())
		} else if r.Object() {
			for r.Next() {
				if string(r.Key()) == "subcomponents" {
					p.subcomponents = v.subcomponents()
					continue
				}
				p.names = appendNew(p.names, v.identify()...)
			}
		}
		all = append(all, p)
	}
	return all
}

func (v *vexReader) subcomponents() []string {
	r := &v.json
	if !r.Array() {
		return nil
	}
	var all []string
	for r.Next() {
		if len(all) >= maxNames {
			r.Fail(tooMany("subcomponents", maxNames))
			break
		}
		if r.Kind() == pull.String {
			all = appendNew(all, r.Text())
		} else if r.Object() {
			for r.Next() {
				all = appendNew(all, v.identify()...)
			}
		}
	}
	return all
}

// identify reads one member of a product: all names that it has.
func (v *vexReader) identify() []string {
	r := &v.json
	switch string(r.Key()) {
	case "@id":
		return []string{r.Text()}
	case "identifiers":
		var ids []string
		if r.Object() {
			for r.Next() {
				if string(r.Key()) == "purl" {
					ids = append(ids, r.Text())
				} else {
					r.Skip() // CPEs
				}
			}
		}
		return ids
	case "hashes":
		var ids []string
		if r.Object() {
			for r.Next() {
				if string(r.Key()) == "sha-256" {
					ids = append(ids, "sha256:"+r.Text())
				} else {
					r.Skip()
				}
			}
		}
		return ids
	}
	r.Skip()
	return nil
}

func appendNew(all []string, ids ...string) []string {
	for _, id := range ids {
		if id != "" && !slices.Contains(all[max(0, len(all)-4):], id) { // the names of one product are alike
			all = append(all, id)
		}
	}
	return all
}
