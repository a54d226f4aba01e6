package browser

import (
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
)

// trustPlaces are the pages about who has signed images.
func trustPlaces() []place {
	return []place{
		{"trust", "/trust"}, {"trust-none", "/trust?repository=nothinghasthis"}, {"trust-denied", "/trust?state=denied&running=true"},
		{"image-denied", "/images/" + consoletest.ImageID("api:2.4.1")}, {"image-unsigned", "/images/" + consoletest.ImageID("worker:2.4.0")},
		{"workload-denied", "/workloads/" + consoletest.Worker},
	}
}
