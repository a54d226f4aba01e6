package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// trustPolicy makes a text the policy.
func (k *kit) trustPolicy(text string, after int64) store.TrustPolicy {
	k.Helper()
	p, err := k.st.PutTrustPolicy(k.ctx, store.TrustPolicy{Text: text, Digest: "sha256:" + text, Actor: "user:anna", Comment: "why", Created: base()}, after)
	k.ok(err)
	return p
}

// noteTrust says that these repositories run, each with one digest.
func (k *kit) noteTrust(now time.Time, repositories ...string) {
	k.Helper()
	var seen []store.TrustSeen
	for _, r := range repositories {
		seen = append(seen, store.TrustSeen{
			Repository: r, Digest: "sha256:" + r, Local: strings.HasPrefix(r, "local"), Running: len(r),
			Images: []string{"id-" + r}, Groups: []asset.Group{asset.Group("shop/" + r)},
		})
	}
	k.ok(k.st.NoteTrustImages(k.ctx, seen, now, now.Add(-time.Hour)))
}

func (k *kit) verdict(repository string, state store.TrustState, policy string, next time.Time) store.TrustVerdict {
	k.Helper()
	at := base()
	v := store.TrustVerdict{
		Repository: repository, Digest: "sha256:" + repository, State: state, Policy: "sha256:" + policy, Reason: "because", Remedy: "sign it", Agent: "agent-1",
		Signers: []store.TrustSigner{{Names: []string{"build"}, Identity: "key of " + repository, Kind: "sigstore", At: &at, Proof: "log"}},
		Checked: base(), Next: next, Tries: 1, Details: []byte(`{"a":1}`),
	}
	k.ok(k.st.PutTrustVerdict(k.ctx, v))
	return v
}

// trustNames lists repositories.
func trustNames(all []store.TrustImage) (names []string) {
	for _, v := range all {
		names = append(names, v.Repository)
	}
	return names
}

func (k *kit) wantTrust(what string, q store.TrustQuery, want ...string) {
	k.Helper()
	all, err := k.st.TrustImages(k.ctx, q)
	k.ok(err)
	same(k, what, trustNames(all), want)
}

// wantDue asks for all that are known.
func (k *kit) wantDue(what string, now time.Time, want ...string) {
	k.Helper()
	known, err := k.st.TrustImages(k.ctx, store.TrustQuery{})
	k.ok(err)
	var among []store.TrustName
	for _, v := range known {
		among = append(among, store.TrustName{Repository: v.Repository, Digest: v.Digest})
	}
	k.wantDueAmong(what, now, among, want...)
}

func (k *kit) wantDueAmong(what string, now time.Time, among []store.TrustName, want ...string) {
	k.Helper()
	all, err := k.st.DueTrustImages(k.ctx, now, among, 0)
	k.ok(err)
	var names []string
	for _, v := range all {
		names = append(names, v.Repository)
	}
	same(k, what, names, want)
}

