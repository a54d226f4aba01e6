package db

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
)

// maxFlowRows bounds the lines that one answer adds up: about two seconds on
// one core of a small machine.
const maxFlowRows = 200_000

// flowRow is a line as it is stored, its terms not yet put into text.
type flowRow struct {
	workload, agent, group, kind int64
	protocol                     string
	address                      []byte
	peer                         string
	flow                         store.Flow
	first, last                  int64
}

// Flows implements store.Flows. Invalid when the time holds more lines than
// can be added up at once.
func (d *DB) Flows(ctx context.Context, q store.FlowQuery) (flows []store.Flow, err error) {
	err = d.read(ctx, "read flows", func(s *snapshot) error {
		f, ok, err := s.filterFlows(ctx, q)
		if err != nil || !ok {
			return err
		}
		sums, err := s.sumFlows(ctx, f)
		if err != nil {
			return err
		}
		busiest := slices.SortedFunc(maps.Values(sums), busier)
		if limit := q.Limit; limit > 0 && limit < store.MaxFlows {
			busiest = busiest[:min(len(busiest), limit)]
		}
		busiest = busiest[:min(len(busiest), store.MaxFlows)]
		flows = make([]store.Flow, len(busiest))
		for i, r := range busiest {
			if flows[i], err = s.flow(ctx, r); err != nil {
				return err
			}
		}
		return nil
	})
	return flows, err
}

// filterFlows returns false when a term never occurred.
func (s *snapshot) filterFlows(ctx context.Context, q store.FlowQuery) (f fragments, ok bool, err error) {
	for _, eq := range [...]struct {
		dim         dimension
		value, part string
	}{{dimWorkload, q.WorkloadID, "workload = ?"}, {dimGroup, q.Group, "grp = ?"}} {
		if eq.value == "" {
			continue
		}
		id, err := s.termID(ctx, eq.dim, eq.value)
		if err != nil || id == 0 {
			return f, false, err
		}
		f.add(eq.part, id)
	}
	since, until := int64(math.MinInt64), int64(math.MaxInt64)
	if !q.Since.IsZero() {
		since = q.Since.Unix() - floorMod(q.Since.Unix(), hourSpan)
	}
	if !q.Until.IsZero() {
		until = q.Until.Unix()
		if q.Until.Nanosecond() > 0 {
			until++
		}
	}
	f.add("hour >= ?", since)
	f.add("hour < ?", until)
	return f, true, nil
}

// sumFlows adds lines up over the hours.
func (s *snapshot) sumFlows(ctx context.Context, f fragments) (map[flowKey]*flowRow, error) {
	sums := map[flowKey]*flowRow{}
	rows := 0
	query := `SELECT workload, agent, grp, kind, protocol, address, port, name, peer, count, failed, error, sent, arrived,
		first, last FROM flows WHERE ` + strings.Join(f.parts, " AND ")
	err := s.query(ctx, query, f.args, func(r *sql.Rows) (bool, error) {
		if rows++; rows > maxFlowRows {
			return false, fault.New(fault.Invalid, "more than %d lines of flows: ask for a shorter time, or for one workload", maxFlowRows)
		}
		var v flowRow
		err := r.Scan(&v.workload, &v.agent, &v.group, &v.kind, &v.protocol, &v.address, &v.flow.Port, &v.flow.Name, &v.peer,
			&v.flow.Count, &v.flow.Failed, &v.flow.Error, &v.flow.BytesSent, &v.flow.BytesReceived, &v.first, &v.last)
		if err != nil {
			return false, err
		}
		v.flow.Address, _ = netip.AddrFromSlice(v.address)
		key := flowKey{v.workload, 0, v.agent, v.kind, v.protocol, v.flow.Address, v.flow.Port}
		if sum, ok := sums[key]; ok {
			sum.merge(&v)
		} else {
			sums[key] = &v
		}
		return true, nil
	})
	return sums, err
}

// merge adds another hour of the same line.
func (r *flowRow) merge(o *flowRow) {
	newer := o.last >= r.last
	if o.group != 0 && (newer || r.group == 0) {
		r.group = o.group
	}
	for _, text := range [...]struct {
		dest *string
		from string
	}{{&r.flow.Name, o.flow.Name}, {&r.peer, o.peer}, {&r.flow.Error, o.flow.Error}} {
		if text.from != "" && (newer || *text.dest == "") {
			*text.dest = text.from
		}
	}
	r.flow.Count = addFlowSum(r.flow.Count, o.flow.Count)
	r.flow.Failed = addFlowSum(r.flow.Failed, o.flow.Failed)
	r.flow.BytesSent = addFlowSum(r.flow.BytesSent, o.flow.BytesSent)
	r.flow.BytesReceived = addFlowSum(r.flow.BytesReceived, o.flow.BytesReceived)
	r.first, r.last = min(r.first, o.first), max(r.last, o.last)
}

// busier orders by connections, then bytes; the rest makes the order certain.
func busier(a, b *flowRow) int {
	return cmp.Or(cmp.Compare(b.flow.Count, a.flow.Count),
		cmp.Compare(b.flow.BytesSent+b.flow.BytesReceived, a.flow.BytesSent+a.flow.BytesReceived),
		cmp.Compare(b.last, a.last), cmp.Compare(a.workload, b.workload), cmp.Compare(a.agent, b.agent),
		cmp.Compare(a.kind, b.kind), cmp.Compare(a.protocol, b.protocol),
		a.flow.Address.Compare(b.flow.Address), cmp.Compare(a.flow.Port, b.flow.Port))
}

func (s *snapshot) flow(ctx context.Context, r *flowRow) (store.Flow, error) {
	v := r.flow
	v.Protocol, v.First, v.Last = r.protocol, fromNanos(r.first), fromNanos(r.last)
	if r.peer != "" {
		if err := s.decode([]byte(r.peer), &v.Peer); err != nil {
			return v, err
		}
	}
	var kind string
	for _, f := range [...]struct {
		dest *string
		term int64
	}{{&v.WorkloadID, r.workload}, {&v.Group, r.group}, {&v.AgentID, r.agent}, {&kind, r.kind}} {
		if f.term == 0 {
			continue // a group that is not known
		}
		text, err := s.text(ctx, f.term)
		if err != nil {
			return v, err
		}
		*f.dest = text
	}
	v.Kind = event.Kind(kind)
	return v, nil
}
