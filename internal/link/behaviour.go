package link

import (
	"context"
	"encoding/json"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/profile"
)

// Limits of what is said of behaviour.
const (
	// MaxHeldGroups bounds the groups of one host: some have two hundred containers,
	// and groups that ended stay for a while.
	MaxHeldGroups = 1_000
	// MaxBriefRules bounds the rules of one brief, packed: those beyond are asked for
	// again. Those of a group with four thousand patterns are 40 KiB.
	MaxBriefRules = 2 << 20
	// MaxRulesUnpacked bounds the rules of one group as JSON: four lists of
	// profile.MaxPatterns paths of some 200 bytes.
	MaxRulesUnpacked = 4 << 20
	// MaxWanted bounds the groups that are asked for before their containers start:
	// those of one task.
	MaxWanted = 16
	// maxGroup bounds the name of a group.
	maxGroup = 512
	// maxStamp bounds a stamp.
	maxStamp = 128
)

// AbilityHold is what an agent says of itself when it holds containers to profiles,
// as far as its kernel can.
const AbilityHold = "hold"

// Behaviour is the agent's view of a server that keeps profiles of groups. A server
// may not: then it is Unsupported.
type Behaviour interface {
	// Behaviour takes what an agent holds the groups of its host to, and returns the
	// rules of those that are to be held to others: those of the groups that the
	// server knows workloads of on that host, and of no others. What is unchanged
	// costs a stamp a group. When BehaviourBrief.More is set, ask again at once with
	// what is held by then.
	Behaviour(ctx context.Context, a BehaviourAsk) (BehaviourBrief, error)
}

// BehaviourWish is the body of DirectiveBehaviour: rules of groups on the agent's
// host may be others now, and are to be fetched by Behaviour.
type BehaviourWish struct {
	Stamp string `json:"stamp"` // of all rules of the host together
}

// BehaviourAsk says what an agent holds, and asks for what it does not.
type BehaviourAsk struct {
	AgentID string `json:"-"` // across machines the certificate says it, whatever stands here
	// Held is every group whose rules the agent has, and how it holds them. Rules of
	// groups that are not in it are sent; of those in it, if the stamp is another.
	Held []profile.Held `json:"held,omitempty"`
	// Wanted are groups of which a container is about to start on the host, and whose
	// rules the agent has not: they are sent too. An older server passes over it.
	Wanted []asset.Group `json:"wanted,omitempty"`
}

// BehaviourBrief is what an agent is to hold.
type BehaviourBrief struct {
	Stamp string       `json:"stamp"` // as in BehaviourWish
	Rules []BriefRules `json:"-"`
	// Release are groups of the ask that are to be held no more: nothing of them is
	// on this host, or their profile is gone.
	Release []asset.Group `json:"release,omitempty"`
	// More says that there was no room for all.
	More bool `json:"more,omitempty"`
	// Cut is how many groups of the host are left out because it has more than
	// MaxHeldGroups.
	Cut int `json:"cut,omitempty"`
}

// BriefRules are the rules of one group.
type BriefRules struct {
	Group asset.Group  `json:"group"`
	Stamp string       `json:"stamp"` // another one when anything of the rules is
	Mode  profile.Mode `json:"mode,omitempty"`
	// Packed are profile.Rules as PackRules writes them.
	Packed []byte `json:"-"`
}

// Check holds the limits of an ask: Invalid when it is larger or none.
func (a *BehaviourAsk) Check() error {
	if len(a.Held) > MaxHeldGroups {
		return fault.New(fault.Invalid, "%d groups are held; at most %d are", len(a.Held), MaxHeldGroups)
	}
	if len(a.Wanted) > MaxWanted {
		return fault.New(fault.Invalid, "%d groups are wanted; at most %d are at once", len(a.Wanted), MaxWanted)
	}
	for _, g := range a.Wanted {
		if len(g) == 0 || len(g) > maxGroup {
			return fault.New(fault.Invalid, "a wanted group has a name of %d bytes; 1 to %d are taken", len(g), maxGroup)
		}
	}
	for i := range a.Held {
		if err := a.Held[i].Check(); err != nil {
			return fault.New(fault.Invalid, "%w", err)
		}
		if n := len(a.Held[i].Stamp); n > maxStamp {
			return fault.New(fault.Invalid, "stamp of group %s has %d bytes; at most %d are taken", a.Held[i].Group, n, maxStamp)
		}
	}
	return nil
}

// Check holds the limits of a brief: Invalid when it is larger or none.
func (b *BehaviourBrief) Check() error {
	if len(b.Rules) > MaxHeldGroups || len(b.Release) > MaxHeldGroups {
		return fault.New(fault.Invalid, "brief has the rules of %d groups and releases %d; at most %d are taken", len(b.Rules), len(b.Release), MaxHeldGroups)
	}
	for i := range b.Rules {
		r := &b.Rules[i]
		mode := r.Mode == profile.Discover || r.Mode == profile.Monitor || r.Mode == profile.Protect
		if r.Group == "" || r.Stamp == "" || len(r.Stamp) > maxStamp || !mode || len(r.Packed) == 0 {
			return fault.New(fault.Invalid, "brief has rules without a group, a stamp, a mode or a content")
		}
	}
	return nil
}

// maxRulesValues bounds the values of the rules of one group: a destination has
// six.
const maxRulesValues = 200_000

// PackRules compresses rules.
func PackRules(r *profile.Rules) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fault.New(fault.Invalid, "write rules of group %s: %w", r.Group, err)
	}
	if len(b) > MaxRulesUnpacked {
		return nil, fault.New(fault.Exhausted, "rules of group %s have %d bytes; at most %d are sent", r.Group, len(b), MaxRulesUnpacked).
			With("put what is alike in the profile into fewer patterns: castellan watch profile")
	}
	return pack(b)
}

// UnpackRules reads what PackRules wrote, which may be anything: Invalid when it is
// none, too large, or of another group.
func UnpackRules(b BriefRules) (r profile.Rules, err error) {
	plain, err := unpack("rules", b.Packed, MaxRulesUnpacked, maxRulesValues)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(plain, &r); err != nil {
		return profile.Rules{}, fault.New(fault.Invalid, "read rules: %w", err)
	}
	if r.Group != b.Group {
		return profile.Rules{}, fault.New(fault.Invalid, "rules are of group %.200q, not of %.200q", r.Group, b.Group)
	}
	if err := r.Check(); err != nil {
		return profile.Rules{}, fault.New(fault.Invalid, "%w", err)
	}
	return r, nil
}
