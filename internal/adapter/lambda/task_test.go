package lambda_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/lambda"
	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/fault"
)

const taskARN = "arn:aws:ecs:us-west-2:111122223333:task/FargateCluster/c13b4cb40f1f4fe4a2971f76ae5a47ad"

func TestTaskChange(t *testing.T) {
	answer := func(action, more string) string {
		return `{"task":"` + taskARN + `","action":"` + action + `"` + more + `}`
	}
	deny := func(w *world, _ *lambda.Handler) { w.verdict, w.group = denied(), "service:web" }
	for _, tt := range []answers{
		{"allowed", "task/running", nil, answer("allowed", "")},
		{"stopped", "task/running", deny, answer("stopped", `,"reason":"Castellan: privileged: it runs privileged"`)},
		{"stopped early", "task/provisioning", deny, answer("stopped", `,"reason":"Castellan: privileged: it runs privileged"`)},
		{"ending", "task/stopping", deny, answer("ignored", "")},
		{"gone", "task/running", func(w *world, _ *lambda.Handler) { w.err = fault.New(fault.NotFound, "there is none") }, answer("gone", "")},
		{"nobody said to stop", "task/running", func(w *world, h *lambda.Handler) { w.verdict, h.Stopper = denied(), nil }, answer("refused", "")},
		{"spared service", "task/running", func(w *world, h *lambda.Handler) {
			w.verdict, w.group, h.Spared = denied(), "service:web", []string{"FargateCluster/w*"}
		}, answer("spared", "")},
		{"another is spared", "task/running", func(w *world, h *lambda.Handler) {
			w.verdict, w.group, h.Spared = denied(), "service:web", []string{"FargateCluster/db", "other/*"}
		}, answer("stopped", `,"reason":"Castellan: privileged: it runs privileged"`)},
		{"nobody could decide", "task/running", func(w *world, _ *lambda.Handler) { w.wrong = errors.New("no policy") },
			answer("stopped", `,"reason":"Castellan: could not decide: decide on web:7: no policy"`)},
		{"nobody could decide, and it goes on", "task/running", func(w *world, h *lambda.Handler) { w.wrong, h.OnError = errors.New("no policy"), lambda.AllowOnError },
			answer("allowed", "")},
		{"the policy declares", "task/running", func(w *world, h *lambda.Handler) {
			w.verdict = admission.Verdict{Outcome: admission.Deny, Declared: true}
			h.OnError = lambda.AllowOnError
		}, answer("allowed", `,"reason":"nobody could decide"`)},
		{"facts did not come in time", "task/running", func(w *world, _ *lambda.Handler) { w.verdict = waiting() },
			answer("stopped", `,"reason":"Castellan: could not decide: what is to be known of it was not found out in time"`)},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestTasksAreJudgedAgainWhileTheirEventIsYoung(t *testing.T) {
	w := &world{body: body, verdict: waiting()}
	h, log := handler(w)
	b := bytes.Replace(payload(t, "task/running"), []byte("2020-01-23T17:57:58Z"), []byte(time.Now().UTC().Format(time.RFC3339)), 1)
	if _, err := h.Handle(t.Context(), invocation(b)); !fault.Is(err, fault.Unavailable) || len(w.stopped) > 0 {
		t.Errorf("got %v, stopped %q\n%s", err, w.stopped, log)
	}
}

// TestServicesThatStartAnew: a service starts a task for each that is stopped. They
// are stopped at a bounded pace, and none twice.
func TestServicesThatStartAnew(t *testing.T) {
	w := &world{body: body, verdict: denied(), group: "service:web"}
	h, _ := handler(w)
	later := 0
	for i := range 8 {
		b := bytes.ReplaceAll(payload(t, "task/running"), []byte("c13b4cb40f1f4fe4a2971f76ae5a47ad"), fmt.Appendf(nil, "%032x", i))
		for range 2 { // EventBridge may tell twice
			if _, err := h.Handle(t.Context(), invocation(b)); fault.Is(err, fault.Exhausted) {
				later++
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(w.stopped) != 5 || later != 6 {
		t.Errorf("%d stopped and %d put off, want 5 and 6", len(w.stopped), later)
	}
	// Another service has its own pace.
	w.group = "service:db"
	b := bytes.ReplaceAll(payload(t, "task/running"), []byte("c13b4cb40f1f4fe4a2971f76ae5a47ad"), []byte("ffffffffffffffffffffffffffffffff"))
	if _, err := h.Handle(t.Context(), invocation(b)); err != nil || len(w.stopped) != 6 {
		t.Errorf("%d stopped, %v", len(w.stopped), err)
	}
}

func TestStopReasonsAreShort(t *testing.T) {
	v := denied()
	for range 50 {
		v.Reasons = append(v.Reasons, admission.Reason{Effect: admission.Denies, Rule: "ünsigned", Message: strings.Repeat("é", 40)})
	}
	w := &world{body: body, verdict: v}
	h, _ := handler(w)
	if _, err := h.Handle(t.Context(), invocation(payload(t, "task/running"))); err != nil {
		t.Fatal(err)
	}
	if len(w.stopped) != 1 || len(w.stopped[0]) > 255 || !strings.HasSuffix(w.stopped[0], "…") {
		t.Errorf("got %q", w.stopped)
	}
}
