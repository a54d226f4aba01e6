package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
)

// Behaviour is Behaviour. A server that is older than that, or keeps no profiles, is
// Unsupported.
func (c *Client) Behaviour(ctx context.Context, a BehaviourAsk) (BehaviourBrief, error) {
	if err := a.Check(); err != nil {
		return BehaviourBrief{}, err
	}
	w, err := heldToWire(a)
	if err != nil {
		return BehaviourBrief{}, err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := c.now.Load().briefs.Behaviour(timed, connect.NewRequest(w))
	if connect.CodeOf(err) == connect.CodeUnimplemented { // also of a server that answers 404
		return BehaviourBrief{}, fault.New(fault.Unsupported, "server %s keeps no profiles of behaviour", c.server).
			With("update the server: it is older than this agent")
	}
	if err != nil {
		return BehaviourBrief{}, c.failed(ctx, err)
	}
	return rulesFromWire(res.Msg)
}
