package images

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// maxOfKind bounds the secrets, the faults and the malware that are kept of one image: the
// gravest. Nobody reads the thousandth of one image, and a file of made-up keys
// must not fill the store.
const maxOfKind = 1_000

// Judge says what secrets, faults and malware an inventory shows, without any decision to
// live with one.
func Judge(inv *inventory.Inventory, now time.Time) []store.Finding { return judge(inv, nil, now) }

// judge says what secrets, faults and malware an inventory shows, each with the decision to
// live with it where there is one.
func judge(inv *inventory.Inventory, rules kindRules, now time.Time) (found []store.Finding) {
	secrets, _ := scan.JudgeSecrets(inv, rules[store.KindSecret], nil, now)
	for i := range secrets[:min(len(secrets), maxOfKind)] {
		found = append(found, secretFinding(&secrets[i]))
	}
	faults := scan.ImageFaults(inv)
	scan.AcceptFaults(faults, rules[store.KindFault], now)
	slices.SortStableFunc(faults, func(a, b finding.Misconfiguration) int { return cmp.Compare(b.Severity, a.Severity) })
	for i := range faults[:min(len(faults), maxOfKind)] {
		found = append(found, faultFinding(&faults[i]))
	}
	hostile, _ := scan.JudgeMalware(inv, rules[store.KindMalware], nil, now)
	for i := range hostile[:min(len(hostile), maxOfKind)] {
		found = append(found, malwareFinding(&hostile[i]))
	}
	for i := range found {
		found[i].Instruction = instructionOf(inv, layerOf(&found[i]))
	}
	return found
}

// layerOf is the layer that a finding is in, counted from 1; 0: in none.
func layerOf(f *store.Finding) int {
	switch {
	case f.Secret != nil:
		return f.Secret.Layer
	case f.Fault != nil:
		return f.Fault.Layer
	case f.Malware != nil:
		return f.Malware.Layer
	}
	return 0
}

// maxInstruction bounds what is kept of a build step beside each finding; the
// inventory has all of it.
const maxInstruction = 300

// instructionOf is the build step that made a layer.
func instructionOf(inv *inventory.Inventory, layer int) string {
	if inv.Image == nil || layer < 1 || layer > len(inv.Image.Layers) {
		return ""
	}
	return untrusted.Clip(inv.Image.Layers[layer-1].Instruction, maxInstruction)
}

// secretFinding is a secret as it is kept.
func secretFinding(s *finding.Secret) store.Finding {
	return store.Finding{
		Kind: store.KindSecret, Rule: s.Rule, Title: s.Title, Severity: s.Severity, Remedy: s.Remedy, Accepted: s.Accepted, Secret: s,
		// The print is of value, rule and name; the same value in another file is
		// another thing to do.
		Key: keyOf(string(s.Source), s.Path, s.Name, s.Rule, s.Print),
	}
}

// faultFinding is a fault as it is kept.
func faultFinding(m *finding.Misconfiguration) store.Finding {
	return store.Finding{
		Kind: store.KindFault, Rule: m.Check, Title: m.Title, Severity: m.Severity, Remedy: m.Remedy, Accepted: m.Accepted, Fault: m,
		Key: keyOf(m.Check, m.Subject),
	}
}

// malwareFinding is malware as it is kept.
func malwareFinding(m *finding.Malware) store.Finding {
	return store.Finding{
		Kind: store.KindMalware, Rule: m.Rule, Title: m.Title, Severity: m.Severity, Remedy: m.Remedy, Accepted: m.Accepted, Malware: m,
		Key: keyOf(m.Rule, m.Path, m.SHA256, m.Print),
	}
}

// keyOf makes one text of several, which is the same in every image.
func keyOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	const enough = 16 // bytes: no two keys meet by chance
	return hex.EncodeToString(h.Sum(nil)[:enough])
}
