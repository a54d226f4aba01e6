package link

import (
	"context"
	"encoding/json"
	"time"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/internal/untrusted"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// Limits of what is said of rules of detection.
const (
	// MaxDetectionTexts bounds the documents of rules that users keep at once, and
	// MaxDetectionBytes their text together: some ten thousand rules.
	MaxDetectionTexts = 100
	MaxDetectionBytes = 4 << 20
	// MaxSilences bounds the silences that people keep beside documents.
	MaxSilences = 1_000
	// MaxRuleStats bounds the rules of which an agent tells how they fare.
	MaxRuleStats = 5_000
	// maxDetectionValues bounds the values of the JSON of texts and silences.
	maxDetectionValues = 200_000
	// maxRuleError bounds why a rule, or a document of them, is of no use.
	maxRuleError = 1_024
)

// Detections is the agent's view of a server that keeps rules of detection. A server
// may not: then it is Unsupported.
type Detections interface {
	// Detections takes how an agent's rules fare, and returns what users wrote, if that
	// is another than the agent has. It may be called again after an error.
	Detections(ctx context.Context, a DetectionsAsk) (DetectionsBrief, error)
}

// DetectWish is the body of DirectiveDetect: rules of detection or silences are
// others now, and are to be fetched by Detections.
type DetectWish struct {
	Stamp string `json:"stamp"` // of all of them together
}

// DetectionsAsk says what an agent holds events against, and how that fares.
type DetectionsAsk struct {
	AgentID string `json:"-"` // across machines the certificate says it, whatever stands here
	Boot    string `json:"boot"`
	// Stamp is that of the texts that the agent has, whether it could use all of them
	// or not.
	Stamp string `json:"stamp,omitempty"`
	// Unusable are documents that this agent can't use as they are.
	Unusable []UnusableText `json:"unusable,omitempty"`
	// Rules are how rules fare since the agent started: those of which something
	// changed since it told so last, or all.
	Rules []threat.RuleStats `json:"rules,omitempty"`
}

// UnusableText is a document that an agent can't use.
type UnusableText struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Error   string `json:"error"`
	// Former is the version that is used in its place; 0 for none.
	Former int64 `json:"former,omitempty"`
}

// DetectionsBrief is what users wrote about detection.
type DetectionsBrief struct {
	Stamp string `json:"stamp"` // as in DetectWish; empty: nobody wrote anything
	// Changed says that Texts are others than those of the ask's stamp.
	Changed bool           `json:"changed,omitempty"`
	Texts   DetectionTexts `json:"-"`
}

// DetectionTexts are documents of rules, and silences beside them.
type DetectionTexts struct {
	Documents []DetectionText  `json:"documents,omitempty"`
	Silences  []threat.Silence `json:"silences,omitempty"`
}

// DetectionText is one document of rules.
type DetectionText struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Text    string `json:"text"`
}

// Check holds the limits of an ask: Invalid when it is larger or none.
func (a *DetectionsAsk) Check() error {
	if len(a.Stamp) > maxStamp || len(a.Boot) > maxStamp {
		return fault.New(fault.Invalid, "stamp or start of %d and %d bytes; at most %d are taken", len(a.Stamp), len(a.Boot), maxStamp)
	}
	if len(a.Unusable) > MaxDetectionTexts || len(a.Rules) > MaxRuleStats {
		return fault.New(fault.Invalid, "agent tells of %d rules and %d documents; at most %d and %d are taken",
			len(a.Rules), len(a.Unusable), MaxRuleStats, MaxDetectionTexts)
	}
	for i := range a.Unusable {
		u := &a.Unusable[i]
		u.Name, u.Error = untrusted.Clip(u.Name, maxStamp), untrusted.Clip(u.Error, maxRuleError)
	}
	for i := range a.Rules {
		r := &a.Rules[i]
		if !threat.IsRuleID(r.Rule) {
			return fault.New(fault.Invalid, "agent tells of a rule with the id %.80q", r.Rule)
		}
		r.Error = untrusted.Clip(r.Error, maxRuleError)
		r.Looked, r.Hits = min(r.Looked, maxTimes), min(r.Hits, maxTimes)
		r.Silenced, r.Errors = min(r.Silenced, maxTimes), min(r.Errors, maxTimes)
		r.Spent = min(max(r.Spent, 0), maxSpent)
		if y := r.Last.Year(); y < 1970 || y > 2261 {
			r.Last = time.Time{}
		}
	}
	return nil
}

const (
	// maxTimes keeps the sums of all agents within what stores and JSON keep exactly.
	maxTimes = 1 << 40
	maxSpent = 365 * 24 * time.Hour
)

