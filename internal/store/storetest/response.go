package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/store"
)

// responsePolicy makes a text the policy.
func (k *kit) responsePolicy(text string, after int64) store.ResponsePolicy {
	k.Helper()
	p, err := k.st.PutResponsePolicy(k.ctx, store.ResponsePolicy{Text: text, Digest: "sha256:" + text, Actor: "user:anna", Comment: "why", Created: base()}, after)
	k.ok(err)
	return p
}

// responseRun stores what a rule did to a workload.
func (k *kit) responseRun(rule, workload string, at, undo time.Time) store.ResponseRun {
	k.Helper()
	r, err := k.st.PutResponseRun(k.ctx, store.ResponseRun{
		At: at, Rule: rule, Threat: "miner-stratum", Print: "p", Incident: 7, Group: "shop/web/web", Workload: workload,
		Kind: response.Quarantine, Did: "quarantine", Deed: "d", State: response.Done, Detail: "cut", UndoAt: undo,
	})
	k.ok(err)
	return r
}

func (k *kit) wantRuns(what string, q store.ResponseRunQuery, want ...store.ResponseRun) {
	k.Helper()
	all, err := k.st.ResponseRuns(k.ctx, q)
	k.ok(err)
	same(k, what, all, want)
}

// responseDeed stores a quarantine, which ended or did not.
func (k *kit) responseDeed(id string, state response.State, undo response.Kind) store.ResponseDeed {
	k.Helper()
	d := store.ResponseDeed{
		Deed:   response.Deed{ID: id, Kind: response.Quarantine, Workload: "w1", Freeze: true, Reason: "miner", By: "user:anna", Asked: base(), Until: base().Add(time.Minute)},
		Answer: response.Answer{ID: id, State: state, Did: []string{"cut"}, Undo: undo, Ended: base().Add(time.Second)}, AgentID: "a1", Group: "shop/web/web", Name: "web-1",
	}
	k.ok(k.st.PutResponseDeed(k.ctx, d))
	return d
}

func (k *kit) wantDeeds(what string, q store.ResponseDeedQuery, want ...store.ResponseDeed) (last int64) {
	k.Helper()
	all, last, err := k.st.ResponseDeeds(k.ctx, q)
	k.ok(err)
	same(k, what, all, want)
	return last
}

func responseCases() []testCase {
	return []testCase{
		{"what was done is found, and what of it stands", func(k *kit) {
			k.wantDeeds("none", store.ResponseDeedQuery{})
			a := k.responseDeed("a", response.Done, response.Release)
			b := k.responseDeed("b", response.Asked, "")
			c := k.responseDeed("c", response.Refused, "")
			part := k.responseDeed("part", response.Failed, response.Release)
			k.wantDeeds("all", store.ResponseDeedQuery{}, part, c, b, a)
			last := k.wantDeeds("a page", store.ResponseDeedQuery{Limit: 2}, part, c)
			k.wantDeeds("the next", store.ResponseDeedQuery{Before: last}, b, a)
			k.wantDeeds("what stands", store.ResponseDeedQuery{Standing: true}, part, b, a)
			a = k.responseDeed("a", response.Undone, response.Release)
			k.wantDeeds("in its place", store.ResponseDeedQuery{}, part, c, b, a)
			k.wantDeeds("what still stands", store.ResponseDeedQuery{Standing: true}, part, b)
		}},
		{"so many deeds are kept, and those that stand", func(k *kit) {
			kept := k.responseDeed("kept", response.Done, response.Release)
			k.responseDeed("gone", response.Undone, response.Release)
			for n := range store.MaxResponseDeeds {
				k.responseDeed(fmt.Sprint(n), response.Refused, "")
			}
			k.wantDeeds("the oldest", store.ResponseDeedQuery{Before: 3}, kept)
		}},
		{"a policy has versions", func(k *kit) {
			_, err := k.st.ResponsePolicy(k.ctx, 0)
			k.wantFault(err, fault.NotFound)
			first, second := k.responsePolicy("a", 0), k.responsePolicy("b", 1)
			newest, err := k.st.ResponsePolicy(k.ctx, 0)
			k.ok(err)
			same(k, "newest", newest, second)
			first.Text, second.Text = "", ""
			all, err := k.st.ResponsePolicies(k.ctx, 0, 0)
			k.ok(err)
			same(k, "history", all, []store.ResponsePolicy{second, first})
			_, err = k.st.PutResponsePolicy(k.ctx, store.ResponsePolicy{Text: "c"}, 1)
			k.wantFault(err, fault.Conflict)
			_, err = k.st.PutResponsePolicy(k.ctx, store.ResponsePolicy{Text: strings.Repeat("x", store.MaxResponsePolicy+1)}, 2)
			k.wantFault(err, fault.Invalid)
		}},
		{"what rules did is found", func(k *kit) {
			a := k.responseRun("miners", "w1", base(), time.Time{})
			b := k.responseRun("miners", "w2", base().Add(time.Minute), base().Add(time.Hour))
			c := k.responseRun("shells", "w2", base().Add(2*time.Minute), base().Add(2*time.Hour))
			k.wantRuns("all", store.ResponseRunQuery{}, c, b, a)
			k.wantRuns("a page", store.ResponseRunQuery{Before: c.ID, Limit: 1}, b)
			k.wantRuns("of a rule", store.ResponseRunQuery{Rule: "miners"}, b, a)
			k.wantRuns("of a workload", store.ResponseRunQuery{Workload: "w2"}, c, b)
			k.wantRuns("since", store.ResponseRunQuery{Since: base().Add(time.Minute)}, c, b)
			k.wantRuns("to be undone", store.ResponseRunQuery{Undo: base().Add(time.Hour)}, b)
			n, last, err := k.st.CountResponseRuns(k.ctx, "miners")
			k.ok(err)
			same(k, "count", fmt.Sprint(n, last.UTC()), fmt.Sprint(2, b.At.UTC()))
			n, last, err = k.st.CountResponseRuns(k.ctx, "nothing")
			k.ok(err)
			same(k, "count of nothing", fmt.Sprint(n, last.IsZero()), "0 true")
			b.State, b.Undone, b.UndoAt = response.Undone, base().Add(time.Hour), time.Time{}
			_, err = k.st.PutResponseRun(k.ctx, b)
			k.ok(err)
			k.wantRuns("undone", store.ResponseRunQuery{Undo: base().Add(time.Hour)})
			k.wantRuns("all, then", store.ResponseRunQuery{}, c, b, a)
		}},
		{"so many runs are kept, and those that are to be undone", func(k *kit) {
			kept := k.responseRun("miners", "w", base(), base().Add(time.Hour))
			gone := k.responseRun("miners", "w", base(), time.Time{})
			for range store.MaxResponseRuns {
				k.responseRun("miners", "w", base(), time.Time{})
			}
			k.wantRuns("the oldest", store.ResponseRunQuery{Before: gone.ID + 1}, kept)
		}},
	}
}
