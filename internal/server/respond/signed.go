package respond

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/castellan-security/castellan/internal/untrusted"
)

// lookWhoSigned looks by whom snapshots are signed of which that is not known yet. It
// reads each wholly, which is why no agent waits for it.
func (s *Service) lookWhoSigned(ctx context.Context) {
	if s.SignedBy == nil {
		return
	}
	s.snapping.Lock()
	all, err := s.allSnapshots()
	s.snapping.Unlock()
	if err != nil {
		s.Log.Error("by whom snapshots are signed is not known", "error", err)
		return
	}
	for i := range all {
		x := &all[i]
		if x.Signed != "" || x.Digest == "" || ctx.Err() != nil { // it is known, or nobody knows what it is
			continue
		}
		signed, err := s.whoSigned(x)
		if err == nil {
			err = s.noteOf(x.ID, func(x *Snapshot) { x.Signed = signed })
		}
		if err != nil {
			s.Log.Error("by whom a snapshot is signed is not known", "id", x.ID, "error", err)
			continue
		}
		if signed != SignedYes && signed != SignedNo {
			s.Log.Warn("a snapshot is not what its signature says", "id", x.ID, "agent", x.AgentID, "why", signed)
		}
	}
}

// whoSigned says what Snapshot.Signed is to say.
func (s *Service) whoSigned(x *Snapshot) (string, error) {
	f, err := os.Open(filepath.Join(s.Snapshots, x.ID+archiveSuffix))
	if err != nil {
		return "", fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	switch agent, err := s.SignedBy(f); {
	case err != nil:
		return untrusted.Clip(err.Error(), maxDetail), nil
	case agent == "":
		return SignedNo, nil
	case agent != x.AgentID:
		return untrusted.Clip(fmt.Sprintf("it was sent by agent %s and is signed by agent %s", x.AgentID, agent), maxDetail), nil
	}
	return SignedYes, nil
}
