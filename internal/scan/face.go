package scan

import (
	"io"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/report"
	"github.com/castellan-security/castellan/internal/scan/secret"
	"github.com/castellan-security/castellan/internal/scan/target"
	order "github.com/castellan-security/castellan/internal/scan/version"
)

// What a user names, and what they get, as whoever is outside this room knows
// them.
type (
	// Meaning is what a user's TARGET means; see target.Target.
	Meaning = target.Target
	// MeaningKind is what a target is.
	MeaningKind = target.Kind
	// TaskDefinition is an ECS task definition, as far as its images go.
	TaskDefinition = target.Definition
	// Report is what one scan concluded.
	Report = report.Report
	// ReportDatabase says with which advisories.
	ReportDatabase = report.Database
	// ReportSource is one feed of them.
	ReportSource = report.DatabaseSource
	// ReportGap is why packages could not be compared.
	ReportGap = report.Gap
	// Gate is what it was held against.
	Gate = report.Gate
	// ReportFormat is a form in which reports can be written.
	ReportFormat = report.Format
	// ReportOptions are what every form is told.
	ReportOptions = report.Options
	// Secrets is what looks for secrets.
	Secrets = secret.Engine
	// ReportUnmaintained says since when a release gets no fixes.
	ReportUnmaintained = report.Unmaintained
	// Step is one thing to do, and what is gone then.
	Step = report.Step
)

// The kinds of target.
const (
	TargetRegistry = target.Registry
	TargetEngine   = target.Engine
	TargetLayout   = target.Layout
	TargetArchive  = target.Archive
	TargetSource   = target.Source
	TargetRoot     = target.Root
	TargetSBOM     = target.SBOM
	TargetTask     = target.Task
	TargetWorkload = target.Workload
	TargetHost     = target.Host
	Stdin          = target.Stdin
)

// TargetHead is how much SniffTarget looks at.
const TargetHead = target.HeadSize

// ReportTable is the form for people at a terminal.
const ReportTable = report.Table

// StaleAfter is how old advisories may be before somebody should fetch new ones.
const StaleAfter = report.StaleAfter

// ParseTarget returns what a TARGET means.
func ParseTarget(s string, files target.Files) (Meaning, error) { return target.Parse(s, files) }

// SniffTarget says by the first bytes of a stream what it is, "" if it is nothing
// that is known.
func SniffTarget(head []byte) MeaningKind { return target.Sniff(head) }

// ParsePlatform reads a platform as image tools write it.
func ParsePlatform(s string) (inventory.Platform, error) { return target.ParsePlatform(s) }

// ParseTask reads ECS task definitions.
func ParseTask(b []byte) ([]TaskDefinition, error) { return target.ParseTask(b) }

// ReportFormats lists the forms.
func ReportFormats() []ReportFormat { return report.Formats() }

// ParseReportFormat returns the form of that name.
func ParseReportFormat(name string) (ReportFormat, error) { return report.ParseFormat(name) }

// WriteReports writes reports in a form.
func WriteReports(w io.Writer, f ReportFormat, reports []Report, o ReportOptions) error {
	if o.Compare == nil {
		o.Compare = compareVersions
	}
	return report.Write(w, f, reports, o)
}

// Steps groups findings by what makes them go, best first; see report.Steps.
func Steps(vs []finding.Vulnerability) []Step { return report.Steps(vs, compareVersions) }

// compareVersions orders versions; those that have no place in the order of their
// ecosystem are alike, so that the first one found stays.
func compareVersions(ecosystem, a, b string) int {
	n, err := order.Compare(ecosystem, a, b)
	if err != nil {
		return 0
	}
	return n
}
