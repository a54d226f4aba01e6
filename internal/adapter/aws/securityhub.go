package aws

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const mayImport = "securityhub:BatchImportFindings on the account's default product"

// Bounds of findings in AWS Security Finding Format (AWS Security Hub user guide,
// "Required top-level ASFF attributes"; partner integration guide, "Guidelines for
// using the BatchImportFindings API"): 100 findings and 6 MB a request, 240 KB each.
const (
	maxFindingsBatch = 100
	maxASFFTitle     = 256
	maxASFFText      = 1_024
	maxASFFRemedy    = 512
	maxASFFField     = 2_048
	maxASFFID        = 512
	maxASFFTypes     = 50
	maxASFFWeak      = 20
	asffVersion      = "2018-10-08"
)

// importFindings imports each notice as a finding: one about the same thing updates
// it, and archives it when it is over.
func (t *Targets) importFindings(ctx context.Context, config sdk.Config, a arn.ARN, n notice.Notification) error {
	client := securityhub.NewFromConfig(config)
	newest := map[string]*notice.Notice{} // a request may have each id once
	for i := range n.Notices {
		x := &n.Notices[i]
		if was := newest[x.Key()]; was == nil || !x.Time.Before(was.Time) {
			newest[x.Key()] = x
		}
	}
	var all []types.AwsSecurityFinding
	for i := range n.Notices {
		if x := &n.Notices[i]; newest[x.Key()] == x {
			all = append(all, t.asff(a, x))
		}
	}
	taken, retry := 0, 0
	var why string
	for len(all) > 0 {
		batch := all[:min(len(all), maxFindingsBatch)]
		all = all[len(batch):]
		out, err := client.BatchImportFindings(ctx, &securityhub.BatchImportFindingsInput{Findings: batch})
		if err != nil {
			return notTaken("import findings into Security Hub of "+a.AccountID, err, mayImport, "securityhub")
		}
		taken += int(sdk.ToInt32(out.SuccessCount))
		for _, f := range out.FailedFindings {
			if strings.Contains(sdk.ToString(f.ErrorCode), "Internal") || strings.Contains(sdk.ToString(f.ErrorCode), "Throttl") {
				retry++
			}
			why = oneLine(fmt.Errorf("%s: %s", sdk.ToString(f.ErrorCode), sdk.ToString(f.ErrorMessage))).Error()
		}
		if failed := int(sdk.ToInt32(out.FailedCount)); failed > 0 && why == "" {
			why = strconv.Itoa(failed) + " failed, and no reason is given"
		}
	}
	if why == "" {
		return nil
	}
	what := "import findings into Security Hub of " + a.AccountID
	switch {
	case retry > 0: // those that were taken are the same findings again
		return fault.New(fault.Unavailable, "%s: %s", what, why).With("nothing is lost: they are sent again")
	case taken > 0:
		return &notice.Partial{Err: fault.New(fault.Invalid, "%s: %d were taken, others not: %s", what, taken, why)}
	}
	return &notice.Refused{Err: fault.New(fault.Invalid, "%s: %s", what, why).With("is the ARN that of the account whose role the server has?")}
}

