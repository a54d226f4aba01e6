package link_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/threat"
)

func someThreat(number uint64) link.NumberedThreat {
	at := time.Date(2026, 11, 23, 10, 0, 0, 5, time.UTC)
	return link.NumberedThreat{Number: number, Threat: threat.Threat{
		Version: threat.Version, Print: strings.Repeat("0f", 16), Rule: "escape-core-pattern", Severity: finding.Critical, Tactic: threat.Impact,
		Summary: "sh wrote, {and} [more]", First: at, Last: at, Count: 3, WorkloadID: strings.Repeat("ab", 32), Args: []string{"sh", "-c", "\"\\"},
		Process: event.Process{Key: event.Key{PID: 3, Start: 4}, Name: "sh"}, Root: event.Key{PID: 3, Start: 4},
		Evidence: []threat.Evidence{{Boot: "b", Seq: 9, Time: at, Kind: event.KindExec, Words: "ran sh"}},
	}}
}

func TestThreatsArriveAsTheyWereSent(t *testing.T) {
	var got link.Report
	c, _ := serve(t, func(_ context.Context, r link.Report) (link.Receipt, error) {
		got = r
		return link.Receipt{ThreatsTaken: 8}, nil
	})
	sent := full()
	sent.Threats, sent.ThreatSeries = []link.NumberedThreat{someThreat(7), someThreat(8)}, "SERIES"
	receipt, err := c.Report(t.Context(), sent)
	if err != nil || receipt.ThreatsTaken != 8 {
		t.Errorf("the receipt says %d, %v, want 8", receipt.ThreatsTaken, err)
	}
	if diff := cmp.Diff(sent.Threats, got.Threats); diff != "" || got.ThreatSeries != "SERIES" {
		t.Errorf("series %q, threats (-want +got):\n%s", got.ThreatSeries, diff)
	}
	sent.Threats = make([]link.NumberedThreat, link.MaxThreats+1)
	if _, err := c.Report(t.Context(), sent); !fault.Is(err, fault.Invalid) {
		t.Errorf("too many threats: got %v, want invalid", err)
	}
	sent.Threats = []link.NumberedThreat{someThreat(1)}
	sent.Threats[0].Args = strings.Split(strings.Repeat("x", 250_000), "x")
	if _, err := c.Report(t.Context(), sent); !fault.Is(err, fault.Invalid) {
		t.Errorf("a threat with too many values: got %v, want invalid", err)
	}
}

// detecting is a link.Server that keeps rules of detection.
type detecting struct {
	serverFunc
	detections func(link.DetectionsAsk) (link.DetectionsBrief, error)
}

func (d detecting) Detections(_ context.Context, a link.DetectionsAsk) (link.DetectionsBrief, error) {
	return d.detections(a)
}

func TestRulesOfDetectionArriveAsTheyWereSent(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	sent := link.DetectionsBrief{Stamp: "s", Changed: true, Texts: link.DetectionTexts{
		Documents: []link.DetectionText{{Name: "shop.yaml", Version: 3, Text: strings.Repeat("# [{,\"\n", 50_000)}},
		Silences:  []threat.Silence{{Rule: "x-*", Groups: []string{"a/*"}, Reason: "r", By: "jo", Until: at}},
	}}
	asked := link.DetectionsAsk{AgentID: "SOMEBODYELSE", Boot: "B", Stamp: "old", Unusable: []link.UnusableText{{Name: "n", Version: 2, Error: "e", Former: 1}},
		Rules: []threat.RuleStats{{Rule: "escape-core-pattern", Looked: 5, Hits: 4, Silenced: 3, Errors: 2, Spent: time.Second, Error: "x", Last: at}}}
	var got link.DetectionsAsk
	path, h := link.Handler(detecting{detections: func(a link.DetectionsAsk) (link.DetectionsBrief, error) { got = a; return sent, nil }}, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	c := client(t, mux)
	b, err := c.Detections(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	asked.AgentID = full().Agent.ID // the certificate says it
	if diff := cmp.Diff(asked, got); diff != "" {
		t.Errorf("ask (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sent, b); diff != "" {
		t.Errorf("brief (-want +got):\n%s", diff)
	}
	for name, a := range map[string]link.DetectionsAsk{
		"too many rules": {Rules: make([]threat.RuleStats, link.MaxRuleStats+1)},
		"no rule":        {Rules: []threat.RuleStats{{Rule: "<b>"}}},
		"long stamp":     {Stamp: strings.Repeat("x", 1000)},
	} {
		if _, err := c.Detections(t.Context(), a); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	sent.Texts.Documents[0].Text = strings.Repeat("x", link.MaxDetectionBytes+1)
	if _, err := c.Detections(t.Context(), link.DetectionsAsk{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("too large documents: got %v, want invalid", err)
	}
}

func TestAServerWithoutRulesOfDetectionIsUnsupported(t *testing.T) {
	c, _ := serve(t, nil)
	if _, err := c.Detections(t.Context(), link.DetectionsAsk{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v, want unsupported", err)
	}
	old := client(t, http.NotFoundHandler())
	if _, err := old.Detections(t.Context(), link.DetectionsAsk{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("of a server that has no such call: got %v, want unsupported", err)
	}
}

func TestCountsOfRulesAreBounded(t *testing.T) {
	a := link.DetectionsAsk{Rules: []threat.RuleStats{{Rule: "r", Hits: 1 << 63, Spent: -1, Error: strings.Repeat("x", 10_000), Last: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}}}
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	if r := a.Rules[0]; r.Hits > 1<<40 || r.Spent != 0 || len(r.Error) > 1024 || !r.Last.IsZero() {
		t.Errorf("got %s", fmt.Sprintf("%+v", r)[:100])
	}
}
