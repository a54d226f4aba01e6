package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// admission returns the server as one that keeps an admission policy.
func (h *handler) admission(ctx context.Context) (a Admission, agentID string, err error) {
	if agentID = callOf(ctx).agentID; agentID == "" {
		return nil, "", fault.New(fault.Denied, "the certificate names no agent")
	}
	a, keeps := h.server.(Admission)
	if !keeps {
		return nil, "", fault.New(fault.Unsupported, "this server keeps no admission policy")
	}
	return a, agentID, nil
}

// Brief is linkv1connect.LinkServiceHandler.
func (h *handler) Brief(ctx context.Context, req *connect.Request[linkv1.BriefRequest]) (*connect.Response[linkv1.BriefResponse], error) {
	a, agentID, err := h.admission(ctx)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	ask, err := askFromWire(req.Msg)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	ask.AgentID = agentID
	if err := ask.Check(); err != nil {
		return nil, h.refuse(ctx, err)
	}
	brief, err := a.Brief(ctx, ask)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	w, err := briefToWire(brief)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	return connect.NewResponse(w), nil
}

// Admitted is linkv1connect.LinkServiceHandler. An agent speaks for its own host
// alone.
func (h *handler) Admitted(ctx context.Context, req *connect.Request[linkv1.AdmittedRequest]) (*connect.Response[linkv1.AdmittedResponse], error) {
	a, agentID, err := h.admission(ctx)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	r, err := reportedFromWire(req.Msg)
	if err != nil {
		return nil, h.refuse(ctx, err)
	}
	r.AgentID = agentID
	if err := r.Check(); err != nil {
		return nil, h.refuse(ctx, err)
	}
	if err := a.Admitted(ctx, r); err != nil {
		return nil, h.refuse(ctx, err)
	}
	return connect.NewResponse(&linkv1.AdmittedResponse{}), nil
}