func trustCases() []testCase {
	return []testCase{
		{"a policy has versions", testTrustPolicy},
		{"of the policy so many versions are kept", testTrustHistory},
		{"a change of an old version is refused", func(k *kit) {
			k.trustPolicy("a", 0)
			for _, after := range []int64{0, 2} {
				_, err := k.st.PutTrustPolicy(k.ctx, store.TrustPolicy{Text: "b", Digest: "d"}, after)
				k.wantFault(err, fault.Conflict)
			}
			_, err := k.st.PutTrustPolicy(k.ctx, store.TrustPolicy{Text: strings.Repeat("x", store.MaxTrustPolicy+1)}, 1)
			k.wantFault(err, fault.Invalid)
		}},
		{"what runs waits to be verified", func(k *kit) {
			k.noteTrust(base(), "a", "local", "b")
			k.noteTrust(base(), "a", "local", "b")
			k.wantDue("at once", base(), "a", "b")
			k.wantTrust("in order", store.TrustQuery{}, "local", "a", "b")
		}},
		{"what nobody can verify now stands in nobody's way", func(k *kit) {
			var all []string
			for i := range store.MaxPage + 1 {
				all = append(all, fmt.Sprintf("absent/%04d", i))
			}
			k.noteTrust(base(), append(all, "there")...)
			k.wantDueAmong("last of all", base(), []store.TrustName{{Repository: "there", Digest: "sha256:there"}, {Repository: "unknown", Digest: "d"}}, "there")
			k.wantDueAmong("none", base(), nil)
			var among []store.TrustName
			for _, r := range all {
				among = append(among, store.TrustName{Repository: r, Digest: "sha256:" + r})
			}
			slices.Reverse(among)
			k.wantDueAmong("longest due first", base(), among, all[:100]...)
		}},
		{"a verdict is kept", testTrustVerdict},
		{"what a registry holds and runs nowhere", testTrustWatched},
		{"a verdict by another policy is refused", func(k *kit) {
			k.noteTrust(base(), "a")
			v := store.TrustVerdict{Repository: "a", Digest: "sha256:a", State: store.TrustAllowed}
			k.wantFault(k.st.PutTrustVerdict(k.ctx, v), fault.Conflict)
			k.trustPolicy("p", 0)
			v.Policy = "sha256:other"
			k.wantFault(k.st.PutTrustVerdict(k.ctx, v), fault.Conflict)
			v.Policy, v.Repository = "sha256:p", "unknown"
			k.wantFault(k.st.PutTrustVerdict(k.ctx, v), fault.NotFound)
			v.Repository, v.Details = "a", make([]byte, store.MaxTrustVerdict+1)
			k.wantFault(k.st.PutTrustVerdict(k.ctx, v), fault.Invalid)
			k.wantDue("still", base(), "a")
		}},
		{"another policy makes all due", func(k *kit) {
			k.trustPolicy("p", 0)
			k.noteTrust(base(), "a", "b", "local")
			k.verdict("a", store.TrustAllowed, "p", base().Add(time.Hour))
			k.verdict("b", store.TrustDenied, "p", base().Add(time.Minute))
			k.wantDue("none", base())
			k.wantDue("one", base().Add(time.Minute), "b")
			k.trustPolicy("q", 1)
			k.wantDue("both", base(), "a", "b")
		}},
		{"what runs no more is not due, and is forgotten", func(k *kit) {
			k.noteTrust(base(), "a", "b")
			k.noteTrust(base().Add(time.Minute), "b")
			k.wantDue("b only", base().Add(time.Minute), "b")
			k.wantTrust("both are known", store.TrustQuery{}, "b", "a")
			k.wantTrust("one runs", store.TrustQuery{Running: true}, "b")
			k.noteTrust(base().Add(30*time.Minute), "a", "b")
			k.wantDue("again", base(), "a", "b")
			k.noteTrust(base().Add(40*time.Minute), "b")
			k.noteTrust(base().Add(200*time.Minute), "b")
			k.wantTrust("a is forgotten", store.TrustQuery{}, "b")
			k.wantTrust("also by its id", store.TrustQuery{ImageID: "id-a"})
		}},
		{"lists are filtered and paged", testTrustList},
	}
}

func testTrustPolicy(k *kit) {
	_, err := k.st.TrustPolicy(k.ctx, 0)
	k.wantFault(err, fault.NotFound)
	first, second := k.trustPolicy("a", 0), k.trustPolicy("b", 1)
	newest, err := k.st.TrustPolicy(k.ctx, 0)
	k.ok(err)
	same(k, "newest", newest, second)
	old, err := k.st.TrustPolicy(k.ctx, 1)
	k.ok(err)
	same(k, "old", old, first)
	_, err = k.st.TrustPolicy(k.ctx, 3)
	k.wantFault(err, fault.NotFound)
	first.Text, second.Text = "", ""
	all, err := k.st.TrustPolicies(k.ctx, 0, 0)
	k.ok(err)
	same(k, "history", all, []store.TrustPolicy{second, first})
	all, err = k.st.TrustPolicies(k.ctx, 2, 1)
	k.ok(err)
	same(k, "behind", all, []store.TrustPolicy{first})
}

func testTrustHistory(k *kit) {
	for i := range store.MaxTrustPolicies + 1 {
		k.trustPolicy(fmt.Sprint(i), int64(i))
	}
	_, err := k.st.TrustPolicy(k.ctx, 1)
	k.wantFault(err, fault.NotFound)
	_, err = k.st.TrustPolicy(k.ctx, 2)
	k.ok(err)
}

