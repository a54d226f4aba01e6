package intake

import (
	"context"
	"fmt"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/link"
)

// maxMissing is above the number of fields that a sample can lack.
const maxMissing = 16

// takeSamples stores what the agent's own workloads use. A sample that cannot
// be is left out without a count: it is no evidence, and the next one follows.
func (in *Intake) takeSamples(ctx context.Context, r *link.Report, now time.Time) error {
	good := make([]asset.Sample, 0, len(r.Samples))
	for _, s := range r.Samples {
		if !asset.IsContainerID(s.WorkloadID) || !sane(s.Time) {
			continue
		}
		_, mine, err := in.known.group(ctx, in, s.WorkloadID, r.Agent.ID, now)
		if err != nil {
			return err
		}
		if mine {
			good = append(good, cleanSample(s))
		}
	}
	r.Samples = good // what is live shows these, too
	if len(good) == 0 {
		return nil
	}
	if err := in.st.PutSamples(ctx, good); err != nil {
		return fmt.Errorf("store samples: %w", err)
	}
	return nil
}

// cleanSample bounds the numbers, so that sums and JSON keep them exact.
func cleanSample(s asset.Sample) asset.Sample {
	s.CPU, s.Throttled = min(max(s.CPU, 0), maxBytes), min(max(s.Throttled, 0), maxBytes)
	for _, n := range []*uint64{
		&s.CPULimit, &s.Memory, &s.MemoryLimit, &s.Pids, &s.PidsLimit, &s.Descriptors,
		&s.DiskRead, &s.DiskWritten, &s.NetworkReceived, &s.NetworkSent, &s.OOMKills,
	} {
		*n = min(*n, maxBytes)
	}
	s.Missing = cleanList(s.Missing, maxMissing, maxWord)
	return s
}
