package direct

import (
	"slices"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
)

// AskRespond tells an agent to do a deed: at once if it listens, and again whenever
// it connects anew, until EndRespond or Deed.Until.
func (h *Hub) AskRespond(agentID string, d response.Deed) {
	h.mu.Lock()
	h.deeds[agentID] = append(h.deeds[agentID], d)
	h.mu.Unlock()
	h.wake(agentID)
}

// EndRespond takes a deed back, if it is still wanted. What was told is not untold.
func (h *Hub) EndRespond(agentID, deed string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deeds[agentID] = slices.DeleteFunc(h.deeds[agentID], func(d response.Deed) bool { return d.ID == deed })
	if len(h.deeds[agentID]) == 0 {
		delete(h.deeds, agentID)
	}
}

// respond returns what an agent is to do, as directives, without what is in told, to
// which it adds them.
func (h *Hub) respond(agentID string, told map[string]bool) (out []link.Directive) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	wanted := map[string]bool{}
	for _, d := range h.deeds[agentID] {
		wanted[d.ID] = true
		if told[d.ID] || now.After(d.Until) {
			continue
		}
		out = append(out, link.Directive{ID: "respond-" + d.ID, Kind: link.DirectiveRespond, Issued: now, Respond: &d})
	}
	clear(told)
	for id := range wanted {
		told[id] = true
	}
	return out
}
