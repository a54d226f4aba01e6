package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
)

func behaviourCases() []testCase {
	return []testCase{
		{"a change is stored as a whole", testBehaviourChange},
		{"a change that fails leaves nothing", testBehaviourFails},
		{"groups are listed by name", testBehaviourGroups},
		{"profiles have a history", testBehaviourRevisions},
		{"of a profile so many revisions are kept", testBehaviourHistory},
		{"violations are folded", testViolationsFold},
		{"violations that a store came between are folded", testViolationsStraddle},
		{"violations are listed, the last seen first", testViolationsList},
		{"of a group so many violations differ", testViolationsMany},
		{"a permit closes its violation, and undone opens it", testBehaviourPermit},
		{"what happens again is permitted no more", testBehaviourPermitAgain},
		{"many files of a folder are one violation", testViolationsGather},
		{"nothing is found of what is not there", testBehaviourNone},
		{"what is old goes", testBehaviourPrune},
		{"a group is forgotten with all of it", testBehaviourForget},
	}
}

// change stores one.
func (k *kit) change(c store.BehaviourChange) store.BehaviourChange {
	k.Helper()
	k.ok(k.st.SaveBehaviour(k.ctx, &c))
	return c
}

func violationOf(g asset.Group, print string, at time.Time, count uint64) profile.Violation {
	return profile.Violation{
		Group: g, Fingerprint: print, Control: profile.ControlExec, Kind: event.KindExec, Reaction: event.ReactionAudited, Subject: "/tmp/" + print,
		Program: "/bin/sh", Sentence: "ran " + print, Permit: &profile.Profile{Executables: []profile.Executable{{Path: "/tmp/x"}}},
		Revision: 1, Mode: profile.Monitor, Count: count, First: at, Last: at,
	}
}

func testBehaviourChange(k *kit) {
	group := store.BehaviourGroup{
		Group: "shop/web/nginx", Mode: profile.Protect, Since: base(), By: "user:anna",
		Answers:   map[profile.Control]profile.Answer{profile.ControlFile: profile.Audit},
		Promotion: &store.BehaviourPromotion{After: time.Hour, Promote: "propose", Most: profile.Monitor, NewVersion: "hold"},
		Proposal:  &store.BehaviourProposal{Mode: profile.Protect, At: base(), Why: "settled"}, Revision: 3,
		Settled: profile.Settled{Measure: 0.5, Since: base(), Waits: []string{"a night"}},
		Quiet:   base(), Version: "sha256:2", Relearning: true, Released: true, Starting: "nginx", First: base(), Last: base().Add(time.Minute), Position: 17,
	}
	state := store.BehaviourState{Group: group.Group, Position: 17, State: []byte(strings.Repeat("state ", 1000))}
	k.change(store.BehaviourChange{
		Learned: 17, Compared: 18, Promotion: &store.BehaviourPromotion{After: time.Minute, Promote: "promote", Most: profile.Protect},
		Groups: []store.BehaviourGroup{group}, States: []store.BehaviourState{state},
		Violations: []profile.Violation{violationOf(group.Group, "a", base(), 2)},
	})
	marks, err := k.st.BehaviourMarks(k.ctx)
	k.ok(err)
	same(k, "marks", marks, store.BehaviourMarks{Learned: 17, Compared: 18, Promotion: store.BehaviourPromotion{After: time.Minute, Promote: "promote", Most: profile.Protect}})
	got, err := k.st.BehaviourGroup(k.ctx, group.Group)
	k.ok(err)
	group.Violations = 1
	same(k, "group", got, group)
	gotState, err := k.st.BehaviourState(k.ctx, group.Group)
	k.ok(err)
	same(k, "state", gotState, state)
	k.change(store.BehaviourChange{Groups: []store.BehaviourGroup{{Group: group.Group, Revision: 3}}})
	got, err = k.st.BehaviourGroup(k.ctx, group.Group)
	k.ok(err)
	same(k, "replaced", got, store.BehaviourGroup{Group: group.Group, Revision: 3, Violations: 1})
	// Who writes what was learned does not know of the newest revision.
	older := store.BehaviourChange{Groups: []store.BehaviourGroup{{Group: group.Group, Revision: 2}}, States: []store.BehaviourState{{Group: group.Group}}}
	k.wantFault(k.st.SaveBehaviour(k.ctx, &older), fault.Conflict)
	gotState, err = k.st.BehaviourState(k.ctx, group.Group)
	k.ok(err)
	same(k, "state after a conflict", gotState, state)
	marks, err = k.st.BehaviourMarks(k.ctx)
	k.ok(err)
	same(k, "left", marks.Compared, 18)
}

