package response_test

import (
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
)

func TestCheck(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	good := response.Deed{ID: "d", Kind: response.Kill, Workload: strings.Repeat("a", 64), Asked: now, Until: now.Add(time.Minute)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*response.Deed){
		"nothing":                func(d *response.Deed) { *d = response.Deed{} },
		"no id":                  func(d *response.Deed) { d.ID = "" },
		"a path as workload":     func(d *response.Deed) { d.Workload = "../../etc" },
		"init":                   func(d *response.Deed) { d.Process = event.Key{PID: 1, Start: 1} },
		"stop of a process":      func(d *response.Deed) { d.Kind, d.Process = response.Stop, event.Key{PID: 7} },
		"a kill that freezes":    func(d *response.Deed) { d.Freeze = true },
		"a kill with packets":    func(d *response.Deed) { d.Packets = time.Second },
		"packets for an hour":    func(d *response.Deed) { d.Kind, d.Packets = response.Snapshot, time.Hour },
		"a reason of many lines": func(d *response.Deed) { d.Reason = "a\nb" },
		"a long reason":          func(d *response.Deed) { d.Reason = strings.Repeat("a", response.MaxReason+1) },
		"for ever":               func(d *response.Deed) { d.Until = now.Add(time.Hour) },
		"over before it began":   func(d *response.Deed) { d.Until = now.Add(-1) },
	} {
		d := good
		change(&d)
		if err := d.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	a := response.Answer{State: "great", Undo: "explode", Error: strings.Repeat("ä", response.MaxLine), Did: make([]string, response.MaxLines+1)}
	a.Bound()
	if a.State != response.Failed || a.Undo != "" || len(a.Error) > response.MaxLine || len(a.Did) != response.MaxLines {
		t.Errorf("got %s, %q, %d bytes, %d lines", a.State, a.Undo, len(a.Error), len(a.Did))
	}
}
