package link_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
)

// verifying is a link.Server that takes verdicts.
type verifying struct {
	serverFunc
	take func(link.Verified) error
}

func (v verifying) Report(context.Context, link.Report) (link.Receipt, error) {
	return link.Receipt{}, nil
}

func (v verifying) Verdict(_ context.Context, a link.Verified) error { return v.take(a) }

func verdictServer(t *testing.T, take func(link.Verified) error) *link.Client {
	t.Helper()
	path, h := link.Handler(verifying{take: take}, nil, gate{}, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return client(t, mux)
}

func TestVerdictsArriveAsTheyWereSent(t *testing.T) {
	of := link.Verified{Job: "j", Repository: "reg.example/a", Digest: "sha256:1", PolicyDigest: "sha256:2"}
	allowed, largest, failed := of, of, of
	allowed.Verdict = []byte(`{"allowed":true}`)
	largest.Verdict = bytes.Repeat([]byte{'x'}, link.MaxVerdict)
	failed.Error, failed.Remedy = "no answer", "wait"
	longest := strings.Repeat("x", link.MaxScanText)
	texts := link.Verified{Job: longest, Repository: longest, Digest: longest, PolicyDigest: longest, Error: longest, Remedy: longest}
	for name, sent := range map[string]link.Verified{"a verdict": allowed, "the largest": largest, "an error": failed, "the longest texts": texts} {
		t.Run(name, func(t *testing.T) {
			var got link.Verified
			c := verdictServer(t, func(v link.Verified) error { got = v; return nil })
			said := sent
			said.AgentID = "SOMEBODYELSE"
			if err := c.Verdict(t.Context(), said); err != nil {
				t.Fatal(err)
			}
			sent.AgentID = full().Agent.ID // the certificate says it
			if diff := cmp.Diff(sent, got, cmp.Comparer(bytes.Equal)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerdictsThatAreNoneAreRefused(t *testing.T) {
	c := verdictServer(t, func(link.Verified) error { t.Error("it was carried"); return nil })
	of := link.Verified{Job: "j", Repository: "r", Digest: "d", PolicyDigest: "p", Error: "x"}
	for name, change := range map[string]func(*link.Verified){
		"neither":       func(v *link.Verified) { v.Error = "" },
		"both":          func(v *link.Verified) { v.Verdict = []byte("{}") },
		"no job":        func(v *link.Verified) { v.Job = "" },
		"no repository": func(v *link.Verified) { v.Repository = "" },
		"no digest":     func(v *link.Verified) { v.Digest = "" },
		"no policy":     func(v *link.Verified) { v.PolicyDigest = "" },
		"too large":     func(v *link.Verified) { v.Error, v.Verdict = "", make([]byte, link.MaxVerdict+1) },
		"a long error":  func(v *link.Verified) { v.Error = strings.Repeat("x", link.MaxScanText+1) },
		"a long remedy": func(v *link.Verified) { v.Remedy = strings.Repeat("x", link.MaxScanText+1) },
		"a long job":    func(v *link.Verified) { v.Job = strings.Repeat("x", link.MaxScanText+1) },
		"a long name":   func(v *link.Verified) { v.Repository = strings.Repeat("x", link.MaxScanText+1) },
		"a long digest": func(v *link.Verified) { v.Digest = strings.Repeat("x", link.MaxScanText+1) },
		"a long policy": func(v *link.Verified) { v.PolicyDigest = strings.Repeat("x", link.MaxScanText+1) },
	} {
		v := of
		change(&v)
		if err := c.Verdict(t.Context(), v); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}
