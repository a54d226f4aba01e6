package storetest

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

func upkeepCases() []testCase {
	return []testCase{
		{"zero keeps forever", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			n, err := k.st.Prune(k.ctx, store.Retention{}, base().AddDate(100, 0, 0))
			k.ok(err)
			same(k, "removed", n, 0)
			same(k, "left", len(k.all().Events), 3)
		}},
		{"events by age", eventsByAge},
		{"events by the server's clock", func(k *kit) {
			es := execs(1, func(e *event.Event) { e.Time = base().AddDate(-50, 0, 0) })
			k.ok(k.st.AppendEvents(k.ctx, es))
			_, err := k.st.Prune(k.ctx, store.Retention{Events: time.Hour}, base().Add(time.Minute))
			k.ok(err)
			same(k, "left", len(k.all().Events), 1)
		}},
		{"events by number", eventsByNumber},
		{"an id is not used again", idsOfRemoved},
		{"what was removed is not stored again", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			_, err := k.st.Prune(k.ctx, store.Retention{Events: time.Second}, base().AddDate(1, 0, 0))
			k.ok(err)
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			same(k, "left", len(k.all().Events), 0)
		}},
		{"workloads after they ended", workloadsAfterEnd},
		{"audit by age", func(k *kit) {
			for i := range 4 {
				k.ok(k.st.AppendAudit(k.ctx, access.Audit{Time: base().Add(time.Duration(i) * time.Hour), Action: "x"}))
			}
			n, err := k.st.Prune(k.ctx, store.Retention{Audit: time.Hour}, base().Add(150*time.Minute))
			k.ok(err)
			same(k, "removed", n, 2)
		}},
		{"a cancelled prune stops", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			if _, err := k.st.Prune(ctx, store.Retention{Events: time.Second}, base().AddDate(1, 0, 0)); err == nil {
				k.Error("no error from a cancelled prune")
			}
		}},
		{"health", health},
		{"closed", closed},
	}
}

func (k *kit) wantFaultOf(call func() error, want fault.Kind) {
	k.Helper()
	k.wantFault(call(), want)
}

// eventsByAge: enough for several transactions, with the cut in the middle.
func eventsByAge(k *kit) {
	const n, old = 12_000, 7_777
	es := execs(n)
	k.ok(k.st.AppendEvents(k.ctx, es))
	removed, err := k.st.Prune(k.ctx, store.Retention{Events: time.Hour}, es[old].Received.Add(time.Hour))
	k.ok(err)
	same(k, "removed events, at least", removed >= old, true)
	page, err := k.st.Events(k.ctx, store.EventQuery{After: es[0].ID, Limit: 1})
	k.ok(err)
	same(k, "oldest left", seqs(page.Events), []uint64{old + 1})
	h, err := k.st.Health(k.ctx)
	k.ok(err)
	same(k, "left", h.Events, n-old)
	again, err := k.st.Prune(k.ctx, store.Retention{Events: time.Hour}, es[old].Received.Add(time.Hour))
	k.ok(err)
	same(k, "removed again", again, 0)
}

func eventsByNumber(k *kit) {
	const n, keep = 12_000, 1_234
	k.ok(k.st.AppendEvents(k.ctx, execs(n)))
	removed, err := k.st.Prune(k.ctx, store.Retention{MaxEvents: keep}, base())
	k.ok(err)
	same(k, "removed", removed, n-keep)
	h, err := k.st.Health(k.ctx)
	k.ok(err)
	same(k, "left", h.Events, keep)
	same(k, "newest", k.all().Events[0].Seq, n)
}

func idsOfRemoved(k *kit) {
	es := execs(3)
	k.ok(k.st.AppendEvents(k.ctx, es))
	_, err := k.st.Prune(k.ctx, store.Retention{Events: time.Second}, base().AddDate(1, 0, 0))
	k.ok(err)
	same(k, "left", len(k.all().Events), 0)
	next := []event.Event{exec(4)}
	k.ok(k.st.AppendEvents(k.ctx, next))
	if next[0].ID <= es[2].ID {
		k.Errorf("id %d after %d", next[0].ID, es[2].ID)
	}
	k.wantFaultOf(func() error { _, err := k.st.Event(k.ctx, es[0].ID); return err }, fault.NotFound)
	page, err := k.st.Events(k.ctx, store.EventQuery{WorkloadID: "w1", Text: "sh"})
	k.ok(err)
	same(k, "found again", seqs(page.Events), []uint64{4})
}

func health(k *kit) {
	h, err := k.st.Health(k.ctx)
	k.ok(err)
	if h.Events != 0 || h.OldestTime != nil || h.Engine == "" || h.Schema == 0 || h.FreeBytes == 0 {
		k.Errorf("of an empty store: %+v", h)
	}
	k.ok(k.st.AppendEvents(k.ctx, execs(3)))
	h, err = k.st.Health(k.ctx)
	k.ok(err)
	if h.Events != 3 || h.OldestTime == nil || !h.OldestTime.Equal(exec(1).Time) || h.Bytes == 0 {
		k.Errorf("of three events: %+v", h)
	}
}

func closed(k *kit) {
	k.ok(k.st.Close())
	k.wantFault(k.st.AppendEvents(k.ctx, execs(1)), fault.Unavailable)
	_, err := k.st.Events(k.ctx, store.EventQuery{})
	k.wantFault(err, fault.Unavailable)
	k.wantFault(k.st.PutAgent(k.ctx, asset.Agent{ID: "a"}), fault.Unavailable)
	k.ok(k.st.Close())
}

func workloadsAfterEnd(k *kit) {
	k.ok(k.st.PutWorkloads(k.ctx, []asset.Workload{workload(1), workload(2, ended), workload(100, ended)}))
	n, err := k.st.Prune(k.ctx, store.Retention{Workloads: time.Hour}, base().Add(130*time.Minute))
	k.ok(err)
	same(k, "removed", n, 1)
	got, err := k.st.Workloads(k.ctx, store.WorkloadQuery{})
	k.ok(err)
	same(k, "left", names(got), []string{"web-1", "web-100"})
}
