package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/store"
)

func (k *kit) admissionPolicy(text string, after int64) store.AdmissionPolicy {
	k.Helper()
	p, err := k.st.PutAdmissionPolicy(k.ctx, store.AdmissionPolicy{Text: text, Digest: "sha256:" + text, Actor: "user:anna", Comment: "why", Created: base()}, after)
	k.ok(err)
	return p
}

func (k *kit) exception(rule string, lasts time.Duration) store.AdmissionException {
	k.Helper()
	e, err := k.st.PutAdmissionException(k.ctx, store.AdmissionException{
		Exception: admission.Exception{Rules: []string{rule}, Owner: "shop", Reason: "because", Expires: base().Add(lasts), Family: "web"},
		By:        "user:anna", Created: base(),
	})
	k.ok(err)
	return e
}

// admissionVerdict makes a verdict on a container of a family.
func admissionVerdict(request, family string, o admission.Outcome, at time.Time) store.AdmissionVerdict {
	facts, err := store.NewAdmissionFacts(&admission.Facts{Digest: "sha256:" + family, At: base()})
	if err != nil {
		panic(err)
	}
	v := store.AdmissionVerdict{
		Received: at, Actor: "token:door",
		Request: admission.Request{
			ID: request, Door: admission.Service, Action: admission.Run, At: at, Place: admission.Place{Cluster: "prod", Service: family + "-service"},
			Task: admission.Task{Family: family, Containers: []admission.Container{{Name: "app", Image: admission.Image{
				Reference: "reg.example/" + family + ":1", Registry: "reg.example", Repository: family, Digest: "sha256:" + family, ID: "id-" + family,
			}}}},
		},
		Verdict: admission.Verdict{Request: request, Outcome: o, Policy: "sha256:p", At: at, Reasons: []admission.Reason{}},
		Facts:   []store.AdmissionFacts{facts},
	}
	if o == admission.Deny {
		v.Verdict.Reasons = append(v.Verdict.Reasons, admission.Reason{Effect: admission.Denies, Rule: "signed", Severity: finding.High, Message: "nobody has signed it"})
	}
	return v
}

func (k *kit) admit(vs ...store.AdmissionVerdict) {
	k.Helper()
	k.ok(k.st.PutAdmissionVerdicts(k.ctx, vs))
}

func (k *kit) wantLines(what string, q store.AdmissionQuery, want ...string) {
	k.Helper()
	all, err := k.st.AdmissionLines(k.ctx, q)
	k.ok(err)
	var got []string
	for _, l := range all {
		got = append(got, l.Request)
	}
	same(k, what, got, want)
}

func admissionCases() []testCase {
	return []testCase{
		{"a policy has versions", testAdmissionPolicy},
		{"of the policy so many versions are kept", func(k *kit) {
			for i := range store.MaxAdmissionPolicies + 1 {
				k.admissionPolicy(fmt.Sprint(i), int64(i))
			}
			_, err := k.st.AdmissionPolicy(k.ctx, 1)
			k.wantFault(err, fault.NotFound)
			_, err = k.st.AdmissionPolicy(k.ctx, 2)
			k.ok(err)
		}},
		{"a change of an old version is refused", func(k *kit) {
			k.admissionPolicy("a", 0)
			for _, after := range []int64{0, 2} {
				_, err := k.st.PutAdmissionPolicy(k.ctx, store.AdmissionPolicy{Text: "b", Digest: "d"}, after)
				k.wantFault(err, fault.Conflict)
			}
			_, err := k.st.PutAdmissionPolicy(k.ctx, store.AdmissionPolicy{Text: strings.Repeat("x", store.MaxAdmissionPolicy+1)}, 1)
			k.wantFault(err, fault.Invalid)
		}},
		{"exceptions hold for their time", testExceptions},
		{"so many exceptions may hold", func(k *kit) {
			for range store.MaxAdmissionExceptions {
				k.exception("signed", time.Hour)
			}
			more := store.AdmissionException{Exception: admission.Exception{Expires: base().Add(3 * time.Hour)}, Created: base()}
			_, err := k.st.PutAdmissionException(k.ctx, more)
			k.wantFault(err, fault.Exhausted)
			more.Created = base().Add(2 * time.Hour)
			_, err = k.st.PutAdmissionException(k.ctx, more)
			k.ok(err)
		}},
		{"a verdict is kept with all that it rests on", testAdmissionVerdict},
		{"what is too large is refused, and facts are left out", testAdmissionLimits},
		{"an agent tells a verdict once", func(k *kit) {
			v := admissionVerdict("r1", "web", admission.Deny, base())
			v.Agent = "agent-1"
			other := v
			other.Agent = "agent-2"
			k.admit(v, v)
			k.admit(v, other)
			k.wantLines("one of each agent", store.AdmissionQuery{}, "r1", "r1")
			t, err := k.st.AdmissionTotals(k.ctx, base())
			k.ok(err)
			same(k, "denied", t.Outcomes[admission.Deny], 2)
		}},
		{"lists are filtered and paged", testAdmissionLists},
		{"totals are of days", testAdmissionTotals},
		{"verdicts go by age and number", testAdmissionPrune},
		{"images are found by their digests", testImagesNamed},
	}
}

