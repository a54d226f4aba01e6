package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
)

// PutAgent implements store.Agents.
func (d *DB) PutAgent(ctx context.Context, a asset.Agent) error {
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode agent %s: %w", a.ID, err)
	}
	return d.writeAlong(ctx, func(ctx context.Context, w *writer) error {
		_, err := w.exec(ctx, "INSERT INTO agents (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
			a.ID, string(body))
		return err
	})
}

// Agent implements store.Agents.
func (d *DB) Agent(ctx context.Context, id string) (a asset.Agent, err error) {
	err = d.read(ctx, "read agent", func(s *snapshot) error {
		var body []byte
		err := s.row(ctx, "SELECT body FROM agents WHERE id = ?", []any{id}, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "no agent %q", id)
		}
		if err != nil {
			return err
		}
		return s.decode(body, &a)
	})
	return a, err
}

// Agents implements store.Agents, ordered by id.
func (d *DB) Agents(ctx context.Context) (as []asset.Agent, err error) {
	err = d.read(ctx, "read agents", func(s *snapshot) error {
		return s.query(ctx, "SELECT body FROM agents ORDER BY id", nil, func(r *sql.Rows) (bool, error) {
			var body []byte
			var a asset.Agent
			if err := r.Scan(&body); err != nil {
				return false, err
			}
			err := s.decode(body, &a)
			as = append(as, a)
			return true, err
		})
	})
	return as, err
}

// PutAgentSettings implements store.AgentSettings.
func (d *DB) PutAgentSettings(ctx context.Context, agentID string, v asset.AgentSettings) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode settings of agent %q: %w", agentID, err)
	}
	return d.write(ctx, "store agent settings", func(ctx context.Context, w *writer) error {
		if len(v.SensorsOff) == 0 && len(v.SensitivePaths) == 0 && v.Window == 0 {
			_, err := w.exec(ctx, "DELETE FROM agent_settings WHERE agent = ?", agentID)
			return err
		}
		_, err := w.exec(ctx, "INSERT INTO agent_settings (agent, body) VALUES (?, ?) ON CONFLICT (agent) DO UPDATE SET body = excluded.body",
			agentID, string(body))
		return err
	})
}

// AgentSettings implements store.AgentSettings.
func (d *DB) AgentSettings(ctx context.Context, agentID string) (v asset.AgentSettings, err error) {
	err = d.read(ctx, "read agent settings", func(s *snapshot) error {
		var body []byte
		err := s.row(ctx, "SELECT body FROM agent_settings WHERE agent = ?", []any{agentID}, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.decode(body, &v)
	})
	return v, err
}
