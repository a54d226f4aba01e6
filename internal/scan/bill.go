package scan

import (
	"context"
	"fmt"
	"io"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/layer"
	"github.com/castellan-security/castellan/internal/scan/sbom"
)

// Bill returns what a bill of materials says is inside its subject: CycloneDX or
// SPDX, as package sbom reads them. A file may have several; name is how the user
// named it.
func (s *Scanner) Bill(ctx context.Context, name string, r io.Reader) ([]inventory.Inventory, error) {
	read, err := sbom.Read(ctx, r, sbom.Options{Budget: layer.NewBudget(s.o.Limits), Ecosystem: Ecosystem})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	out := make([]inventory.Inventory, 0, len(read))
	for _, inv := range read {
		a := &assembly{inv: &inv, packages: inv.Packages}
		inv.Packages = []inventory.Package{}
		a.join()
		inventory.SortPackages(inv.Packages)
		inv.Analysis = Analysis
		out = append(out, s.dated(inv, inventory.Subject{Kind: inventory.KindSBOM, Name: name}, inv.Image))
	}
	return out, nil
}
