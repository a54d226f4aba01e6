package direct

import "github.com/castellan-security/castellan/internal/link"

// TellBehaviour tells an agent that what the groups of its host are held to may be
// another: at once if it listens, else when it connects. Nothing is told with an
// empty stamp from then on.
func (h *Hub) TellBehaviour(agentID, stamp string) {
	h.mu.Lock()
	if stamp == "" {
		delete(h.behaviour, agentID)
	} else {
		h.behaviour[agentID] = stamp
	}
	h.mu.Unlock()
	h.wake(agentID)
}

// behave returns that what groups are held to may be another, as a directive, unless
// that was told last.
func (h *Hub) behave(agentID, told string) (link.Directive, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stamp := h.behaviour[agentID]
	if stamp == "" || stamp == told {
		return link.Directive{}, false
	}
	return link.Directive{ID: "behaviour-" + stamp, Kind: link.DirectiveBehaviour, Issued: h.clock(), Behaviour: &link.BehaviourWish{Stamp: stamp}}, true
}
