package admit_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admit"
)

// The pages of rules and of the schema are those that there are; make golden
// writes them.
func TestPagesAreCurrent(t *testing.T) {
	for _, tc := range []struct {
		page, head string
		write      func(io.Writer) error
	}{
		{"../../docs/admission-rules.md", "# Built-in rules of admission\n\nThe rules that [an admission policy](admission.md) can `use`. `castellan admit rules` lists them.\n\nThis page is made from the program; don't edit it.\n", admit.WriteRules},
		{"../../docs/admission-schema.md", "# What conditions of admission rules can name\n\nThe schema of conditions of [an admission policy](admission.md), as `castellan admit schema` prints it.\n\nThis page is made from the program; don't edit it.\n\n", admit.WriteSchema},
	} {
		t.Run(tc.page, func(t *testing.T) {
			b := bytes.NewBufferString(tc.head)
			if err := tc.write(b); err != nil {
				t.Fatal(err)
			}
			if os.Getenv("CASTELLAN_GOLDEN") == "write" {
				if err := os.WriteFile(tc.page, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			have, err := os.ReadFile(tc.page)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(have), b.String()); diff != "" {
				t.Errorf("make golden writes it; -have +want:\n%s", diff)
			}
		})
	}
}

// What the page for users shows can be read.
func TestPoliciesOfThePageAreRead(t *testing.T) {
	b, err := os.ReadFile("../../docs/admission.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(b), "```yaml\n")[1:]
	if len(blocks) < 2 {
		t.Fatal("the page shows no policies")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if _, err := admit.Read([]byte(text), "docs/admission.md"); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if p := read(t, string(admit.First())); p.Mode() != admit.Audit {
		t.Errorf("the first policy has the mode %s", p.Mode())
	}
}
