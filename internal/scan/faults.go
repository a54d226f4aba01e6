package scan

import (
	"context"
	"io/fs"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/check"
	"github.com/castellan-security/castellan/internal/scan/iac"
	"github.com/castellan-security/castellan/internal/scan/match"
	"github.com/castellan-security/castellan/internal/scan/report"
)

// What is set wrongly, as whoever is outside this room knows it.
type (
	// Check is one check of images and documents.
	Check = check.Check
	// DocumentOptions say how documents are scanned.
	DocumentOptions = iac.Options
	// DocumentResult is what was found in them.
	DocumentResult = iac.Result
	// ReportDocuments says how much of them was read.
	ReportDocuments = report.Documents
	// ReportSince says what of former findings is left out.
	ReportSince = report.Since
)

// Checks lists the checks, by their ids.
func Checks() []Check { return check.All() }

// Documents reads what says how containers are built and run, in a file or a
// folder; see iac.Scan.
func Documents(ctx context.Context, files fs.FS, name string, o DocumentOptions) (DocumentResult, error) {
	return iac.Scan(ctx, files, name, o)
}

// ImageFaults says what is set wrongly in an image, as its configuration, its
// history and its files tell; nothing of what is no image. A secret that the
// inventory has as one is no fault beside: it names the check (Secret.Check).
func ImageFaults(inv *inventory.Inventory) []finding.Misconfiguration {
	b, ok := blueprint.OfImage(inv)
	if !ok {
		return nil
	}
	var out []finding.Misconfiguration
	seen := map[string]int{}
	told := toldSecrets(inv.Secrets)
	for _, f := range check.Run(&blueprint.Document{Builds: []blueprint.Build{b}}) {
		m := f.Misconfiguration
		if told.tell(&m) {
			continue
		}
		m.Print(0)
		nth := seen[m.Fingerprint]
		if seen[m.Fingerprint]++; nth > 0 {
			m.Print(nth)
		}
		out = append(out, m)
	}
	return out
}

// toldAs is where secrets of an image's configuration were told: by the name of a
// variable or label, and how many by the layer of their step.
type toldAs struct {
	names  map[string]bool
	steps  map[toldStep]int
	faults map[toldStep]int // that were left out for them
}

type toldStep struct {
	check string
	layer int
}

func toldSecrets(found []inventory.Secret) toldAs {
	t := toldAs{names: map[string]bool{}, steps: map[toldStep]int{}, faults: map[toldStep]int{}}
	for i := range found {
		switch s := &found[i]; {
		case s.Check == "" || s.Doubt != "":
		case s.Source == inventory.InEnv || s.Source == inventory.InLabel:
			t.names[s.Name] = true
		case s.Source == inventory.InArgument && s.Check == check.SecretInImage:
			t.steps[toldStep{s.Check, 0}]++
		default:
			t.steps[toldStep{s.Check, s.Layer}]++
		}
	}
	return t
}

// tell says that a fault is told as a secret.
func (t toldAs) tell(m *finding.Misconfiguration) bool {
	if m.Check != check.SecretInImage && m.Check != check.SecretInStep {
		return false
	}
	if name, ok := strings.CutPrefix(m.Subject, "variable "); ok && t.names[name] {
		return true
	}
	at := toldStep{m.Check, m.Layer}
	t.faults[at]++
	return t.faults[at] <= t.steps[at]
}

// AcceptFaults accepts what rules name, and returns the rules that would have but
// are expired.
func AcceptFaults(faults []finding.Misconfiguration, rules []Rule, now time.Time) []Rule {
	return match.Accept(faults, rules, now)
}
