package link

import (
	"context"

	"connectrpc.com/connect"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/proto/linkv1"
)

const (
	// MaxPiece bounds one piece of a snapshot in bytes.
	MaxPiece = 512 << 10
	// MaxSnapshot bounds a snapshot in bytes.
	MaxSnapshot = 256 << 20
)

// SnapshotPiece is a part of an archive that an agent has taken.
type SnapshotPiece struct {
	AgentID string // across machines the certificate says it, whatever stands here
	Deed    string // its id
	Offset  int64
	Piece   []byte
	Size    int64  // of the whole
	Digest  string // of the whole, sha256: and 64 hex digits
}

// Check returns what is wrong with a piece, as Invalid.
func (p *SnapshotPiece) Check() error {
	const digest = 71
	switch {
	case p.Deed == "" || len(p.Deed) > response.MaxID:
		return fault.New(fault.Invalid, "snapshot: the id of a deed has 1 to %d bytes", response.MaxID)
	case len(p.Digest) != digest:
		return fault.New(fault.Invalid, "snapshot: want a digest as sha256:HEX")
	case p.Size < 1 || p.Size > MaxSnapshot:
		return fault.New(fault.Invalid, "snapshot: %d bytes, and at most %d are taken", p.Size, MaxSnapshot)
	case len(p.Piece) == 0 || len(p.Piece) > MaxPiece || p.Offset < 0 || p.Offset+int64(len(p.Piece)) > p.Size:
		return fault.New(fault.Invalid, "snapshot: a piece of %d bytes at %d of %d", len(p.Piece), p.Offset, p.Size)
	}
	return nil
}

// Snapshots is the agent's view of a server that takes snapshots. A server may not:
// then it is Unsupported.
type Snapshots interface {
	// SnapshotPiece takes a piece, in order; one that was taken before is no error.
	// Conflict when the deed is not this agent's or was answered, or a piece before it
	// is missing; Exhausted when there is no room; Corrupt, of the last one, when the
	// whole has another digest.
	SnapshotPiece(ctx context.Context, p SnapshotPiece) error
}

// SnapshotPiece is Snapshots. A server that is older than that is Unsupported.
func (c *Client) SnapshotPiece(ctx context.Context, p SnapshotPiece) error {
	if err := p.Check(); err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := c.now.Load().bulk.Snapshot(timed, connect.NewRequest(&linkv1.SnapshotRequest{
		Deed: text(p.Deed), Offset: p.Offset, Piece: p.Piece, Size: p.Size, Digest: text(p.Digest),
	}))
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return fault.New(fault.Unsupported, "server %s takes no snapshots", c.server).With("update the server: it is older than this agent")
	}
	if err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// Snapshot is linkv1connect.LinkServiceHandler. An agent speaks for itself alone.
func (h *handler) Snapshot(ctx context.Context, req *connect.Request[linkv1.SnapshotRequest]) (*connect.Response[linkv1.SnapshotResponse], error) {
	return answer(ctx, h, func(agentID string) (*linkv1.SnapshotResponse, error) {
		s, takes := h.server.(Snapshots)
		if !takes {
			return nil, fault.New(fault.Unsupported, "this server takes no snapshots")
		}
		m := req.Msg
		p := SnapshotPiece{AgentID: agentID, Deed: m.GetDeed(), Offset: m.GetOffset(), Piece: m.GetPiece(), Size: m.GetSize(), Digest: m.GetDigest()}
		if err := p.Check(); err != nil {
			return nil, err
		}
		return &linkv1.SnapshotResponse{}, s.SnapshotPiece(ctx, p)
	})
}