// check holds the limits of texts: Invalid when they are larger or none.
func (t *DetectionTexts) check() error {
	if len(t.Documents) > MaxDetectionTexts || len(t.Silences) > MaxSilences {
		return fault.New(fault.Invalid, "%d documents of rules and %d silences; at most %d and %d are taken",
			len(t.Documents), len(t.Silences), MaxDetectionTexts, MaxSilences)
	}
	size := 0
	for i := range t.Documents {
		d := &t.Documents[i]
		if d.Name == "" || len(d.Name) > maxStamp || d.Version <= 0 {
			return fault.New(fault.Invalid, "document of rules without a name or a version")
		}
		size += len(d.Text)
	}
	if size > MaxDetectionBytes {
		return fault.New(fault.Invalid, "documents of rules have %d bytes; at most %d are taken", size, MaxDetectionBytes)
	}
	return nil
}

// Detections is Detections. A server that is older than that is Unsupported.
func (c *Client) Detections(ctx context.Context, a DetectionsAsk) (DetectionsBrief, error) {
	if err := a.Check(); err != nil {
		return DetectionsBrief{}, err
	}
	b, err := writeJSON("how rules fare", a)
	if err != nil {
		return DetectionsBrief{}, err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := c.now.Load().briefs.Detections(timed, connect.NewRequest(&linkv1.DetectionsRequest{AskJson: b}))
	if connect.CodeOf(err) == connect.CodeUnimplemented { // also of a server that answers 404
		return DetectionsBrief{}, fault.New(fault.Unsupported, "server %s keeps no rules of detection", c.server).
			With("update the server: it is older than this agent")
	}
	if err != nil {
		return DetectionsBrief{}, c.failed(ctx, err)
	}
	return detectionsFromWire(res.Msg)
}

// Detections is linkv1connect.LinkServiceHandler. An agent speaks for itself alone.
func (h *handler) Detections(ctx context.Context, req *connect.Request[linkv1.DetectionsRequest]) (*connect.Response[linkv1.DetectionsResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.DetectionsResponse, error) {
		s, keeps := h.server.(Detections)
		if !keeps {
			return nil, fault.New(fault.Unsupported, "this server keeps no rules of detection")
		}
		var ask DetectionsAsk
		if err := readJSON("how rules fare", req.Msg.GetAskJson(), &ask); err != nil {
			return nil, err
		}
		ask.AgentID = agentID
		if err := ask.Check(); err != nil {
			return nil, err
		}
		brief, err := s.Detections(ctx, ask)
		if err != nil {
			return nil, err
		}
		return detectionsToWire(brief)
	})
}

func detectionsToWire(b DetectionsBrief) (*linkv1.DetectionsResponse, error) {
	w := &linkv1.DetectionsResponse{}
	var err error
	if w.BriefJson, err = writeJSON("brief", b); err != nil || !b.Changed {
		return w, err
	}
	w.Texts, err = PackDetectionTexts(b.Texts)
	return w, err
}

func detectionsFromWire(w *linkv1.DetectionsResponse) (b DetectionsBrief, err error) {
	if err := readJSON("brief", w.GetBriefJson(), &b); err != nil {
		return DetectionsBrief{}, err
	}
	if len(b.Stamp) > maxStamp {
		return DetectionsBrief{}, fault.New(fault.Invalid, "stamp has %d bytes; at most %d are taken", len(b.Stamp), maxStamp)
	}
	if b.Changed {
		b.Texts, err = UnpackDetectionTexts(w.GetTexts())
	}
	return b, err
}

// PackDetectionTexts compresses texts.
func PackDetectionTexts(t DetectionTexts) ([]byte, error) {
	plain, err := writeJSON("rules of detection", t)
	if err != nil {
		return nil, err
	}
	return pack(plain)
}

// UnpackDetectionTexts reads what PackDetectionTexts wrote, which may be anything:
// Invalid when it is none, or too large.
func UnpackDetectionTexts(packed []byte) (t DetectionTexts, err error) {
	const quoted = 2 * MaxDetectionBytes // a line's end is two bytes in JSON
	plain, err := inflate("rules of detection", packed, quoted)
	if err != nil {
		return t, err
	}
	if n := countValues(plain); n > maxDetectionValues {
		return t, fault.New(fault.Invalid, "rules of detection have %d values; at most %d are taken", n, maxDetectionValues)
	}
	if err := json.Unmarshal(plain, &t); err != nil {
		return DetectionTexts{}, fault.New(fault.Invalid, "read rules of detection: %w", err)
	}
	return t, t.check()
}
