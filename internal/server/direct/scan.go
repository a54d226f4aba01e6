package direct

import (
	"maps"
	"slices"

	"github.com/castellan-security/castellan/internal/link"
)

// Listening returns the ids of the agents that listen now.
func (h *Hub) Listening() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.streams))
}

// Joined returns a channel that gets a value after an agent began to listen. At
// most one value waits; there is one channel for all who ask.
func (h *Hub) Joined() <-chan struct{} { return h.joined }

// AskScan makes w what an agent is to scan. It is told at once if it listens, and
// again whenever it connects anew, until another wish, EndScan or w.Until.
func (h *Hub) AskScan(agentID string, w link.ScanWish) {
	h.mu.Lock()
	h.scans[agentID] = w
	h.mu.Unlock()
	h.wake(agentID)
}

// EndScan takes back the wish with that job, if it is the agent's still. What was
// told is not untold: the agent's answer is then refused.
func (h *Hub) EndScan(agentID, job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.scans[agentID].Job == job {
		delete(h.scans, agentID)
	}
}

// scan returns what an agent is to scan, as a directive, unless that is the job
// that it was told of last.
func (h *Hub) scan(agentID, told string) (link.Directive, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w, wanted := h.scans[agentID]
	now := h.clock()
	if !wanted || w.Job == told || now.After(w.Until) {
		return link.Directive{}, false
	}
	return link.Directive{ID: "scan-" + w.Job, Kind: link.DirectiveScan, Issued: now, Scan: &w}, true
}
