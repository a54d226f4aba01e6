package direct

import "github.com/castellan-security/castellan/internal/link"

// AskVerify makes w what an agent is to verify. It is told at once if it listens,
// and again whenever it connects anew, until another wish, EndVerify or w.Until.
func (h *Hub) AskVerify(agentID string, w link.VerifyWish) {
	h.mu.Lock()
	h.verifies[agentID] = w
	h.mu.Unlock()
	h.wake(agentID)
}

// EndVerify takes back the wish with that job, if it is the agent's still. What
// was told is not untold: the agent's answer is then refused.
func (h *Hub) EndVerify(agentID, job string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verifies[agentID].Job == job {
		delete(h.verifies, agentID)
	}
}

// verify returns what an agent is to verify, as a directive, unless that is the
// job that it was told of last.
func (h *Hub) verify(agentID, told string) (link.Directive, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w, wanted := h.verifies[agentID]
	now := h.clock()
	if !wanted || w.Job == told || now.After(w.Until) {
		return link.Directive{}, false
	}
	return link.Directive{ID: "verify-" + w.Job, Kind: link.DirectiveVerify, Issued: now, Verify: &w}, true
}
