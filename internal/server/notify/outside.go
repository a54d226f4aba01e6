package notify

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/untrusted"
)

const (
	// outsideAgain is after how long the same violation is told again: one that goes on
	// is not news every quarter of an hour, and not to be forgotten either.
	outsideAgain = 24 * time.Hour
	// maxOutsideTold bounds the violations of which it is known that they were told,
	// some 50 bytes each. Who makes up names has more told, still as one notice a group.
	maxOutsideTold = 50_000
)

// outsideKey names a violation with what happened to it: one that is refused by now is
// news.
type outsideKey struct {
	group       asset.Group
	fingerprint string
	reaction    event.Reaction
}

// TellViolations has the targets that want it told of what lay outside of profiles of
// groups in monitor and protect. Of a group all that waits is one notice, so that a
// storm is one, too; the same is told once a day. Errors are of the store: then some
// are told of, and others are not.
func (s *Service) TellViolations(ctx context.Context, all []profile.Violation) error {
	targets, err := s.st.NotifyTargets(ctx)
	if err != nil {
		return fmt.Errorf("read targets: %w", err)
	}
	if !slices.ContainsFunc(targets, func(t notice.Target) bool { return slices.Contains(t.Filter.Kinds, notice.Violation) }) {
		return nil
	}
	byGroup := map[asset.Group]*notice.Notice{}
	var order []asset.Group
	for i := range all {
		v := &all[i]
		if !s.isNews(v) {
			continue
		}
		n := byGroup[v.Group]
		if n == nil {
			n = &notice.Notice{
				Kind: notice.Violation, ID: "violation", Subject: "violations:" + string(v.Group), Link: "/watch/violations?group=" + url.QueryEscape(string(v.Group)),
				Remedy: "look at it: castellan watch violations --group " + string(v.Group) + "; permit what is normal",
			}
			byGroup[v.Group] = n
			order = append(order, v.Group)
		}
		n.Outside = append(n.Outside, outsideOf(v))
		n.Count += int(min(v.Count, 1<<30))
		if !v.Last.Before(n.Time) {
			n.Time, n.Workload = v.Last, &notice.Workload{ID: v.WorkloadID, Group: string(v.Group), Host: v.AgentID}
		}
	}
	for _, g := range order {
		if err := s.tellOutside(ctx, byGroup[g]); err != nil {
			return err
		}
	}
	return nil
}

// tellOutside puts the notice of a group into the queues, folded with what waits there.
func (s *Service) tellOutside(ctx context.Context, n *notice.Notice) error {
	n.Told()
	targets, err := s.prepare(ctx, n)
	if err != nil {
		return err
	}
	n.ID = ""
	var tellings []store.Telling
	for i := range targets {
		if t := &targets[i]; t.Filter.TakesNotice(n) {
			tellings = append(tellings, store.Telling{Target: t.ID, Notice: outsideFor(t, n), Fold: true})
		}
	}
	return s.put(ctx, "", tellings)
}

// outsideFor leaves out of a notice what a target does not want to hear of: its
// severity is that of each violation.
func outsideFor(t *notice.Target, n *notice.Notice) notice.Notice {
	out := *n
	out.Outside = nil
	for _, o := range n.Outside {
		if o.Severity >= t.Filter.Severity {
			out.Outside = append(out.Outside, o)
		}
	}
	if len(out.Outside) != len(n.Outside) {
		out.Count = 0
		for i := range out.Outside {
			out.Count += out.Outside[i].Count
		}
		out.LeftOut = 0 // those that had no room are the least grave
		out.Told()
	}
	return out
}

// isNews reports whether a violation is to be told, and notes that it is.
func (s *Service) isNews(v *profile.Violation) bool {
	if v.Mode != profile.Monitor && v.Mode != profile.Protect {
		return false
	}
	now, key := s.clock(), outsideKey{v.Group, v.Fingerprint, v.Reaction}
	s.outsideMu.Lock()
	defer s.outsideMu.Unlock()
	if at, ok := s.outside[key]; ok && now.Sub(at) < outsideAgain {
		return false
	}
	if len(s.outside) >= maxOutsideTold {
		for k, at := range s.outside {
			if now.Sub(at) >= outsideAgain {
				delete(s.outside, k)
			}
		}
		if len(s.outside) >= maxOutsideTold {
			clear(s.outside)
		}
	}
	s.outside[key] = now
	return true
}

// outsideOf is a violation as others are told of it. What the kernel refused is graver
// than what it let pass: somebody who can't go on is seldom somebody who is at home.
func outsideOf(v *profile.Violation) notice.Outside {
	severity := finding.Negligible
	if v.Reaction == event.ReactionDenied || v.Reaction == event.ReactionKilled {
		severity = finding.Low
	}
	return notice.Outside{
		Fingerprint: v.Fingerprint, Sentence: untrusted.Clip(v.Sentence, maxTitle), Control: string(v.Control),
		Reaction: cmp.Or(string(v.Reaction), "reported"), Severity: severity, Count: int(min(v.Count, 1<<30)), First: v.First, Last: v.Last,
	}
}
