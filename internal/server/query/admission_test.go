package query_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/query"
	"github.com/castellan-security/castellan/internal/store"
)

func TestAdmission(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, asked string
		want        store.AdmissionQuery
		wrong       string // parameter that the error names
	}{
		{name: "nothing"},
		{
			name:  "all",
			asked: "outcome=deny&door=docker&rule=latest&group=a/b/c&family=f&cluster=c&service=s&image=sha256:aa&host=h&audited=on&since=1h&until=2026-11-28T11:30:00Z&before=7&limit=3",
			want: store.AdmissionQuery{
				Outcome: admission.Deny, Door: admission.Docker, Rule: "latest", Group: "a/b/c", Family: "f", Cluster: "c", Service: "s", Image: "sha256:aa",
				Host: "h", Audited: true, Since: now.Add(-time.Hour), Until: now.Add(-30 * time.Minute), Before: 7, Limit: 3,
			},
		},
		{name: "no outcome", asked: "outcome=denied", wrong: "outcome"},
		{name: "no door", asked: "door=back", wrong: "door"},
		{name: "no time", asked: "since=long", wrong: "since"},
		{name: "turned round", asked: "since=1h&until=2h", wrong: "until"},
		{name: "too long", asked: "rule=" + strings.Repeat("x", 2_000), wrong: "rule"},
	} {
		v, err := url.ParseQuery(c.asked)
		if err != nil {
			t.Fatal(err)
		}
		got, err := query.Admission(v, now)
		if c.wrong != "" {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "parameter "+c.wrong) {
				t.Errorf("%s: got %v, want one about %s", c.name, err, c.wrong)
			}
			continue
		}
		if diff := cmp.Diff(got, c.want); err != nil || diff != "" {
			t.Errorf("%s: %v (-got +want):\n%s", c.name, err, diff)
		}
	}
}
