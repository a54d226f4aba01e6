package check_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/scan/check"
)

const head = `# Checks of images, tasks and templates

%d checks, as ` + "`castellan scan checks`" + ` lists them. ` + "`castellan scan IMAGE`" + ` makes those of images,
` + "`castellan scan iac PATH`" + ` makes all of them: of task definitions, CloudFormation, Terraform, compose files and Dockerfiles
([scan.md](scan.md#what-is-set-wrongly)). What a document leaves open is never a fault. Elsewhere names the same check in
Security Hub, CIS (Docker Benchmark 1.6, AWS Foundations 3.0), Prowler and Checkov; where nothing stands, none is known.
What CAST-TASK-016, CAST-TASK-017, CAST-IMAGE-011 and CAST-IMAGE-020 are about, ` + "`castellan scan`" + ` tells once, as a secret that
names the check ([secrets.md](secrets.md#a-secret-and-a-check)); ` + "`castellan scan iac`" + ` tells the check.

This page is made from the program; don't edit it.
`

var topics = []struct {
	topic check.Topic
	title string
}{
	{check.Task, "Tasks and their containers"},
	{check.Service, "Services"},
	{check.Cluster, "Clusters"},
	{check.Role, "Roles of tasks"},
	{check.Image, "Images and Dockerfiles"},
}

// The page for users is that of the checks that there are; make golden writes it.
func TestPageIsCurrent(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, head, len(check.All()))
	for _, topic := range topics {
		fmt.Fprintf(&b, "\n## %s\n", topic.title)
		for _, c := range check.All() {
			if c.Topic() != topic.topic {
				continue
			}
			fmt.Fprintf(&b, "\n### %s\n\n**%s** (%s). %s\n%s\n", c.ID, c.Title, c.Severity, c.Why, c.Remedy)
			if names := c.Elsewhere.Names(); len(names) > 0 {
				fmt.Fprintf(&b, "*Elsewhere: %s.*\n", strings.Join(names, ", "))
			}
		}
	}
	const page = "../../../docs/checks.md"
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("docs/checks.md, want (make golden writes it): %s", diff)
	}
}