func testTrustWatched(k *kit) {
	name := []store.TrustName{{Repository: "reg/a", Digest: "d"}}
	note := func(at time.Time, running ...int) {
		k.Helper()
		var seen []store.TrustSeen
		for _, n := range running {
			seen = append(seen, store.TrustSeen{Repository: "reg/a", Digest: "d", Running: n})
		}
		k.ok(k.st.NoteTrustImages(k.ctx, seen, at, at.Add(-time.Hour)))
	}
	due := func(what string, runs, watched int) {
		k.Helper()
		all, err := k.st.DueTrustImages(k.ctx, base(), name, 0)
		k.ok(err)
		same(k, what+": by agents", len(all), runs)
		all, err = k.st.DueTrustWatched(k.ctx, base(), name, 0)
		k.ok(err)
		same(k, what+": by the server", len(all), watched)
	}
	verdict := func() {
		k.Helper()
		k.ok(k.st.PutTrustVerdict(k.ctx, store.TrustVerdict{Repository: "reg/a", Digest: "d", State: store.TrustAllowed, Policy: "sha256:p", Next: base().Add(time.Hour)}))
	}
	k.trustPolicy("p", 0)
	note(base(), 0)
	due("held", 0, 1)
	verdict()
	due("verified", 0, 0)
	v, err := k.st.TrustImage(k.ctx, "reg/a", "d")
	k.ok(err)
	same(k, "watched", v.Watched && v.Running == 0, true)
	k.wantTrust("it does not run", store.TrustQuery{Running: true})
	k.wantTrust("it is known", store.TrustQuery{}, "reg/a")
	totals, err := k.st.TrustTotals(k.ctx)
	k.ok(err)
	same(k, "totals", len(totals.States), 0)
	note(base(), 1)
	due("it runs now", 1, 0)
	verdict()
	note(base(), 0)
	due("it runs no more", 0, 0)
	k.trustPolicy("q", 1)
	due("another policy", 0, 1)
	note(base())
	due("gone", 0, 0)
	note(base().Add(2 * time.Hour))
	k.wantTrust("forgotten", store.TrustQuery{})
}

func testTrustVerdict(k *kit) {
	k.trustPolicy("p", 0)
	k.noteTrust(base(), "a")
	v := k.verdict("a", store.TrustDenied, "p", base().Add(time.Minute))
	got, err := k.st.TrustImage(k.ctx, "a", "sha256:a")
	k.ok(err)
	want := store.TrustImage{TrustVerdict: v, ID: got.ID, Images: []string{"id-a"}, Groups: []asset.Group{"shop/a"}, Running: 1, Seen: base()}
	same(k, "image", got, want)
	details, err := k.st.TrustDetails(k.ctx, 0, 10)
	k.ok(err)
	same(k, "details", details, []store.TrustImage{want})
	details, err = k.st.TrustDetails(k.ctx, want.ID, 10)
	k.ok(err)
	same(k, "details behind it", len(details), 0)
	k.noteTrust(base().Add(time.Minute), "a")
	got, err = k.st.TrustImage(k.ctx, "a", "sha256:a")
	k.ok(err)
	same(k, "image that is seen again", got, want)
	_, err = k.st.TrustImage(k.ctx, "a", "sha256:b")
	k.wantFault(err, fault.NotFound)
	totals, err := k.st.TrustTotals(k.ctx)
	k.ok(err)
	same(k, "totals", totals, store.TrustTotals{States: map[store.TrustState]int{store.TrustDenied: 1}, Workloads: map[store.TrustState]int{store.TrustDenied: 1}})
}

func testTrustList(k *kit) {
	k.trustPolicy("p", 0)
	k.noteTrust(base(), "reg/a", "reg/b", "reg/c_", "other/d", "local/e")
	k.verdict("reg/a", store.TrustAllowed, "p", base().Add(time.Hour))
	k.verdict("reg/b", store.TrustUndecided, "p", base().Add(time.Hour))
	k.verdict("other/d", store.TrustDenied, "p", base().Add(time.Hour))
	all := []string{"other/d", "reg/b", "local/e", "reg/c_", "reg/a"}
	k.wantTrust("all", store.TrustQuery{}, all...)
	k.wantTrust("of a state", store.TrustQuery{State: store.TrustAllowed}, "reg/a")
	k.wantTrust("of a repository", store.TrustQuery{Repository: "c_"}, "reg/c_")
	k.wantTrust("by name of the signer", store.TrustQuery{Signer: "build"}, "other/d", "reg/b", "reg/a")
	k.wantTrust("by identity", store.TrustQuery{Signer: "key of reg/a"}, "reg/a")
	k.wantTrust("not by an engine's id", store.TrustQuery{Signer: "id-reg/a"})
	k.wantTrust("by the engine's id", store.TrustQuery{ImageID: "id-reg/b", Running: true}, "reg/b")
	var paged []string
	q := store.TrustQuery{Limit: 2}
	for range len(all) {
		page, err := k.st.TrustImages(k.ctx, q)
		k.ok(err)
		if len(page) == 0 {
			break
		}
		paged = append(paged, trustNames(page)...)
		q.After = page[len(page)-1].ID
	}
	same(k, "in pages", paged, all)
	for _, bad := range []store.TrustQuery{{State: "odd"}, {After: 1 << 40}, {Repository: strings.Repeat("x", 1_000)}} {
		_, err := k.st.TrustImages(k.ctx, bad)
		k.wantFault(err, fault.Invalid)
	}
}