func testAdmissionPolicy(k *kit) {
	_, err := k.st.AdmissionPolicy(k.ctx, 0)
	k.wantFault(err, fault.NotFound)
	first, second := k.admissionPolicy("a", 0), k.admissionPolicy("b", 1)
	newest, err := k.st.AdmissionPolicy(k.ctx, 0)
	k.ok(err)
	same(k, "newest", newest, second)
	old, err := k.st.AdmissionPolicy(k.ctx, 1)
	k.ok(err)
	same(k, "old", old, first)
	first.Text, second.Text = "", ""
	all, err := k.st.AdmissionPolicies(k.ctx, 0, 0)
	k.ok(err)
	same(k, "history", all, []store.AdmissionPolicy{second, first})
	all, err = k.st.AdmissionPolicies(k.ctx, 2, 1)
	k.ok(err)
	same(k, "behind", all, []store.AdmissionPolicy{first})
}

func testExceptions(k *kit) {
	short, long := k.exception("signed", time.Hour), k.exception("scanned", 3*time.Hour)
	list := func(what string, since time.Time, want ...store.AdmissionException) {
		k.Helper()
		all, err := k.st.AdmissionExceptions(k.ctx, since)
		k.ok(err)
		same(k, what, all, want)
	}
	list("all", time.Time{}, long, short)
	list("later", base().Add(2*time.Hour), long)
	got, err := k.st.WithdrawAdmissionException(k.ctx, long.ID, "user:otto", base().Add(time.Minute))
	k.ok(err)
	long.Withdrawn, long.WithdrawnBy = base().Add(time.Minute), "user:otto"
	same(k, "withdrawn", got, long)
	list("after it was withdrawn", base().Add(2*time.Minute), short)
	list("all of them still", time.Time{}, long, short)
	for _, again := range []struct {
		id   string
		at   time.Duration
		want fault.Kind
	}{{long.ID, time.Minute, fault.Conflict}, {short.ID, 2 * time.Hour, fault.Conflict}, {"99", 0, fault.NotFound}, {"x", 0, fault.NotFound}} {
		_, err := k.st.WithdrawAdmissionException(k.ctx, again.id, "user:otto", base().Add(again.at))
		k.wantFault(err, again.want)
	}
	if long.Holds(base().Add(2*time.Minute)) || !long.Holds(base()) || short.Holds(base().Add(time.Hour)) {
		k.Error("exceptions hold at other times than they should")
	}
}

func testAdmissionVerdict(k *kit) {
	v := admissionVerdict("r1", "web", admission.Deny, base())
	v.Request.Task.Containers[0].Command = []string{strings.Repeat("long", 1_000)}
	more := admissionVerdict("r2", "web", admission.Deny, base().Add(time.Second))
	k.admit(v, more)
	lines, err := k.st.AdmissionLines(k.ctx, store.AdmissionQuery{})
	k.ok(err)
	v.ID, more.ID = lines[1].ID, lines[0].ID
	got, err := k.st.AdmissionVerdict(k.ctx, v.ID)
	k.ok(err)
	same(k, "verdict", got, v)
	records, err := k.st.AdmissionRecords(k.ctx, store.AdmissionQuery{})
	k.ok(err)
	same(k, "records", records, []store.AdmissionVerdict{more, v})
	same(k, "line", lines[1], store.AdmissionLine{
		ID: v.ID, Request: "r1", At: base(), Received: base(), Actor: "token:door", Door: admission.Service, Action: admission.Run, Outcome: admission.Deny,
		Policy: "sha256:p", Place: v.Request.Place, Family: "web", Images: []string{"reg.example/web:1"}, Rules: []string{"signed"}, Reasons: 1,
		Message: "nobody has signed it",
	})
	_, err = k.st.AdmissionVerdict(k.ctx, 99)
	k.wantFault(err, fault.NotFound)
}

