package direct

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
)

// Limits of settings: they travel to every agent, and each path is compared
// with every file that is opened.
const (
	maxSensors = 32
	maxPaths   = 200
	maxPath    = 1_024
	// A shorter window than minWindow would not relieve anything, a longer one
	// than maxWindow would hide for too long that something goes on.
	minWindow = time.Second
	maxWindow = time.Hour
)

var (
	sensorForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	idForm     = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)
)

// Settings returns what is kept under an agent's id, or with "" for all that
// have none of their own, and what holds for that agent. It needs
// access.ReadAgents, or the right to change them.
func (h *Hub) Settings(ctx context.Context, who access.Identity, agentID string) (own, effective asset.AgentSettings, err error) {
	if !who.May(access.ManageAgents) {
		if err := who.Need(access.ReadAgents); err != nil {
			return own, effective, err
		}
	}
	if own, err = h.st.AgentSettings(ctx, agentID); err != nil {
		return own, effective, fmt.Errorf("read the settings of agent %q: %w", agentID, err)
	}
	effective, err = h.effective(ctx, agentID)
	return own, effective, err
}

// PutSettings replaces what is kept under an agent's id, or with "" for all
// that have none of their own, and tells the agents at once. The zero value
// removes it. Invalid settings change nothing. It needs access.ManageAgents.
func (h *Hub) PutSettings(ctx context.Context, who access.Identity, agentID string, s asset.AgentSettings) error {
	if err := who.Need(access.ManageAgents); err != nil {
		return err
	}
	if agentID != "" && !idForm.MatchString(agentID) {
		return fault.New(fault.Invalid, "agent id: want 8 to 64 letters, digits, _ and -")
	}
	if err := check(s); err != nil {
		return err
	}
	h.changes.Lock()
	defer h.changes.Unlock()
	if err := h.st.PutAgentSettings(ctx, agentID, s); err != nil {
		return fmt.Errorf("keep the settings of agent %q: %w", agentID, err)
	}
	h.wake(agentID)
	target := "agent:" + agentID
	if agentID == "" {
		target = "agents"
	}
	detail := fmt.Sprintf("sensors off %v, %d sensitive paths, window %s", s.SensorsOff, len(s.SensitivePaths), s.Window)
	return h.audit(ctx, who, "agent.settings", target, detail)
}

// AskSnapshot asks an agent for everything anew. NotFound when it is not
// connected. It needs access.ManageAgents.
func (h *Hub) AskSnapshot(ctx context.Context, who access.Identity, agentID string) error {
	if err := who.Need(access.ManageAgents); err != nil {
		return err
	}
	h.mu.Lock()
	s := h.streams[agentID]
	h.mu.Unlock()
	if s == nil {
		return fault.New(fault.NotFound, "agent %s is not connected", agentID).With("it reports everything when it connects")
	}
	s.askSnapshot(h.clock())
	return h.audit(ctx, who, "agent.snapshot", "agent:"+agentID, "")
}

func (h *Hub) audit(ctx context.Context, who access.Identity, action, target, detail string) error {
	return audit.Log{Store: h.st, Clock: h.clock}.Done(ctx, who, action, target, detail)
}

func check(s asset.AgentSettings) error {
	switch {
	case len(s.SensorsOff) > maxSensors || slices.ContainsFunc(s.SensorsOff, func(n string) bool { return !sensorForm.MatchString(n) }):
		return fault.New(fault.Invalid, "sensors_off: want up to %d names of sensors", maxSensors).With("castellan agents NAME shows them")
	case len(s.SensitivePaths) > maxPaths:
		return fault.New(fault.Invalid, "sensitive_paths: want %d at most", maxPaths)
	case s.Window != 0 && (s.Window < minWindow || s.Window > maxWindow):
		return fault.New(fault.Invalid, "window: want %s to %s, or 0 for the agent's own", minWindow, maxWindow)
	}
	for _, p := range s.SensitivePaths {
		if !isPath(p) {
			return fault.New(fault.Invalid, "sensitive_paths: %q is no absolute, clean path of %d bytes at most", p, maxPath).
				With("write paths as containers see them, as in /etc/app/*.key; * stands for any part of one name")
		}
	}
	return nil
}

func isPath(p string) bool {
	return len(p) <= maxPath && strings.HasPrefix(p, "/") && p != "/" && path.Clean(p) == p && utf8.ValidString(p) &&
		!strings.ContainsFunc(p, unicode.IsControl)
}
