package docker

import (
	"encoding/json"
	"slices"
	"testing"
)

// The command of a health check is what the engine runs in the container.
func TestHealthCheckAsItRuns(t *testing.T) {
	for said, want := range map[string][]string{
		`{}`:                                nil,
		`{"Healthcheck":{"Test":["NONE"]}}`: nil,
		`{"Healthcheck":{"Test":["CMD"]}}`:  nil,
		`{"Healthcheck":{"Test":["CMD","pg_isready","-q"]}}`:                          {"pg_isready", "-q"},
		`{"Healthcheck":{"Test":["CMD-SHELL","curl -f x || exit 1"]}}`:                {"/bin/sh", "-c", "curl -f x || exit 1"},
		`{"Shell":["/bin/bash","-ec"],"Healthcheck":{"Test":["CMD-SHELL","test x"]}}`: {"/bin/bash", "-ec", "test x"},
	} {
		var in inspection
		if err := json.Unmarshal([]byte(`{"Config":`+said+`}`), &in); err != nil {
			t.Fatal(err)
		}
		if got := in.settings().HealthCheck; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", said, got, want)
		}
	}
}
