package link_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// deciding is a link.Server that keeps an admission policy.
type deciding struct {
	serverFunc
	brief    func(link.AdmissionAsk) (link.AdmissionBrief, error)
	admitted func(link.AdmissionReport) error
}

func (d deciding) Brief(_ context.Context, a link.AdmissionAsk) (link.AdmissionBrief, error) {
	return d.brief(a)
}

func (d deciding) Admitted(_ context.Context, r link.AdmissionReport) error { return d.admitted(r) }

func admissionServer(t *testing.T, d deciding) *link.Client {
	t.Helper()
	path, h := link.Handler(d, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return client(t, mux)
}

func reportOfHost(host, id string) link.AdmissionReport {
	return link.AdmissionReport{AgentID: host, Verdicts: []link.ReportedVerdict{{
		Request: admission.Request{ID: id, Door: admission.Docker, Action: admission.Run, Place: admission.Place{Host: host},
			Task: admission.Task{Containers: []admission.Container{{Name: "app"}}}},
		Verdict: admission.Verdict{Request: id, Outcome: admission.Deny, At: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), Reasons: []admission.Reason{}},
	}}}
}

func TestBriefsArriveAsTheyWereSent(t *testing.T) {
	large := bytes.Repeat([]byte{'x'}, link.MaxBriefFacts)
	sent := link.AdmissionBrief{
		AdmissionWish: link.AdmissionWish{Version: 3, Digest: "sha256:1", Stamp: "s"}, Changed: true, Policy: bytes.Repeat([]byte{'p'}, link.MaxBriefPolicy),
		Exceptions: []admission.Exception{{ID: "1", Rules: []string{"r"}, Owner: "o", Reason: "b", Expires: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), Family: "f"}},
		Facts:      []link.BriefFacts{{Hash: "a", Packed: large}, {Hash: "b", Same: true}},
	}
	asked := link.AdmissionAsk{AgentID: "SOMEBODYELSE", Stamp: "old", Images: []link.AskedImage{
		{Registry: "reg.example", Repository: "shop", Digest: "sha256:2", ID: "sha256:3", Have: "h"}, {Digest: "sha256:4"},
	}}
	var got link.AdmissionAsk
	c := admissionServer(t, deciding{brief: func(a link.AdmissionAsk) (link.AdmissionBrief, error) { got = a; return sent, nil }})
	b, err := c.Brief(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	asked.AgentID = full().Agent.ID // the certificate says it
	if diff := cmp.Diff(asked, got); diff != "" {
		t.Errorf("ask (-want +got):\n%s", diff)
	}
	if !bytes.Equal(b.Policy, sent.Policy) || len(b.Facts) != 2 || !bytes.Equal(b.Facts[0].Packed, large) {
		t.Errorf("got a policy of %d bytes, and the facts of %d images", len(b.Policy), len(b.Facts))
	}
	b.Policy, sent.Policy, b.Facts[0].Packed, sent.Facts[0].Packed = nil, nil, nil, nil // cmp takes its time for each byte
	if diff := cmp.Diff(sent, b, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("brief (-want +got):\n%s", diff)
	}
}

func TestDecisionsAreThoseOfTheAgentsOwnHost(t *testing.T) {
	own := full().Agent.ID
	var got link.AdmissionReport
	c := admissionServer(t, deciding{admitted: func(r link.AdmissionReport) error { got = r; return nil }})
	if err := c.Admitted(t.Context(), reportOfHost(own, "r1")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reportOfHost(own, "r1"), got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	got = link.AdmissionReport{}
	many := reportOfHost(own, "r1")
	for range link.MaxReported {
		many.Verdicts = append(many.Verdicts, many.Verdicts[0])
	}
	another := reportOfHost(own, "r1")
	another.Verdicts[0].Verdict.Request = "r2"
	objects := reportOfHost(own, "r1")
	objects.Verdicts[0].Request.Task.Containers = make([]admission.Container, 30_000)
	for name, r := range map[string]link.AdmissionReport{
		"of another host":      reportOfHost("SOMEBODYELSE", "r1"),
		"on no request":        reportOfHost(own, ""),
		"on another request":   another,
		"too many":             many,
		"with too many values": objects,
	} {
		if err := c.Admitted(t.Context(), r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if len(got.Verdicts) != 0 {
		t.Errorf("it was carried: %+v", got)
	}
	tooMany := link.AdmissionAsk{Images: make([]link.AskedImage, link.MaxAskedImages+1)}
	if _, err := c.Brief(t.Context(), tooMany); !fault.Is(err, fault.Invalid) {
		t.Errorf("too many images: got %v, want invalid", err)
	}
}

func TestAServerWithoutAdmissionSaysSo(t *testing.T) {
	c, _ := serve(t, func(context.Context, link.Report) (link.Receipt, error) { return link.Receipt{}, nil })
	if _, err := c.Brief(t.Context(), link.AdmissionAsk{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("brief: got %v, want unsupported", err)
	}
	if err := c.Admitted(t.Context(), link.AdmissionReport{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("admitted: got %v, want unsupported", err)
	}
	older := client(t, http.NewServeMux()) // answers 404
	if _, err := older.Brief(t.Context(), link.AdmissionAsk{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("of an older server: got %v, want unsupported", err)
	}
}

func TestFactsThatAreNoneAreRefused(t *testing.T) {
	pack := func(plain string) []byte {
		b, err := link.PackFacts([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f, plain, err := link.UnpackFacts(pack(`{"digest":"sha256:1","scan":{"state":"known"}}`))
	if err != nil || f.Digest != "sha256:1" || f.Scan.State != admission.Known || len(plain) == 0 {
		t.Errorf("facts: got %+v, %v", f, err)
	}
	for name, packed := range map[string][]byte{
		"nothing":         nil,
		"not compressed":  []byte(`{"digest":"x"}`),
		"no JSON":         pack("nonsense"),
		"a bomb":          pack(strings.Repeat(" ", link.MaxFactsUnpacked+1)),
		"too many values": pack(`{"owners":[` + strings.Repeat(`"",`, 600_000) + `""]}`),
	} {
		if _, _, err := link.UnpackFacts(packed); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func FuzzUnpackFacts(f *testing.F) {
	plain, err := json.Marshal(admission.Facts{Digest: "sha256:1", Labels: map[string]string{"a": "b"}})
	if err != nil {
		f.Fatal(err)
	}
	packed, err := link.PackFacts(plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, plain, err := link.UnpackFacts(b)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("got an error of another kind: %v", err)
			}
			return
		}
		if len(plain) > link.MaxFactsUnpacked {
			t.Errorf("unpacked to %d bytes", len(plain))
		}
		if _, err := json.Marshal(facts); err != nil {
			t.Errorf("what was read can't be written: %v", err)
		}
	})
}
