package direct

import "github.com/castellan-security/castellan/internal/link"

// TellDetect tells all agents that listen, and those that begin to, that rules of
// detection or silences are others now.
func (h *Hub) TellDetect(stamp string) {
	h.mu.Lock()
	h.detect = stamp
	h.mu.Unlock()
	h.wake("")
}

// detects returns that rules are others, as a directive, unless that was told last.
func (h *Hub) detects(told string) (link.Directive, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.detect == told {
		return link.Directive{}, false
	}
	return link.Directive{ID: "detect-" + h.detect, Kind: link.DirectiveDetect, Issued: h.clock(), Detect: &link.DetectWish{Stamp: h.detect}}, true
}
