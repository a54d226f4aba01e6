package db

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Kinds of incident_terms. Their numbers are in files.
const (
	incidentGroup = iota + 1
	incidentRule
	incidentAgent
	incidentWorkload
	incidentTrace
)

// maxIncidentText bounds what is searched of one incident.
const maxIncidentText = 16 << 10

// SaveIncidents implements store.Incidents.
func (d *DB) SaveIncidents(ctx context.Context, c *store.IncidentChange) error {
	packer := &bodyPacker{}
	defer packer.close()
	ids := make([]int64, len(c.Put))
	err := d.write(ctx, "store incidents", func(ctx context.Context, w *writer) error {
		for from, to := range c.Merged {
			if err := w.mergeIncident(ctx, from, to); err != nil {
				return err
			}
		}
		for k := range c.Put {
			id, err := w.putIncident(ctx, &c.Put[k], packer)
			if err != nil {
				return err
			}
			ids[k] = id
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k := range c.Put {
		c.Put[k].Incident.ID = ids[k]
		c.Put[k].Incident.Revision++
	}
	return nil
}

func (w *writer) mergeIncident(ctx context.Context, from, to int64) error {
	if err := w.dropIncident(ctx, from); err != nil {
		return err
	}
	if _, err := w.exec(ctx, "UPDATE incident_merges SET incident = ? WHERE incident = ?", to, from); err != nil {
		return err
	}
	_, err := w.exec(ctx, "INSERT INTO incident_merges (id, incident) VALUES (?,?) ON CONFLICT (id) DO UPDATE SET incident = excluded.incident", from, to)
	return err
}

func (w *writer) dropIncident(ctx context.Context, id int64) error {
	if _, err := w.exec(ctx, "DELETE FROM incidents WHERE id = ?", id); err != nil {
		return err
	}
	_, err := w.exec(ctx, "DELETE FROM incident_terms WHERE incident = ?", id)
	return err
}

// putIncident stores one, and returns its id.
func (w *writer) putIncident(ctx context.Context, p *store.IncidentPut, packer *bodyPacker) (int64, error) {
	i := *p.Incident
	i.Revision++
	head, body, err := incidentBodies(&i)
	if err != nil {
		return 0, err
	}
	if len(body) > store.MaxIncident || len(p.Memory) > store.MaxIncidentMemory || len(p.Traces) > store.MaxIncidentTraces {
		return 0, fault.New(fault.Invalid, "incident %d has %d bytes, %d of memory and %d traces; at most %d, %d and %d are kept",
			i.ID, len(body), len(p.Memory), len(p.Traces), store.MaxIncident, store.MaxIncidentMemory, store.MaxIncidentTraces)
	}
	packed, err := packer.pack(body)
	if err != nil {
		return 0, err
	}
	state := i.State
	if state == "" {
		state = threat.Open
	}
	values := []any{string(state), state.Active(), int(i.Severity), i.Assignee, nanos(i.Updated), nanos(i.Last), i.Revision, incidentText(&i), string(head), packed}
	if i.ID == 0 {
		i.ID, err = w.insert(ctx, `INSERT INTO incidents (state, active, severity, assignee, updated, last, revision, search, head, body, memory)
			VALUES (?,?,?,?,?,?,?,?,?,?,x'00')`, values...)
		if err != nil {
			return 0, err
		}
	} else {
		n, err := w.exec(ctx, `UPDATE incidents SET state = ?, active = ?, severity = ?, assignee = ?, updated = ?, last = ?, revision = ?, search = ?,
			head = ?, body = ? WHERE id = ? AND revision = ?`, append(values, i.ID, p.Incident.Revision)...)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, fault.New(fault.Conflict, "incident %d was changed meanwhile, or is not kept any more", i.ID).
				With("read it again, and make the change anew")
		}
	}
	if p.Memory == nil {
		return i.ID, nil
	}
	if packed, err = packer.pack(p.Memory); err != nil {
		return 0, err
	}
	if _, err := w.exec(ctx, "UPDATE incidents SET memory = ? WHERE id = ?", packed, i.ID); err != nil {
		return 0, err
	}
	return i.ID, w.putIncidentTerms(ctx, &i, p.Traces)
}

func (w *writer) putIncidentTerms(ctx context.Context, i *threat.Incident, traces []string) error {
	if _, err := w.exec(ctx, "DELETE FROM incident_terms WHERE incident = ?", i.ID); err != nil {
		return err
	}
	var values []any
	add := func(kind int, terms []string) {
		for _, t := range terms {
			values = append(values, kind, clip(t), i.ID)
		}
	}
	rules := make([]string, len(i.Rules))
	for k := range i.Rules {
		rules[k] = i.Rules[k].Rule
	}
	add(incidentGroup, i.Groups)
	add(incidentRule, rules)
	add(incidentAgent, i.Agents)
	add(incidentWorkload, i.Workloads)
	add(incidentTrace, traces)
	return w.bulk(ctx, "INSERT INTO incident_terms (kind, term, incident) VALUES ", " ON CONFLICT DO NOTHING", 3, values)
}

// incidentBodies are an incident in brief, and whole.
func incidentBodies(i *threat.Incident) (head, body []byte, err error) {
	if body, err = json.Marshal(i); err != nil {
		return nil, nil, fmt.Errorf("encode incident %d: %w", i.ID, err)
	}
	brief := *i
	brief.Processes, brief.Peers, brief.Files, brief.Weaknesses, brief.Timeline = nil, nil, nil, nil, nil
	if head, err = json.Marshal(&brief); err != nil {
		return nil, nil, fmt.Errorf("encode incident %d: %w", i.ID, err)
	}
	return head, body, nil
}

// incidentText is what IncidentQuery.Text looks at.
func incidentText(i *threat.Incident) string {
	all := []string{i.Title, i.Story}
	all = slices.Concat(all, i.Groups, i.Workloads, i.Agents, i.Techniques, i.Files)
	for k := range i.Rules {
		all = append(all, i.Rules[k].Rule, i.Rules[k].Title)
	}
	for k := range i.Peers {
		all = append(all, i.Peers[k].Name, i.Peers[k].Address.String())
	}
	return untrusted.Clip(strings.Join(all, "\n"), maxIncidentText)
}
