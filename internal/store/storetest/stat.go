package storetest

import (
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

func statCases() []testCase {
	return []testCase{
		{"rate of everything", rateOfAll},
		{"rate of a workload", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, rated()))
			got, err := k.st.EventRate(k.ctx, "w2", base(), base().Add(time.Hour), time.Minute)
			k.ok(err)
			same(k, "rate", got, []store.Rate{{Start: base(), Kind: event.KindExec, Count: 1}})
		}},
		{"rate of no workload", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, rated()))
			got, err := k.st.EventRate(k.ctx, "none", base(), base().Add(time.Hour), time.Minute)
			k.ok(err)
			same(k, "rate", len(got), 0)
		}},
		{"rate in longer steps", rateInSteps},
		{"a step below a minute is a minute", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, rated()))
			got, err := k.st.EventRate(k.ctx, "w2", base(), base().Add(time.Minute), time.Second)
			k.ok(err)
			same(k, "rate", got, []store.Rate{{Start: base(), Kind: event.KindExec, Count: 1}})
		}},
		{"only of the span", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, rated()))
			got, err := k.st.EventRate(k.ctx, "", base().Add(2*time.Minute), base().Add(3*time.Minute), time.Minute)
			k.ok(err)
			same(k, "rate", got, []store.Rate{{Start: base().Add(2 * time.Minute), Kind: event.KindExit, Count: 1}})
		}},
		{"what is sent twice counts once", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, rated()))
			k.ok(k.st.AppendEvents(k.ctx, rated()))
			got, err := k.st.EventRate(k.ctx, "w2", base(), base().Add(time.Hour), time.Minute)
			k.ok(err)
			same(k, "rate", got, []store.Rate{{Start: base(), Kind: event.KindExec, Count: 1}})
		}},
		{"what happened is counted, not the rows that tell it", func(k *kit) {
			es := rated()
			es[1].Count, es[1].Last = 12, es[1].Time.Add(time.Second)
			k.ok(k.st.AppendEvents(k.ctx, es))
			got, err := k.st.EventRate(k.ctx, "w2", base(), base().Add(time.Hour), time.Minute)
			k.ok(err)
			same(k, "rate", got, []store.Rate{{Start: base(), Kind: event.KindExec, Count: 12}})
		}},
		{"notable", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, scene()))
			got, err := k.st.Notable(k.ctx, base(), 10)
			k.ok(err)
			same(k, "notable", seqs(got), []uint64{9, 7, 6, 5})
		}},
		{"notable since and limit", notableSince},
		{"nothing notable", func(k *kit) {
			k.ok(k.st.AppendEvents(k.ctx, execs(3)))
			got, err := k.st.Notable(k.ctx, time.Time{}, 10)
			k.ok(err)
			same(k, "notable", len(got), 0)
		}},
	}
}

// rated is three execs in the first minute, one of them in w2, an exit in the
// third and an exec in the fourth.
func rated() []event.Event {
	es := execs(5)
	es[1].WorkloadID = "w2"
	es[3].Time, es[3].Kind, es[3].Exec, es[3].Exit = base().Add(2*time.Minute), event.KindExit, nil, &event.Exit{}
	es[4].Time = base().Add(3*time.Minute + 59*time.Second)
	return es
}

func rateOfAll(k *kit) {
	k.ok(k.st.AppendEvents(k.ctx, rated()))
	got, err := k.st.EventRate(k.ctx, "", base(), base().Add(time.Hour), time.Minute)
	k.ok(err)
	same(k, "rate", got, []store.Rate{
		{Start: base(), Kind: event.KindExec, Count: 3},
		{Start: base().Add(2 * time.Minute), Kind: event.KindExit, Count: 1},
		{Start: base().Add(3 * time.Minute), Kind: event.KindExec, Count: 1},
	})
}

func rateInSteps(k *kit) {
	k.ok(k.st.AppendEvents(k.ctx, rated()))
	for _, step := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour} {
		got, err := k.st.EventRate(k.ctx, "", base(), base().Add(2*time.Hour), step)
		k.ok(err)
		byKind := map[event.Kind]int64{}
		for _, r := range got {
			same(k, "start", r.Start, base())
			byKind[r.Kind] += r.Count
		}
		same(k, "sums", byKind, map[event.Kind]int64{event.KindExec: 4, event.KindExit: 1})
	}
}

func notableSince(k *kit) {
	k.ok(k.st.AppendEvents(k.ctx, scene()))
	got, err := k.st.Notable(k.ctx, base().Add(6*time.Second), 2)
	k.ok(err)
	same(k, "newest", seqs(got), []uint64{9, 7})
	got, err = k.st.Notable(k.ctx, base().Add(7*time.Second), 0)
	k.ok(err)
	same(k, "since", seqs(got), []uint64{9, 7})
}
