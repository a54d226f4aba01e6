package direct

import "github.com/castellan-security/castellan/internal/link"

// TellAdmission tells all agents that listen, and those that begin to, by what they
// are to decide on deployments from now on.
func (h *Hub) TellAdmission(w link.AdmissionWish) {
	h.mu.Lock()
	h.admission = &w
	h.mu.Unlock()
	h.wake("")
}

// admit returns by what deployments are decided, as a directive, unless that is
// what was told last.
func (h *Hub) admit(told string) (link.Directive, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.admission == nil || h.admission.Stamp == told {
		return link.Directive{}, false
	}
	w := *h.admission
	return link.Directive{ID: "admission-" + w.Stamp, Kind: link.DirectiveAdmission, Issued: h.clock(), Admission: &w}, true
}
