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
	t.Run("processes", func(t *testing.T) { agreeWithOracle(t, newFleet(1), 35_000, nil) })
	t.Run("objects", func(t *testing.T) { agreeWithOracle(t, newMixed(1), 20_000, objectQueries()) })
}

func agreeWithOracle(t *testing.T, f *fleet, n int, more []namedQuery) {
	d := openFor(t, db.Options{Path: t.TempDir() + "/castellan.db"})
	var all []event.Event
	for len(all) < n {
		// Small reports, so that blocks are filled by several commits.
		batch := f.batch(1 + f.rnd.IntN(900))
		if err := d.AppendEvents(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		all = append(all, batch...)
	}
	queries := append(consoleQueries(n), more...)
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
		q.Path == "" || ofPath(q.Path, e),
		q.Peer == "" || ofPeer(q.Peer, e),
	} {
		if !holds {
			return false
		}
	}
	for _, want := range strings.Fields(q.Text) {
		texts := append([]string{e.Process.Executable, e.Process.Name}, exec.Args...)
		texts = append(texts, objectTexts(e)...)
		if !slices.ContainsFunc(texts, func(s string) bool { return beginsWord(s, want) }) {
			return false
		}
	}
	return true
}

// objectTexts, ofPath and ofPeer are written without those of store, which the
// store itself asks.
func objectTexts(e *event.Event) (texts []string) {
	if f := e.File; f != nil {
		texts = append(texts, f.Path, f.To)
	}
	if c := e.Connection; c != nil {
		texts = append(texts, c.Remote.String(), c.Name, c.Peer.WorkloadID, c.Peer.Group)
	}
	if e.DNS != nil {
		texts = append(texts, e.DNS.Name)
	}
	if e.Privilege != nil {
		texts = append(texts, e.Privilege.Target)
	}
	if e.Memory != nil {
		texts = append(texts, e.Memory.Path)
	}
	return texts
}

func ofPath(want string, e *event.Event) bool {
	var paths []string
	if e.File != nil {
		paths = append(paths, e.File.Path, e.File.To)
	}
	if e.Memory != nil {
		paths = append(paths, e.Memory.Path)
	}
	if e.Privilege != nil && strings.HasPrefix(e.Privilege.Target, "/") {
		paths = append(paths, e.Privilege.Target)
	}
	return slices.ContainsFunc(paths, func(p string) bool {
		prefix, open := strings.CutSuffix(want, "*")
		return p == want && p != "" || open && p != "" && strings.HasPrefix(p, prefix)
	})
}

func ofPeer(want string, e *event.Event) bool {
	if e.DNS != nil && e.DNS.Name == want {
		return true
	}
	c := e.Connection
	return c != nil && slices.Contains([]string{
		c.Remote.Addr().String(), c.Remote.String(), c.Name, c.Peer.WorkloadID, c.Peer.Group,
	}, want)
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
