package lambda

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/admission"
)

// ServiceAnswer is what ECS reads as the answer of a lifecycle hook.
type ServiceAnswer struct {
	Status string `json:"hookStatus"` // SUCCEEDED, FAILED, IN_PROGRESS
	// Delay is in how many seconds ECS shall ask again, and Details what it then
	// gives back.
	Delay   int            `json:"callBackDelay,omitempty"`
	Details map[string]int `json:"hookDetails,omitempty"`
}

// service answers ECS's deployment hook. A deployment that is being rolled back is
// let through: what is asked for then is to end the tasks in question.
func (h *Handler) service(ctx context.Context, in Invocation, s *ServiceHook) ([]byte, error) {
	what := s.At.Cluster + "/" + s.At.Service + " at " + s.Stage
	if s.Back {
		j := judgement{outcome: admission.Allow}
		h.tell(in, admission.Service, what+", rolling back", "SUCCEEDED", &j)
		return json.Marshal(ServiceAnswer{Status: "SUCCEEDED"})
	}
	base := admission.Request{ID: firstOf(s.Execution, in.ID), Door: admission.Service, Action: admission.Run, At: time.Now().UTC(),
		Place: admission.Place{Account: s.At.Account, Region: s.At.Region, Cluster: s.At.Cluster, Service: s.At.Service}}
	asks := h.Asks
	if asks == 0 {
		asks = DefaultAsks
	}
	j := h.judge(ctx, base, func(ctx context.Context) (admission.Document, error) { return h.Tasks.Revision(ctx, s.Revision) }, s.Asked >= asks)
	if j.outcome == admission.Allow && len(j.requests) == 0 && !j.declared {
		// A service always has a task: that none was found is no leave.
		j.outcome, j.err = admission.Deny, unknown("the revision has no task definition that can be read")
	}
	var a ServiceAnswer
	switch j.outcome {
	case admission.Allow:
		a.Status = "SUCCEEDED"
	case admission.Wait:
		a = ServiceAnswer{Status: "IN_PROGRESS", Delay: int(j.delay() / time.Second), Details: map[string]int{askedDetail: s.Asked + 1}}
	default:
		a.Status = "FAILED"
	}
	h.tell(in, admission.Service, what, a.Status, &j)
	return json.Marshal(a)
}

func firstOf(all ...string) string {
	for _, s := range all {
		if strings.TrimSpace(s) != "" {
			return s
		}
	}
	return ""
}
