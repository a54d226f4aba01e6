package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/ecs"
)

// TestLabelsCountUntilTheECSAgentAnswers shows that whoever takes the ECS agent away
// does not get labels believed by that.
func TestLabelsCountUntilTheECSAgentAnswers(t *testing.T) {
	t.Setenv("ECS_CONTAINER_METADATA_URI_V4", "")
	id := strings.Repeat("1", 64)
	var up atomic.Bool
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(`{"Tasks":[{"Arn":"arn:aws:ecs:eu-west-1:123456789012:task/shop/0123456789abcdef0123456789abcdef","Family":"cart","Version":"3",
			"Containers":[{"DockerId":"` + id + `","DockerName":"ecs-cart-3-app-1","Name":"app"}]}]}`))
	}))
	t.Cleanup(agent.Close)
	open := func(labels bool) func(id string) (string, bool) {
		whose := membership(ecs.New(ecs.Options{IntrospectionURL: agent.URL}, slog.New(slog.DiscardHandler)), labels)
		return func(id string) (string, bool) {
			of, believed := whose(t.Context(), id, "")
			return of.Family, believed
		}
	}
	if family, believed := open(true)(id); family != "" || !believed {
		t.Errorf("before it answers: family %q, labels believed %t; want them believed", family, believed)
	}
	if family, believed := open(false)(id); family != "" || believed {
		t.Errorf("before it answers, without labels: family %q, labels believed %t", family, believed)
	}
	up.Store(true)
	whose := open(true)
	if family, believed := whose(id); family != "cart" || believed {
		t.Errorf("when it answers: family %q, labels believed %t", family, believed)
	}
	up.Store(false)
	if family, believed := whose(strings.Repeat("2", 64)); family != "" || believed {
		t.Errorf("when it is gone: family %q, labels believed %t; want nothing believed", family, believed)
	}
}