// asff writes a notice as a finding.
func (t *Targets) asff(a arn.ARN, x *notice.Notice) types.AwsSecurityFinding {
	text := func(s string, most int) *string { return sdk.String(untrusted.Clip(s, most)) }
	stamp := func(at time.Time) *string { return sdk.String(at.UTC().Format("2006-01-02T15:04:05.000Z")) }
	description := x.Detail
	if description == "" {
		description = x.Title
	}
	severity := label(x.Severity)
	f := types.AwsSecurityFinding{
		SchemaVersion: sdk.String(asffVersion), AwsAccountId: sdk.String(a.AccountID), Region: sdk.String(a.Region),
		ProductArn:  sdk.String("arn:" + a.Partition + ":securityhub:" + a.Region + ":" + a.AccountID + ":product/" + a.AccountID + "/default"),
		CompanyName: sdk.String("Castellan"), ProductName: sdk.String("Castellan"),
		Id: sdk.String("castellan/" + x.Key()), GeneratorId: text("castellan/"+string(x.Kind)+"/"+x.Rule, maxASFFID),
		Title: text(form.Word(x.Title), maxASFFTitle), Description: text(description, maxASFFText),
		CreatedAt: stamp(x.Time), UpdatedAt: stamp(t.clock()), LastObservedAt: stamp(x.Time), Types: asffTypes(x), RecordState: types.RecordStateActive,
		Severity:              &types.Severity{Label: types.SeverityLabel(severity), Original: sdk.String(x.Severity.String())},
		FindingProviderFields: &types.FindingProviderFields{Severity: &types.FindingProviderSeverity{Label: types.SeverityLabel(severity)}, Types: asffTypes(x)},
		Resources:             asffResources(a, x), ProductFields: map[string]string{},
	}
	if x.Resolved {
		f.RecordState = types.RecordStateArchived
	}
	if link := form.Link(x.Link); link != "" {
		f.SourceUrl = sdk.String(link)
	}
	if x.Remedy != "" {
		f.Remediation = &types.Remediation{Recommendation: &types.Recommendation{Text: text(form.Word(x.Remedy), maxASFFRemedy)}}
	}
	for _, fact := range form.Facts(x) {
		f.ProductFields["castellan/"+fact.Name] = untrusted.Clip(fact.Value, maxASFFField)
	}
	for i := range x.Findings[:min(len(x.Findings), maxASFFWeak)] {
		w := &x.Findings[i]
		v := types.Vulnerability{Id: text(form.Word(w.ID), maxASFFID), FixAvailable: types.VulnerabilityFixAvailableNo, VulnerablePackages: []types.SoftwarePackage{{
			Name: text(form.Word(w.Package), maxASFFID), Version: text(form.Word(w.Version), maxASFFID),
		}}}
		if w.Fixed != "" {
			v.FixAvailable, v.VulnerablePackages[0].FixedInVersion = types.VulnerabilityFixAvailableYes, text(form.Word(w.Fixed), maxASFFID)
		}
		if w.Exploited {
			v.ExploitAvailable = types.VulnerabilityExploitAvailableYes
		}
		f.Vulnerabilities = append(f.Vulnerabilities, v)
	}
	return f
}

// asffTypes are the types of finding, as the taxonomy of ASFF has them: what an
// attack is for, by the tactics of ATT&CK, or what is weak.
func asffTypes(x *notice.Notice) (all []string) {
	switch x.Kind {
	case notice.ImageVulnerable, notice.ImageScanned:
		return []string{"Software and Configuration Checks/Vulnerabilities/CVE"}
	case notice.Violation:
		return []string{"Unusual Behaviors/Container"}
	}
	had := map[string]bool{}
	for _, t := range x.Techniques {
		words := strings.Fields(strings.ReplaceAll(t.Tactic, "-", " "))
		for i, w := range words {
			if w != "and" {
				words[i] = strings.ToUpper(w[:1]) + w[1:]
			}
		}
		if name := "TTPs/" + strings.Join(words, " "); t.Tactic != "" && !had[name] && len(all) < maxASFFTypes {
			had[name] = true
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return []string{"TTPs"}
	}
	return all
}

// asffResources are what a finding is about: a task and its container, or an image.
func asffResources(a arn.ARN, x *notice.Notice) (all []types.Resource) {
	add := func(kind, id string, details *types.ResourceDetails) {
		all = append(all, types.Resource{Type: sdk.String(kind), Id: sdk.String(untrusted.Clip(id, maxASFFID)), Partition: types.Partition(a.Partition), Region: sdk.String(a.Region), Details: details})
	}
	if w := x.Workload; w != nil {
		if strings.HasPrefix(w.Task, "arn:") {
			var details *types.ResourceDetails
			if strings.HasPrefix(w.Cluster, "arn:") {
				details = &types.ResourceDetails{AwsEcsTask: &types.AwsEcsTaskDetails{ClusterArn: sdk.String(w.Cluster)}}
			}
			add("AwsEcsTask", w.Task, details)
		}
		if w.ID != "" {
			c := &types.ContainerDetails{}
			if w.Container != "" {
				c.Name = sdk.String(form.Word(w.Container))
			}
			if w.Image != "" {
				c.ImageName = sdk.String(form.Word(w.Image))
			}
			add("Container", w.ID, &types.ResourceDetails{Container: c})
		}
	}
	if m := x.Image; m != nil {
		c := &types.ContainerDetails{ImageId: sdk.String(m.ID)}
		if len(m.References) > 0 {
			c.ImageName = sdk.String(form.Word(m.References[0]))
		}
		add("Container", m.ID, &types.ResourceDetails{Container: c})
	}
	if len(all) == 0 {
		add("Other", "castellan/"+x.Key(), nil)
	}
	return all
}
