package db_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/adapter/db"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

// TestQueriesAgreeWithOracle compares every query with a filter written the
// plain way, page by page, with a budget that is never reached and with one
// that makes nearly every page partial.
func TestQueriesAgreeWithOracle(t *testing.T) {
	const n = 35_000
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	f := newFleet(1)
	var all []event.Event
	for len(all) < n {
		// Small reports, so that blocks are filled by several commits.
		batch := f.batch(1 + f.rnd.IntN(900))
		if err := d.AppendEvents(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		all = append(all, batch...)
	}
	queries := consoleQueries(n)
	e := all[n/2]
	queries = append(queries, namedQuery{"process", store.EventQuery{AgentID: e.AgentID, Process: e.Process.Key}})
	for _, nq := range queries {
		var want []int64
		for i := range all {
			if selects(nq.q, &all[i]) {
				want = append(want, all[i].ID)
			}
		}
		for name, budget := range map[string]int{"whole": 1 << 40, "partial": 2_000} {
			t.Run(nq.name+"/"+name, func(t *testing.T) {
				d.SetBudget(budget)
				got, partial := pages(t, d, nq.q)
				if nq.q.After == 0 {
					slices.Reverse(got)
				}
				if diff := cmp.Diff(got, want); diff != "" {
					t.Errorf("ids (-got +want):\n%s", diff)
				}
				if partial && name == "whole" {
					t.Error("a page is partial within the budget")
				}
			})
		}
	}
}

// pages reads a query to its end.
func pages(t *testing.T, d *db.DB, q store.EventQuery) (ids []int64, partial bool) {
	t.Helper()
	q.Limit = store.MaxPage
	for range 100_000 {
		page, err := d.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		partial = partial || page.Partial
		if page.Partial && page.Reached == nil {
			t.Error("a partial page does not say how far it came")
		}
		done := page.Next == 0 || q.After > 0 && len(page.Events) == 0 && !page.Partial
		if done {
			return ids, partial
		}
		if q.After > 0 {
			q.After = page.Next
		} else {
			q.Before = page.Next
		}
	}
	t.Fatal("the pages don't end")
	return nil, false
}

// selects is the port's description of a query in plain Go.
func selects(q store.EventQuery, e *event.Event) bool {
	exec := event.Exec{}
	if e.Exec != nil {
		exec = *e.Exec
	}
	prefix, open := strings.CutSuffix(q.Executable, "*")
	for _, holds := range []bool{
		len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind),
		q.AgentID == "" || q.AgentID == e.AgentID,
		q.WorkloadID == "" || q.WorkloadID == e.WorkloadID,
		q.Group == "" || q.Group == e.Group,
		!q.HostOnly || e.WorkloadID == "",
		q.Executable == "" || !open && e.Process.Executable == q.Executable ||
			open && strings.HasPrefix(e.Process.Executable, prefix),
		q.Process.IsZero() || q.Process == e.Process.Key,
		len(q.Origins) == 0 || e.Exec != nil && slices.Contains(q.Origins, exec.Origin),
		!q.Entered || exec.Entered,
		q.Since.IsZero() || !e.Time.Before(q.Since),
		q.Until.IsZero() || e.Time.Before(q.Until),
		q.Before == 0 || e.ID < q.Before,
		q.After == 0 || e.ID > q.After,
	} {
		if !holds {
			return false
		}
	}
	for _, want := range strings.Fields(q.Text) {
		texts := append([]string{e.Process.Executable, e.Process.Name}, exec.Args...)
		if !slices.ContainsFunc(texts, func(s string) bool { return beginsWord(s, want) }) {
			return false
		}
	}
	return true
}

func beginsWord(s, want string) bool {
	word := func(c byte) bool {
		return strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789_", c) >= 0 || c >= 0x80
	}
	s, want = strings.ToLower(s), strings.ToLower(want)
	for i := range s {
		if strings.HasPrefix(s[i:], want) && (i == 0 || !word(want[0]) || !word(s[i-1])) {
			return true
		}
	}
	return false
}