func testBehaviourFails(k *kit) {
	k.change(store.BehaviourChange{Revisions: []store.BehaviourRevision{{Group: "g", Revision: 5, Profile: &profile.Profile{}}}})
	c := store.BehaviourChange{
		Compared: 9, Groups: []store.BehaviourGroup{{Group: "g"}}, States: []store.BehaviourState{{Group: "g", Position: 9}},
		Violations: []profile.Violation{violationOf("g", "a", base(), 1)},
		Revisions:  []store.BehaviourRevision{{Group: "g", Revision: 5, Profile: &profile.Profile{}}},
	}
	k.wantFault(k.st.SaveBehaviour(k.ctx, &c), fault.Conflict)
	_, err := k.st.BehaviourGroup(k.ctx, "g")
	k.wantFault(err, fault.NotFound)
	marks, err := k.st.BehaviourMarks(k.ctx)
	k.ok(err)
	same(k, "marks", marks, store.BehaviourMarks{})
	for name, c := range map[string]store.BehaviourChange{
		"a large state":      {States: []store.BehaviourState{{Group: "g", State: make([]byte, store.MaxBehaviourState+1)}}},
		"many violations":    {Violations: make([]profile.Violation, store.MaxBehaviourBatch+1)},
		"without a profile":  {Revisions: []store.BehaviourRevision{{Group: "g", Revision: 6}}},
		"of a large profile": {Revisions: []store.BehaviourRevision{{Group: "g", Revision: 6, Profile: &profile.Profile{Group: asset.Group(strings.Repeat("x", store.MaxBehaviourProfile))}}}},
	} {
		if err := k.st.SaveBehaviour(k.ctx, &c); !fault.Is(err, fault.Invalid) {
			k.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func testBehaviourGroups(k *kit) {
	var groups []store.BehaviourGroup
	for i, m := range []profile.Mode{profile.Discover, profile.Monitor, profile.Protect, profile.Monitor} {
		g := store.BehaviourGroup{Group: asset.Group(fmt.Sprintf("shop/%c_/app", 'd'-i)), Mode: m, Last: base()}
		if i == 1 {
			g.Proposal = &store.BehaviourProposal{Mode: profile.Protect}
		}
		if i == 2 {
			g.Settled.Measure = 0.97
		}
		groups = append(groups, g)
	}
	k.change(store.BehaviourChange{Groups: groups, Violations: []profile.Violation{violationOf("shop/b_/app", "a", base(), 1)}})
	k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{
		{ID: "w1", Group: "shop/a_/app", State: asset.Running}, {ID: "w2", Group: "shop/a_/app", State: asset.Exited}, {ID: "w3", Group: "shop/a_/app", State: asset.Running},
	}))
	for _, c := range []struct {
		what string
		q    store.BehaviourQuery
		want string
	}{
		{"all", store.BehaviourQuery{}, "a b c d"},
		{"first", store.BehaviourQuery{Limit: 2}, "a b"},
		{"next", store.BehaviourQuery{Limit: 2, After: "shop/b_/app"}, "c d"},
		{"monitored", store.BehaviourQuery{Modes: []profile.Mode{profile.Monitor}}, "a c"},
		{"in two modes", store.BehaviourQuery{Modes: []profile.Mode{profile.Discover, profile.Protect}}, "b d"},
		{"proposed", store.BehaviourQuery{Proposed: true}, "c"},
		{"outside", store.BehaviourQuery{Outside: true}, "b"},
		{"less settled", store.BehaviourQuery{Below: 0.95}, "a c d"},
		{"text", store.BehaviourQuery{Text: "b_"}, "b"},
		{"text that is no pattern", store.BehaviourQuery{Text: "%"}, ""},
		{"cluster", store.BehaviourQuery{Cluster: "shop", Modes: []profile.Mode{profile.Monitor}}, "a c"},
		{"no whole cluster", store.BehaviourQuery{Cluster: "sho"}, ""},
	} {
		all, err := k.st.BehaviourGroups(k.ctx, c.q)
		k.ok(err)
		var names []string
		for _, g := range all {
			names = append(names, string(g.Group[5]))
			if g.Group == "shop/a_/app" && g.Running != 2 {
				k.Errorf("%s: %d run, want 2", c.what, g.Running)
			}
		}
		same(k, c.what, strings.Join(names, " "), c.want)
	}
	totals, err := k.st.BehaviourTotals(k.ctx)
	k.ok(err)
	same(k, "totals", totals, store.BehaviourTotals{
		Modes:     map[profile.Mode]int{profile.Discover: 1, profile.Monitor: 2, profile.Protect: 1},
		Proposals: 1, Violations: map[profile.Control]int{profile.ControlExec: 1},
	})
}

func testBehaviourRevisions(k *kit) {
	p := &profile.Profile{Group: "g", Revision: 1, Executables: []profile.Executable{{Path: "/bin/a", Evidence: profile.Evidence{Source: profile.Learned, Count: 3}}}}
	one := store.BehaviourRevision{Group: "g", Revision: 1, Created: base(), Actor: "system", Comment: "c", Entries: 1, Profile: p}
	two, three := one, one
	two.Revision, three.Revision, three.Replaces, three.Actor = 2, 3, 2, "user:anna"
	k.change(store.BehaviourChange{Revisions: []store.BehaviourRevision{one}})
	k.change(store.BehaviourChange{Revisions: []store.BehaviourRevision{two, {Group: "other", Revision: 1, Profile: p}}})
	k.change(store.BehaviourChange{Revisions: []store.BehaviourRevision{three}})
	three.Replaces = 0
	for revision, want := range map[int64]store.BehaviourRevision{0: three, 1: one, 3: three} {
		got, err := k.st.BehaviourRevision(k.ctx, "g", revision)
		k.ok(err)
		same(k, "revision", got, want)
	}
	_, err := k.st.BehaviourRevision(k.ctx, "g", 2)
	k.wantFault(err, fault.NotFound)
	all, err := k.st.BehaviourRevisions(k.ctx, "g", 0, 0)
	k.ok(err)
	same(k, "history", all, []store.BehaviourRevision{three, one}, cmpopts.IgnoreFields(store.BehaviourRevision{}, "Profile"))
	all, err = k.st.BehaviourRevisions(k.ctx, "g", 3, 1)
	k.ok(err)
	same(k, "next page", len(all), 1)
}

func testBehaviourHistory(k *kit) {
	for i := range store.MaxBehaviourRevisions + 3 {
		k.change(store.BehaviourChange{Revisions: []store.BehaviourRevision{{Group: "g", Revision: int64(i + 1), Profile: &profile.Profile{}}}})
	}
	all, err := k.st.BehaviourRevisions(k.ctx, "g", 0, store.MaxPage)
	k.ok(err)
	same(k, "revisions", len(all), store.MaxBehaviourRevisions)
	same(k, "oldest", all[len(all)-1].Revision, 4)
}

func testViolationsFold(k *kit) {
	first := violationOf("g", "a", base(), 2)
	k.change(store.BehaviourChange{Violations: []profile.Violation{first, violationOf("g", "a", base().Add(time.Hour), 3), violationOf("other", "a", base(), 1)}})
	late := violationOf("g", "a", base().Add(-time.Hour), 1)
	late.Reaction = event.ReactionDenied
	k.change(store.BehaviourChange{Violations: []profile.Violation{late}})
	all, err := k.st.Violations(k.ctx, store.ViolationQuery{Group: "g"})
	k.ok(err)
	want := violationOf("g", "a", base().Add(-time.Hour), 6)
	want.Last, want.ID = base().Add(time.Hour), all[0].ID
	same(k, "folded", all, []store.BehaviourViolation{{Violation: want}})
	one, err := k.st.Violation(k.ctx, all[0].ID)
	k.ok(err)
	same(k, "one", one, all[0])
}

// What the sensors saw and what the kernel answered is one, though one is stored before
// the other is there: with what says more of how to permit it.
func testViolationsStraddle(k *kit) {
	seen := violationOf("g", "a", base(), 1)
	seen.Reaction = event.ReactionNone
	seen.Permit = &profile.Profile{Executables: []profile.Executable{{Path: "/usr/bin/perl", Scripts: []profile.Pattern{"/usr/bin/pg_dump"}}}}
	killed := violationOf("g", "a", base().Add(time.Millisecond), 1)
	killed.Reaction, killed.Sentence = event.ReactionKilled, "ran a, and was killed"
	killed.Permit = &profile.Profile{Executables: []profile.Executable{{Path: "/usr/bin/perl"}}}
	for i, order := range [][]profile.Violation{{seen, killed}, {killed, seen}} {
		group := asset.Group(fmt.Sprint("g", i))
		for _, v := range order {
			v.Group = group
			k.change(store.BehaviourChange{Violations: []profile.Violation{v}})
		}
		all, err := k.st.Violations(k.ctx, store.ViolationQuery{Group: group, Reaction: event.ReactionKilled})
		k.ok(err)
		want := killed
		want.Group, want.First, want.ID, want.Permit = group, seen.First, all[0].ID, seen.Permit
		same(k, "one deed", all, []store.BehaviourViolation{{Violation: want}})
	}
}

func testViolationsList(k *kit) {
	var vs []profile.Violation
	for i := range 6 {
		v := violationOf(asset.Group("g"+string(rune('0'+i%2))), string(rune('a'+i)), base().Add(time.Duration(i/2)*time.Minute), 1)
		if i == 3 {
			v.Control, v.Kind, v.Reaction = profile.ControlNetwork, event.KindConnect, event.ReactionDenied
		}
		vs = append(vs, v)
	}
	k.change(store.BehaviourChange{Violations: vs})
	all, err := k.st.Violations(k.ctx, store.ViolationQuery{})
	k.ok(err)
	k.change(store.BehaviourChange{Permit: &store.BehaviourPermit{Group: "g1", ViolationID: all[0].ID}})
	for _, c := range []struct {
		what string
		q    store.ViolationQuery
		want string
	}{
		{"all", store.ViolationQuery{}, "f e d c b a"},
		{"first", store.ViolationQuery{Limit: 3}, "f e d"},
		{"next", store.ViolationQuery{Limit: 2, BeforeLast: all[2].Last, BeforeID: all[2].ID}, "c b"},
		{"of a group", store.ViolationQuery{Group: "g1"}, "f d b"},
		{"next of a group", store.ViolationQuery{Group: "g1", BeforeLast: all[2].Last, BeforeID: all[2].ID}, "b"},
		{"open", store.ViolationQuery{Open: true}, "e d c b a"},
		{"of a control", store.ViolationQuery{Control: profile.ControlNetwork}, "d"},
		{"of a kind", store.ViolationQuery{Kind: event.KindExec, Group: "g1"}, "f b"},
		{"denied", store.ViolationQuery{Reaction: event.ReactionDenied}, "d"},
		{"since", store.ViolationQuery{Since: base().Add(time.Minute)}, "f e d c"},
		{"text", store.ViolationQuery{Text: "ran c"}, "c"},
	} {
		all, err := k.st.Violations(k.ctx, c.q)
		k.ok(err)
		var names []string
		for _, v := range all {
			names = append(names, v.Fingerprint)
		}
		same(k, c.what, strings.Join(names, " "), c.want)
	}
}

func testViolationsMany(k *kit) {
	var vs []profile.Violation
	for i := range store.MaxGroupViolations + 10 {
		vs = append(vs, violationOf("g", fmt.Sprint(i), base().Add(time.Duration(i)*time.Second), 1))
	}
	k.change(store.BehaviourChange{Violations: vs[:store.MaxGroupViolations-1]})
	k.change(store.BehaviourChange{Violations: append(vs[store.MaxGroupViolations-1:], violationOf("g", "5", base(), 1), violationOf("other", "1", base(), 1))})
	all, err := k.st.Violations(k.ctx, store.ViolationQuery{Group: "g", Limit: 1})
	k.ok(err)
	want := violationOf("g", "", base().Add(store.MaxGroupViolations*time.Second), 10)
	store.FoldViolation(&want)
	want.Last, want.ID = vs[len(vs)-1].Last, all[0].ID
	same(k, "the rest", all, []store.BehaviourViolation{{Violation: want}})
	totals, err := k.st.BehaviourTotals(k.ctx)
	k.ok(err)
	same(k, "kept", totals.Violations[profile.ControlExec], store.MaxGroupViolations+2)
}

func testViolationsGather(k *kit) {
	of := func(n int) profile.Violation {
		v := violationOf("g", fmt.Sprint(n), base().Add(time.Duration(n)*time.Second), 1)
		v.Control, v.Kind, v.Subject, v.Program = profile.ControlFile, event.KindFileCreate, fmt.Sprintf("/data/new/%d", n), "/bin/as"
		v.Folder = &profile.Folder{Print: "many", Path: "/data/new", Instead: "the profile allows less"}
		return v
	}
	list := func(q store.ViolationQuery) (all []store.BehaviourViolation) {
		all, err := k.st.Violations(k.ctx, q)
		k.ok(err)
		return all
	}
	var vs []profile.Violation
	for n := range profile.MaxApart {
		vs = append(vs, of(n))
	}
	other := of(90)
	other.Group = "other"
	k.change(store.BehaviourChange{Violations: append(vs, other)})
	few := list(store.ViolationQuery{Group: "g"})
	same(k, "few", len(few), profile.MaxApart)
	k.change(store.BehaviourChange{Violations: []profile.Violation{of(5), of(6), of(2)}})
	all := list(store.ViolationQuery{Group: "g"})
	want := of(0)
	want.Gather()
	for n := 1; n <= 6; n++ {
		v := of(n)
		v.Gather()
		v.Fold(&want)
		want = v
	}
	want.Count, want.ID = 8, few[len(few)-1].ID
	same(k, "many", all, []store.BehaviourViolation{{Violation: want}})
	k.change(store.BehaviourChange{Permit: &store.BehaviourPermit{Group: "g", ViolationID: want.ID}, Permitted: []int64{list(store.ViolationQuery{Group: "other"})[0].ID}})
	same(k, "open of the group, and of another whose violation it can't permit", len(list(store.ViolationQuery{Open: true})), 1)
	k.change(store.BehaviourChange{Violations: []profile.Violation{of(7)}})
	same(k, "open when it goes on", len(list(store.ViolationQuery{Open: true, Group: "g"})), 1)
}

// permitted stores a violation and its permit.
func permitted(k *kit) (store.BehaviourViolation, store.BehaviourPermit) {
	k.Helper()
	k.change(store.BehaviourChange{Violations: []profile.Violation{violationOf("g", "a", base(), 1)}})
	all, err := k.st.Violations(k.ctx, store.ViolationQuery{})
	k.ok(err)
	c := k.change(store.BehaviourChange{Permit: &store.BehaviourPermit{
		ID: 77, Group: "g", ViolationID: all[0].ID, Sentence: "ran a", Actor: "user:anna", Comment: "it is ours", Created: base(), Revision: 2,
		Added: &profile.Profile{Executables: []profile.Executable{{Path: "/tmp/x"}}},
	}})
	v, err := k.st.Violation(k.ctx, all[0].ID)
	k.ok(err)
	return v, *c.Permit
}

func testBehaviourPermit(k *kit) {
	v, p := permitted(k)
	if p.ID == 0 || v.PermitID != p.ID {
		k.Errorf("permit has id %d, its violation %d", p.ID, v.PermitID)
	}
	got, err := k.st.BehaviourPermit(k.ctx, p.ID)
	k.ok(err)
	same(k, "permit", got, p)
	undo := p
	undo.Undone, undo.UndoneBy = base().Add(time.Hour), "user:ben"
	k.change(store.BehaviourChange{Undo: &undo})
	all, err := k.st.BehaviourPermits(k.ctx, "g", 0, 0)
	k.ok(err)
	same(k, "permits", all, []store.BehaviourPermit{undo})
	v, err = k.st.Violation(k.ctx, v.ID)
	k.ok(err)
	same(k, "open again", v.PermitID, 0)
	c := store.BehaviourChange{Undo: &undo}
	k.wantFault(k.st.SaveBehaviour(k.ctx, &c), fault.Conflict)
	for _, q := range []struct {
		group  asset.Group
		before int64
		want   int
	}{{"", 0, 1}, {"other", 0, 0}, {"", p.ID, 0}, {"g", p.ID, 0}} {
		all, err := k.st.BehaviourPermits(k.ctx, q.group, q.before, 0)
		k.ok(err)
		same(k, fmt.Sprint(q), len(all), q.want)
	}
}

func testBehaviourPermitAgain(k *kit) {
	v, _ := permitted(k)
	k.change(store.BehaviourChange{Violations: []profile.Violation{violationOf("g", "a", base().Add(time.Hour), 1)}})
	v, err := k.st.Violation(k.ctx, v.ID)
	k.ok(err)
	same(k, "permit", v.PermitID, 0)
	same(k, "count", v.Count, 2)
}

func testBehaviourNone(k *kit) {
	_, err := k.st.BehaviourGroup(k.ctx, "g")
	k.wantFault(err, fault.NotFound)
	_, err = k.st.Violation(k.ctx, 1)
	k.wantFault(err, fault.NotFound)
	_, err = k.st.BehaviourPermit(k.ctx, 1)
	k.wantFault(err, fault.NotFound)
	for _, revision := range []int64{0, 1} {
		_, err = k.st.BehaviourRevision(k.ctx, "g", revision)
		k.wantFault(err, fault.NotFound)
	}
	state, err := k.st.BehaviourState(k.ctx, "g")
	k.ok(err)
	same(k, "state", state, store.BehaviourState{})
	marks, err := k.st.BehaviourMarks(k.ctx)
	k.ok(err)
	same(k, "marks", marks, store.BehaviourMarks{})
}

func testBehaviourPrune(k *kit) {
	k.change(store.BehaviourChange{
		Groups: []store.BehaviourGroup{
			{Group: "old", Last: base()}, {Group: "decided", By: "user:anna", Last: base()}, {Group: "held", Mode: profile.Protect, Last: base()},
			{Group: "new", Last: base().AddDate(0, 5, 0)},
		},
		States:     []store.BehaviourState{{Group: "old"}},
		Violations: []profile.Violation{violationOf("new", "a", base(), 1), violationOf("new", "b", base().AddDate(0, 5, 0), 1)},
		Permit:     &store.BehaviourPermit{Group: "new", Created: base()},
	})
	_, err := k.st.Prune(k.ctx, store.Retention{Violations: time.Hour, Audit: time.Hour}, base().AddDate(0, 5, 0))
	k.ok(err)
	all, err := k.st.BehaviourGroups(k.ctx, store.BehaviourQuery{})
	k.ok(err)
	var names []string
	for _, g := range all {
		names = append(names, string(g.Group))
	}
	same(k, "groups", strings.Join(names, " "), "decided held new")
	vs, err := k.st.Violations(k.ctx, store.ViolationQuery{})
	k.ok(err)
	same(k, "violations", len(vs), 1)
	permits, err := k.st.BehaviourPermits(k.ctx, "", 0, 0)
	k.ok(err)
	same(k, "permits", len(permits), 0)
}

func testBehaviourForget(k *kit) {
	_, p := permitted(k)
	k.change(store.BehaviourChange{
		Groups: []store.BehaviourGroup{{Group: "g"}, {Group: "other"}}, States: []store.BehaviourState{{Group: "g", Position: 3, State: []byte("s")}},
		Revisions: []store.BehaviourRevision{{Group: "g", Revision: 1, Profile: &profile.Profile{}}},
	})
	k.ok(k.st.ForgetBehaviour(k.ctx, "g"))
	_, err := k.st.BehaviourGroup(k.ctx, "g")
	k.wantFault(err, fault.NotFound)
	_, err = k.st.BehaviourPermit(k.ctx, p.ID)
	k.wantFault(err, fault.NotFound)
	_, err = k.st.BehaviourRevision(k.ctx, "g", 0)
	k.wantFault(err, fault.NotFound)
	state, err := k.st.BehaviourState(k.ctx, "g")
	k.ok(err)
	same(k, "state", state, store.BehaviourState{})
	_, err = k.st.BehaviourGroup(k.ctx, "other")
	k.ok(err)
}