func testAdmissionLimits(k *kit) {
	v := admissionVerdict("r1", "web", admission.Allow, base())
	v.Facts = append(v.Facts, store.AdmissionFacts{JSON: make([]byte, store.MaxAdmissionFacts)})
	k.admit(v)
	got, err := k.st.AdmissionRecords(k.ctx, store.AdmissionQuery{})
	k.ok(err)
	if len(got) != 1 || !got[0].FactsLost || len(got[0].Facts) != 0 {
		k.Errorf("got %d verdicts with facts that nobody can keep", len(got))
	}
	v.Request.Task.Family = strings.Repeat("x", store.MaxAdmissionRequest)
	k.wantFault(k.st.PutAdmissionVerdicts(k.ctx, []store.AdmissionVerdict{v}), fault.Invalid)
	k.wantFault(k.st.PutAdmissionVerdicts(k.ctx, make([]store.AdmissionVerdict, store.MaxAdmissionBatch+1)), fault.Invalid)
}

func testAdmissionLists(k *kit) {
	for i, family := range []string{"web", "pay", "web", "job"} {
		v := admissionVerdict(fmt.Sprint("r", i), family, admission.Allow, base().Add(time.Duration(i)*time.Hour))
		if i%2 == 1 {
			v = admissionVerdict(fmt.Sprint("r", i), family, admission.Deny, base().Add(time.Duration(i)*time.Hour))
			v.Request.Door, v.Request.Place.Host = admission.Docker, "agent-1"
		}
		if i == 2 {
			v.Verdict.Reasons = []admission.Reason{{Effect: admission.Audited, Rule: "scanned"}}
		}
		k.admit(v)
	}
	k.wantLines("all", store.AdmissionQuery{}, "r3", "r2", "r1", "r0")
	for name, c := range map[string]struct {
		q    store.AdmissionQuery
		want []string
	}{
		"outcome":    {store.AdmissionQuery{Outcome: admission.Deny}, []string{"r3", "r1"}},
		"door":       {store.AdmissionQuery{Door: admission.Service}, []string{"r2", "r0"}},
		"rule":       {store.AdmissionQuery{Rule: "signed"}, []string{"r3", "r1"}},
		"family":     {store.AdmissionQuery{Family: "web"}, []string{"r2", "r0"}},
		"cluster":    {store.AdmissionQuery{Cluster: "prod", Family: "pay"}, []string{"r1"}},
		"service":    {store.AdmissionQuery{Service: "web-service"}, []string{"r2", "r0"}},
		"group":      {store.AdmissionQuery{Group: asset.Group("prod/web-service/app")}, []string{"r2", "r0"}},
		"digest":     {store.AdmissionQuery{Image: "sha256:pay"}, []string{"r1"}},
		"id":         {store.AdmissionQuery{Image: "id-job"}, []string{"r3"}},
		"repository": {store.AdmissionQuery{Image: "reg.example/web"}, []string{"r2", "r0"}},
		"host":       {store.AdmissionQuery{Host: "agent-1"}, []string{"r3", "r1"}},
		"request":    {store.AdmissionQuery{RequestID: "r2"}, []string{"r2"}},
		"audited":    {store.AdmissionQuery{Audited: true}, []string{"r2"}},
		"since":      {store.AdmissionQuery{Since: base().Add(2 * time.Hour)}, []string{"r3", "r2"}},
		"until":      {store.AdmissionQuery{Until: base().Add(2 * time.Hour)}, []string{"r1", "r0"}},
		"span": {store.AdmissionQuery{Since: base().Add(time.Minute), Until: base().Add(3 * time.Hour), Outcome: admission.Deny},
			[]string{"r1"}},
		"later":   {store.AdmissionQuery{Since: base().Add(9 * time.Hour)}, nil},
		"several": {store.AdmissionQuery{Family: "web", Cluster: "prod", Image: "sha256:web", Outcome: admission.Allow, Rule: "scanned"}, []string{"r2"}},
		"nothing": {store.AdmissionQuery{Family: "web", Outcome: admission.Deny}, nil},
	} {
		k.wantLines(name, c.q, c.want...)
	}
	var paged []string
	q := store.AdmissionQuery{Cluster: "prod", Limit: 3}
	for range 4 {
		page, err := k.st.AdmissionLines(k.ctx, q)
		k.ok(err)
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			paged = append(paged, l.Request)
		}
		q.Before = page[len(page)-1].ID
	}
	same(k, "in pages", paged, []string{"r3", "r2", "r1", "r0"})
	_, err := k.st.AdmissionLines(k.ctx, store.AdmissionQuery{Family: strings.Repeat("x", 1_000)})
	k.wantFault(err, fault.Invalid)
}

