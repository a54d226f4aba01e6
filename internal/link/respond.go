package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// AbilityRespond is what an agent says of itself when it does deeds about threats
// (DirectiveRespond).
const AbilityRespond = "respond"

// Responses is the agent's view of a server that has deeds done. A server may not:
// then it is Unsupported.
type Responses interface {
	// Responded answers a DirectiveRespond. It may be sent again after an error.
	// Conflict when the deed is not this agent's, or was answered.
	Responded(ctx context.Context, r Responded) error
}

// Responded is the answer of an agent to a deed.
type Responded struct {
	AgentID string // across machines the certificate says it, whatever stands here
	response.Answer
}

// Responded is Responses. A server that is older than that is Unsupported.
func (c *Client) Responded(ctx context.Context, r Responded) error {
	b, err := writeJSON("answer", r.Answer)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err = c.now.Load().link.Responded(timed, connect.NewRequest(&linkv1.RespondedRequest{AnswerJson: b}))
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return fault.New(fault.Unsupported, "server %s asks for no deeds", c.server).With("update the server: it is older than this agent")
	}
	if err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// Responded is linkv1connect.LinkServiceHandler. An agent answers for itself alone.
func (h *handler) Responded(ctx context.Context, req *connect.Request[linkv1.RespondedRequest]) (*connect.Response[linkv1.RespondedResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.RespondedResponse, error) {
		s, responds := h.server.(Responses)
		if !responds {
			return nil, fault.New(fault.Unsupported, "this server asks for no deeds")
		}
		r := Responded{AgentID: agentID}
		if err := readJSON("answer", req.Msg.GetAnswerJson(), &r.Answer); err != nil {
			return nil, err
		}
		r.Bound()
		return &linkv1.RespondedResponse{}, s.Responded(ctx, r)
	})
}
