package images

import (
	"context"
	"fmt"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// Inventory takes an agent's answer to a ScanWish: what is in the image, or why
// it could not be scanned. Errors: Invalid for an answer that is none; Conflict
// when the agent was not asked, or not for this, or its time is over. In both
// cases the same answer never becomes right.
func (s *Service) Inventory(ctx context.Context, a link.Scanned) error {
	if inventory.CheckDigest(a.ImageID) != nil || a.Job == "" || len(a.Job) > maxWord || a.AgentID == "" {
		return fault.New(fault.Invalid, "answer without the image, job and agent that it is of")
	}
	m, err := s.st.Image(ctx, a.ImageID)
	if fault.Is(err, fault.NotFound) {
		return notAsked(a, "nobody told of the image")
	}
	if err != nil {
		return fmt.Errorf("read image %s: %w", a.ImageID, err)
	}
	in := input{what: answered, agent: a.AgentID, job: a.Job, now: s.clock()}
	if len(a.Inventory) == 0 {
		in.what, in.why, in.final = failed, words(a), a.Final
		if in.unused, err = s.unused(ctx, a); err != nil {
			return err
		}
	}
	e := step(m.Scan, in)
	switch e.deed {
	case refuse:
		return notAsked(a, e.why)
	case keep:
		return s.keep(ctx, a, m.Scan)
	}
	if err := s.endTry(ctx, a.ImageID, a.Job, e); err != nil {
		return err
	}
	s.drop(a.AgentID, a.Job)
	return nil
}

func notAsked(a link.Scanned, why string) error {
	return fault.New(fault.Conflict, "the scan of image %s is not wanted of agent %s: %s", a.ImageID, a.AgentID, why)
}

// unused reports whether the agent's engine has no such image, and no container
// of it is left: who could scan it is gone.
func (s *Service) unused(ctx context.Context, a link.Scanned) (bool, error) {
	if !a.Missing {
		return false, nil
	}
	left, err := s.st.Workloads(ctx, store.WorkloadQuery{
		ImageID: a.ImageID, States: []asset.State{asset.Created, asset.Running, asset.Paused}, Limit: 1,
	})
	if err != nil {
		return false, fmt.Errorf("list workloads of image %s: %w", a.ImageID, err)
	}
	return len(left) == 0, nil
}

// Limits of the texts of an answer.
const (
	maxWord = 128
	maxWhy  = 1_000
)

// words joins why an agent could not scan and what helps.
func words(a link.Scanned) string {
	why := untrusted.Clip(a.Error, maxWhy)
	if why == "" {
		why = "the agent sent nothing and did not say why"
	}
	if a.Remedy != "" {
		why += "; " + untrusted.Clip(a.Remedy, maxWhy)
	}
	return why
}

// keep stores an inventory, and has it compared. An inventory that is none ends
// the try like one that failed.
func (s *Service) keep(ctx context.Context, a link.Scanned, of store.Scan) error {
	inv, err := s.decode(ctx, a.Inventory)
	if fault.Is(err, fault.Invalid) {
		e := step(of, input{what: failed, agent: a.AgentID, job: a.Job, now: s.clock(), why: untrusted.Clip(err.Error(), maxWhy)})
		if ferr := s.endTry(ctx, a.ImageID, a.Job, e); ferr != nil {
			return ferr
		}
		s.drop(a.AgentID, a.Job)
	}
	if err != nil {
		return err
	}
	if err := s.putInventory(ctx, a, inv); err != nil {
		return err
	}
	s.log.Info("image scanned", "image_id", a.ImageID, "agent_id", a.AgentID, "packages", len(inv.Packages))
	s.queue.forget(a.ImageID)
	s.queue.soon(a.ImageID)
	s.listeners.touch(a.ImageID)
	s.drop(a.AgentID, a.Job)
	return nil
}

// decode decodes one inventory at a time.
func (s *Service) decode(ctx context.Context, packed []byte) (inventory.Inventory, error) {
	select {
	case s.decoding <- struct{}{}:
		defer func() { <-s.decoding }()
	case <-ctx.Done():
		return inventory.Inventory{}, fmt.Errorf("wait for another inventory: %w", ctx.Err())
	}
	return decode(packed)
}

func (s *Service) putInventory(ctx context.Context, a link.Scanned, inv inventory.Inventory) error {
	s.comparing.Lock()
	defer s.comparing.Unlock()
	err := s.st.PutInventory(ctx, a.ImageID, a.Job, inv, s.clock())
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound) {
		return notAsked(a, "the scan was taken from the agent, or asked for anew")
	}
	if err != nil {
		return fmt.Errorf("store the inventory of image %s: %w", a.ImageID, err)
	}
	return nil
}