func testAdmissionTotals(k *kit) {
	k.admit(admissionVerdict("r1", "web", admission.Deny, base()), admissionVerdict("r2", "pay", admission.Deny, base()),
		admissionVerdict("r3", "web", admission.Allow, base().AddDate(0, 0, -2)))
	t, err := k.st.AdmissionTotals(k.ctx, base())
	k.ok(err)
	same(k, "today", t, store.AdmissionTotals{
		Outcomes: map[admission.Outcome]int64{admission.Deny: 2}, Doors: map[admission.Door]int64{admission.Service: 2},
		Rules: []store.AdmissionRuleTotal{{Rule: "signed", Effect: admission.Denies, Reasons: 2}},
	})
	t, err = k.st.AdmissionTotals(k.ctx, base().AddDate(0, 0, -7))
	k.ok(err)
	same(k, "this week", t.Outcomes, map[admission.Outcome]int64{admission.Deny: 2, admission.Allow: 1})
}

func testAdmissionPrune(k *kit) {
	for i := range 6 {
		k.admit(admissionVerdict(fmt.Sprint("r", i), "web", admission.Allow, base().Add(time.Duration(i)*time.Hour)))
	}
	_, err := k.st.Prune(k.ctx, store.Retention{Verdicts: time.Hour}, base().Add(2*time.Hour))
	k.ok(err)
	k.wantLines("by age", store.AdmissionQuery{}, "r5", "r4", "r3", "r2", "r1")
	_, err = k.st.Prune(k.ctx, store.Retention{MaxVerdicts: 2}, base().Add(2*time.Hour))
	k.ok(err)
	k.wantLines("by number", store.AdmissionQuery{Family: "web"}, "r5", "r4")
	records, err := k.st.AdmissionRecords(k.ctx, store.AdmissionQuery{})
	k.ok(err)
	if len(records) != 2 || len(records[0].Facts) != 1 {
		k.Errorf("of %d verdicts that are left the facts went", len(records))
	}
	_, err = k.st.Prune(k.ctx, store.Retention{Verdicts: time.Hour}, base().Add(1_000*time.Hour))
	k.ok(err)
	k.admit(admissionVerdict("again", "web", admission.Allow, base()))
	if records, err = k.st.AdmissionRecords(k.ctx, store.AdmissionQuery{}); err != nil || len(records) != 1 || records[0].ID <= 6 {
		k.Errorf("after all went: got %+v, %v", records, err)
	}
}

func testImagesNamed(k *kit) {
	id := func(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }
	_, err := k.st.NoteImages(k.ctx, []store.Image{{ID: id("1"), Digest: id("a")}, {ID: id("2"), Digest: id("b")}}, base())
	k.ok(err)
	_, err = k.st.NoteImages(k.ctx, []store.Image{{ID: id("2"), Digest: id("a")}}, base())
	k.ok(err)
	named := func(digest string) (ids []string) {
		images, _, err := k.st.ImagesNamed(k.ctx, digest)
		k.ok(err)
		for _, m := range images {
			ids = append(ids, m.ID)
		}
		return ids
	}
	same(k, "by an index", named(id("a")), []string{id("1"), id("2")})
	same(k, "by what it was called before", named(id("b")), []string{id("2")})
	same(k, "by its id", named(id("1")), []string{id("1")})
	same(k, "by nothing", named(id("9")), []string(nil))
	k.ok(k.st.PutAgent(k.ctx, asset.Agent{ID: "agent-1"}))
	m, err := k.st.LeaseImage(k.ctx, id("1"), store.Lease{AgentID: "agent-1", Job: "j", Now: base(), Until: base().Add(time.Hour)})
	k.ok(err)
	k.ok(k.st.PutInventory(k.ctx, m.ID, "j", inventory.Inventory{Image: &inventory.Image{Digest: id("c")}}, base()))
	same(k, "by the manifest that a scan saw", named(id("c")), []string{id("1")})
	k.ok(k.st.CreateRegistry(k.ctx, store.WatchedRegistry{Registry: asset.Registry{Name: "r", Kind: asset.RegistryOCI, Host: "reg.example"}, Created: base()}))
	_, err = k.st.PutListing(k.ctx, store.Listing{Registry: "r", Repository: "web", At: base(), Images: []store.ListedImage{
		{RegistryImage: asset.RegistryImage{Repository: "web", Digest: id("d"), Tags: []string{"1"}}},
	}})
	k.ok(err)
	_, entries, err := k.st.ImagesNamed(k.ctx, id("d"))
	k.ok(err)
	if len(entries) != 1 || entries[0].Repository != "web" || entries[0].State != store.RegistryWaiting {
		k.Errorf("got entries %+v", entries)
	}
}
