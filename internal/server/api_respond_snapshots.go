package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/account"
	"github.com/castellan-security/castellan/internal/server/respond"
)

type snapshotList struct {
	Snapshots []respond.Snapshot `json:"snapshots" nullable:"false" doc:"The newest first"`
}

// SnapshotID names a snapshot. It is exported because huma looks only at exported
// fields.
type SnapshotID struct {
	ID string `path:"id" maxLength:"64" doc:"Id of the response that took it"`
}

func (a *api) respondSnapshotRoutes() {
	handle(a, route{
		method: http.MethodGet, path: "/respond/snapshots", id: "list-snapshots", tag: "respond", scope: access.ReadResponse,
		summary: "The snapshots of containers that the server has",
	}, func(q ask[struct{}]) (*body[snapshotList], error) {
		all, err := a.respond.SnapshotList(q.ctx, q.who)
		return &body[snapshotList]{snapshotList{list(all)}}, err
	})
	handle(a, route{
		method: http.MethodDelete, path: "/respond/snapshots/{id}", id: "delete-snapshot", tag: "respond", scope: access.ManageResponse,
		status: http.StatusNoContent, summary: "Remove a snapshot",
	}, func(q ask[SnapshotID]) (*struct{}, error) {
		return nil, a.respond.DeleteSnapshot(q.ctx, q.who, q.input.ID)
	})
	op := a.operation(route{
		method: http.MethodGet, path: "/respond/snapshots/{id}", id: "download-snapshot", tag: "respond", scope: access.ManageResponse,
		summary: "The archive of a snapshot, as tar.gz", about: "Ask for parts with Range where it is large: an answer has half a minute.",
	})
	op.Responses["200"] = &huma.Response{
		Description: "The archive",
		Content:     map[string]*huma.MediaType{"application/gzip": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *SnapshotID) (*huma.StreamResponse, error) {
		who, _, _ := account.From(ctx)
		return &huma.StreamResponse{Body: func(c huma.Context) {
			r, w := humago.Unwrap(c)
			begins := r.Header.Get("Range")
			f, x, err := a.respond.OpenSnapshot(r.Context(), who, in.ID, begins == "" || strings.HasPrefix(begins, "bytes=0-"))
			if err != nil {
				writeProblem(w, r, err, a.log)
				return
			}
			defer f.Close()
			w.Header().Set("Content-Type", "application/gzip")
			w.Header().Set("Content-Disposition", `attachment; filename="castellan-`+x.ID+`.tar.gz"`)
			w.Header().Set("ETag", `"`+x.Digest+`"`)
			http.ServeContent(w, r, "", time.Time{}, f)
		}}, nil
	})
}
