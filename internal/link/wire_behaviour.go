package link

import (
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

func heldToWire(a BehaviourAsk) (*linkv1.BehaviourRequest, error) {
	b, err := writeJSON("what is held", a)
	if err == nil && len(b) > maxBehaviourMessage {
		return nil, fault.New(fault.Invalid, "what is held has %d bytes; at most %d are taken", len(b), maxBehaviourMessage)
	}
	return &linkv1.BehaviourRequest{AskJson: b}, err
}

// heldFromWire leaves out who asks: the certificate says it.
func heldFromWire(w *linkv1.BehaviourRequest) (a BehaviourAsk, err error) {
	err = readJSON("what is held", w.GetAskJson(), &a)
	return a, err
}

func rulesToWire(b BehaviourBrief) (*linkv1.BehaviourResponse, error) {
	w := &linkv1.BehaviourResponse{}
	for i := range b.Rules {
		about, err := writeJSON("rules", b.Rules[i])
		if err != nil {
			return nil, err
		}
		w.Rules = append(w.Rules, &linkv1.BriefRules{AboutJson: about, Packed: b.Rules[i].Packed})
	}
	var err error
	w.BriefJson, err = writeJSON("brief", b)
	return w, err
}

func rulesFromWire(w *linkv1.BehaviourResponse) (b BehaviourBrief, err error) {
	if err := readJSON("brief", w.GetBriefJson(), &b); err != nil {
		return BehaviourBrief{}, err
	}
	if n := len(w.GetRules()); n > MaxHeldGroups {
		return BehaviourBrief{}, fault.New(fault.Invalid, "brief has the rules of %d groups; at most %d are taken", n, MaxHeldGroups)
	}
	for _, r := range w.GetRules() {
		var one BriefRules
		if err := readJSON("rules", r.GetAboutJson(), &one); err != nil {
			return BehaviourBrief{}, err
		}
		one.Packed = r.GetPacked()
		b.Rules = append(b.Rules, one)
	}
	return b, b.Check()
}
