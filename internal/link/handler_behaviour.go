package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// Behaviour is linkv1connect.LinkServiceHandler. An agent is told of its own host
// alone.
func (h *handler) Behaviour(ctx context.Context, req *connect.Request[linkv1.BehaviourRequest]) (*connect.Response[linkv1.BehaviourResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.BehaviourResponse, error) {
		s, keeps := h.server.(Behaviour)
		if !keeps {
			return nil, fault.New(fault.Unsupported, "this server keeps no profiles of behaviour")
		}
		ask, err := heldFromWire(req.Msg)
		if err != nil {
			return nil, err
		}
		ask.AgentID = agentID
		if err := ask.Check(); err != nil {
			return nil, err
		}
		brief, err := s.Behaviour(ctx, ask)
		if err != nil {
			return nil, err
		}
		return rulesToWire(brief)
	})
}
