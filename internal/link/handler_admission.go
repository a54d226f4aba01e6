package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// admission returns the server as one that keeps an admission policy.
func (h *handler) admission() (Admission, error) {
	a, keeps := h.server.(Admission)
	if !keeps {
		return nil, fault.New(fault.Unsupported, "this server keeps no admission policy")
	}
	return a, nil
}

// Brief is linkv1connect.LinkServiceHandler.
func (h *handler) Brief(ctx context.Context, req *connect.Request[linkv1.BriefRequest]) (*connect.Response[linkv1.BriefResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.BriefResponse, error) {
		a, err := h.admission()
		if err != nil {
			return nil, err
		}
		ask, err := askFromWire(req.Msg)
		if err != nil {
			return nil, err
		}
		ask.AgentID = agentID
		if err := ask.Check(); err != nil {
			return nil, err
		}
		brief, err := a.Brief(ctx, ask)
		if err != nil {
			return nil, err
		}
		return briefToWire(brief)
	})
}

// Admitted is linkv1connect.LinkServiceHandler. An agent speaks for its own host
// alone.
func (h *handler) Admitted(ctx context.Context, req *connect.Request[linkv1.AdmittedRequest]) (*connect.Response[linkv1.AdmittedResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.AdmittedResponse, error) {
		a, err := h.admission()
		if err != nil {
			return nil, err
		}
		r, err := reportedFromWire(req.Msg)
		if err != nil {
			return nil, err
		}
		r.AgentID = agentID
		if err := r.Check(); err != nil {
			return nil, err
		}
		return &linkv1.AdmittedResponse{}, a.Admitted(ctx, r)
	})
}
