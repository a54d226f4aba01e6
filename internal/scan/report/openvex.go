package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
)

// OpenVEX 0.2.0, as far as it is used here.
type (
	vexDocument struct {
		Context    string         `json:"@context"`
		ID         string         `json:"@id"`
		Author     string         `json:"author"`
		Timestamp  string         `json:"timestamp"`
		Version    int            `json:"version"`
		Tooling    string         `json:"tooling"`
		Statements []vexStatement `json:"statements"`
	}
	vexStatement struct {
		Vulnerability vexVulnerability `json:"vulnerability"`
		Products      []vexProduct     `json:"products"`
		Status        string           `json:"status"`
		Justification string           `json:"justification,omitempty"`
		Impact        string           `json:"impact_statement,omitempty"`
		Action        string           `json:"action_statement,omitempty"`
		Notes         string           `json:"status_notes,omitempty"`
	}
	vexVulnerability struct {
		Name    string   `json:"name"`
		Aliases []string `json:"aliases,omitempty"`
	}
	vexProduct struct {
		ID            string         `json:"@id"`
		Subcomponents []vexComponent `json:"subcomponents,omitempty"`
	}
	vexComponent struct {
		ID string `json:"@id"`
	}
)

const vexContext = "https://openvex.dev/ns/v0.2.0"

// writeOpenVEX writes what is known of each weakness as statements, to be
// reviewed and signed: one document for all subjects.
func writeOpenVEX(w io.Writer, reports []Report, o Options) error {
	d := vexDocument{Context: vexContext, Author: o.Tool, Version: 1, Tooling: o.Tool + " " + o.Version, Statements: []vexStatement{}}
	h := sha256.New()
	var made time.Time
	for i := range reports {
		r := &reports[i]
		if r.Made.After(made) {
			made = r.Made
		}
		product := productOf(&r.Inventory)
		for j := range r.Vulnerabilities {
			v := &r.Vulnerabilities[j]
			d.Statements = append(d.Statements, vexStatementOf(v, product, r.Inventory.OS))
			fmt.Fprintf(h, "%s %s\n", product, v.Fingerprint)
		}
	}
	d.Timestamp = made.UTC().Format(time.RFC3339)
	d.ID = "https://openvex.dev/docs/public/vex-" + hex.EncodeToString(h.Sum(nil))
	return encode(w, d)
}

// productOf names the subject: an image by its digest, as OCI package URL.
func productOf(inv *inventory.Inventory) string {
	if i := inv.Image; i != nil {
		if d := firstOf(i.Digest, i.ID); d != "" {
			return "pkg:oci/" + escapeURL(nameOfReference(i.Reference)) + "@" + escapeURL(d)
		}
	}
	return "pkg:generic/" + escapeURL(firstOf(inv.Subject.Name, "unnamed"))
}

func vexStatementOf(v *finding.Vulnerability, product string, os inventory.OS) vexStatement {
	s := vexStatement{
		Vulnerability: vexVulnerability{v.ID, v.Aliases},
		Products:      []vexProduct{{product, []vexComponent{{v.Package.PURL(os)}}}},
		Notes:         v.Note,
	}
	switch v.State {
	case finding.NotAffected, finding.Withdrawn:
		s.Status, s.Impact = "not_affected", firstOf(v.Note, "the publisher says so")
	case finding.UnderInvestigation:
		s.Status = "under_investigation"
	default:
		s.Status, s.Action = "affected", firstOf(v.Remedy, "none is known")
	}
	if v.Accepted != nil {
		s.Notes = "accepted: " + v.Accepted.Reason
	}
	return s
}
