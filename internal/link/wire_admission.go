package link

import (
	"bytes"
	"encoding/json"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

const (
	// maxObjects and maxValues bound what JSON about admission can become in memory:
	// two characters of it can become a container of half a kilobyte.
	maxObjects = 20_000
	maxValues  = 200_000
)

// readJSON decodes what the other side wrote, which may be anything.
func readJSON(what string, b []byte, into any) error {
	objects := bytes.Count(b, []byte{'{'})
	values := objects + bytes.Count(b, []byte{','}) + bytes.Count(b, []byte{'['})
	if objects > maxObjects || values > maxValues {
		return fault.New(fault.Invalid, "%s has %d objects and %d values; at most %d and %d are taken", what, objects, values, maxObjects, maxValues)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fault.New(fault.Invalid, "read %s: %w", what, err)
	}
	return nil
}

func writeJSON(what string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fault.New(fault.Invalid, "write %s: %w", what, err)
	}
	return b, nil
}

func askToWire(a AdmissionAsk) (*linkv1.BriefRequest, error) {
	b, err := writeJSON("ask", a)
	return &linkv1.BriefRequest{AskJson: b}, err
}

// askFromWire leaves out who asks: the certificate says it.
func askFromWire(w *linkv1.BriefRequest) (a AdmissionAsk, err error) {
	err = readJSON("ask", w.GetAskJson(), &a)
	return a, err
}

func briefToWire(b AdmissionBrief) (*linkv1.BriefResponse, error) {
	w := &linkv1.BriefResponse{}
	for _, f := range b.Facts {
		w.Facts = append(w.Facts, &linkv1.BriefFacts{Hash: text(f.Hash), Same: f.Same, Packed: f.Packed})
	}
	b.Facts = nil
	var err error
	w.BriefJson, err = writeJSON("brief", b)
	return w, err
}

func briefFromWire(w *linkv1.BriefResponse) (b AdmissionBrief, err error) {
	if err := readJSON("brief", w.GetBriefJson(), &b); err != nil {
		return AdmissionBrief{}, err
	}
	b.Facts = nil
	for _, f := range w.GetFacts() {
		b.Facts = append(b.Facts, BriefFacts{Hash: f.GetHash(), Same: f.GetSame(), Packed: f.GetPacked()})
	}
	return b, b.Check()
}

// Check holds the limits of a brief: Invalid when it is larger.
func (b *AdmissionBrief) Check() error {
	if len(b.Policy) > MaxBriefPolicy || len(b.Exceptions) > MaxBriefExceptions || len(b.Facts) > MaxAskedImages {
		return fault.New(fault.Invalid, "brief has a policy of %d bytes, %d exceptions and the facts of %d images; at most %d, %d and %d are taken",
			len(b.Policy), len(b.Exceptions), len(b.Facts), MaxBriefPolicy, MaxBriefExceptions, MaxAskedImages)
	}
	return nil
}

func reportedToWire(r AdmissionReport) (*linkv1.AdmittedRequest, error) {
	b, err := writeJSON("verdicts", r)
	if err == nil && len(b) > MaxReport {
		return nil, fault.New(fault.Invalid, "verdicts have %d bytes; at most %d are taken", len(b), MaxReport)
	}
	return &linkv1.AdmittedRequest{ReportJson: b}, err
}

// reportedFromWire leaves out who reports: the certificate says it.
func reportedFromWire(w *linkv1.AdmittedRequest) (r AdmissionReport, err error) {
	if n := len(w.GetReportJson()); n > MaxReport {
		return r, fault.New(fault.Invalid, "verdicts have %d bytes; at most %d are taken", n, MaxReport)
	}
	err = readJSON("verdicts", w.GetReportJson(), &r)
	return r, err
}
