package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
)

// maxBrief bounds what a server can make an agent hold with one brief: a policy,
// all exceptions, and facts.
const maxBrief = 16 << 20

// Brief is Admission. A server that is older than that, or keeps no policy, is
// Unsupported.
func (c *Client) Brief(ctx context.Context, a AdmissionAsk) (AdmissionBrief, error) {
	if err := a.Check(); err != nil {
		return AdmissionBrief{}, err
	}
	w, err := askToWire(a)
	if err != nil {
		return AdmissionBrief{}, err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	res, err := c.now.Load().briefs.Brief(timed, connect.NewRequest(w))
	if connect.CodeOf(err) == connect.CodeUnimplemented { // also of a server that answers 404
		return AdmissionBrief{}, c.keepsNoPolicy()
	}
	if err != nil {
		return AdmissionBrief{}, c.failed(ctx, err)
	}
	return briefFromWire(res.Msg)
}

// Admitted is Admission; Unsupported as Brief.
func (c *Client) Admitted(ctx context.Context, r AdmissionReport) error {
	if err := r.Check(); err != nil {
		return err
	}
	w, err := reportedToWire(r)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err = c.now.Load().bulk.Admitted(timed, connect.NewRequest(w))
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return c.keepsNoPolicy()
	}
	if err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

func (c *Client) keepsNoPolicy() error {
	return fault.New(fault.Unsupported, "server %s keeps no admission policy", c.server).With("update the server: it is older than this agent")
}
