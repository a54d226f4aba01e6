package behaviour

import (
	"context"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// Standing is where a group is, and how agents hold it.
type Standing struct {
	Hosts int // on which a container of it is now
	// Held has the newest of each agent that holds it. Whether it is current is not
	// looked for: see Service.Group.
	Held []HeldBy
}

// Standings returns those of the named groups, as of the last minutes. It needs
// access.ReadBehaviour.
func (s *Service) Standings(who access.Identity, names []asset.Group) (map[asset.Group]Standing, error) {
	if err := who.Need(access.ReadBehaviour); err != nil {
		return nil, err
	}
	out := make(map[asset.Group]Standing, len(names))
	for _, name := range names {
		out[name] = Standing{Hosts: s.hosts.count(name)}
	}
	s.held.each(s.Clock(), func(agentID string, o *holding, x *profile.Held) {
		if st, asked := out[x.Group]; asked {
			st.Held = append(st.Held, HeldBy{AgentID: agentID, At: o.at, Held: *x})
			out[x.Group] = st
		}
	})
	return out, nil
}

// Changed returns a channel that gets a value after something of groups changed: what
// is learned of them, what lay outside, how they are held. At most one value waits. It
// is closed when ctx ends. The error is Exhausted when too many wait already.
func (s *Service) Changed(ctx context.Context) (<-chan struct{}, error) { return s.changes.News(ctx) }
